"""The console's routes: its page, its static files and the JSON behind its panels."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute

from featurekit.codegen.catalog import catalog
from featurekit.compiler import compile_read
from featurekit.errors import RequestError
from featurekit.plan import RedisStreamPlan
from featurekit.ports import DeadLetter
from featurekit.repo import FeatureStore
from featurekit.repo.diagnostics import Evidence, InspectedField, explain
from featurekit.repo.histories import default_as_of
from featurekit.repo.service_records import last_report, last_training_sets
from featurekit.server.auth import Scope
from featurekit.server.console.event_stream import EventStream
from featurekit.server.console.feature_reads import (
    benchmark_read,
    ids_with_values,
    read_entities,
    shorten,
)
from featurekit.server.console.sampler import Sampler
from featurekit.server.context import ServerContext
from featurekit.server.request_body import as_object, read_json
from featurekit.server.responses import json_response
from featurekit.server.routing import Handler, route
from featurekit.server.static_files import SECURITY_HEADERS, file_response
from featurekit.types import codec_of, parse_dtype

PAGE = "index.html"
MAX_FIELDS = 500
MAX_IDS = 50
MAX_DEAD_LETTERS = 20
MAX_COLUMNS = 50
"""Columns of a dead letter that are shown."""

EVIDENCE_INTERVAL_S = 3.0
"""How long the evidence for explanations of missing values is kept."""

MAX_LOADS = 200
MAX_APPLIES = 50
_MAX_RAW_BYTES = 512
"""Bytes of a stored value that are shown undecoded."""


def console_routes(
    context: ServerContext, *, base: str = "/console", demo: bool = False
) -> Sequence[BaseRoute]:
    """Return the routes of the console.

    Args:
        context: The server's state. Actions that change data need its `allow_writes`.
        base: The console's path: `/console`, or empty for the root.
        demo: Whether the demo's endpoints are served at the root.
    """
    base = base.rstrip("/")
    sampler = Sampler(context.store)
    api, events = ConsoleApi(context, sampler, demo=demo), EventStream(sampler)

    def at(
        path: str, handler: Handler, scope: Scope | None = "read", method: str = "GET"
    ) -> BaseRoute:
        return route(f"{base}/{path}", handler, context=context, scope=scope, methods=(method,))

    async def page(request: Request) -> Response:
        return file_response(__package__, PAGE, request)

    async def to_page(_request: Request) -> Response:
        return RedirectResponse(f"{base}/")

    async def file(request: Request) -> Response:
        return file_response(__package__, request.path_params["path"], request)

    redirect = route(base, to_page, context=context, scope=None) if base else at(PAGE, page, None)
    return [
        redirect,
        at("", page, None),
        at("static/{path:path}", file, None),
        at("api/session", api.session, None),
        at("api/live", events.respond),
        at("api/registry", api.registry),
        at("api/ids", api.ids),
        at("api/read", api.read, method="POST"),
        at("api/batch-read", api.batch_read, method="POST"),
        at("api/inspect", api.inspect),
        at("api/letters", api.dead_letters),
        at("api/loads", api.loads),
        at("api/training", api.training),
        at("api/doctor", api.doctor),
        at("api/reset", api.reset, "write", "POST"),
    ]


class ConsoleApi:
    """JSON for the console's panels. Responses are bounded in size and never cached."""

    def __init__(self, context: ServerContext, sampler: Sampler, *, demo: bool) -> None:
        self._context = context
        self._store: FeatureStore = context.store
        self._sampler = sampler
        self._demo = demo
        self._evidence: Evidence | None = None
        self._evidence_s = 0.0

    async def session(self, request: Request) -> Response:
        """Return what the client may do. This endpoint is public and reveals nothing else."""
        tokens = self._context.tokens
        authorization = request.headers.get("authorization", "")
        scope = tokens.scope_of(authorization) if tokens else "write"
        return _uncached(
            {
                "tokens": bool(tokens),
                "scope": scope,
                "demo": self._demo,
                "writes": self._context.allow_writes and scope == "write",
            }
        )

    async def registry(self, _request: Request) -> Response:
        """Return the applied registry and its history."""
        return await _in_thread(self._registry)

    def _registry(self) -> dict[str, Any]:
        registry = self._store.registry
        if registry is None:
            return {"project": self._store.project, "applied": False}
        applies = [asdict(apply) for apply in self._store.apply_history()[:MAX_APPLIES]]
        return {
            "applied": True,
            **catalog(registry, self._store.compiled),
            "history": applies,
        }

    async def ids(self, request: Request) -> Response:
        """Return some ids of an entity that contain a text, or that have a value of a view."""
        query = request.query_params
        entity, part, view = query.get("entity", ""), query.get("q", ""), query.get("view", "")

        def search() -> dict[str, Any]:
            sampled = (
                ids_with_values(self._store, self._sampler, entity, view)
                if view
                else self._sampler.ids(entity)
            )
            ids = sorted(id_ for id_ in sampled if part in id_)
            return {"ids": ids[:MAX_IDS], "more": len(ids) > MAX_IDS}

        return await _in_thread(search)

    async def read(self, request: Request) -> Response:
        """Read features of some entities."""
        body = await read_json(request, self._context.limits)
        origin = f"{request.url.scheme}://{request.headers.get('host', '')}"
        return await _in_thread(lambda: read_entities(self._store, body, origin))

    async def batch_read(self, request: Request) -> Response:
        """Read features of many entities repeatedly."""
        body = await read_json(request, self._context.limits)
        return await _in_thread(lambda: benchmark_read(self._store, self._sampler, body))

    async def inspect(self, request: Request) -> Response:
        """Return everything stored for one entity."""
        entity, text = request.query_params.get("entity", ""), request.query_params.get("id", "")
        return await _in_thread(lambda: self._inspect(entity, text))

    def _inspect(self, entity: str, text: str) -> dict[str, Any]:
        if not text:
            raise RequestError("the id must not be empty", where="id")
        inspection = self._store.inspect(entity, text)
        explanations = explain(self._store.compiled, inspection, self._current_evidence())
        reasons = {each.field: each.text for each in explanations}
        shown = inspection.fields[:MAX_FIELDS]
        return {
            "key": inspection.key,
            "found": inspection.found,
            "key_ttl_ms": inspection.key_ttl_ms,
            "encoding": inspection.encoding,
            "fields": [
                _field_document(self._store, f) | {"why": reasons.get(f.name, "")} for f in shown
            ],
            "left_out": len(inspection.fields) - len(shown),
        }

    def _current_evidence(self) -> Evidence:
        """Return evidence that is a few seconds old at most: an open page inspects repeatedly."""
        if self._evidence is None or time.monotonic() - self._evidence_s > EVIDENCE_INTERVAL_S:
            self._evidence, self._evidence_s = self._store.evidence(), time.monotonic()
        return self._evidence

    async def dead_letters(self, _request: Request) -> Response:
        """Return the newest dead letters of each stream view."""
        return await _in_thread(lambda: {"letters": dict(self._dead_letters())})

    def _dead_letters(self) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        for view in self._store.compiled.views:
            if not isinstance(view.stream, RedisStreamPlan):
                continue
            letters = self._store.streams.dead_letters(view.name, MAX_DEAD_LETTERS)
            yield view.name, [_dead_letter_document(letter) for letter in letters]

    async def loads(self, _request: Request) -> Response:
        """Return the history of loads, newest first."""

        def history() -> dict[str, Any]:
            return {"history": [asdict(run) for run in self._store.load_history()[:MAX_LOADS]]}

        return await _in_thread(history)

    async def training(self, request: Request) -> Response:
        """Return what training sets of a service consist of, the last ones, and its last verification."""
        service = request.query_params.get("service", "")
        return await _in_thread(lambda: self._training(service))

    def _training(self, service: str) -> dict[str, Any]:
        repo, root = self._store.compiled, self._store.path
        columns = compile_read(repo, service).columns
        views = dict.fromkeys(column.view for column in columns)
        return {
            "features": [
                {"name": c.name, "view": c.view, "type": str(c.field.dtype)} for c in columns
            ],
            "as_of": {name: default_as_of(repo.view(name)) for name in views},
            "sets": last_training_sets(root, service),
            "verification": last_report(root, service),
        }

    async def doctor(self, _request: Request) -> Response:
        """Return the findings of `featurekit doctor`."""
        return await _in_thread(lambda: {"findings": [asdict(f) for f in self._store.doctor()]})

    async def reset(self, request: Request) -> Response:
        """Delete the stored features of one entity, or of all."""
        if not self._context.allow_writes:
            raise RequestError(
                "this server does not allow writes", hint="start it with --allow-writes"
            )
        entity = as_object(await read_json(request, self._context.limits)).get("entity")
        if entity is not None and not isinstance(entity, str):
            raise RequestError("expected the name of an entity", where="entity")
        response = await _in_thread(lambda: {"deleted": self._store.reset(entity)})
        self._sampler.invalidate()
        return response


def _field_document(store: FeatureStore, field: InspectedField) -> dict[str, Any]:
    raw = field.raw
    document: dict[str, Any] = {
        "name": field.name,
        "view": field.view,
        "type": field.dtype,
        "status": field.status,
        "ttl_ms": field.ttl_ms,
        "size_bytes": None if raw is None else len(raw),
        "raw": None if raw is None else _bytes_literal(raw),
        "text": _field_text(field),
    }
    if field.view and field.dtype:
        view = store.compiled.view(field.view)
        document["kind"] = view.kind
        document["full_ttl_ms"] = view.field(field.name).ttl_ms or view.ttl_ms
    return document


def _dead_letter_document(letter: DeadLetter) -> dict[str, Any]:
    shown = list(letter.fields.items())[:MAX_COLUMNS]
    return {
        "id": letter.id,
        "at_ms": letter.at_ms,
        "reason": shorten(letter.reason),
        "fields": {shorten(name): shorten(text, _MAX_RAW_BYTES) for name, text in shown},
    }


def _field_text(field: InspectedField) -> str | None:
    if field.value is None:
        return None
    if not field.dtype:
        return shorten(str(field.value))
    return shorten(codec_of(parse_dtype(field.dtype)).display_text(field.value))


def _bytes_literal(raw: bytes) -> str:
    """Return bytes as a Python literal, shortened if they are long."""
    return repr(raw[:_MAX_RAW_BYTES])[1:] + ("…" if len(raw) > _MAX_RAW_BYTES else "")


def _uncached(document: object) -> Response:
    return json_response(document, headers=SECURITY_HEADERS | {"Cache-Control": "no-store"})


async def _in_thread(work: Callable[[], object]) -> Response:
    """Return the response of a function that waits for the store."""
    return _uncached(await asyncio.to_thread(work))
