"""Write groups: the commands that write one entity's row, applied together or not at all.

The rules of expiry are here and nowhere else (docs/wire-format.md, "Expiry"):

- A batch view that owns the key sets its fields, deletes null and retired ones, and renews the
  key's TTL.
- A view with `expires: field` gives each field that it sets that field's own TTL: with `HSETEX` if
  the server has it, otherwise with `HSET` and `HPEXPIRE`.
- Without transactions, a row is one call of a script that does the same.
- `HPEXPIRE` alone, `KEEPTTL` and increments are never sent: on some servers they restore expired
  values, or lose their expiry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from featurekit.lower.scripts import MISSING, MISSING_NEWEST, NEWEST, ROW, Script
from featurekit.plan import ViewPlan
from featurekit.wire import EXEC, MULTI, ErrorReply, Reply, command, first_error


@dataclass(frozen=True, slots=True)
class WriteGroup:
    """Commands about one key.

    Attributes:
        data: The framed commands.
        commands: The number of commands.
        reply_lines: The number of lines in their replies if no command fails.
    """

    data: bytes
    commands: int
    reply_lines: int


WriteGroupFunction = Callable[[bytes, Mapping[str, bytes | None]], WriteGroup]
"""Returns the write group for a key and the bytes of its fields; `None` deletes a field."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """The commands that a server supports for writing a row as a whole.

    Attributes:
        hsetex: Whether it has `HSETEX` (Redis 8, Valkey 9).
        transactions: Whether to use `MULTI`. Not on a cluster, where it fails while its slot
            moves: there, a write group is one command.
    """

    hsetex: bool
    transactions: bool = True


def load_guard(
    view: ViewPlan, *, allow_older: bool = False, missing_only: bool = False
) -> Script | None:
    """Return the script by which the server decides whether to write a row; `None` to write all.

    Args:
        view: The compiled batch view.
        allow_older: Write rows that are older than the stored ones.
        missing_only: Write only rows of entities without any value of the view.
    """
    if missing_only:
        return MISSING_NEWEST if view.event_time_field else MISSING
    return NEWEST if view.event_time_field and not allow_older else None


def batch_write_group(
    view: ViewPlan, dialect: Dialect, guard: Script | None = None
) -> WriteGroupFunction:
    """Return the function that builds the write groups of a batch view; absent fields are deleted.

    With a guard, which must be loaded, a write group is one command that replies 0 if the server
    leaves the row out.
    """
    names = [field.name for field in view.fields]
    fields_by_ttl = ttl_groups(view)
    retired = [name.encode() for name in deleted_fields(view, guard)]
    key_ttl_ms = view_key_ttl_ms(view)

    def write_group(key: bytes, row: Mapping[str, bytes | None]) -> WriteGroup:
        groups = {
            ttl_ms: [(n.encode(), v) for n in group if (v := row.get(n)) is not None]
            for ttl_ms, group in fields_by_ttl.items()
        }
        deletes = [n.encode() for n in names if row.get(n) is None] + retired
        if guard is not None:
            expiry = expiry_argument(hsetex=dialect.hsetex, absolute=False)
            data = script_call(guard, key, groups, deletes, key_ttl_ms, expiry)
            return WriteGroup(data, 1, 1)
        if not dialect.transactions:
            data = row_command(key, groups, deletes, key_ttl_ms, hsetex=dialect.hsetex)
            return WriteGroup(data, 1, 1)
        commands: list[bytes] = []
        lines = 0
        for ttl_ms, items in groups.items():
            commands += set_commands(key, items, ttl_ms, hsetex=dialect.hsetex)
            # HPEXPIRE replies with one line for each field.
            lines += len(items) if ttl_ms and not dialect.hsetex else 0
        if deletes:
            commands.append(command(b"HDEL", key, *deletes))
        if key_ttl_ms:
            commands.append(command(b"PEXPIRE", key, b"%d" % key_ttl_ms))
        return WriteGroup(b"".join(commands), len(commands), len(commands) + lines)

    return write_group


def deleted_fields(view: ViewPlan, guard: Script | None) -> tuple[str, ...]:
    """Return the retired fields that a row deletes.

    The guards that write missing entities only look at all fields of a row, so they leave retired ones
    to the next load.
    """
    return view.retired if guard in (None, NEWEST) else ()


def view_key_ttl_ms(view: ViewPlan) -> int:
    """Return the TTL in ms that a write of the view sets on the key; 0 for none."""
    return view.ttl_ms if view.expires == "key" else 0


def ttl_groups(view: ViewPlan) -> dict[int, list[str]]:
    """Return the hash fields of a load by the TTL in ms that it sets; 0 means the key's TTL.

    The event-time field comes first, where scripts expect it. It has the longest TTL: each row sets
    or deletes all features, so that none outlives it.
    """
    groups: dict[int, list[str]] = {}
    if view.event_time_field:
        groups[max(field.ttl_ms for field in view.fields)] = [view.event_time_field]
    for field in view.fields:
        groups.setdefault(field.ttl_ms, []).append(field.name)
    return groups


def set_commands(
    key: bytes,
    items: list[tuple[bytes, bytes]],
    ttl_ms: int,
    *,
    hsetex: bool,
    absolute: bool = False,
) -> list[bytes]:
    """Return the commands that set fields with one TTL; they belong in one write group.

    If `absolute`, `ttl_ms` is a deadline in ms since the epoch.
    """
    if not items:
        return []
    flat = [part for item in items for part in item]
    count, ttl = b"%d" % len(items), b"%d" % ttl_ms
    if not ttl_ms:
        return [command(b"HSET", key, *flat)]
    if hsetex:
        expiry = expiry_argument(hsetex=True, absolute=absolute)
        return [command(b"HSETEX", key, expiry, ttl, b"FIELDS", count, *flat)]
    names = [name for name, _ in items]
    return [
        command(b"HSET", key, *flat),
        command(
            expiry_argument(hsetex=False, absolute=absolute), key, ttl, b"FIELDS", count, *names
        ),
    ]


def row_command(
    key: bytes,
    groups: Mapping[int, Sequence[tuple[bytes, bytes]]],
    deletes: Sequence[bytes],
    key_ttl_ms: int,
    *,
    hsetex: bool,
    absolute: bool = False,
) -> bytes:
    """Return the one command that writes a row; its reply is 1.

    It is `HSETEX` if that suffices: fields of one TTL and nothing else. Otherwise it calls the
    script `ROW`, which costs the server twice as much.

    Args:
        key: The hash.
        groups: Fields and their bytes by TTL or deadline in ms; 0 means the key's TTL.
        deletes: Fields to delete.
        key_ttl_ms: The TTL to set on the key; 0 for none.
        hsetex: Whether the server has `HSETEX`.
        absolute: Whether groups have deadlines, in ms since the epoch, instead of TTLs.
    """
    filled = {ttl_ms: list(items) for ttl_ms, items in groups.items() if items}
    if hsetex and len(filled) == 1 and not deletes and not key_ttl_ms:
        [(ttl_ms, items)] = filled.items()
        return b"".join(set_commands(key, items, ttl_ms, hsetex=True, absolute=absolute))
    expiry = expiry_argument(hsetex=hsetex, absolute=absolute)
    return script_call(ROW, key, filled, deletes, key_ttl_ms, expiry)


def script_call(
    script: Script,
    key: bytes,
    groups: Mapping[int, Sequence[tuple[bytes, bytes]]],
    deletes: Sequence[bytes],
    key_ttl_ms: int,
    expiry: bytes,
) -> bytes:
    """Return the call of `ROW`, or of a script with its arguments; see `row_command`."""
    filled = {ttl_ms: items for ttl_ms, items in groups.items() if items}
    arguments = [b"%d" % key_ttl_ms, expiry, b"%d" % len(filled), b"%d" % len(deletes)]
    for ttl_ms, items in filled.items():
        pairs = [part for item in items for part in item]
        arguments += [b"%d" % ttl_ms, b"%d" % len(items), *pairs]
    return command(b"EVALSHA", script.sha, b"1", key, *arguments, *deletes)


def expiry_argument(*, hsetex: bool, absolute: bool) -> bytes:
    """Return how fields expire: an option of `HSETEX`, or the command that follows `HSET`."""
    if hsetex:
        return b"PXAT" if absolute else b"PX"
    return b"HPEXPIREAT" if absolute else b"HPEXPIRE"


def transaction(group: WriteGroup) -> bytes:
    """Return a write group between `MULTI` and `EXEC`.

    It gets two more replies than the group's commands, and one line more for each command.
    """
    return MULTI + group.data + EXEC


def command_errors(replies: Sequence[Reply]) -> dict[int, str]:
    """Return errors by row index, as `row_errors` does, for rows of one command each."""
    return {i: str(reply) for i, reply in enumerate(replies) if isinstance(reply, ErrorReply)}


def row_errors(replies: list[Reply], commands: list[int], block: int) -> dict[int, str]:
    """Return the server's errors for the rows of a chunk, by row index.

    Args:
        replies: All replies to the chunk: for each transaction those to `MULTI`, to the queued
            commands, and to `EXEC`.
        commands: The number of commands of each row.
        block: The number of rows in a transaction; a failed transaction fails all its rows.
    """
    errors: dict[int, str] = {}
    position = 0
    for start in range(0, len(commands), block):
        counts = commands[start : start + block]
        size = sum(counts) + 2
        queued, executed = replies[position : position + size - 1], replies[position + size - 1]
        position += size
        if not isinstance(executed, list):
            error = first_error(queued) or first_error([executed])
            text = str(error or "the server discarded the transaction")
            errors |= dict.fromkeys(range(start, start + len(counts)), text)
            continue
        first = 0
        for index, count in enumerate(counts, start):
            if (message := _group_error(executed[first : first + count])) is not None:
                errors[index] = message
            first += count
    return errors


def _group_error(replies: list[Reply]) -> str | None:
    """Return what failed in one write group: a command, or the expiry of a field."""
    if (error := first_error(replies)) is not None:
        return str(error)
    for reply in replies:
        if isinstance(reply, list) and any(code != 1 for code in reply):
            return f"HPEXPIRE answered {reply}"
    return None
