"""Bodies: what a request carries, within its limits of size and time."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from featurekit.server.site import Site

_CLOSE = {"Connection": "close"}


async def json_body(request: Request, site: Site) -> Any:
    """The JSON value of a request's body.

    A body without a content type is read, since Feast's client names none; one that says it is
    something else is refused.

    Raises:
        HTTPException: 415 for another content type, 413 for too large a body, 408 for one that
            does not arrive in time, 400 for one that is not JSON.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind and kind != "application/json" and not kind.endswith("+json"):
        raise HTTPException(415, f"a body of application/json is expected, not {kind}")
    body = await raw_body(request, site)
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise HTTPException(400, f"the body is not JSON: {error}") from error


async def raw_body(request: Request, site: Site) -> bytes:
    """The bytes of a request's body.

    Raises:
        HTTPException: 413 for too many, 408 if they do not arrive in time.
    """
    limit = site.limits.body_bytes
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limit:
        raise _too_large(limit)
    try:
        async with asyncio.timeout(site.limits.body_timeout_s):
            return await _read(request, limit)
    except TimeoutError as error:
        raise HTTPException(
            408, f"the body took more than {site.limits.body_timeout_s:g} s to arrive", _CLOSE
        ) from error
    except ClientDisconnect as error:
        raise HTTPException(400, "the body ended early", _CLOSE) from error


async def _read(request: Request, limit: int) -> bytes:
    parts = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        parts.append(part)
    return b"".join(parts)


def _too_large(limit: int) -> HTTPException:
    return HTTPException(413, f"the body is larger than {limit} bytes", _CLOSE)
