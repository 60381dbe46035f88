"""Expand `${VAR}` in the locations of sources and streams when one is opened.

A registry keeps them as written, so that it is the same in all environments. Their values may be secrets, as
a part of a URL may be, so that errors show locations as written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from featurekit.errors import FeatureKitError, SourceError
from featurekit.loader.environment import expand_text, used_variables
from featurekit.plan import LogPlan, SourcePlan, StreamPlan

P = TypeVar("P", SourcePlan, StreamPlan, LogPlan)

_LOCATIONS = (
    "path",
    "paths",
    "parameters",
    "table",
    "stream",
    "topic",
    "bootstrap_servers",
    "group",
    "dead_letter",
)
"""The attributes of plans that may contain `${VAR}`."""

_MIN_SECRET_LENGTH = 4
"""Shorter values are not hidden: they occur in other words."""


@dataclass(frozen=True, slots=True)
class Located(Generic[P]):
    """The plan of a source or stream with expanded locations.

    Attributes:
        plan: The plan.
        values: The values of the variables in it, by name.
    """

    plan: P
    values: Mapping[str, str]

    def hide(self, text: str) -> str:
        """Return a text with the variables instead of their values."""
        for name, value in self.values.items():
            text = text.replace(value, f"${{{name}}}")
        return text

    @contextmanager
    def hidden_values(self) -> Iterator[None]:
        """Hide the values in errors that the block raises."""
        try:
            yield
        except FeatureKitError as error:
            if not self.values:
                raise
            error.message, error.where = self.hide(error.message), self.hide(error.where)
            error.hint = self.hide(error.hint)
            error.args = (error.message, error.where, error.hint)
            raise error from None  # the original error may show them


def has_variables(plan: SourcePlan | StreamPlan | LogPlan) -> bool:
    """Return whether a location of the plan contains `${`."""
    return any("${" in text for text in _texts(plan))


def expand_locations(plan: P, env: Mapping[str, str], where: str) -> Located[P]:
    """Return a plan with expanded locations.

    Raises:
        SourceError: A variable without a default is not set.
    """

    def refuse(message: str, hint: str) -> None:
        raise SourceError(message, where=where, hint=hint)

    def expand(value: Any) -> Any:
        if isinstance(value, str):
            return expand_text(value, env, refuse)
        return tuple(map(expand, value)) if isinstance(value, tuple) else value

    names = {name for text in _texts(plan) for name in used_variables(text)}
    values = {name: env[name] for name in names if len(env.get(name, "")) >= _MIN_SECRET_LENGTH}
    longest_first = sorted(values, key=lambda name: -len(values[name]))
    changed = {name: expand(getattr(plan, name)) for name in _LOCATIONS if hasattr(plan, name)}
    return Located(replace(plan, **changed), {name: values[name] for name in longest_first})


def _texts(plan: SourcePlan | StreamPlan | LogPlan) -> Iterator[str]:
    def flatten(value: Any) -> Iterator[str]:
        if isinstance(value, str):
            yield value
        for part in value if isinstance(value, tuple) else ():
            yield from flatten(part)

    for name in _LOCATIONS:
        yield from flatten(getattr(plan, name, None))
