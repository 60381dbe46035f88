"""Units: the commands that write one entity's row, which apply together or not at all.

The rules of expiry are here and nowhere else (docs/wire-format.md, "Expiry"):

- A batch view that owns the key sets its fields, deletes what is null or retired, and renews
  the key's TTL.
- A view that expires by field gives each field it sets that field's own TTL: by `HSETEX`
  where the server has it, else by `HSET` and `HPEXPIRE`.
- Where transactions cannot be had, a row is one call of a script that does the same.
- `HPEXPIRE` alone, `KEEPTTL` and increments are never sent: on some servers they bring
  expired values back, or lose their expiry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from featurekit.lower.scripts import ROW
from featurekit.plan import ViewPlan
from featurekit.wire import EXEC, MULTI, ErrorReply, Reply, command, first_error


@dataclass(frozen=True, slots=True)
class WriteGroup:
    """Commands about one key.

    Attributes:
        data: The commands, framed.
        commands: How many they are.
        lines: How many lines their replies take if nothing is refused.
    """

    data: bytes
    commands: int
    lines: int


WriteGroupFunction = Callable[[bytes, Mapping[str, bytes | None]], WriteGroup]
"""From a key and its fields' bytes to the unit that writes them; `None` deletes a field."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a server is to be told that commands belong together.

    Attributes:
        hsetex: Whether it has `HSETEX` (Redis 8, Valkey 9).
        transactions: Whether `MULTI` may be sent. Not to a cluster, where it fails while its slot
            moves: there a unit is one command.
    """

    hsetex: bool
    transactions: bool = True


def batch_write_group(view: ViewPlan, dialect: Dialect) -> WriteGroupFunction:
    """The function that makes units for a batch view: fields that are not given are deleted."""
    names = [field.name for field in view.fields]
    lives = ttl_groups(view)
    retired = [name.encode() for name in view.retired]
    key_ttl_ms = view_key_ttl_ms(view)

    def unit(key: bytes, row: Mapping[str, bytes | None]) -> WriteGroup:
        groups = {
            ttl_ms: [(n.encode(), v) for n in group if (v := row.get(n)) is not None]
            for ttl_ms, group in lives.items()
        }
        gone = [n.encode() for n in names if row.get(n) is None] + retired
        if not dialect.transactions:
            return WriteGroup(
                row_command(key, groups, gone, key_ttl_ms, hsetex=dialect.hsetex), 1, 1
            )
        parts: list[bytes] = []
        lines = 0
        for ttl_ms, items in groups.items():
            parts += set_commands(key, items, ttl_ms, hsetex=dialect.hsetex)
            # HPEXPIRE answers with a line for each field.
            lines += len(items) if ttl_ms and not dialect.hsetex else 0
        if gone:
            parts.append(command(b"HDEL", key, *gone))
        if key_ttl_ms:
            parts.append(command(b"PEXPIRE", key, b"%d" % key_ttl_ms))
        return WriteGroup(b"".join(parts), len(parts), len(parts) + lines)

    return unit


def view_key_ttl_ms(view: ViewPlan) -> int:
    """The TTL in ms that a write of the view gives to the key; 0 if it gives none."""
    return view.ttl_ms if view.expires == "key" else 0


def ttl_groups(view: ViewPlan) -> dict[int, list[str]]:
    """The view's fields by the TTL in ms that a write gives them; 0 is the key's."""
    lives: dict[int, list[str]] = {}
    for field in view.fields:
        lives.setdefault(field.ttl_ms, []).append(field.name)
    return lives


def set_commands(
    key: bytes, items: list[tuple[bytes, bytes]], ttl_ms: int, *, hsetex: bool
) -> list[bytes]:
    """The commands that set fields of one TTL; none for no fields. They belong in one unit."""
    if not items:
        return []
    flat = [part for item in items for part in item]
    count, ttl = b"%d" % len(items), b"%d" % ttl_ms
    if not ttl_ms:
        return [command(b"HSET", key, *flat)]
    if hsetex:
        return [command(b"HSETEX", key, b"PX", ttl, b"FIELDS", count, *flat)]
    names = [name for name, _ in items]
    return [
        command(b"HSET", key, *flat),
        command(b"HPEXPIRE", key, ttl, b"FIELDS", count, *names),
    ]


def row_command(
    key: bytes,
    groups: Mapping[int, Sequence[tuple[bytes, bytes]]],
    gone: Sequence[bytes],
    key_ttl_ms: int,
    *,
    hsetex: bool,
) -> bytes:
    """The one command that writes a row, which answers 1.

    It is `HSETEX` where that does all of it: fields of one TTL and nothing else. Or else it is a
    call of the script `ROW`, at twice the server's work.

    Args:
        key: The hash.
        groups: Fields and their bytes by the TTL in ms they get; 0 is the key's.
        gone: Fields to delete.
        key_ttl_ms: The TTL that the key gets; 0 for none.
        hsetex: Whether the server has `HSETEX`.
    """
    filled = {ttl_ms: list(items) for ttl_ms, items in groups.items() if items}
    if hsetex and len(filled) == 1 and not gone and not key_ttl_ms:
        [alone] = [set_commands(key, items, ttl, hsetex=True) for ttl, items in filled.items()]
        return b"".join(alone)
    parts = [
        b"%d" % key_ttl_ms,
        hsetex_flag(hsetex=hsetex),
        b"%d" % len(filled),
        b"%d" % len(gone),
    ]
    for ttl_ms, items in filled.items():
        parts += [b"%d" % ttl_ms, b"%d" % len(items), *(part for item in items for part in item)]
    return command(b"EVALSHA", ROW.sha, b"1", key, *parts, *gone)


def hsetex_flag(*, hsetex: bool) -> bytes:
    """Whether there is `HSETEX`, as scripts are told."""
    return b"1" if hsetex else b"0"


def transaction(unit: WriteGroup) -> bytes:
    """A unit between `MULTI` and `EXEC`: two more replies, each command's twice in lines."""
    return MULTI + unit.data + EXEC


def command_errors(replies: Sequence[Reply]) -> dict[int, str]:
    """As `row_errors`, where each row is one command."""
    return {i: str(reply) for i, reply in enumerate(replies) if isinstance(reply, ErrorReply)}


def row_errors(replies: list[Reply], commands: list[int], block: int) -> dict[int, str]:
    """Which rows of a chunk the server refused, and why.

    Args:
        replies: All replies to the chunk: for each block `MULTI`, the queued, `EXEC`.
        commands: How many commands each row has.
        block: Rows in a transaction.

    Returns:
        The server's words by the row's index; a refused transaction refuses all its rows.
    """
    faults: dict[int, str] = {}
    at = 0
    for start in range(0, len(commands), block):
        counts = commands[start : start + block]
        size = sum(counts) + 2
        queued, done = replies[at : at + size - 1], replies[at + size - 1]
        at += size
        if not isinstance(done, list):
            error = first_error(queued) or first_error([done])
            faults |= {
                start + i: str(error or "the transaction was dropped") for i in range(len(counts))
            }
            continue
        position = 0
        for i, count in enumerate(counts):
            if (fault := _fault(done[position : position + count])) is not None:
                faults[start + i] = fault
            position += count
    return faults


def _fault(replies: list[Reply]) -> str | None:
    """What is wrong with the replies to one unit: an error, or a field left without expiry."""
    if (error := first_error(replies)) is not None:
        return str(error)
    for reply in replies:
        if isinstance(reply, list) and any(code != 1 for code in reply):
            return f"HPEXPIRE answered {reply}"
    return None
