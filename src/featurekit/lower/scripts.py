"""Lua scripts that write a whole row or event in one atomic step.

`ROW` writes a row where `MULTI` is not available; `EVENT` writes an event ordered by its time.

- Atomic: no other client sees a part of the write. A script does not roll back, however, so a
  failing command must not leave earlier writes behind.
- Invariant: no field stays in the hash without its expiry. Commands that can fail for lack of
  memory or because the key is not a hash come first, before anything has changed. `ROW` asks
  `acl_check_cmd` whether the user may run the later commands. If `HPEXPIRE` fails all the same,
  the script deletes the fields that it has just set, and fails.
- `EVENT` compares and sets the view's newest event time in the same step, so two writers cannot
  both pass the comparison. The event time is a field of the hash, `@{view}`, with a deadline of
  its own that outlives the values; it is set like the other fields.
- Rejected: `MULTI` with `WATCH` (two more round trips, and retries under contention), and a key of
  its own for the event time (another slot on a cluster, and a second expiry to keep in step).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

from featurekit.wire import command


@dataclass(frozen=True)
class Script:
    """A Lua script and the commands that load and call it."""

    text: bytes

    @cached_property
    def sha(self) -> bytes:
        """The digest that `EVALSHA` takes."""
        return hashlib.sha1(self.text, usedforsecurity=False).hexdigest().encode()

    @cached_property
    def load(self) -> bytes:
        """The command that loads the script into a server."""
        return command(b"SCRIPT", b"LOAD", self.text)


EVENT = Script(b"""
local key, clock, time = KEYS[1], ARGV[1], ARGV[2]
local seen = redis.call('HGET', key, clock)
if seen and tonumber(seen) > tonumber(time) then return 0 end
local function set(deadline, from, n)
  local pairs_, names = {}, {}
  for i = from, from + 2 * n - 1, 2 do
    pairs_[#pairs_ + 1], pairs_[#pairs_ + 2], names[#names + 1] = ARGV[i], ARGV[i + 1], ARGV[i]
  end
  if ARGV[3] == '1' then
    redis.call('HSETEX', key, 'PXAT', deadline, 'FIELDS', n, unpack(pairs_))
    return
  end
  redis.call('HSET', key, unpack(pairs_))
  local done = redis.pcall('HPEXPIREAT', key, deadline, 'FIELDS', n, unpack(names))
  if done.err then
    redis.call('HDEL', key, unpack(names))
    error(done.err)
  end
end
local at = 5
for _ = 1, tonumber(ARGV[4]) do
  local n = tonumber(ARGV[at + 1])
  set(ARGV[at], at + 2, n)
  at = at + 2 + 2 * n
end
for i = at, #ARGV do redis.call('HDEL', key, ARGV[i]) end
return 1
""")
"""Writes an event ordered by its time; returns 0 if a newer event was written before, else 1.

KEYS: the hash. ARGV: the event time field, the event time, whether the server has HSETEX, the number
of groups; for each group its deadline, its size and its pairs; then the fields to delete. The event
time is a pair of one of the groups."""

ROW = Script(b"""
local key, ttl, hsetex = KEYS[1], ARGV[1], ARGV[2] == '1'
local groups, gone = tonumber(ARGV[3]), tonumber(ARGV[4])
local function ask(...)
  if not redis.acl_check_cmd(...) then error({err = 'NOPERM this user may not run ' .. ...}) end
end
if ttl ~= '0' then ask('PEXPIRE', key, ttl)
elseif groups > 0 and not hsetex then ask('HPEXPIRE', key, 1, 'FIELDS', 1, 'f') end
if gone > 0 then ask('HDEL', key, 'f') end
local at = 5
for _ = 1, groups do
  local life, n, last = ARGV[at], ARGV[at + 1], at + 1 + 2 * ARGV[at + 1]
  if life ~= '0' and hsetex then
    redis.call('HSETEX', key, 'PX', life, 'FIELDS', n, unpack(ARGV, at + 2, last))
  else
    redis.call('HSET', key, unpack(ARGV, at + 2, last))
  end
  if life ~= '0' and not hsetex then
    local names = {}
    for i = at + 2, last, 2 do names[#names + 1] = ARGV[i] end
    for _, code in ipairs(redis.call('HPEXPIRE', key, life, 'FIELDS', n, unpack(names))) do
      if code ~= 1 then
        redis.call('HDEL', key, unpack(names))
        error({err = 'ERR HPEXPIRE answered ' .. code})
      end
    end
  end
  at = last + 1
end
if gone > 0 then redis.call('HDEL', key, unpack(ARGV, at)) end
if ttl ~= '0' then redis.call('PEXPIRE', key, ttl) end
return 1
""")
"""Writes a row and returns 1.

KEYS: the hash. ARGV: the key's TTL in ms (0 to leave it alone), whether the server has HSETEX, the
number of groups, the number of fields to delete; for each group its TTL in ms (0 for the key's TTL),
its size and its pairs; then the fields to delete."""

SCRIPTS = (ROW, EVENT)
