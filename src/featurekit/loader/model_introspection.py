"""Look up the keys, descriptions and nested models of a pydantic model."""

from __future__ import annotations

from collections.abc import Iterator
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel

from featurekit.models.model import Model

Loc = tuple[str | int, ...]
"""The location in a pydantic error: keys and indexes, and the tags of discriminated unions."""


def model_keys(model: type[BaseModel]) -> list[str]:
    """Return the keys that a model accepts, as files spell them."""
    return [info.alias or name for name, info in model.model_fields.items()]


def key_description(model: type[BaseModel], key: str) -> str:
    """Return the description of a key; empty for an unknown key."""
    for name, info in model.model_fields.items():
        if key == (info.alias or name):
            return info.description or ""
    return ""


def literal_choices(model: type[BaseModel], key: str) -> list[str]:
    """Return the choices of a `Literal` key; empty for other keys."""
    annotation = _key_annotation(model, key)
    options = [
        annotation,
        *get_args(annotation),
    ]  # a key that may be left out is a union with None
    found = next((each for each in options if get_origin(each) is Literal), None)
    return list(get_args(found))


def path_in_data(data: Any, loc: Loc) -> Iterator[str | int]:
    """Yield the parts of pydantic's `loc` that exist in the data, without the tags of unions."""
    for part in loc:
        try:
            data = data[part]
        except (LookupError, TypeError):  # the tag of a union, or `[key]`, or a missing key
            continue
        yield part


def model_at(model: type[BaseModel], loc: Loc) -> type[BaseModel]:
    """Return the model that the last part of pydantic's `loc` is a key of."""
    candidates: tuple[type[BaseModel], ...] = (model,)
    owner = model
    inside_container = False
    for part in loc:
        if inside_container:
            inside_container = False
            continue
        if len(candidates) > 1:
            candidates = tuple(m for m in candidates if _union_tag(m) == part) or candidates
            owner = candidates[0]
            continue
        owner = candidates[0] if candidates else owner
        annotation = _key_annotation(owner, str(part))
        candidates = tuple(nested_models(annotation))
        inside_container = is_container(annotation)
    return owner


ModelMapping = tuple[type[Model], dict[str, object], Loc]


def model_mappings(model: type[BaseModel], data: object, path: Loc = ()) -> Iterator[ModelMapping]:
    """Yield each mapping in the data that a model describes, with its path; lists are skipped.

    A mapping with arbitrary keys, such as `fields`, is one of mappings.
    """
    if not isinstance(data, dict):
        return
    if issubclass(model, Model):
        yield model, data, path
    for name, info in model.model_fields.items():
        key = info.alias or name
        nested = list(nested_models(info.annotation))
        value = data.get(key)
        if len(nested) > 1 and isinstance(value, dict):
            nested = [choice for choice in nested if _union_tag(choice) == value.get("type")]
        inside: Any = {}
        if len(nested) == 1:
            inside = value if is_container(info.annotation) else {None: value}
        for name_, each in inside.items() if isinstance(inside, dict) else ():
            below = (*path, key) if name_ is None else (*path, key, name_)
            yield from model_mappings(nested[0], each, below)


def nested_models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the models that an annotation contains."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from nested_models(argument)


def is_container(annotation: Any) -> bool:
    """Return whether an annotation is a mapping with arbitrary keys, or a list."""
    origin = get_origin(annotation)
    if origin in {dict, tuple}:
        return True
    return origin is Annotated and is_container(get_args(annotation)[0])


def _key_annotation(model: type[BaseModel], key: str) -> Any:
    for name, info in model.model_fields.items():
        if key == (info.alias or name):
            return info.annotation
    return NoneType


def _union_tag(model: type[BaseModel]) -> str:
    info = model.model_fields.get("type")
    return str(get_args(info.annotation)[0]) if info else ""
