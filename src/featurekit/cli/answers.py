"""Answers: features of entities as tables and as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence

from featurekit.cli.screen import BAD, DIM, Piece, Styled, show_line, show_table
from featurekit.cli.values import value_json, value_text
from featurekit.cli.words import span
from featurekit.dtypes import DType
from featurekit.plan import ReadPlan
from featurekit.runtime.response import OnlineResponse

STATUS_STYLES = {"present": "", "default": DIM, "missing": DIM, "invalid": BAD}


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
    """Print a response: a feature a line for one entity, an entity a line for several."""
    if len(response) == 1:
        _show_entity(plan, response)
    else:
        _show_entities(plan, response)


def _dtypes(plan: ReadPlan) -> dict[str, DType]:
    keys = {part.name: part.dtype for group in plan.groups for part in group.key.join_keys}
    return keys | {column.name: column.field.dtype for column in plan.columns}


def _show_entity(plan: ReadPlan, response: OnlineResponse) -> None:
    dtypes, answer, lives = _dtypes(plan), response.to_dict(), response.freshness
    names = [f"{name} {value_text(dtypes[name], v[0])}" for name, v in response.entities.items()]
    show_line(Styled(", ".join(names), "bold"), "" if response.found[0] else ": nothing is stored")
    headings = ["feature", "value", "status"]
    if lives:
        headings += ["left", "age"] if _ages(response) else ["left"]
    rows = []
    for name, (status, *_) in response.statuses.items():
        style = STATUS_STYLES[status]
        row: list[Piece] = [
            name,
            _value(dtypes[name], answer[name][0], style),
            Styled(status, style),
        ]
        if lives:
            row += [_left(lives[name][0]), _left(response.ages[name][0])][: len(headings) - 3]
        rows.append(row)
    show_table(headings, rows, right=("left", "age"))


def _show_entities(plan: ReadPlan, response: OnlineResponse) -> None:
    dtypes, answer, statuses, lives = (
        _dtypes(plan),
        response.to_dict(),
        response.statuses,
        response.freshness,
    )
    columns: list[Sequence[Piece]] = [
        [value_text(dtypes[name], v) for v in values] for name, values in response.entities.items()
    ]
    for name, told in statuses.items():
        times = lives.get(name) or [None] * len(response)
        columns.append(
            [
                _cell(dtypes[name], value, status, life)
                for value, status, life in zip(answer[name], told, times, strict=True)
            ]
        )
    show_table([*response.entities, *statuses], list(zip(*columns, strict=True)))


def _cell(dtype: DType, value: object, status: str, life: float | None) -> Piece:
    """A value; whatever it is but present is told in words."""
    if status != "present":
        text = value_text(dtype, value) + " " if status == "default" else ""
        return Styled(f"{text}({status})", STATUS_STYLES[status])
    text = value_text(dtype, value)
    return text if life is None else f"{text} ({_left(life)})"


def _value(dtype: DType, value: object, style: str) -> Piece:
    return Styled("-" if value is None else value_text(dtype, value), style)


def _left(life: float | None) -> str:
    if life is None:
        return "-"
    return "ever" if math.isinf(life) else span(life * 1000)


def _ages(response: OnlineResponse) -> bool:
    return any(age is not None for ages in response.ages.values() for age in ages)
