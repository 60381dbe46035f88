"""Problems with the values in definitions: defaults and choices must fit their field."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from featurekit.constraints import UNCONSTRAINED, constraint_tests
from featurekit.errors import ValueRefusedError
from featurekit.loader.declarations import Declaration
from featurekit.loader.problems import LocatedProblem, Path
from featurekit.models.definitions import FeatureView
from featurekit.models.derived import DerivedView, Request
from featurekit.models.fields import ConstrainedValue, TypedValue
from featurekit.models.scalars import PlainScalar
from featurekit.types import codec_of, short_repr

WithFields = Declaration[FeatureView] | Declaration[DerivedView] | Declaration[Request]


def value_problems(item: WithFields) -> Iterator[LocatedProblem]:
    """Yield the problems of the defaults and choices of a view's fields."""
    inputs = item.model.inputs if isinstance(item.model, FeatureView) else {}
    for name, given in inputs.items():
        yield from _choice_problems(item, ("inputs", name), given)
    specs: Mapping[str, TypedValue] = item.model.fields_
    for name, spec in specs.items():
        problems = list(_choice_problems(item, ("fields", name), spec))
        yield from problems
        if spec.default is None or problems:
            continue
        try:
            _check_default(spec)
        except ValueRefusedError as error:
            yield _located(item, ("fields", name, "default"), error)


def _choice_problems(item: WithFields, path: Path, spec: TypedValue) -> Iterator[LocatedProblem]:
    choices = spec.one_of if isinstance(spec, ConstrainedValue) else None
    for index, choice in enumerate(choices or ()):
        try:
            spec.encode(choice)
        except ValueRefusedError as error:
            yield _located(item, (*path, "one_of", index), error)


def _check_default(spec: TypedValue) -> None:
    codec = codec_of(spec.dtype)
    value = codec.from_json(spec.default)
    data = codec.encode(value)
    constraints = spec.constraints if isinstance(spec, ConstrainedValue) else UNCONSTRAINED
    for test in constraint_tests(codec, constraints):
        if (violation := test(value, data)) is not None:
            raise ValueRefusedError(violation)


def _located(item: WithFields, path: Path, error: ValueRefusedError) -> LocatedProblem:
    """Return a refusal as a problem that shows the value as the file spells it."""
    message = error.message
    spellings = {
        short_repr(scalar.value): str(scalar) for scalar in _plain_scalars(item.raw(*path))
    }
    for text in sorted(spellings, key=len, reverse=True):
        if message.startswith(text):
            message = spellings[text] + message.removeprefix(text)
            break
    return LocatedProblem(
        item.at(*path), f"{item.field(str(path[1]))}: {path[2]}: {message}", error.hint
    )


def _plain_scalars(raw: object) -> Iterator[PlainScalar]:
    """Yield the unquoted scalars in a value that do not stand for text."""
    if isinstance(raw, PlainScalar) and not isinstance(raw.value, str):
        yield raw
    if isinstance(raw, dict):
        raw = list(raw.values())
    for part in raw if isinstance(raw, list) else ():
        yield from _plain_scalars(part)
