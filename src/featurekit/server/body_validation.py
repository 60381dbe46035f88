"""Shapes: members of a JSON body, checked by hand: no model is built on the hot path."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Any, TypeVar

from featurekit.errors import RequestError, name_hint

T = TypeVar("T")
D = TypeVar("D")

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
                    f"unknown member '{name}'", where="body", hint=name_hint(name, known)
                )
    return body


def member(body: Mapping[str, Any], name: str, kind: type[T]) -> T:
    """A member of the body.

    Raises:
        RequestError: It is lacking, or of another kind; null is.
    """
    value = body.get(name)
    if type(value) is not kind:
        raise RequestError(f"{_WORDS[kind]} is expected", where=name)
    return value


def optional(body: Mapping[str, Any], name: str, kind: type[T], default: D) -> T | D:
    """A member of the body that may be lacking.

    Raises:
        RequestError: It is of another kind; null is.
    """
    return member(body, name, kind) if name in body else default


def number(body: Mapping[str, Any], name: str) -> float | None:
    """A member of the body that is a number, or lacking.

    Raises:
        RequestError: It is something else.
    """
    if name not in body:
        return None
    value = body[name]
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise RequestError("a number is expected", where=name)
    try:
        return float(value)
    except OverflowError as error:
        raise RequestError("the number is too large", where=name) from error


def texts(body: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """A member that is a list of text, each once; lacking, it is empty.

    Raises:
        RequestError: It is something else.
    """
    values: list[Any] = optional(body, name, list, [])
    if not all(isinstance(value, str) for value in values):
        raise RequestError("a list of text is expected", where=name)
    return tuple(dict.fromkeys(values))
