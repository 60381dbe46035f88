"""Records: the class of a read's rows, made once for each list of features."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import ClassVar, cast

from typing_extensions import override

from featurekit.lower.build import build
from featurekit.lower.read import (
    NOTHING,
    AbsentCounters,
    Cell,
    RowDecoder,
    decode_row_by_cell,
    decoder_expressions,
)
from featurekit.plan import ReadPlan
from featurekit.types import DECODE_ERRORS
from featurekit.wire import ErrorReply


class Record:
    """One row of features: `row.tx_count_7d`, or `row["tx_count_7d"]`.

    A feature that is not `present` has its default, or else `None`. A feature whose name is also a
    name of this class is reached by `row["..."]` alone.
    """

    __slots__ = ("_freshness", "_raw")

    _plan: ClassVar[ReadPlan]
    _names: ClassVar[tuple[str, ...]]

    _raw: list[Cell]
    _freshness: tuple[float | None, ...]

    @property
    def found(self) -> bool:
        """Whether any of the features asked for is stored for this row's entities, however old."""
        return any(cell is not None and not isinstance(cell, ErrorReply) for cell in self._raw)

    @property
    def error(self) -> str:
        """Why the row could not be read, as a server that is away; empty if it could."""
        return next((str(cell) for cell in self._raw if isinstance(cell, ErrorReply)), "")

    @property
    def statuses(self) -> dict[str, str]:
        """For each feature its status.

        `present`; `default` or `missing` where nothing is stored; `invalid` where what is stored
        cannot be read; `unavailable` where the server is away (`partial=True`); `stale` where it is
        older than `max_age` allows.
        """
        _, statuses = decode_row_by_cell(self._plan, self._raw)
        return dict(zip(self._names, statuses, strict=True))

    @property
    def freshness(self) -> dict[str, float | None]:
        """Seconds that each value still has to live; `None` where there is no value.

        Empty unless the reader was made with `freshness=True`.
        """
        return dict(zip(self._names, self._freshness, strict=False))

    def to_dict(self) -> dict[str, object]:
        """The features by name, in the order asked for."""
        values, _ = decode_row_by_cell(self._plan, self._raw)
        return dict(zip(self._names, values, strict=True))

    def __getitem__(self, name: str) -> object:
        return self.to_dict()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    @override
    def __eq__(self, other: object) -> bool:
        # By what is stored: a value may be an array, which `==` does not answer for as a whole.
        if not isinstance(other, Record):
            return NotImplemented
        return self._names == other._names and repr(self._raw) == repr(other._raw)

    __hash__ = None  # type: ignore[assignment]

    @override
    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={value!r}" for name, value in self.to_dict().items())
        return f"Row({inside})"

    @override
    def __reduce__(self) -> tuple[object, ...]:
        return _again, (self._plan, self._raw, self._freshness)


@lru_cache(maxsize=256)
def record_class(plan: ReadPlan) -> type[Record]:
    """The class of the plan's rows: made with the decoded values, the raw cells, and TTLs."""
    reserved = set(dir(Record))
    names = tuple(column.name for column in plan.columns)
    slots = [name for name in names if name not in reserved]
    targets = ", ".join("_" if name in reserved else f"s.{name}" for name in names)
    source = (
        "class Row(Record):\n"
        f" __slots__ = {tuple(slots)!r}\n"
        " _plan = PLAN\n"
        " _names = NAMES\n"
        " def __init__(s, values, raw, freshness=()):\n"
        "  s._raw = raw\n"
        "  s._freshness = freshness\n"
        f"  {targets}, = values\n"
    )
    known = {"Record": Record, "PLAN": plan, "NAMES": names, "__name__": __name__}
    return cast("type[Record]", build("Row", source, known))


def record_function(
    plan: ReadPlan, otherwise: RowDecoder, steps: AbsentCounters | None = None
) -> RowDecoder:
    """The generated function from raw values to a record of their features.

    It decodes right into the record, which is the quickest way to make one.

    Args:
        plan: What is read.
        otherwise: Takes what does not decode, whatever it is.
        steps: What counts the values that are not there; `None` if nobody does.
    """
    terms, defaults, known = decoder_expressions(plan, steps)
    reserved = dir(Record)
    targets = ["_" if c.name in reserved else f"s.{c.name}" for c in plan.columns]
    body = "".join(f"  {t} = {term}\n" for t, term in zip(targets, terms, strict=True))
    none = "".join(f"   {t} = {term}\n" for t, term in zip(targets, defaults, strict=True))
    source = (
        "def record(r):\n"
        " s = new(Row)\n"
        " s._raw = r\n"
        " s._freshness = ()\n"
        " try:\n"
        f"  if {NOTHING}:\n{'   next(A)' if steps else ''}\n{none}   return s\n"
        f"{body}"
        " except E:\n"
        "  return otherwise(r)\n"
        " return s\n"
    )
    row = record_class(plan)
    known |= {"Row": row, "new": row.__new__, "E": DECODE_ERRORS, "otherwise": otherwise}
    return build("record", source, known)


def _again(plan: ReadPlan, raw: list[Cell], freshness: tuple[float | None, ...]) -> Record:
    values, _ = decode_row_by_cell(plan, raw)
    return record_class(plan)(values, raw, freshness)  # type: ignore[call-arg]
