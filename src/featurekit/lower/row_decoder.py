"""Generate the function that decodes a whole row, with the decoder of each field as an expression.

A row that raises, and only that row, is decoded again by `cell_decoder`. Derived features are expressions
over local variables, to which stored values, values of the request and the time are decoded once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count

from typing_extensions import override

from featurekit.expressions import NOW, Expression, python_source
from featurekit.lower.build import build
from featurekit.lower.cell_decoder import CellDecoder, CellLayout, evaluated
from featurekit.lower.read import (
    PRESENT,
    ROW_ERRORS,
    AbsentCounters,
    Cells,
    RowDecoder,
    absent_status,
    column_codec,
    group_offsets,
)
from featurekit.lower.windows import fold_function
from featurekit.plan import Column, DerivedColumn, FieldPlan, ReadColumn, ReadPlan
from featurekit.types import Codec

NOT_CELLS = "type(r) is not list"
"""The test for a reply `r` that is not a list, whose parts could be taken for cells."""

ROW_IS_ABSENT = "r[0] is None and r == NONE"
"""The test for cells `r` without any value, so that an unknown entity is cheap."""


def row_function(
    plan: ReadPlan, fallback: RowDecoder, absent: AbsentCounters | None = None
) -> RowDecoder:
    """Return the generated function from a row's cells to its features, followed by the cells.

    Args:
        plan: The read.
        fallback: Decodes the replies for which the generated function raises.
        absent: Counts absent values, if given.
    """
    body, names = _row_body(plan, absent)
    source = (
        "def row(r):\n try:\n"
        f"  if {NOT_CELLS}:\n   return fallback(r)\n"
        f"{body}"
        " except E:\n  return fallback(r)\n"
    )
    return build("row", source, names | {"E": ROW_ERRORS, "fallback": fallback})


def _row_body(plan: ReadPlan, absent: AbsentCounters | None) -> tuple[str, dict[str, object]]:
    """Return the statements that return the row, and the globals that they use."""
    if is_computed(plan):
        row = computed_row(plan, absent)
        return f"{row.statements}  return ({', '.join([*row.variables, 'r'])})\n", row.names
    terms, defaults, names = decoder_expressions(plan, absent)
    values, all_absent = ",\n   ".join([*terms, "r"]), ", ".join([*defaults, "r"])
    body = (
        f"  if {ROW_IS_ABSENT}:\n{'   next(A)' if absent else ''}\n   return ({all_absent})\n"
        f"  return (\n   {values},\n  )\n"
    )
    return body, names


def decoder_expressions(
    plan: ReadPlan, absent: AbsentCounters | None
) -> tuple[list[str], list[str], dict[str, object]]:
    """Return an expression over the cells `r` and one for the default, by stored feature, and globals."""
    names: dict[str, object] = {"NONE": [None] * sum(len(group.fields) for group in plan.groups)}
    if absent is not None:
        names |= {"next": next, "A": absent.rows}
    offsets, now_ms = group_offsets(plan), CellLayout.of(plan).now_ms
    terms, defaults = [], []
    for index, column in enumerate(plan.stored):
        cell = f"r[{offsets[column.group] + column.slot}]"
        term, default = _cell_term(plan, column.field, cell, index, names)
        if column.field.aggregate is not None:
            names[f"F{index}"] = fold_function(column.field)
            term = f"v if (v := F{index}({cell}, r[{now_ms}])) is not None"
        defaults.append(default)
        terms.append(f"{term} else {_counted(default, index, absent, names)}")
    return terms, defaults, names


def is_computed(plan: ReadPlan) -> bool:
    """Return whether a read has features whose values are not those of one cell each."""
    return bool(plan.derived) or any(c.field.aggregate is not None for c in plan.stored)


class StatusDecoder:
    """Finds the statuses of rows with computed features.

    Args:
        plan: The read.
    """

    def __init__(self, plan: ReadPlan) -> None:
        self._plan = plan
        self._by_cell = CellDecoder(plan)
        self._absent = [absent_status(column.field) for column in plan.columns]
        offsets = group_offsets(plan)
        self._cells = [
            offsets[c.group] + c.slot
            if isinstance(c, ReadColumn) and c.field.aggregate is None
            else None
            for c in plan.columns
        ]

    @override
    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self._plan,)

    @cached_property
    def _row(self) -> RowDecoder | None:
        """The function to the values of a row, in which a computed one is null even if it has a default.

        `None` if such a default is an input of other features.
        """
        fields = [column.field for column in self._plan.stored]
        used = [fields[i] for i in _used_by_derived(self._plan)]
        if any(field.aggregate is not None and field.default is not None for field in used):
            return None
        columns = tuple(map(_without_default, self._plan.columns))
        return row_function(replace(self._plan, columns=columns), lambda _: None)

    def statuses(self, cells: Cells) -> tuple[str, ...]:
        """Return the statuses of the features of a row."""
        values = self._row(cells) if self._row is not None else None
        if values is None:
            return self._by_cell.decode(cells)[1]
        places = zip(self._cells, values, self._absent)  # noqa: B905 - the cells follow the values
        return tuple(
            [
                absent if (value if index is None else cells[index]) is None else PRESENT
                for index, value, absent in places
            ]
        )


def _without_default(column: Column) -> Column:
    """Return a computed column without its default."""
    field = replace(column.field, default=None)
    if isinstance(column, ReadColumn):
        return column if field.aggregate is None else replace(column, field=field)
    return replace(column, feature=replace(column.feature, field=field))


def _used_by_derived(plan: ReadPlan) -> set[int]:
    """Return the indexes of the stored features that derived ones are computed from."""
    return {
        i
        for column in plan.derived
        for i, each in zip(column.arguments, column.feature.inputs, strict=True)
        if not each.is_request
    }


@dataclass(frozen=True, slots=True)
class ComputedRow:
    """A part of a generated function over the cells `r`, for a plan with computed features.

    Attributes:
        statements: Statements, indented by two, that assign each feature to its target.
        variables: The variable of each feature of the response, if no targets were given.
        names: The globals of the statements.
    """

    statements: str
    variables: list[str]
    names: dict[str, object]


def computed_row(
    plan: ReadPlan, absent: AbsentCounters | None, targets: Sequence[str] | None = None
) -> ComputedRow:
    """Return the statements that compute a row.

    The stored values of an empty row are counted as one; derived features are counted one by one.

    Args:
        plan: The read.
        absent: Counts absent values, if given.
        targets: To what each feature of the response is assigned; by default to local variables.
    """
    terms, defaults, names = decoder_expressions(plan, absent)
    layout, assign = CellLayout.of(plan), _assignments(plan, targets)
    lines = [f"  q{i} = r[{layout.requests + i}]\n" for i in range(len(plan.requests))]
    if layout.now is not None:
        lines.append(f"  now = r[{layout.now}]\n")
    windows = {i for i, c in enumerate(plan.stored) if c.field.aggregate is not None}
    if others := [i for i in range(len(terms)) if i not in windows]:
        part = f"r[:{layout.stored}]" if layout.has_context else "r"
        lines.append(f"  if r[0] is None and {part} == NONE:\n")
        lines += ["   next(A)\n"] if absent is not None else []
        lines += [f"   {assign[i]} = {defaults[i]}\n" for i in others]
        lines.append("  else:\n")
        lines += [f"   {assign[i]} = {terms[i]}\n" for i in others]
    elif terms and absent is not None:
        lines.append(f"  if r[0] is None and r[:{layout.stored}] == NONE:\n   next(A)\n")
    lines += [f"  {assign[i]} = {terms[i]}\n" for i in sorted(windows)]
    derived = _derived_terms(plan, absent, layout, names)
    lines += [f"  {assign[len(terms) + i]} = {term}\n" for i, term in enumerate(derived)]
    places = {id(column): i for i, column in enumerate(evaluated(plan))}
    return ComputedRow("".join(lines), [f"v{places[id(c)]}" for c in plan.columns], names)


def _assignments(plan: ReadPlan, targets: Sequence[str] | None) -> list[str]:
    """Return to what each evaluated feature is assigned, such as `s.amount = v0`."""
    columns = evaluated(plan)
    if targets is None:
        return [f"v{i}" for i in range(len(columns))]
    target_of = {id(c): target for c, target in zip(plan.columns, targets, strict=True)}
    used = _used_by_derived(plan)
    shown = [target_of.get(id(column), "_") for column in columns]
    return [f"{target} = v{i}" if i in used else target for i, target in enumerate(shown)]


def _derived_terms(
    plan: ReadPlan,
    absent: AbsentCounters | None,
    layout: CellLayout,
    names: dict[str, object],
) -> Iterator[str]:
    """Yield the source of each derived feature, and add its globals."""
    temporaries = (f"t{i}" for i in count())
    for position, column in enumerate(plan.derived):
        index = len(plan.stored) + position
        compute = column.feature.compute
        if isinstance(compute, Expression):
            source = _expression_source(column, compute, temporaries, names)
            codec = column_codec(plan, column.field)
            value = "v" if codec.is_scalar else "[*v]"  # a list of an input stays its own
            term = f"{value} if (v := {source}) is not None"
            default = _default_expression(column.field.default, codec, f"D{index}", names)
        else:
            cell = f"r[{layout.functions[position]}]"
            term, default = _cell_term(plan, column.field, cell, index, names)
        yield f"{term} else {_counted(default, index, absent, names)}"


def _cell_term(
    plan: ReadPlan, field: FieldPlan, cell: str, index: int, names: dict[str, object]
) -> tuple[str, str]:
    """Return `VALUE if CELL is not None`, and an expression for the default."""
    codec = column_codec(plan, field)
    names |= codec.decoder_globals()
    default = _default_expression(field.default, codec, f"D{index}", names)
    return f"{codec.decoder_expression('v')} if (v := {cell}) is not None", default


def _expression_source(
    column: DerivedColumn,
    expression: Expression,
    temporaries: Iterator[str],
    names: dict[str, object],
) -> str:
    """Return the source of a derived value over local variables, and add its globals."""
    variables = {
        each.name: f"q{i}" if each.is_request else f"v{i}"
        for i, each in zip(column.arguments, column.feature.inputs, strict=True)
    }
    compiled = python_source(expression, variables | {NOW: NOW}, lambda: next(temporaries))
    names |= compiled.helpers
    return compiled.source


def _counted(
    default: str, index: int, absent: AbsentCounters | None, names: dict[str, object]
) -> str:
    """Return the expression for a default, which counts that it is used."""
    if absent is None:
        return default
    names[f"A{index}"] = absent.columns[index]
    return f"next(A{index}) or {default}"


def _default_expression(
    default: bytes | None, codec: Codec, name: str, names: dict[str, object]
) -> str:
    if default is None:
        return "None"
    if codec.is_scalar:
        names[name] = codec.decode(default)
        return name
    # A new list or dict for each row, so that a caller cannot change another's default.
    names[name] = default
    return codec.decoder_expression(name)
