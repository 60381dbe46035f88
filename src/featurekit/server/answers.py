"""Answers: values and errors as JSON.

What JSON lacks is text, as in `featurekit get --json`: decimals in plain digits, dates and
timestamps as RFC 3339 in UTC, bytes as base64. Integers stay integers, however large. A float
that is not finite has no place in a document of ours and is `null`: features are spelled by
their codecs before they come here.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import orjson
from starlette.responses import Response

from featurekit.errors import (
    BreakingChangeError,
    DefinitionError,
    FeatureKitError,
    LockedError,
    MissingExtraError,
    RegistryConflictError,
    RegistryError,
    StoreError,
    StoreUnavailableError,
    StreamError,
    UnknownNameError,
)

RETRY_AFTER_S = 1
"""When to ask again after what passes by itself."""

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
"""The first class that an error is of tells its status; of none, the request is at fault: 422."""

_UNAVAILABLE = 503


def json_bytes(value: object) -> bytes:
    """A document as JSON."""
    try:
        return orjson.dumps(value, _plain, _OPTIONS)
    except TypeError:  # an integer that has no room in 64 bits, or half of a surrogate pair
        finite = json.loads(json.dumps(value, default=_plain), parse_constant=lambda _: None)
        return json.dumps(finite, separators=(",", ":")).encode()


def json_response(
    value: object, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """A document as a response."""
    return _Json(json_bytes(value), status, headers)


class _Json(Response):
    """Starlette's response, made at less cost: its headers are known."""

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


def status_of(error: FeatureKitError) -> int:
    """The HTTP status of an error: whatever a caller can mend is 4xx."""
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), 422)


def error_response(error: FeatureKitError) -> Response:
    """One message: `{"error": {"class", "message", "where", "hint"}}`."""
    status = status_of(error)
    document = {
        "class": type(error).__name__,
        "message": error.message,
        "where": error.where,
        "hint": error.hint,
    }
    if isinstance(error, DefinitionError):
        document["problems"] = [asdict(problem) for problem in error.problems]  # type: ignore[assignment]
    headers = {"Retry-After": str(RETRY_AFTER_S)} if status == _UNAVAILABLE else None
    return json_response({"error": document}, status, headers)


def refusal(
    status: int, message: str, hint: str = "", headers: dict[str, str] | None = None
) -> Response:
    """The same, for what is wrong with a request before anybody looked at what it asks."""
    document = {"class": "HTTPError", "message": message, "where": "", "hint": hint}
    return json_response({"error": document}, status, headers)


def _utc(value: datetime) -> str:
    return value.astimezone(UTC).isoformat().removesuffix("+00:00") + "Z"


_FORMS: tuple[tuple[Any, Callable[[Any], object]], ...] = (
    (datetime, _utc),
    (Decimal, "{:f}".format),
    ((bytes, bytearray, memoryview), lambda value: base64.b64encode(value).decode()),
    ((set, frozenset), sorted),
)


def _plain(value: Any) -> object:
    """What orjson does not know, as what it does."""
    for kinds, form in _FORMS:
        if isinstance(value, kinds):
            return form(value)
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if hasattr(value, "tolist"):  # of numpy, where orjson had to give up on the document
        return orjson.loads(orjson.dumps(value, lambda v: v.tolist(), _OPTIONS))
    return str(value)
