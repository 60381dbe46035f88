"""Problems with the values in definitions: defaults and choices must fit their field."""

from __future__ import annotations

from collections.abc import Iterator

from featurekit.constraints import constraint_tests
from featurekit.errors import ValueRefusedError
from featurekit.loader.declarations import Declaration
from featurekit.loader.problems import LocatedProblem, Path
from featurekit.models.definitions import FeatureView
from featurekit.models.fields import ConstrainedValue, FieldSpec
from featurekit.models.scalars import PlainScalar
from featurekit.types import codec_of, short_repr


def value_problems(item: Declaration[FeatureView]) -> Iterator[LocatedProblem]:
    """Yield the problems of the defaults and choices of a view's fields."""
    for name, given in item.model.inputs.items():
        yield from _choice_problems(item, ("inputs", name), given)
    for name, spec in item.model.fields_.items():
        problems = list(_choice_problems(item, ("fields", name), spec))
        yield from problems
        if spec.default is None or problems:
            continue
        try:
            _check_default(spec)
        except ValueRefusedError as error:
            yield _located(item, ("fields", name, "default"), error)


def _choice_problems(
    item: Declaration[FeatureView], path: Path, spec: ConstrainedValue
) -> Iterator[LocatedProblem]:
    for index, choice in enumerate(spec.one_of or ()):
        try:
            spec.encode(choice)
        except ValueRefusedError as error:
            yield _located(item, (*path, "one_of", index), error)


def _check_default(spec: FieldSpec) -> None:
    codec = codec_of(spec.dtype)
    value = codec.from_json(spec.default)
    data = codec.encode(value)
    for test in constraint_tests(codec, spec.constraints):
        if (violation := test(value, data)) is not None:
            raise ValueRefusedError(violation)


def _located(
    item: Declaration[FeatureView], path: Path, error: ValueRefusedError
) -> LocatedProblem:
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
