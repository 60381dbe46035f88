"""Lua scripts that write a whole row or event in one atomic step.

`ROW` writes a row where `MULTI` is not available. `NEWEST` does so unless the entity has a newer row
of the view, `MISSING` unless it has any value of the view, and `MISSING_NEWEST` unless it has either.
`EVENT` writes an event ordered by its time.

- Atomic: no other client sees a part of the write. A script does not roll back, however, so a
  failing command must not leave earlier writes behind.
- Invariant: a call changes nothing, or all that it should; no field is ever without its expiry.
  Before the first write, a script asks `acl_check_cmd` whether the user may run every later
  command, also those that only clean up. The first write proves itself: a user who may not run it,
  a lack of memory, or a key that is not a hash stops the script while nothing has changed. If
  setting an expiry fails all the same, the script deletes the fields that it has just set.
- `EVENT` and `NEWEST` compare and set the view's newest event time in the same step, so two writers
  cannot both pass the comparison. The event time is a field of the hash, `@{view}`, with a deadline of
  its own that outlives the values; it is set like the other fields. If that field holds anything
  else than a time, the script fails with `BADTIME`: an error about one entity, not about the server.
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


BAD_EVENT_TIME = "BADTIME"
"""The code of the error if the stored event time of the entity is damaged."""

_DROP_OLDER = b"""
local seen = redis.call('HGET', key, clock)
if seen then
  if #seen > 15 or not string.find(seen, '^%d+$') then
    return redis.error_reply('BADTIME field ' .. clock .. ' holds no event time; delete the field')
  end
  if tonumber(seen) > tonumber(time) then return 0 end
end
"""
"""Returns 0 if a newer time than `time` is stored in the field `clock` of `key`."""

ASK = b"""
local function ask(...)
  if not redis.acl_check_cmd(...) then error({err = 'NOPERM this user may not run ' .. ...}) end
end
"""

EVENT = Script(
    b"""
local key, clock, time, mode = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local hsetex = mode == '1' or mode == '3'
"""
    + _DROP_OLDER
    + b"""
local kept = 0
if seen and (mode == '0' or mode == '1') then
  kept = redis.call('HPEXPIRETIME', key, 'FIELDS', 1, clock)[1]
end
"""
    + ASK
    + b"""
local groups, deletes = tonumber(ARGV[4]), 5
for _ = 1, groups do deletes = deletes + 2 + 2 * ARGV[deletes + 1] end
if not hsetex then ask('HPEXPIREAT', key, time, 'FIELDS', 1, 'f') end
if not hsetex or deletes <= #ARGV then ask('HDEL', key, 'f') end
local at = 5
for _ = 1, groups do
  local deadline, n, last = ARGV[at], ARGV[at + 1], at + 1 + 2 * ARGV[at + 1]
  if hsetex then
    redis.call('HSETEX', key, 'PXAT', deadline, 'FIELDS', n, unpack(ARGV, at + 2, last))
  else
    local names = {}
    for i = at + 2, last, 2 do names[#names + 1] = ARGV[i] end
    redis.call('HSET', key, unpack(ARGV, at + 2, last))
    local done = redis.pcall('HPEXPIREAT', key, deadline, 'FIELDS', n, unpack(names))
    if done.err then
      redis.call('HDEL', key, unpack(names))
      error({err = done.err})
    end
  end
  at = last + 1
end
if kept > tonumber(ARGV[5]) then
  if hsetex then redis.call('HSETEX', key, 'PXAT', kept, 'FIELDS', 1, clock, time)
  else redis.call('HPEXPIREAT', key, kept, 'FIELDS', 1, clock) end
end
if deletes <= #ARGV then redis.call('HDEL', key, unpack(ARGV, deletes)) end
return 1
"""
)
"""Writes an event ordered by its time; returns 0 if a newer event was written before, else 1.

KEYS: the hash. ARGV: the event time field, the event time, the mode, the number of groups; for each
group its deadline, its size and its pairs; then the fields to delete. The mode is 1 if the server has
HSETEX, plus 2 if the event sets or deletes all fields of the view.

The event time is a pair of the first group. It keeps a later deadline that it has, since values with
that deadline may still be live, unless the event replaces all of them."""

_ROW = (
    ASK
    + b"""
local key, ttl, expiry = KEYS[1], ARGV[1], ARGV[2]
local hsetex = string.sub(expiry, 1, 2) == 'PX'
local groups, gone = tonumber(ARGV[3]), tonumber(ARGV[4])
local at, plain, timed = 5, false, groups == 1 and ARGV[5] ~= '0'
for _ = 1, groups > 1 and groups or 0 do
  if ARGV[at] == '0' then plain = true else timed = true end
  at = at + 2 + 2 * ARGV[at + 1]
end
if ttl ~= '0' then ask('PEXPIRE', key, ttl) end
if timed and not hsetex then ask(expiry, key, 1, 'FIELDS', 1, 'f') end
if timed and hsetex and plain then
  ask('HSET', key, 'f', '')
  ask('HSETEX', key, expiry, 1, 'FIELDS', 1, 'f', '')
end
if gone > 0 or timed and not hsetex then ask('HDEL', key, 'f') end
at = 5
for _ = 1, groups do
  local life, n, last = ARGV[at], ARGV[at + 1], at + 1 + 2 * ARGV[at + 1]
  if life ~= '0' and hsetex then
    redis.call('HSETEX', key, expiry, life, 'FIELDS', n, unpack(ARGV, at + 2, last))
  else
    redis.call('HSET', key, unpack(ARGV, at + 2, last))
  end
  if life ~= '0' and not hsetex then
    local names = {}
    for i = at + 2, last, 2 do names[#names + 1] = ARGV[i] end
    local codes = redis.pcall(expiry, key, life, 'FIELDS', n, unpack(names))
    local failure = codes.err
    for _, code in ipairs(codes) do
      if code ~= 1 and code ~= 2 then failure = 'ERR ' .. expiry .. ' answered ' .. code end
    end
    if failure then
      redis.call('HDEL', key, unpack(names))
      error({err = failure})
    end
  end
  at = last + 1
end
if gone > 0 then redis.call('HDEL', key, unpack(ARGV, at)) end
if ttl ~= '0' then redis.call('PEXPIRE', key, ttl) end
return 1
"""
)

ROW = Script(_ROW)
"""Writes a row and returns 1.

KEYS: the hash. ARGV: the key's TTL in ms (0 to leave it alone); how fields expire: with `PX` or `PXAT`
of HSETEX, or by HPEXPIRE or HPEXPIREAT; the number of groups, the number of fields to delete; for
each group its TTL or deadline in ms (0 for the key's TTL), its size and its pairs; then the fields
to delete."""

_DROP_OLDER_ROW = (
    b"do local key, clock, time = KEYS[1], ARGV[7], ARGV[8]\n" + _DROP_OLDER + b"end\n"
)

NEWEST = Script(_DROP_OLDER_ROW + _ROW)
"""Writes a row as `ROW` does, unless the view's newest event time in the hash is later than the row's;
then it returns 0. The arguments are those of `ROW`. The first pair of the first group is the event
time field and the time of the row."""

_KEEP_PRESENT = b"""
do
  local names, at = {}, 5
  for _ = 1, tonumber(ARGV[3]) do
    for i = at + 2, at + 1 + 2 * ARGV[at + 1], 2 do
      if string.sub(ARGV[i], 1, 1) ~= '@' then names[#names + 1] = ARGV[i] end
    end
    at = at + 2 + 2 * ARGV[at + 1]
  end
  for i = at, #ARGV do names[#names + 1] = ARGV[i] end
  for _, value in ipairs(redis.call('HMGET', KEYS[1], unpack(names))) do
    if value then return 0 end
  end
end
"""
"""Returns 0 if the hash has any of the features that a row would set or delete."""

MISSING = Script(_KEEP_PRESENT + _ROW)
"""Writes a row as `ROW` does, unless the hash has any of the features that it would set or delete; then
it returns 0. The arguments are those of `ROW`."""

MISSING_NEWEST = Script(_KEEP_PRESENT + _DROP_OLDER_ROW + _ROW)
"""Writes a row as `ROW` does, unless `MISSING` or `NEWEST` would not. The arguments are those of `NEWEST`."""

SCRIPTS = (ROW, EVENT, MISSING, NEWEST, MISSING_NEWEST)

_generated: dict[bytes, Script] = {}


def generated_script(text: bytes) -> Script:
    """Return a script that was generated for a view, which clusters then load with the others."""
    script = Script(text)
    return _generated.setdefault(script.sha, script)


def loaded_scripts() -> tuple[Script, ...]:
    """Return all scripts that this process may call."""
    return (*SCRIPTS, *_generated.values())
