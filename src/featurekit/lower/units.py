"""Units: the commands that write one entity's row, which apply together or not at all.

The rules of expiry are here and nowhere else (docs/wire-format.md, "Expiry"):

- A batch view that owns the key sets its fields, deletes what is null or retired, and renews
  the key's TTL.
- A view that expires by field gives each field it sets that field's own TTL: by `HSETEX`
  where the server has it, else by `HSET` and `HPEXPIRE`.
- `HPEXPIRE` alone, `KEEPTTL` and increments are never sent: on some servers they bring
  expired values back, or lose their expiry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from featurekit.plan import ViewPlan
from featurekit.wire import EXEC, MULTI, Reply, command, first_error


@dataclass(frozen=True, slots=True)
class Unit:
    """Commands about one key.

    Attributes:
        data: The commands, framed.
        commands: How many they are.
        lines: How many lines their replies take if nothing is refused.
    """

    data: bytes
    commands: int
    lines: int


UnitOf = Callable[[bytes, Mapping[str, bytes | None]], Unit]
"""From a key and its fields' bytes to the unit that writes them; `None` deletes a field."""


def batch_unit(view: ViewPlan, *, hsetex: bool) -> UnitOf:
    """The function that makes units for a batch view: fields that are not given are deleted."""
    names = [field.name for field in view.fields]
    lives = lives_of(view)
    retired = [name.encode() for name in view.retired]

    def unit(key: bytes, row: Mapping[str, bytes | None]) -> Unit:
        parts: list[bytes] = []
        lines = 0
        for ttl_ms, group in lives.items():
            items = [(n.encode(), v) for n in group if (v := row.get(n)) is not None]
            parts += set_commands(key, items, ttl_ms, hsetex=hsetex)
            # HPEXPIRE answers with a line for each field.
            lines += len(items) if ttl_ms and not hsetex else 0
        if gone := [n.encode() for n in names if row.get(n) is None] + retired:
            parts.append(command(b"HDEL", key, *gone))
        if view.expires == "key":
            parts.append(command(b"PEXPIRE", key, b"%d" % view.ttl_ms))
        return Unit(b"".join(parts), len(parts), len(parts) + lines)

    return unit


def lives_of(view: ViewPlan) -> dict[int, list[str]]:
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


def transaction(unit: Unit) -> bytes:
    """A unit between `MULTI` and `EXEC`: two more replies, each command's twice in lines."""
    return MULTI + unit.data + EXEC


def faults_by_row(replies: list[Reply], commands: list[int], block: int) -> dict[int, str]:
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
