"""Values in definitions: defaults and choices fit their field's type and constraints."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from featurekit.errors import ValueRefusedError
from featurekit.loader.declared import Item
from featurekit.loader.places import Finding, Path
from featurekit.models.definitions import FeatureView
from featurekit.models.fields import FieldSpec
from featurekit.models.plain import Plain
from featurekit.types import codec_of, short_repr


def value_findings(item: Item[FeatureView]) -> Iterator[Finding]:
    """What is wrong with the values that a view's fields name."""
    for name, spec in item.model.fields_.items():
        choices, findings = _choices(item, name, spec)
        yield from findings
        if spec.default is None or findings:
            continue
        try:
            _check_default(spec, choices)
        except ValueRefusedError as error:
            yield _told(item, ("fields", name, "default"), error)


def _choices(
    item: Item[FeatureView], name: str, spec: FieldSpec
) -> tuple[list[bytes], list[Finding]]:
    choices, findings = [], []
    for index, value in enumerate(spec.one_of or ()):
        try:
            choices.append(_encoded(spec, value))
        except ValueRefusedError as error:
            findings.append(_told(item, ("fields", name, "one_of", index), error))
    return choices, findings


def _told(item: Item[FeatureView], path: Path, error: ValueRefusedError) -> Finding:
    """A refusal as a finding that shows the value as the file has it."""
    message = error.message
    written = {short_repr(scalar.value): str(scalar) for scalar in _scalars(item.raw(*path))}
    for text in sorted(written, key=len, reverse=True):
        if message.startswith(text):
            message = written[text] + message.removeprefix(text)
            break
    return Finding(item.at(*path), f"{item.field(str(path[1]))}: {path[2]}: {message}", error.hint)


def _scalars(raw: object) -> Iterator[Plain]:
    """The unquoted scalars in a value that are no text."""
    if isinstance(raw, Plain) and not isinstance(raw.value, str):
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
