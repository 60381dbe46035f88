"""The console's own answers: what its page shows, as JSON that is bounded and never kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from featurekit.errors import RequestError
from featurekit.plan import RedisStreamPlan
from featurekit.ports import DeadLetter
from featurekit.repo import FeatureStore
from featurekit.repo.catalog import catalog
from featurekit.repo.diagnostics import InspectedField
from featurekit.server.answers import json_response
from featurekit.server.bodies import json_body
from featurekit.server.console.files import HEADERS
from featurekit.server.console.reading import batch_read, cut, read
from featurekit.server.console.sampler import Sampler
from featurekit.server.context import ServerContext
from featurekit.types import parse_dtype
from featurekit.types.display import value_text

MOST_FIELDS = 500
MOST_IDS = 50
MOST_LETTERS = 20
MOST_COLUMNS = 50
"""Columns of a dead letter that are shown."""

MOST_LOADS = 200
MOST_APPLIES = 50
_RAW = 512
"""Bytes of a stored value that are shown as they are."""


class Api:
    """Answers about one site's store."""

    def __init__(self, site: ServerContext, sampler: Sampler, *, demo: bool) -> None:
        self._site = site
        self._store: FeatureStore = site.store
        self._sampler = sampler
        self._demo = demo

    async def session(self, request: Request) -> Response:
        """What the sender of this request may do here; open to all, and tells nothing else."""
        tokens = self._site.tokens
        given = request.headers.get("authorization", "")
        scope = tokens.scope_of(given) if tokens else "write"
        return _answer(
            {
                "tokens": bool(tokens),
                "scope": scope,
                "demo": self._demo,
                "writes": self._site.allow_writes and scope == "write",
            }
        )

    async def registry(self, _request: Request) -> Response:
        """What is applied, whole, and how it came to be."""
        return await _off_loop(self._registry)

    def _registry(self) -> dict[str, Any]:
        registry = self._store.registry
        if registry is None:
            return {"project": self._store.project, "applied": False}
        applies = [asdict(apply) for apply in self._store.apply_history()[:MOST_APPLIES]]
        return {
            "applied": True,
            **catalog(registry, self._store.compiled),
            "history": applies,
        }

    async def ids(self, request: Request) -> Response:
        """Some ids of an entity that contain a text."""
        entity, part = request.query_params.get("entity", ""), request.query_params.get("q", "")

        def find() -> dict[str, Any]:
            found = sorted(id_ for id_ in self._sampler.ids(entity) if part in id_)
            return {"ids": found[:MOST_IDS], "more": len(found) > MOST_IDS}

        return await _off_loop(find)

    async def read(self, request: Request) -> Response:
        """Features of some entities."""
        body = await json_body(request, self._site)
        origin = f"{request.url.scheme}://{request.headers.get('host', '')}"
        return await _off_loop(lambda: read(self._store, body, origin))

    async def batch_read(self, request: Request) -> Response:
        """Features of many entities, repeatedly."""
        body = await json_body(request, self._site)
        return await _off_loop(lambda: batch_read(self._store, self._sampler, body))

    async def inspect(self, request: Request) -> Response:
        """All that is stored for one entity."""
        entity, text = request.query_params.get("entity", ""), request.query_params.get("id", "")
        return await _off_loop(lambda: self._inspect(entity, text))

    def _inspect(self, entity: str, text: str) -> dict[str, Any]:
        if not text:
            raise RequestError("an id is needed", where="id")
        found = self._store.inspect(entity, text)
        why = self._store.diagnostics.explain(found)
        shown = found.fields[:MOST_FIELDS]
        return {
            "key": found.key,
            "found": found.found,
            "key_ttl_ms": found.key_ttl_ms,
            "encoding": found.encoding,
            "fields": [_field(self._store, f) | {"why": why.get(f.name, "")} for f in shown],
            "left_out": len(found.fields) - len(shown),
        }

    async def letters(self, _request: Request) -> Response:
        """The newest dead letters of each stream view."""
        return await _off_loop(lambda: {"letters": dict(self._letters())})

    def _letters(self) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        for view in self._store.compiled.views:
            if not isinstance(view.stream, RedisStreamPlan):
                continue
            letters = self._store.streams.dead_letters(view.name, MOST_LETTERS)
            yield view.name, [_letter(letter) for letter in letters]

    async def loads(self, _request: Request) -> Response:
        """The loads of late, newest first."""

        def find() -> dict[str, Any]:
            history = self._store.load_history()[:MOST_LOADS]
            return {"history": [asdict(run) for run in history]}

        return await _off_loop(find)

    async def doctor(self, _request: Request) -> Response:
        """What is well with this store and what is not."""
        return await _off_loop(lambda: {"findings": [asdict(f) for f in self._store.doctor()]})

    async def reset(self, request: Request) -> Response:
        """Delete the stored features of an entity, or of all."""
        if not self._site.allow_writes:
            raise RequestError(
                "this server was started without writes", hint="start it with --allow-writes"
            )
        body = await json_body(request, self._site)
        entity = body.get("entity") if isinstance(body, dict) else None
        if entity is not None and not isinstance(entity, str):
            raise RequestError("the name of an entity is expected", where="entity")
        answer = await _off_loop(lambda: {"deleted": self._store.reset(entity)})
        self._sampler.forget()
        return answer


def _field(store: FeatureStore, field: InspectedField) -> dict[str, Any]:
    raw = field.raw
    document: dict[str, Any] = {
        "name": field.name,
        "view": field.view,
        "type": field.dtype,
        "status": field.status,
        "ttl_ms": field.ttl_ms,
        "size_bytes": None if raw is None else len(raw),
        "raw": None if raw is None else _raw_text(raw),
        "text": _text(field),
    }
    if field.view and field.dtype:
        view = store.compiled.view(field.view)
        document["kind"] = view.kind
        document["full_ttl_ms"] = view.field(field.name).ttl_ms or view.ttl_ms
    return document


def _letter(letter: DeadLetter) -> dict[str, Any]:
    shown = list(letter.fields.items())[:MOST_COLUMNS]
    return {
        "id": letter.id,
        "at_ms": letter.at_ms,
        "reason": cut(letter.reason),
        "fields": {cut(name): cut(text, _RAW) for name, text in shown},
    }


def _text(field: InspectedField) -> str | None:
    if field.value is None:
        return None
    if not field.dtype:
        return cut(str(field.value))
    return cut(value_text(parse_dtype(field.dtype), field.value))


def _raw_text(raw: bytes) -> str:
    """Bytes as Python writes them, so that each can be told; the end left out if there are many."""
    return repr(raw[:_RAW])[1:] + ("…" if len(raw) > _RAW else "")


def _answer(document: object) -> Response:
    return json_response(document, headers=HEADERS | {"Cache-Control": "no-store"})


async def _off_loop(work: Callable[[], object]) -> Response:
    """The answer of some work that waits for the store, done in a thread."""
    return _answer(await asyncio.to_thread(work))
