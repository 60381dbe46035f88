"""The script that adds the events of one entity to the windows of a view.

One script is generated for each view. A call takes the events of one entity in one batch, and changes
nothing or all that it should. Each feature is one field of the hash, which holds the states of its
tiles as text, newest first:

    60.3fa@29401332:3,1,,2     tiles of 60 s and the definition 3fa; the newest is tile 29401332

- The tile of an event is its time, in whole tiles since 1970, so a late event goes to its own tile as
  long as that is kept: the window's tiles, the one that the window ends in, and one that is ahead.
- Each field expires when its newest tile leaves the window. Fields with the same deadline are set by
  one `HSETEX`, or `HSET` and `HPEXPIREAT`.
- The guard finds repeated events. It is checked and updated in the same step. By `offset`, it is the
  last offset of each partition; by `event_id`, the hashes of the last ids; both are in the field
  `@{view}`, which outlives all windows. By `group`, the consumer group says whether the entry is still
  pending, and the script acknowledges it: last, since what is refused before leaves it pending.
- Invariant: everything is computed before the first write. That proves itself: without the right, the
  memory or a hash under the key, the script stops there. Commands after it are those of the same user
  and key, or were asked for with `acl_check_cmd`.
- `BADTILES` says that a field holds something else than tiles: an error about one entity.
- Rejected: increments (they restore expired fields without their expiry); a field for each tile (four
  to seven times the memory); one generic script (twice as slow).

Numbers are doubles in Lua. A sum of integers that reaches 2^53 may be rounded: its tile becomes `nan`, for good.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from featurekit.lower.scripts import ASK, Script, generated_script
from featurekit.plan import AggregatePlan, FieldPlan, ViewPlan, WindowsPlan
from featurekit.types import codec_of

MAX_IDS = 64
"""Ids of events that the guard of one entity holds."""

ID_SIZE = 8
"""Characters of the hash of an id."""

MAX_DISTINCT = 64
"""Hashes of distinct values that a tile holds: the least ones."""

HASH_SIZE = 12
"""Characters of the hash of a distinct value."""

GUARD_MARGIN_MS = 300_000
"""How much longer than the windows the guard lives, since clocks of workers differ."""

BAD_TILES = "BADTILES"
"""The code of the error if a stored window of the entity is damaged."""

APPLIED, REPEATED, LATE = b"a", b"r", b"l"
"""The letter of an event in the reply of the script. An event that no feature counts is applied."""

_LIBRARY = """
local find, sub, match, gmatch = string.find, string.sub, string.match, string.gmatch
local rep, floor, fmt = string.rep, math.floor, string.format
"""

_NUMBER = """
local function num(x)
  if x == floor(x) and x < 1e15 and x > -1e15 then return fmt('%d', x) end
  local text = fmt('%.15g', x)
  if tonumber(text) == x then return text end
  return fmt('%.17g', x)
end
"""

_WHOLE = """
local function whole(x)
  x = tonumber(x)
  if x > -9007199254740992 and x < 9007199254740992 then return fmt('%d', x) end
  return 'nan'
end
"""

_DISTINCT = f"""
local function distinct(hashes, x)
  if hashes == '' then return x end
  local low, high = 0, (#hashes + 1) / {HASH_SIZE + 1}
  while low < high do
    local middle = floor((low + high) / 2)
    local y = sub(hashes, middle * {HASH_SIZE + 1} + 1, middle * {HASH_SIZE + 1} + {HASH_SIZE})
    if y == x then return hashes elseif y < x then low = middle + 1 else high = middle end
  end
  if low >= {MAX_DISTINCT} then return hashes end
  local at = low * {HASH_SIZE + 1}
  if at > #hashes then hashes = hashes .. '/' .. x
  else hashes = sub(hashes, 1, at) .. x .. '/' .. sub(hashes, at + 1) end
  return sub(hashes, 1, {MAX_DISTINCT * (HASH_SIZE + 1) - 1})
end
"""

_TILES = """
local function tile_at(rest, age)
  local p = 0
  for passed = 1, age do
    local q = find(rest, ',', p + 1, true)
    if not q then rest = rest .. rep(',', age - passed + 1); p = #rest; break end
    p = q
  end
  return rest, p, find(rest, ',', p + 1, true) or #rest + 1
end
local function cut(rest, tiles)
  local p = 0
  for _ = 1, tiles do
    p = find(rest, ',', p + 1, true)
    if not p then return rest end
  end
  return (match(sub(rest, 1, p - 1), '^(.-),*$'))
end
"""

_MERGES = {
    "count": ("{a} = {a} == '' and '1' or fmt('%d', {a} + 1)", "'1'"),
    "int_sum": ("{a} = whole({a} == '' and x or {a} + x)", "whole(x)"),
    "sum": ("{a} = {a} == '' and x or num({a} + x)", "x"),
    "min": ("if {a} == '' or tonumber(x) < tonumber({a}) then {a} = x end", "x"),
    "max": ("if {a} == '' or tonumber(x) > tonumber({a}) then {a} = x end", "x"),
    "mean": (
        "if {a} == '' then {a} = '1/' .. x else local n, s = match({a}, '^(%d+)/(.*)$'); "
        "{a} = fmt('%d/', n + 1) .. num(s + x) end",
        "'1/' .. x",
    ),
    "stddev": (
        "if {a} == '' then {a} = '1/' .. x .. '/0' else "
        "local n, m, q = match({a}, '^(%d+)/([^/]*)/(.*)$'); n, m = n + 1, tonumber(m); "
        "local d = x - m; m = m + d / n; {a} = fmt('%d/%.17g/%.17g', n, m, q + d * (x - m)) end",
        "'1/' .. x .. '/0'",
    ),
    "count_distinct": ("{a} = distinct({a}, x)", "x"),
}
"""By aggregate: the statement that adds `x` to the state `{a}`, and the expression of a first state."""


@dataclass(frozen=True, slots=True)
class _Feature:
    """One feature in a script.

    Attributes:
        index: The number of its local variables: `h` the newest tile, `a` its state, `r` the states
            before it with their commas, `d` whether it changed.
        name: The name of its field, quoted.
        plan: What it computes.
        argument: Which of the arguments of an event it takes; `None` if it counts all events.
    """

    index: int
    name: str
    plan: AggregatePlan
    argument: int | None
    is_int: bool

    @property
    def merge(self) -> tuple[str, str]:
        function = self.plan.function
        return _MERGES["int_sum" if function == "sum" and self.is_int else function]


def window_fields(view: ViewPlan) -> list[tuple[FieldPlan, AggregatePlan]]:
    """Return the fields of a windowed view with what they compute."""
    return [(field, field.aggregate) for field in view.fields if field.aggregate is not None]


def event_arguments(view: ViewPlan) -> list[AggregatePlan]:
    """Return one aggregate for each argument of an event: those of the same argument share it."""
    found: dict[object, AggregatePlan] = {}
    for _, plan in window_fields(view):
        if (key := _argument_key(plan)) is not None:
            found.setdefault(key, plan)
    return list(found.values())


def _argument_key(plan: AggregatePlan) -> tuple[object, ...] | None:
    """Return what an argument depends on; `None` if every event counts."""
    form = plan.function if plan.function in {"count", "count_distinct"} else "number"
    return None if plan.of is None and plan.where is None else (form, plan.of, plan.where)


def window_script(view: ViewPlan, windows: WindowsPlan, *, hsetex: bool) -> Script:
    """Return the script of a view.

    KEYS: the hash; with the guard `group` also the stream. ARGV: the current time in ms; with the guard
    `offset` a tag of the topic, with `group` the group; then for each event its id, its time in ms and its
    arguments (`event_arguments`). The id is `partition:offset`, the id of an entry, or the hash of an id;
    empty if the event has none. An argument is empty if the event does not count.

    Returns a letter for each event: `APPLIED`, `REPEATED` or `LATE`.
    """
    arguments = [_argument_key(plan) for plan in event_arguments(view)]
    features = [
        _Feature(
            index,
            _quoted(field.name),
            plan,
            None if (key := _argument_key(plan)) is None else arguments.index(key),
            codec_of(field.dtype).python_type == "int",
        )
        for index, (field, plan) in enumerate(window_fields(view))
    ]
    guard = _guard(view, windows)
    lines = [
        "local function run()",
        "local key, now = KEYS[1], tonumber(ARGV[1])",
        *_permissions(guard, hsetex=hsetex),
        *_stored_state(features, guard),
        "local letters = {}",
        f"for i = {guard.first}, #ARGV, {2 + len(arguments)} do",
        "local time, fresh, used, missed = tonumber(ARGV[i + 1]), true, false, false",
        *guard.check,
        "if not fresh then letters[#letters + 1] = 'r' else",
        *_event(features),
        *guard.accept,
        "letters[#letters + 1] = (used or not missed) and 'a' or 'l'",
        "end",
        "end",
        *_writes(features, guard, hsetex=hsetex),
        *guard.finish,
        "return table.concat(letters)",
        "end",
        "local done, result = pcall(run)",
        "if done or type(result) == 'table' then return result end",
        # Valkey raises the errors of commands as texts; those of Lua begin with the number of a line.
        "if not match(result, ':%d+: ') then return redis.error_reply(result) end",
        f"return redis.error_reply('{BAD_TILES} a field of the view holds no tiles: ' .. result)",
    ]
    functions = {plan.function for _, plan in window_fields(view)}
    library = [_LIBRARY, _TILES]
    library += [_NUMBER] if functions & {"sum", "mean"} else []
    library += [_WHOLE] if "sum" in functions else []
    library += [_DISTINCT] if "count_distinct" in functions else []
    return generated_script(("".join(library) + "\n".join(lines) + "\n").encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Guard:
    """The lines of a script that find repeated events.

    Attributes:
        first: The index of the first argument of an event.
        field: The field of the guard, quoted; `None` if it has none.
        read: Lines after `stored`, the value of that field.
        check: Lines that set `fresh`, for each event.
        accept: Lines for each event that is not repeated.
        value: The expression of the new value of the field.
        finish: The last lines.
    """

    first: int
    field: str | None = None
    read: Sequence[str] = ()
    check: Sequence[str] = ()
    accept: Sequence[str] = ()
    value: str = ""
    finish: Sequence[str] = ()


def _guard(view: ViewPlan, windows: WindowsPlan) -> _Guard:
    field = _quoted(view.guard_field or "")
    if windows.once == "offset":
        return _Guard(
            first=3,
            field=field,
            read=(
                "local seen, tag = {}, ARGV[2] .. ' '",
                "if stored and sub(stored, 1, #tag) == tag then",
                "for p, n in gmatch(sub(stored, #tag + 1), '(%d+):(%d+)') do seen[p] = tonumber(n) end",
                "end",
                "local function offsets()",
                "local parts = {}",
                "for p, n in pairs(seen) do parts[#parts + 1] = p .. ':' .. fmt('%d', n) end",
                "table.sort(parts)",
                "return tag .. table.concat(parts, ' ')",
                "end",
            ),
            check=(
                "local p, n = match(ARGV[i], '^(%d+):(%d+)$')",
                "n = tonumber(n)",
                "if p and seen[p] and n <= seen[p] then fresh = false elseif p then seen[p] = n end",
            ),
            value="offsets()",
        )
    if windows.once == "event_id":
        return _Guard(
            first=2,
            field=field,
            read=(
                "local ids = stored or ''",
                "local function has(id)",
                "local p = find(ids, id, 1, true)",
                f"while p and (p - 1) % {ID_SIZE} ~= 0 do p = find(ids, id, p + 1, true) end",
                "return p",
                "end",
            ),
            check=("if has(ARGV[i]) then fresh = false end",),
            accept=(f"if used then ids = sub(ids .. ARGV[i], -{MAX_IDS * ID_SIZE}) end",),
            value="ids",
        )
    if windows.once == "group":
        pending = "redis.pcall('XPENDING', KEYS[2], ARGV[2], ARGV[i], ARGV[i], 1)"
        return _Guard(
            first=3,
            read=("local entries = {}",),
            check=(
                "if ARGV[i] ~= '' then",
                f"local pending = {pending}",
                # The entry was pending in a group that is gone, so it is not applied again.
                "if pending.err and sub(pending.err, 1, 7) ~= 'NOGROUP' then error(pending) end",
                "fresh = not pending.err and #pending == 1",
                "if fresh then entries[#entries + 1] = ARGV[i] end",
                "end",
            ),
            finish=(
                "for j = 1, #entries, 1000 do",
                "local last = math.min(j + 999, #entries)",
                "redis.call('XACK', KEYS[2], ARGV[2], unpack(entries, j, last))",
                "end",
            ),
        )
    return _Guard(first=2)


def _permissions(guard: _Guard, *, hsetex: bool) -> list[str]:
    """Return the lines that ask for the rights to run what comes after the first write."""
    asked = []
    if not hsetex:
        asked.append("ask('HPEXPIREAT', key, ARGV[1], 'FIELDS', 1, 'f')")
    if guard.finish:
        asked.append("ask('XACK', KEYS[2], ARGV[2], '0-1')")
    return [ASK.decode(), *asked] if asked else []


def _stored_state(features: Sequence[_Feature], guard: _Guard) -> list[str]:
    names = [feature.name for feature in features]
    names += [guard.field] if guard.field else []
    lines = [f"local old = redis.call('HMGET', key, {', '.join(names)})"]
    for each in features:
        i, head = each.index, each.plan.head.replace(".", "%.")
        lines += [
            f"local h{i}, a{i}, r{i}, d{i}",
            f"if old[{i + 1}] then",
            f"h{i}, a{i}, r{i} = match(old[{i + 1}], '^{head}(%d+):([^,]*)(.*)$')",
            f"h{i} = tonumber(h{i})",
            "end",
        ]
    if guard.field:
        lines.append(f"local stored = old[{len(names)}]")
    return [*lines, *guard.read]


def _event(features: Sequence[_Feature]) -> list[str]:
    """Return the lines that add one event to all features."""
    lines = []
    for tile_ms, group in groupby(features, key=lambda each: each.plan.tile_ms):
        lines += ["do", f"local k = floor(time / {tile_ms})"]
        for feature in group:
            lines += _feature(feature)
        lines.append("end")
    return lines


def _feature(feature: _Feature) -> list[str]:
    """Return the lines that add one event to one feature; `k` is the event's tile."""
    i, tile_ms, kept = feature.index, feature.plan.tile_ms, feature.plan.tiles + 2
    merge, first = feature.merge
    lines = []
    if feature.argument is not None:
        lines += ["do", f"local x = ARGV[i + {2 + feature.argument}]", "if x ~= '' then"]
    lines += [
        f"if (k + {feature.plan.tiles + 1}) * {tile_ms} > now and not (h{i} and k <= h{i} - {kept}) then",
        f"used, d{i} = true, true",
        f"if k == h{i} then {merge.format(a=f'a{i}')}",
        f"elseif not h{i} or k - h{i} >= {kept} then h{i}, a{i}, r{i} = k, {first}, ''",
        f"elseif k > h{i} then",
        f"r{i} = cut(rep(',', k - h{i}) .. a{i} .. r{i}, {kept})",
        f"h{i}, a{i} = k, {first}",
        "else",
        f"local rest, p, q = tile_at(r{i}, h{i} - k)",
        f"local t = sub(rest, p + 1, q - 1); {merge.format(a='t')}",
        f"r{i} = sub(rest, 1, p) .. t .. sub(rest, q)",
        "end",
        "else missed = true end",
    ]
    if feature.argument is not None:
        lines += ["end", "end"]
    return lines


def _writes(features: Sequence[_Feature], guard: _Guard, *, hsetex: bool) -> list[str]:
    """Return the lines that set the fields that changed, and the guard."""
    lines: list[str] = []
    windows: dict[tuple[int, int], list[_Feature]] = {}
    for feature in features:
        windows.setdefault((feature.plan.tile_ms, feature.plan.tiles), []).append(feature)
    for group in windows.values():
        first = group[0]
        if len(group) > 1:
            # Features of one window mostly have the same newest tile.
            changed = " or ".join(f"d{each.index}" for each in group)
            equal = " and ".join(f"h{each.index} == h{first.index}" for each in group)
            lines += [f"if ({changed}) and {equal} then", *_put(group, hsetex=hsetex), "else"]
        for each in group:
            lines += [f"if d{each.index} then", *_put([each], hsetex=hsetex), "end"]
        if len(group) > 1:
            lines.append("end")
    if guard.field:
        changed = " or ".join(f"d{each.index}" for each in features)
        lines += [f"if {changed} then", "local till = now"]
        for each in features:
            i = each.index
            lines.append(f"if h{i} and {_deadline(each)} > till then till = {_deadline(each)} end")
        deadline = f"fmt('%d', till + {GUARD_MARGIN_MS})"
        lines += [*_set(deadline, [(guard.field, guard.value)], hsetex=hsetex), "end"]
    return lines


def _deadline(feature: _Feature) -> str:
    """Return the expression of the time at which the newest tile leaves the window."""
    return f"(h{feature.index} + {feature.plan.tiles + 1}) * {feature.plan.tile_ms}"


def _put(group: Sequence[_Feature], *, hsetex: bool) -> list[str]:
    """Return the lines that set the fields of features with the same window and newest tile."""
    pairs = [
        (each.name, f"fmt('{each.plan.head}%d:', h{i}) .. a{i} .. r{i}")
        for each in group
        for i in [each.index]
    ]
    return _set(f"fmt('%d', {_deadline(group[0])})", pairs, hsetex=hsetex)


def _set(deadline: str, pairs: Sequence[tuple[str, str]], *, hsetex: bool) -> list[str]:
    values = ", ".join(f"{name}, {value}" for name, value in pairs)
    fields = f"'FIELDS', {len(pairs)}"
    if hsetex:
        return [f"redis.call('HSETEX', key, 'PXAT', {deadline}, {fields}, {values})"]
    names = ", ".join(name for name, _ in pairs)
    return [
        f"redis.call('HSET', key, {values})",
        f"redis.call('HPEXPIREAT', key, {deadline}, {fields}, {names})",
    ]


def _quoted(name: str) -> str:
    text = name.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return f"'{text}'"
