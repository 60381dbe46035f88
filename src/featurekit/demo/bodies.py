"""Bodies: the parameters of a request, as a form or as JSON, each checked under its name.

What is not a parameter is refused, since a name that is misspelt would otherwise have no effect
and no message.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from urllib.parse import parse_qsl

import orjson
from starlette.requests import Request

from featurekit.errors import FeatureKitError, RequestError, name_hint
from featurekit.server.bodies import raw_body
from featurekit.server.context import ServerContext

Given = Mapping[str, Sequence[object]]
"""The values of each parameter, in order."""


_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")


class BadParameterError(FeatureKitError):
    """A parameter is lacking or does not fit; `where` is its name."""


async def parameters(request: Request, site: ServerContext, known: Sequence[str]) -> Given:
    """The parameters in a request's body, a form unless it says that it is JSON.

    Raises:
        RequestError: It is neither.
        BadParameterError: One of them is not known.
    """
    if request.query_params:
        raise RequestError("parameters go into the body, as a form or as JSON")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = await raw_body(request, site)
    if kind.endswith(("/json", "+json")):
        return _checked(_json(body), known)
    if kind.startswith("multipart/"):
        raise RequestError("the body is a multipart form; send it urlencoded, or as JSON")
    return _checked(_pairs(body), known)


def query(request: Request, known: Sequence[str]) -> Given:
    """The parameters in a request's query; raises as above."""
    return _checked(request.query_params.multi_items(), known)


def text_of(given: Given, name: str) -> str:
    """The text of a parameter that is required.

    Raises:
        BadParameterError: It is lacking, empty, given twice, or no text.
    """
    value = _single(given, name)
    if not isinstance(value, str | None):
        raise BadParameterError(f"{name} is text, not {value!r}", where=name)
    if not (value or "").strip():
        raise BadParameterError(f"{name} is required", where=name)
    return str(value).strip()


def number_of(given: Given, name: str, default: int, bounds: tuple[int, int]) -> int:
    """The whole number of a parameter, within bounds; the default if it is lacking or empty.

    Raises:
        BadParameterError: It is none, or out of bounds.
    """
    least, most = bounds
    value = _single(given, name)
    if value is None or value == "":
        return default
    if isinstance(value, str) and _WHOLE.fullmatch(value.strip()):
        value = int(value)
    if type(value) is not int or not least <= value <= most:
        raise BadParameterError(
            f"{name} is a whole number from {least} to {most}, not {_shown(value)}", where=name
        )
    return value


def texts_of(given: Given, name: str) -> list[str]:
    """The texts of a parameter that may come many times, the empty ones left out.

    Raises:
        BadParameterError: One of them is no text.
    """
    texts = []
    for value in given.get(name, ()):
        if not isinstance(value, str):
            raise BadParameterError(f"{name} is a list of texts, not {value!r}", where=name)
        if value.strip():
            texts.append(value.strip())
    return texts


def _json(body: bytes) -> list[tuple[str, object]]:
    try:
        document = orjson.loads(body) if body.strip() else {}
    except orjson.JSONDecodeError as error:
        raise RequestError(f"the body is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise RequestError("the body is JSON, but no object of parameters")
    return [
        (name, item)
        for name, value in document.items()
        for item in (value if isinstance(value, list) else [value])
        if value is not None
    ]


def _pairs(body: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict")
    except ValueError as error:
        raise RequestError(f"the body is no urlencoded form: {error}") from error


def _checked(pairs: Sequence[tuple[str, object]], known: Sequence[str]) -> Given:
    given: dict[str, list[object]] = {}
    for name, value in pairs:
        if name not in known:
            hint = name_hint(name, known) if known else "none are taken here"
            raise BadParameterError(f"unknown parameter '{name}'; {hint}", where=name)
        given.setdefault(name, []).append(value)
    return given


def _single(given: Given, name: str) -> object:
    values = given.get(name, [None])
    if len(values) > 1:
        raise BadParameterError(f"{name} is given {len(values)} times", where=name)
    return values[0]


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return text if len(text) <= 40 else text[:40] + "…"  # noqa: PLR2004 - it is shown to people
