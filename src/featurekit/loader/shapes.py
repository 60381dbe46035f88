"""Shapes: which keys a model takes, and which models stand below which key."""

from __future__ import annotations

from collections.abc import Iterator
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel

from featurekit.models.model import Model

Loc = tuple[str | int, ...]


def keys_of(model: type[BaseModel]) -> list[str]:
    """The keys that a model takes, as files spell them."""
    return [info.alias or name for name, info in model.model_fields.items()]


def description(model: type[BaseModel], key: str) -> str:
    """What a model says about a key."""
    for name, info in model.model_fields.items():
        if key == (info.alias or name):
            return info.description or ""
    return ""


def literals(model: type[BaseModel], key: str) -> list[str]:
    """The only texts that a key takes; empty where it takes others."""
    annotation = _annotation(model, key)
    return list(get_args(annotation)) if get_origin(annotation) is Literal else []


def real_parts(data: Any, loc: Loc) -> Iterator[str | int]:
    """The parts of pydantic's `loc` that are in the data, so without the tags of unions."""
    for part in loc:
        try:
            data = data[part]
        except (LookupError, TypeError):  # the tag of a union, or `[key]`, or a missing key
            continue
        yield part


def model_at(model: type[BaseModel], loc: Loc) -> type[BaseModel]:
    """The model that the last part of pydantic's `loc` is a key of."""
    current: tuple[type[BaseModel], ...] = (model,)
    owner = model
    inside_container = False
    for part in loc:
        if inside_container:
            inside_container = False
            continue
        if len(current) > 1:
            current = tuple(m for m in current if _tag(m) == part) or current
            owner = current[0]
            continue
        owner = current[0] if current else owner
        annotation = _annotation(owner, str(part))
        current = tuple(models_in(annotation))
        inside_container = is_container(annotation)
    return owner


def mappings(model: type[BaseModel], data: object, path: Loc = ()) -> Iterator[_Mapping]:
    """The mappings in data that a model of their own reads, with their paths; none in lists."""
    if not isinstance(data, dict):
        return
    if issubclass(model, Model):
        yield model, data, path
    for name, info in model.model_fields.items():
        key = info.alias or name
        below = list(models_in(info.annotation))
        value = data.get(key)
        if len(below) > 1 and isinstance(value, dict):
            below = [choice for choice in below if _tag(choice) == value.get("type")]
        if len(below) == 1 and not is_container(info.annotation):
            yield from mappings(below[0], value, (*path, key))


_Mapping = tuple[type[Model], dict[str, object], Loc]


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that a type mentions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from models_in(argument)


def is_container(annotation: Any) -> bool:
    """Whether a type is a mapping of any names, or a list."""
    origin = get_origin(annotation)
    if origin in {dict, tuple}:
        return True
    return origin is Annotated and is_container(get_args(annotation)[0])


def _annotation(model: type[BaseModel], key: str) -> Any:
    for name, info in model.model_fields.items():
        if key == (info.alias or name):
            return info.annotation
    return NoneType


def _tag(model: type[BaseModel]) -> str:
    info = model.model_fields.get("type")
    return str(get_args(info.annotation)[0]) if info else ""
