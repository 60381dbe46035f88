"""Salvage: what can be read of a declaration that has errors, so that it is checked as well.

Whatever is wrong is left out, a value at a time, until the rest is sound. What is left out must
not lead to a second problem, so nothing here is ever told.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy, deepcopy
from difflib import get_close_matches
from functools import cache
from typing import Any, TypeVar, get_origin

from pydantic import ValidationError, create_model
from pydantic_core import ErrorDetails

from featurekit.loader.places import Path
from featurekit.loader.shapes import Loc, real_parts
from featurekit.models.model import Named

N = TypeVar("N", bound=Named)

_HARMLESS: dict[Loc, str] = {
    ("batch", "refresh"): "1h",
    ("stream", "refresh"): "1h",
    ("batch", "expires"): "field",
}
"""Values that no check holds against others, for keys that cannot be left out."""


def salvage(model: type[N], data: dict[str, object]) -> N:
    """What can be read of a mapping that is no `model`; the rest is empty."""
    left: dict[str, Any] = deepcopy(data)
    lenient: type[N] = _lenient(model)
    while True:
        try:
            return lenient.model_validate(left)
        except ValidationError as error:
            _leave_out(left, error.errors(include_url=False))


@cache
def _lenient(model: type[N]) -> type[N]:
    """The model without keys that must be there."""
    optional: dict[str, Any] = {}
    for name, info in model.model_fields.items():
        if info.is_required():
            optional[name] = (info.annotation, copy(info))
            optional[name][1].default = (get_origin(info.annotation) or str)()
    made: type[N] = create_model(f"Salvaged{model.__name__}", __base__=model, **optional)
    made.exactly_one = ()
    return made


def _leave_out(data: dict[str, Any], details: Sequence[ErrorDetails]) -> None:
    wrong = {path for detail in details for path in _wrong_paths(data, detail)}
    # deepest and last first, so that the other paths still lead somewhere
    for path in sorted(wrong, reverse=True):
        *around, key = path
        owner: Any = data
        for part in around:
            owner = owner[part]
        if path in _HARMLESS:
            owner[key] = _HARMLESS[path]
        else:
            del owner[key]


def _wrong_paths(data: dict[str, Any], detail: ErrorDetails) -> Iterator[Path]:
    path = tuple(real_parts(data, detail["loc"]))
    key = detail["loc"][-1]
    if detail["type"] == "missing" and (*path, key) in _HARMLESS:
        path = (*path, key)
    yield path
    if detail["type"] == "extra_forbidden":
        known = [str(p[-1]) for p in _HARMLESS if p[:-1] == path[:-1]]
        for meant in get_close_matches(str(key), known, n=1):
            yield (*path[:-1], meant)
