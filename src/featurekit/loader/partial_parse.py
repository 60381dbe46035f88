"""Parse the valid part of a declaration that has errors, so that cross checks can use it.

Invalid values are removed one at a time until the rest is valid. The removal must not cause a
second problem, so this module reports nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy, deepcopy
from difflib import get_close_matches
from functools import cache
from typing import Any, TypeVar, get_origin

from pydantic import ValidationError, create_model
from pydantic_core import ErrorDetails

from featurekit.loader.model_introspection import Loc, path_in_data
from featurekit.loader.problems import Path
from featurekit.models.model import Model, Named

M = TypeVar("M", bound=Model)
N = TypeVar("N", bound=Named)

_NEUTRAL_VALUES: dict[Loc, str] = {
    ("batch", "refresh"): "1h",
    ("stream", "refresh"): "1h",
    ("batch", "expires"): "field",
}
"""Values that no cross check objects to, for keys that cannot be removed."""


def parse_partially(model: type[N], data: dict[str, object]) -> N:
    """Return a model of the valid part of a mapping; the rest is empty."""
    remaining: dict[str, Any] = deepcopy(data)
    lenient: type[N] = _without_required_keys(model)
    while True:
        try:
            return lenient.model_validate(remaining)
        except ValidationError as error:
            _remove_invalid(remaining, error.errors(include_url=False))


@cache
def _without_required_keys(model: type[M]) -> type[M]:
    optional: dict[str, Any] = {}
    for name, info in model.model_fields.items():
        if info.is_required():
            optional[name] = (info.annotation, copy(info))
            optional[name][1].default = _empty(info.annotation)
    lenient: type[M] = create_model(f"Partial{model.__name__}", __base__=model, **optional)
    lenient.exactly_one = ()
    return lenient


def _empty(annotation: Any) -> object:
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return _without_required_keys(annotation)()
    return (get_origin(annotation) or str)()


def _remove_invalid(data: dict[str, Any], details: Sequence[ErrorDetails]) -> None:
    paths = {path for detail in details for path in _invalid_paths(data, detail)}
    # deepest and last first, so that the remaining paths stay valid
    for path in sorted(paths, reverse=True):
        *parents, key = path
        container: Any = data
        for part in parents:
            container = container[part]
        if path in _NEUTRAL_VALUES:
            container[key] = _NEUTRAL_VALUES[path]
        else:
            del container[key]


def _invalid_paths(data: dict[str, Any], detail: ErrorDetails) -> Iterator[Path]:
    path = tuple(path_in_data(data, detail["loc"]))
    key = detail["loc"][-1]
    if detail["type"] == "missing" and (*path, key) in _NEUTRAL_VALUES:
        path = (*path, key)
    yield path
    if detail["type"] == "extra_forbidden":
        known = [str(p[-1]) for p in _NEUTRAL_VALUES if p[:-1] == path[:-1]]
        for likely in get_close_matches(str(key), known, n=1):
            yield (*path[:-1], likely)
