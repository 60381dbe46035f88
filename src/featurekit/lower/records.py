"""`Record`, the rows of a reader, and the subclass generated for each list of features."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, ClassVar, cast

from typing_extensions import override

from featurekit.lower.build import build
from featurekit.lower.cell_decoder import CellDecoder
from featurekit.lower.read import (
    ROW_ERRORS,
    AbsentCounters,
    Cell,
    RowDecoder,
    any_stored,
    group_spans,
)
from featurekit.lower.row_decoder import (
    NOT_CELLS,
    ROW_IS_ABSENT,
    computed_row,
    decoder_expressions,
    is_computed,
)
from featurekit.plan import ReadPlan
from featurekit.signatures import Signature, stale_code_error
from featurekit.wire import ErrorReply


class Record:
    """One row of features: `row.tx_count_7d`, `row["tx_count_7d"]` or `dict(row)`.

    A feature that is not `present` has its default, or `None` without one. `validate` refuses
    features with the name of an attribute of this class; from an older registry, they are only
    available as `row["..."]`.
    """

    __slots__ = ("_cells", "_freshness")

    _signature: ClassVar[Signature | None] = None
    _base: ClassVar[type[Record]]
    _plan: ClassVar[ReadPlan]
    _decoder: ClassVar[CellDecoder]
    _names: ClassVar[tuple[str, ...]]
    _attributes: ClassVar[frozenset[str]]
    _spans: ClassVar[dict[str, tuple[int, int]]]

    _cells: list[Cell]
    _freshness: tuple[float | None, ...]

    @property
    def found(self) -> bool:
        """Whether each entity of this row has any of the requested features stored, of any age."""
        return all(any_stored(self._cells, span) for span in self._spans.values())

    @property
    def found_by(self) -> dict[str, bool]:
        """Maps each entity to whether any of its requested features is stored, of any age."""
        return {name: any_stored(self._cells, span) for name, span in self._spans.items()}

    @property
    def error(self) -> str:
        """Why the row could not be read, such as an unreachable server; empty if it could."""
        return next((str(cell) for cell in self._cells if isinstance(cell, ErrorReply)), "")

    @property
    def statuses(self) -> dict[str, str]:
        """The status of each feature.

        `present`; `default` or `missing` if no value is stored; `invalid` if the stored value
        does not decode; `unavailable` if the server is unreachable (`partial=True`); `stale` if
        the value is older than `max_age`.
        """
        _, statuses = self._decoder.decode(self._cells)
        return dict(zip(self._names, statuses, strict=True))

    @property
    def freshness(self) -> dict[str, float | None]:
        """The remaining TTL of each value in seconds; `None` if there is no value.

        Empty unless the reader was created with `freshness=True`.
        """
        return dict(zip(self._names, self._freshness, strict=False))

    def to_dict(self) -> dict[str, object]:
        """Return the features by name, in the requested order."""
        values, _ = self._decoder.decode(self._cells)
        return dict(zip(self._names, values, strict=True))

    def keys(self) -> tuple[str, ...]:
        """Return the names of the features, in the requested order."""
        return self._names

    def __getitem__(self, name: str) -> object:
        return getattr(self, name) if name in self._attributes else self.to_dict()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    @override
    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Record):
            return NotImplemented
        return self._names == other._names and self._compared() == other._compared()

    def _compared(self) -> str:
        """What makes rows equal: their cells, or their values if those are of the time of the read."""
        has_context = self._decoder.layout.has_context
        return repr(self._decoder.decode(self._cells) if has_context else self._cells)

    __hash__ = None  # type: ignore[assignment]

    @override
    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in self.to_dict().items())
        return f"{type(self).__name__}({values})"

    @override
    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_record, (self._base, self._plan, self._cells, self._freshness)


def check_row_class(base: type[Record], plan: ReadPlan) -> None:
    """Check that a plan yields what a generated row class promises.

    Raises:
        RegistryError: It does not; names the differences.
    """
    signature = base._signature  # noqa: SLF001 - an attribute of rows, where a feature may have any name
    differences = signature.read_differences(plan) if signature is not None else []
    if signature is not None and differences:
        raise stale_code_error(signature, differences, base.__module__)


def record_class(plan: ReadPlan, base: type[Record] = Record) -> type[Record]:
    """Return the class of a plan's rows; its arguments are the values, the cells and the TTLs.

    Args:
        plan: The read.
        base: Its base class, which may have slots for some of the features.
    """
    hashable: Any = base  # to mypy, a class whose instances have no hash has none either
    return _record_class(plan, hashable)


@lru_cache(maxsize=256)
def _record_class(plan: ReadPlan, base: type[Any]) -> type[Record]:
    reserved = set(dir(Record))
    names = tuple(column.name for column in plan.columns)
    attributes = [name for name in names if name not in reserved]
    slots = tuple(name for name in attributes if not hasattr(base, name))
    targets = ", ".join("_" if name in reserved else f"s.{name}" for name in names)
    source = (
        "class Row(BASE):\n"
        f" __slots__ = {slots!r}\n"
        " __qualname__ = NAME\n"
        " _base = BASE\n"
        " _plan = PLAN\n"
        " _decoder = DECODER\n"
        " _names = NAMES\n"
        " _attributes = ATTRIBUTES\n"
        " _spans = SPANS\n"
        " def __init__(s, values, cells, freshness=()):\n"
        "  s._cells = cells\n"
        "  s._freshness = freshness\n"
        f"  {targets}, = values\n"
    )
    name = "Row" if base is Record else base.__name__
    known = {"BASE": base, "NAME": name, "PLAN": plan, "NAMES": names, "__name__": base.__module__}
    known |= {"SPANS": group_spans(plan), "ATTRIBUTES": frozenset(attributes)}
    known["DECODER"] = CellDecoder(plan)
    row = cast("type[Record]", build("Row", source, known))
    row.__name__ = name
    return row


def record_function(
    plan: ReadPlan,
    fallback: RowDecoder,
    absent: AbsentCounters | None = None,
    base: type[Record] = Record,
) -> RowDecoder:
    """Return the generated function from a row's cells to a record.

    It decodes straight into the slots of the record, which is the fastest way to create one.

    Args:
        plan: The read.
        fallback: Decodes the replies for which the generated function raises.
        absent: Counts absent values, if given.
        base: The base class of the record, see `record_class`.
    """
    reserved = dir(Record)
    targets = ["_" if c.name in reserved else f"s.{c.name}" for c in plan.columns]
    body, names = _record_body(plan, targets, absent)
    source = (
        "def record(r):\n"
        " s = new(Row)\n"
        " s._cells = r\n"
        " s._freshness = ()\n"
        " try:\n"
        f"  if {NOT_CELLS}:\n   return fallback(r)\n"
        f"{body}"
        " except E:\n"
        "  return fallback(r)\n"
        " return s\n"
    )
    row = record_class(plan, base)
    names |= {"Row": row, "new": row.__new__, "E": ROW_ERRORS, "fallback": fallback}
    return build("record", source, names)


def _record_body(
    plan: ReadPlan, targets: list[str], absent: AbsentCounters | None
) -> tuple[str, dict[str, object]]:
    """Return the statements that assign the features to the slots, and the globals that they use."""
    if is_computed(plan):
        row = computed_row(plan, absent, targets)
        return row.statements, row.names
    terms, defaults, names = decoder_expressions(plan, absent)
    values = "".join(f"  {t} = {term}\n" for t, term in zip(targets, terms, strict=True))
    all_absent = "".join(f"   {t} = {term}\n" for t, term in zip(targets, defaults, strict=True))
    counted = "   next(A)" if absent else ""
    return f"  if {ROW_IS_ABSENT}:\n{counted}\n{all_absent}   return s\n{values}", names


def _rebuild_record(
    base: type[Record], plan: ReadPlan, cells: list[Cell], freshness: tuple[float | None, ...]
) -> Record:
    row = record_class(plan, base)
    values, _ = row._decoder.decode(cells)  # noqa: SLF001 - an attribute of rows, as above
    return row(values, cells, freshness)  # type: ignore[call-arg]
