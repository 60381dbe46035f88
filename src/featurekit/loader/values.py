"""Values in definitions: defaults and choices fit their field's type and constraints."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from featurekit.errors import ValueRefusedError
from featurekit.loader.declarations import Declaration
from featurekit.loader.problems import LocatedProblem, Path
from featurekit.models.definitions import FeatureView
from featurekit.models.fields import FieldSpec
from featurekit.models.scalars import PlainScalar
from featurekit.types import codec_of, short_repr


def value_problems(item: Declaration[FeatureView]) -> Iterator[LocatedProblem]:
    """What is wrong with the values that a view's fields name."""
    for name, spec in item.model.fields_.items():
        choices, problems = _choices(item, name, spec)
        yield from problems
        if spec.default is None or problems:
            continue
        try:
            _check_default(spec, choices)
        except ValueRefusedError as error:
            yield _told(item, ("fields", name, "default"), error)


def _choices(
    item: Declaration[FeatureView], name: str, spec: FieldSpec
) -> tuple[list[bytes], list[LocatedProblem]]:
    choices, problems = [], []
    for index, value in enumerate(spec.one_of or ()):
        try:
            choices.append(_encoded(spec, value))
        except ValueRefusedError as error:
            problems.append(_told(item, ("fields", name, "one_of", index), error))
    return choices, problems


def _told(item: Declaration[FeatureView], path: Path, error: ValueRefusedError) -> LocatedProblem:
    """A refusal as a problem that shows the value as the file has it."""
    message = error.message
    written = {short_repr(scalar.value): str(scalar) for scalar in _scalars(item.raw(*path))}
    for text in sorted(written, key=len, reverse=True):
        if message.startswith(text):
            message = written[text] + message.removeprefix(text)
            break
    return LocatedProblem(
        item.at(*path), f"{item.field(str(path[1]))}: {path[2]}: {message}", error.hint
    )


def _scalars(raw: object) -> Iterator[PlainScalar]:
    """The unquoted scalars in a value that are no text."""
    if isinstance(raw, PlainScalar) and not isinstance(raw.value, str):
        yield raw
    if isinstance(raw, dict):
        raw = list(raw.values())
    for part in raw if isinstance(raw, list) else ():
        yield from _scalars(part)


def _encoded(spec: FieldSpec, value: object) -> bytes:
    codec = codec_of(spec.dtype)
    return codec.encode(codec.from_json(value))


def _check_default(spec: FieldSpec, choices: list[bytes]) -> None:
    value: Any = codec_of(spec.dtype).from_json(spec.default)
    data = _encoded(spec, spec.default)
    if isinstance(value, float) and not math.isfinite(value):
        if not spec.allow_nan:
            raise ValueRefusedError(f"{value} is no value without `allow_nan: true`")
        return
    if spec.min is not None and value < spec.min:
        raise ValueRefusedError(f"{value} is below min {spec.min}")
    if spec.max is not None and value > spec.max:
        raise ValueRefusedError(f"{value} is above max {spec.max}")
    if choices and data not in choices:
        raise ValueRefusedError(f"{spec.default!r} is none of one_of")
    if spec.pattern is not None and not re.fullmatch(spec.pattern, value):
        raise ValueRefusedError(f"{value!r} does not match the pattern {spec.pattern!r}")
    if spec.max_length is not None and len(value) > spec.max_length:
        raise ValueRefusedError(f"its length {len(value)} is above max_length {spec.max_length}")
