"""Answers: features of entities as tables and as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence

from featurekit.cli.formatting import span
from featurekit.cli.output import BAD, DIM, Piece, Styled, fits, show_line, show_table
from featurekit.cli.values import value_json
from featurekit.plan import ReadPlan
from featurekit.runtime.response import OnlineResponse
from featurekit.types import DType, codec_of

STATUS_STYLES = {
    "present": "",
    "default": DIM,
    "missing": DIM,
    "invalid": BAD,
    "unavailable": BAD,
    "stale": BAD,
}


def answer_document(plan: ReadPlan, response: OnlineResponse) -> dict[str, object]:
    """A response as JSON: columns of `n` values, as `to_dict()` gives them, and their statuses."""
    answer, dtypes = response.to_dict(), _dtypes(plan)
    document: dict[str, object] = {
        "features": {
            n: [value_json(dtypes[n], v) for v in values] for n, values in answer.items()
        },
        "statuses": response.statuses,
        "found": response.found,
    }
    if response.freshness:
        document |= {"seconds_left": response.freshness, "ages": response.ages}
    return document | ({"errors": response.errors} if response.errors else {})


def show_answer(plan: ReadPlan, response: OnlineResponse) -> None:
    """Print a response: an entity a line, or a feature a line for one entity or little room."""
    headings, rows = _wide(plan, response)
    if len(response) > 1 and fits(headings, rows):
        show_table(headings, rows)
        return
    for index in range(len(response)):
        if index:
            show_line()
        _show_entity(plan, response, index)


def _dtypes(plan: ReadPlan) -> dict[str, DType]:
    keys = {part.name: part.dtype for group in plan.groups for part in group.key.join_keys}
    return keys | {column.name: column.field.dtype for column in plan.columns}


def _show_entity(plan: ReadPlan, response: OnlineResponse, index: int) -> None:
    dtypes, answer, lives = _dtypes(plan), response.to_dict(), response.freshness
    keys = [
        f"{name} {codec_of(dtypes[name]).display_text(v[index])}"
        for name, v in response.entities.items()
    ]
    told = "" if response.found[index] else ": nothing is stored"
    show_line(Styled(", ".join(keys), "bold"), told)
    headings = ["feature", "value", "status"]
    if lives:
        headings += ["left", "age"] if _has_ages(response) else ["left"]
    rows = []
    for name, statuses in response.statuses.items():
        style = STATUS_STYLES[statuses[index]]
        row = [name, _text(dtypes[name], answer[name][index]), statuses[index]]
        if lives:
            row += [_left(lives[name][index]), _left(response.ages[name][index])]
        rows.append([Styled(cell, style) for cell in row[: len(headings)]])
    show_table(headings, rows, right=("left", "age"))


def _wide(plan: ReadPlan, response: OnlineResponse) -> tuple[list[str], list[tuple[Piece, ...]]]:
    """The headings and rows of a table with an entity a line."""
    dtypes, answer, statuses = _dtypes(plan), response.to_dict(), response.statuses
    columns: list[Sequence[Piece]] = [
        [codec_of(dtypes[name]).display_text(v) for v in values]
        for name, values in response.entities.items()
    ]
    for name, told in statuses.items():
        times = response.freshness.get(name) or [None] * len(response)
        cells = zip(answer[name], told, times, strict=True)
        columns.append([_cell(dtypes[name], *cell) for cell in cells])
    return [*response.entities, *statuses], list(zip(*columns, strict=True))


def _cell(dtype: DType, value: object, status: str, life: float | None) -> Piece:
    """A value; whatever it is but present is told in words."""
    if status != "present":
        text = codec_of(dtype).display_text(value) + " " if status == "default" else ""
        return Styled(f"{text}({status})", STATUS_STYLES[status])
    text = codec_of(dtype).display_text(value)
    return text if life is None else f"{text} ({_left(life)})"


def _text(dtype: DType, value: object) -> str:
    return "-" if value is None else codec_of(dtype).display_text(value)


def _left(life: float | None) -> str:
    if life is None:
        return "-"
    return "ever" if math.isinf(life) else span(life * 1000)


def _has_ages(response: OnlineResponse) -> bool:
    return any(age is not None for ages in response.ages.values() for age in ages)
