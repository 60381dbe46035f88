"""Bodies: what a request carries, within its limits of size and time."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Receive

from featurekit.server.context import ServerContext

_LATE = "the body is late"
_JSON = b"application/json"
_CLOSE = {"Connection": "close"}


async def json_body(request: Request, site: ServerContext) -> Any:
    """The JSON value of a request's body.

    A body without a content type is read; one that says it is something else is refused. Of
    members of one name the last counts, and an integer beyond 64 bits is a float: what is written
    is read by `exact_body`.

    Raises:
        HTTPException: 415 for another content type, 413 for too large a body, 408 for one that
            does not arrive in time, 400 for one that is not JSON.
    """
    _check_type(request)
    body = await raw_body(request, site)
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _not_json(error) from error


async def exact_body(request: Request, site: ServerContext) -> Any:
    """As `json_body`, with fractions as decimals and integers of any size.

    Raises:
        HTTPException: As `json_body`; 400, too, where two members have one name.
    """
    _check_type(request)
    body = await raw_body(request, site)
    try:
        return _EXACT.decode(body.decode())
    except (ValueError, RecursionError) as error:
        raise _not_json(error) from error
    except ArithmeticError as error:  # an exponent that no decimal has room for
        raise _not_json(ValueError("a number is out of all bounds")) from error


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"two members are named {twice!r}")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


_EXACT = json.JSONDecoder(
    object_pairs_hook=_members, parse_float=Decimal, parse_constant=_no_constant
)


def _header(request: Request, wanted: bytes) -> bytes:
    """The first header of that name, in lower case; empty if there is none."""
    for name, value in request.scope["headers"]:
        if name == wanted:
            return value  # type: ignore[no-any-return]  # so says the interface
    return b""


def _check_type(request: Request) -> None:
    given = _header(request, b"content-type")
    if given == _JSON:
        return
    kind = given.decode("latin-1").partition(";")[0].strip().lower()
    if kind and kind != "application/json" and not kind.endswith("+json"):
        raise HTTPException(415, f"a body of application/json is expected, not {kind}")


def _not_json(error: Exception) -> HTTPException:
    return HTTPException(400, f"the body is not JSON: {error}")


async def raw_body(request: Request, site: ServerContext) -> bytes:
    """The bytes of a request's body.

    Raises:
        HTTPException: 413 for too many, 408 if they do not arrive in time.
    """
    limits = site.limits
    length = _header(request, b"content-length")
    if length.isdigit() and int(length) > limits.body_bytes:
        raise _too_large(limits.body_bytes)
    # As `asyncio.timeout` does it, at a quarter of its cost.
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - for the type checker: a request is a task
    alarm = asyncio.get_running_loop().call_later(limits.body_timeout_s, task.cancel, _LATE)
    try:
        return await _read(request.receive, limits.body_bytes)
    except asyncio.CancelledError as error:
        if error.args != (_LATE,):
            raise
        task.uncancel()
        raise HTTPException(
            408, f"the body took more than {limits.body_timeout_s:g} s to arrive", _CLOSE
        ) from error
    finally:
        alarm.cancel()


async def _read(receive: Receive, limit: int) -> bytes:
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
