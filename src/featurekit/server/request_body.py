"""Read the body of an HTTP request and validate its members.

Reading is bounded in size and time. Members are checked by hand: building a model for each
request would dominate the cost of a read. A failed check raises `RequestError` with the name of
the member in `where`; each API maps it to its own status.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Any, TypeVar

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Receive

from featurekit.errors import RequestError, name_hint, shorten_name
from featurekit.feature_lists import FeatureItem, parse_feature_list
from featurekit.server.context import Limits

T = TypeVar("T")
D = TypeVar("D")

_TIMED_OUT = "the request body timed out"
_JSON = b"application/json"
_CLOSE = {"Connection": "close"}
MAX_ALIASES = 100
"""The most features of a request that are objects, as for views with aliases."""

_LARGE_BODY_BYTES = 64 * 1024

_KINDS: dict[type, str] = {
    dict: "an object",
    list: "a list",
    str: "a string",
    bool: "true or false",
    int: "an integer",
}


async def read_json(request: Request, limits: Limits) -> Any:
    """Return the JSON value of a request's body.

    A missing `Content-Type` is accepted. Where a member is repeated, the last one counts; an
    integer beyond 64 bits becomes a float. Writes use `read_exact_json` instead.

    Raises:
        HTTPException: 415 for another content type, 413 for a body over the limit, 408 for a body
            that does not arrive in time, 400 for invalid JSON.
    """
    _check_content_type(request)
    body = await read_body(request, limits)
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _invalid_json(error) from error


async def read_exact_json(request: Request, limits: Limits) -> Any:
    """Return the JSON value of a body, with fractions as `Decimal` and integers of any size.

    Raises:
        HTTPException: As `read_json`; also 400 where a member is repeated.
    """
    _check_content_type(request)
    body = await read_body(request, limits)
    try:
        if len(body) > _LARGE_BODY_BYTES:  # other requests need the event loop
            return await asyncio.to_thread(_decode_exactly, body)
        return _decode_exactly(body)
    except (ValueError, RecursionError) as error:
        raise _invalid_json(error) from error
    except ArithmeticError as error:  # the exponent is too large for a decimal
        raise _invalid_json(ValueError("a number is out of range")) from error


async def read_body(request: Request, limits: Limits) -> bytes:
    """Return the bytes of a request's body.

    Raises:
        HTTPException: 413 for a body over the limit, 408 for one that does not arrive in time.
    """
    length = _first_header(request, b"content-length")
    if length.isdigit() and int(length) > limits.body_bytes:
        raise _too_large(limits.body_bytes)
    # uvicorn's `receive` belongs to an object that knows whether the whole body has arrived.
    if not getattr(getattr(request.receive, "__self__", None), "more_body", True):
        return await _receive_all(request.receive, limits.body_bytes)
    # Does what `asyncio.timeout` does, at a quarter of its cost.
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - for the type checker: a request runs in a task
    timer = asyncio.get_running_loop().call_later(limits.body_timeout_s, task.cancel, _TIMED_OUT)
    try:
        return await _receive_all(request.receive, limits.body_bytes)
    except asyncio.CancelledError as error:
        if error.args != (_TIMED_OUT,):
            raise
        task.uncancel()
        raise HTTPException(
            408, f"the body took more than {limits.body_timeout_s:g} s to arrive", _CLOSE
        ) from error
    finally:
        timer.cancel()


def as_object(body: Any, allowed: Collection[str] = ()) -> dict[str, Any]:
    """Return a body that is a JSON object.

    Args:
        body: The decoded body.
        allowed: The member names it may have; any if empty.

    Raises:
        RequestError: The body is not an object, or has an unknown member.
    """
    if not isinstance(body, dict):
        raise RequestError("expected a JSON object", where="body")
    if allowed:
        for name in body:
            if name not in allowed:
                raise unknown_member(name, allowed, where="body")
    return body


def unknown_member(name: str, allowed: Collection[str], *, where: str) -> RequestError:
    """Return the error for a member that the request does not have."""
    text = f"unknown member '{shorten_name(name)}'"
    return RequestError(text, where=where, hint=name_hint(name, allowed))


def required(body: Mapping[str, Any], name: str, kind: type[T]) -> T:
    """Return a member of the given type; `null` does not match any type.

    Raises:
        RequestError: The member is missing or has another type.
    """
    value = body.get(name)
    if type(value) is not kind:
        raise RequestError(f"expected {_KINDS[kind]}", where=name)
    return value


def optional(body: Mapping[str, Any], name: str, kind: type[T], default: D) -> T | D:
    """Return a member of the given type, or the default if it is missing; `null` is an error.

    Raises:
        RequestError: The member has another type.
    """
    return required(body, name, kind) if name in body else default


def optional_number(body: Mapping[str, Any], name: str) -> float | None:
    """Return a member that is a number, or `None` if it is missing.

    Raises:
        RequestError: The member is not a number, or is too large for a float.
    """
    if name not in body:
        return None
    value = body[name]
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise RequestError("expected a number", where=name)
    try:
        return float(value)
    except OverflowError as error:
        raise RequestError("the number is too large", where=name) from error


def optional_integer(
    body: Mapping[str, Any], name: str, default: int, bounds: tuple[int, int]
) -> int:
    """Return an integer member within bounds, or the default if it is missing or `null`.

    Raises:
        RequestError: The member is not an integer or out of bounds.
    """
    value = body.get(name)
    if value is None:
        return default
    least, most = bounds
    if type(value) is not int or not least <= value <= most:
        raise RequestError(f"expected an integer from {least} to {most}", where=name)
    return value


def string_list(body: Mapping[str, Any], name: str) -> list[str]:
    """Return a member that is a list of strings; empty if it is missing.

    Raises:
        RequestError: The member is anything else.
    """
    values: list[Any] = optional(body, name, list, [])
    if not all(isinstance(value, str) for value in values):
        raise RequestError("expected a list of strings", where=name)
    return values


def feature_items(body: Mapping[str, Any], name: str) -> tuple[FeatureItem, ...]:
    """Return a member that is a list of features, without its duplicates; empty if it is missing.

    Raises:
        RequestError: The member is anything else.
    """
    values: list[Any] = optional(body, name, list, [])
    mappings = sum(type(value) is dict for value in values)
    if mappings > MAX_ALIASES:  # each may name a whole view
        raise RequestError(
            f"{mappings} features are objects, expected at most {MAX_ALIASES}", where=name
        )
    if mappings:
        return tuple(dict.fromkeys(parse_feature_list(values)))
    return unique_strings(body, name)


def unique_strings(body: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """Return `string_list` without its duplicates."""
    return tuple(dict.fromkeys(string_list(body, name)))


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        raise ValueError(f"member '{shorten_name(counts.most_common(1)[0][0])}' is repeated")
    return members


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


_EXACT = json.JSONDecoder(
    object_pairs_hook=_unique_members, parse_float=Decimal, parse_constant=_refuse_constant
)


def _decode_exactly(body: bytes) -> Any:
    return _EXACT.decode(body.decode())


def _first_header(request: Request, name: bytes) -> bytes:
    """Return the first header of a name in lower case; empty if there is none."""
    for key, value in request.scope["headers"]:
        if key == name:
            return value  # type: ignore[no-any-return]  # guaranteed by ASGI
    return b""


def _check_content_type(request: Request) -> None:
    header = _first_header(request, b"content-type")
    if header == _JSON:
        return
    media_type = header.decode("latin-1").partition(";")[0].strip().lower()
    if media_type and media_type != "application/json" and not media_type.endswith("+json"):
        raise HTTPException(415, f"the body must be application/json, not {media_type}")


def _invalid_json(error: Exception) -> HTTPException:
    return HTTPException(400, f"the body is not JSON: {error}")


async def _receive_all(receive: Receive, limit: int) -> bytes:
    parts = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise HTTPException(400, "the body ended early", _CLOSE)
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        parts.append(part)
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


def _too_large(limit: int) -> HTTPException:
    return HTTPException(413, f"the body is larger than {limit} bytes", _CLOSE)
