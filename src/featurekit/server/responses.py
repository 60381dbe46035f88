"""Build JSON responses from values and errors.

Values that JSON lacks are text, as in `featurekit get --json`: decimals in plain digits, dates and
timestamps in RFC 3339 (UTC), bytes in base64. Integers of any size stay integers. A non-finite
float becomes `null`; feature values are encoded by their codecs before they reach this module.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from featurekit.errors import (
    BreakingChangeError,
    FeatureKitError,
    LockedError,
    MaterializeError,
    MissingExtraError,
    RegistryConflictError,
    RegistryError,
    StoreError,
    StoreUnavailableError,
    StreamError,
    UnknownNameError,
)

RETRY_AFTER_S = 1
"""The `Retry-After` of a temporary failure, in seconds."""

MAX_ERROR_TEXT = 2000
"""The most characters of a message in an error response."""

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_DATETIME

_STATUSES: tuple[tuple[type[FeatureKitError], int], ...] = (
    (UnknownNameError, 404),
    (LockedError, 409),
    (RegistryConflictError, 409),
    (BreakingChangeError, 409),
    (RegistryError, 503),
    (StoreUnavailableError, 503),
    (StoreError, 502),
    (StreamError, 502),
    (MissingExtraError, 501),
)
"""The first matching class sets the HTTP status. Any other error is the client's: 422."""

_UNAVAILABLE = 503


def json_bytes(value: object) -> bytes:
    """Return a value as JSON."""
    try:
        return orjson.dumps(value, _to_plain, _OPTIONS)
    except TypeError:  # an integer beyond 64 bits, or an unpaired surrogate
        finite = json.loads(json.dumps(value, default=_to_plain), parse_constant=lambda _: None)
        return json.dumps(finite, separators=(",", ":")).encode()


def json_response(
    value: object, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """Return a response with a JSON body."""
    return _JsonResponse(json_bytes(value), status, headers)


def json_parts_response(parts: Sequence[bytes]) -> Response:
    """Return a response with a JSON body in parts, which are not joined: it may be large."""
    return _PartsResponse(parts)


class _JsonResponse(Response):
    """A response that skips Starlette's header processing."""

    def __init__(self, body: bytes, status: int, headers: dict[str, str] | None) -> None:
        self.status_code = status
        self.background = None
        self.body = body
        self.raw_headers = [
            (b"content-length", b"%d" % len(body)),
            (b"content-type", b"application/json"),
        ]
        for name, text in (headers or {}).items():
            self.raw_headers.append((name.lower().encode("latin-1"), text.encode("latin-1")))


class _PartsResponse(_JsonResponse):
    """A response that is sent part by part, as the client reads it."""

    def __init__(self, parts: Sequence[bytes]) -> None:
        super().__init__(b"", 200, None)
        self._parts = parts
        self.raw_headers[0] = (b"content-length", b"%d" % sum(map(len, parts)))

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = self.raw_headers
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        for part in self._parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def status_of(error: FeatureKitError) -> int:
    """Return the HTTP status of an error: 4xx if the client can fix the request."""
    if isinstance(error, MaterializeError):
        error = error.errors[0]
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), 422)


def error_response(error: FeatureKitError) -> Response:
    """Return an error as `{"error": {"type", "message", "where", "hint"}}`, with any reports."""
    status = status_of(error)
    headers = {"Retry-After": str(RETRY_AFTER_S)} if status == _UNAVAILABLE else None
    document = {name: part for name, part in error.to_document().items() if part}
    return json_response(shorten_texts(document), status, headers)


def http_error_response(
    status: int, message: str, hint: str = "", headers: dict[str, str] | None = None
) -> Response:
    """Return the same document for an error of HTTP itself, such as a missing token."""
    document = {"type": "HTTPError", "message": message, "where": "", "hint": hint}
    return json_response({"error": document}, status, headers)


def shorten_texts(value: object) -> object:
    """Return a document of errors; texts that repeat large parts of the request are shortened."""
    if isinstance(value, dict):
        return {name: shorten_texts(part) for name, part in value.items()}
    if isinstance(value, list):
        return [shorten_texts(part) for part in value]
    if isinstance(value, str) and len(value) > MAX_ERROR_TEXT:
        return f"{value[:MAX_ERROR_TEXT]}… ({len(value)} characters)"
    return value


def _utc_text(value: datetime) -> str:
    return value.astimezone(UTC).isoformat().removesuffix("+00:00") + "Z"


_CONVERTERS: tuple[tuple[Any, Callable[[Any], object]], ...] = (
    (datetime, _utc_text),
    (Decimal, "{:f}".format),
    ((bytes, bytearray, memoryview), lambda value: base64.b64encode(value).decode()),
    ((set, frozenset), sorted),
)


def _to_plain(value: Any) -> object:
    """Convert a value that orjson does not support."""
    for kinds, convert in _CONVERTERS:
        if isinstance(value, kinds):
            return convert(value)
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if hasattr(value, "tolist"):  # a NumPy value, on the path without orjson
        return orjson.loads(orjson.dumps(value, lambda v: v.tolist(), _OPTIONS))
    return str(value)
