"""Shapes: members of a JSON body, checked by hand: no model is built on the hot path."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from featurekit.errors import RequestError, nearest

T = TypeVar("T")

_WORDS: dict[type, str] = {
    dict: "an object",
    list: "a list",
    str: "text",
    bool: "true or false",
    int: "a whole number",
}


def as_object(body: Any, known: Collection[str] = ()) -> dict[str, Any]:
    """The body as an object.

    Args:
        body: What came.
        known: The members it may have; any if there are none.

    Raises:
        RequestError: It is none, or has another member.
    """
    if not isinstance(body, dict):
        raise RequestError("a JSON object is expected", where="body")
    if known:
        for name in body:
            if name not in known:
                raise RequestError(
                    f"no member named '{name}'", where="body", hint=nearest(name, known)
                )
    return body


def member(body: Mapping[str, Any], name: str, kind: type[T], default: T | None = None) -> T:
    """A member of the body, which null leaves out.

    Raises:
        RequestError: It is of another kind, or is lacking and has no default.
    """
    value = body.get(name)
    if value is None and default is not None:
        return default
    if type(value) is not kind:
        raise RequestError(f"{_WORDS[kind]} is expected", where=name)
    return value


def texts(body: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """A member that is a list of text; lacking, it is empty.

    Raises:
        RequestError: It is something else.
    """
    values: list[Any] = member(body, name, list, [])
    if not all(isinstance(value, str) for value in values):
        raise RequestError("a list of text is expected", where=name)
    return tuple(values)
