"""Read features for the console's pages, with the duration of each read.

Pages send ids as text, as in keys: the parts of a composite id are joined with `:`.
"""

from __future__ import annotations

import json
import math
import shlex
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from time import perf_counter
from typing import Any, Self

from featurekit.errors import FeatureKitError, RequestError, ValueRefusedError
from featurekit.keys import KeyPlan
from featurekit.lower.keys import parse_entity_id
from featurekit.plan import Column, ReadGroup, ReadPlan
from featurekit.repo import FeatureStore
from featurekit.runtime.reader import OnlineReader
from featurekit.runtime.response import OnlineResponse
from featurekit.server.console.sampler import Sampler
from featurekit.server.request_body import as_object, optional_integer, required, string_list
from featurekit.types import codec_of

MAX_ROWS = 100
MAX_FEATURES = 500
MAX_VALUES = 5000
MAX_ENTITIES = 1000
MAX_RUNS = 100
MAX_BENCHMARK_VALUES = 1_000_000

FOREVER = -1
"""The TTL of a value that does not expire, as in Redis."""

_S, _M, _H = 1000, 60_000, 3_600_000
TTL_BOUNDS_MS = (
    *(5 * _S, 15 * _S, 30 * _S, _M, 2 * _M, 5 * _M),
    *(15 * _M, _H, 6 * _H, 24 * _H, 168 * _H),
)
"""The bounds of the histogram of remaining TTLs."""

_MAX_TEXT = 2000
"""Longer values are shortened to this many characters."""


@dataclass(frozen=True, slots=True)
class ConsoleRead:
    """The features that a page requests.

    Attributes:
        features: A feature service, or a list of features.
        plan: The compiled read.
    """

    features: str | list[str]
    plan: ReadPlan

    @classmethod
    def parse(cls, store: FeatureStore, body: dict[str, Any]) -> Self:
        """Return the read of `{"features": "service"}` or `{"features": ["view:field"]}`.

        Raises:
            RequestError: The body has another form, or the features need request data.
            UnknownNameError: A service, view or field does not exist.
        """
        features: str | list[str] | None = body.get("features")
        if not isinstance(features, str):
            features = string_list(body, "features")
        if not features:
            raise RequestError("expected a feature service or features", where="features")
        if isinstance(features, list) and len(features) > MAX_FEATURES:
            raise RequestError(f"expected at most {MAX_FEATURES} features", where="features")
        reader = store.readers.reader(features, full_feature_names=True, counted=False)
        if needed := [each.name for each in reader.plan.requests if each.field.default is None]:
            named = features if isinstance(features, str) else " ".join(features)
            raise RequestError(
                f"needs request data, which the console does not send: {', '.join(needed)}",
                where="features",
                hint=f"use `featurekit get {named} --entity ... --request {needed[0]}=...`",
            )
        return cls(features, reader.plan)

    @property
    def groups(self) -> list[ReadGroup]:
        """The entities and aliases whose ids identify a row."""
        return self.plan.identifying_groups()

    def reader(self, store: FeatureStore, *, freshness: bool) -> OnlineReader:
        """Return the reader, with full feature names so that names cannot collide."""
        return store.readers.reader(
            self.features, full_feature_names=True, freshness=freshness, counted=False
        )

    def rows(self, ids: Mapping[str, Sequence[str]]) -> list[dict[str, object]]:
        """Return rows of join keys; each group has one id per row, or one id for all rows.

        Raises:
            RequestError: Ids are missing, differ in number or are empty.
            ValueRefusedError: A part of an id does not fit its join key.
        """
        columns = {g.name: list(ids.get(g.name) or []) for g in self.groups}
        count = max(map(len, columns.values()), default=1)
        rows: list[dict[str, object]] = [{} for _ in range(count)]
        for group in self.groups:
            texts = columns[group.name]
            texts = texts * count if len(texts) == 1 else texts
            if len(texts) != count or not texts:
                raise RequestError(
                    f"got {len(texts)} ids of {group.name} for {count} rows",
                    where="ids",
                    hint="give one id per row, or one id for all rows",
                )
            for row, text in zip(rows, texts, strict=True):
                row.update(_join_keys(group.key, text, row))
        return rows


def _join_keys(key: KeyPlan, text: str, row: Mapping[str, object]) -> dict[str, object]:
    where = f"{key.entity} id {text!r}"
    try:
        entity = parse_entity_id(key, text)
    except ValueRefusedError as error:
        raise ValueRefusedError(error.message, where=where, hint=error.hint) from error
    parts = entity if isinstance(entity, tuple) else (entity,)
    named = dict(zip([part.name for part in key.join_keys], parts, strict=True))
    for name, value in named.items():
        if not str(value):
            raise RequestError(f"join key '{name}' must not be empty", where=where)
        if row.get(name, value) != value:
            raise RequestError(f"join key '{name}' has two values in one row", where=where)
    return named


def read_entities(store: FeatureStore, body: object, origin: str) -> dict[str, object]:
    """Read features of some entities.

    The result contains the same read in Python, curl and shell.
    """
    body = as_object(body)
    read = ConsoleRead.parse(store, body)
    rows = read.rows(_parse_ids(body))
    if len(rows) * len(read.plan.columns) > MAX_VALUES:
        raise RequestError(
            f"{len(rows)} rows of {len(read.plan.columns)} features are too many",
            hint=f"the console shows at most {MAX_VALUES} values",
        )
    reader = read.reader(store, freshness=True)
    start = perf_counter()
    response = reader.get(rows)
    elapsed_ms = (perf_counter() - start) * 1000
    return {
        "features": [_feature_document(store, column) for column in read.plan.columns],
        "rows": _row_documents(read.plan, response, rows),
        "elapsed_ms": elapsed_ms,
        "lines": _code_examples(read, rows, origin),
    }


def _parse_ids(body: dict[str, Any]) -> dict[str, list[str]]:
    """Return `{"ids": {"user": ["u0001"]}}`, at most `MAX_ROWS` ids per entity."""
    ids = required(body, "ids", dict)
    for entity in ids:
        if len(string_list(ids, entity)) > MAX_ROWS:
            raise RequestError(f"expected at most {MAX_ROWS} ids", where="ids")
    return ids


def benchmark_read(store: FeatureStore, sampler: Sampler, body: object) -> dict[str, object]:
    """Read the same features of many sampled entities repeatedly and time each read."""
    body = as_object(body)
    read = ConsoleRead.parse(store, body)
    count = optional_integer(body, "entities", 100, (0, MAX_ENTITIES))
    runs = optional_integer(body, "runs", 10, (0, MAX_RUNS))
    rows = _sampled_rows(read, sampler, count)
    features = [_feature_document(store, column) for column in read.plan.columns]
    if not rows:
        return {"entities": 0, "runs_ms": [], "features": features, "statuses": [], "left": {}}
    values = len(rows) * len(read.plan.columns) * runs
    if values > MAX_BENCHMARK_VALUES:
        raise RequestError(
            f"{len(rows)} entities of {len(read.plan.columns)} features are too many for {runs} runs",
            hint=f"a benchmark reads at most {MAX_BENCHMARK_VALUES} values",
        )
    reader = read.reader(store, freshness=False)
    times = []
    for _ in range(runs):
        start = perf_counter()
        reader.get(rows)
        times.append((perf_counter() - start) * 1000)
    response = read.reader(store, freshness=True).get(rows)
    return {
        "entities": len(rows),
        "runs_ms": times,
        "features": features,
        "statuses": [Counter(statuses) for statuses in response.statuses.values()],
        "edges_ms": TTL_BOUNDS_MS,
        "left": _ttl_histograms(store, read.plan, response),
    }


def _sampled_rows(read: ConsoleRead, sampler: Sampler, count: int) -> list[dict[str, object]]:
    """Return rows of at most `count` stored entities."""
    ids = {g.name: _valid_ids(g.key, sampler.ids(g.key.entity))[:count] for g in read.groups}
    if not all(ids.values()):
        return []
    most = max(map(len, ids.values()), default=1)
    return read.rows({name: list(islice(cycle(i), most)) for name, i in ids.items()})


def _valid_ids(key: KeyPlan, ids: Sequence[str]) -> list[str]:
    """Return the ids that parse; another program may have written other keys."""
    valid = []
    for text in ids:
        try:
            parse_entity_id(key, text)
        except FeatureKitError:
            continue
        valid.append(text)
    return valid


def ids_with_values(store: FeatureStore, sampler: Sampler, entity: str, view: str) -> list[str]:
    """Return the sampled ids of an entity that have a value of a view."""
    read = ConsoleRead.parse(store, {"features": [view]})
    [group] = read.plan.groups
    if group.key.entity != entity:
        raise RequestError(f"the view belongs to entity {group.key.entity}", where="view")
    ids = _valid_ids(group.key, sampler.ids(entity))
    found = read.reader(store, freshness=False).get(read.rows({entity: ids})).found if ids else []
    return [id_ for id_, is_found in zip(ids, found, strict=True) if is_found]


def _feature_document(store: FeatureStore, column: Column) -> dict[str, object]:
    document: dict[str, object] = {
        "name": f"{column.alias}__{column.field.name}" if column.alias else column.field.name,
        "view": column.view,
        "type": str(column.field.dtype),
    }
    if _is_derived(store, column):
        return document | {"kind": "derived", "entity": None, "ttl_ms": None, "by_key": False}
    view = store.compiled.view(column.view)
    return document | {
        "kind": view.kind,
        "entity": view.key.entity if view.key.join_keys else None,
        "ttl_ms": column.field.ttl_ms or view.ttl_ms,
        "by_key": not column.field.ttl_ms,
    }


def _is_derived(store: FeatureStore, column: Column) -> bool:
    return any(view.name == column.view for view in store.compiled.derived_views)


def _row_documents(
    plan: ReadPlan, response: OnlineResponse, rows: Sequence[dict[str, object]]
) -> list[dict[str, object]]:
    values, statuses, freshness = response.to_dict(), response.statuses, response.freshness
    ages, found, errors = response.ages, response.found_by, response.errors
    return [
        {
            "keys": {name: str(value) for name, value in row.items()},
            "found_by": {entity: flags[index] for entity, flags in found.items()},
            "error": errors.get(index, ""),
            "cells": [
                {
                    "text": _cell_text(column, values[column.name][index]),
                    "status": statuses[column.name][index],
                    "ttl_ms": _ttl_ms(freshness[column.name][index]),
                    "age_s": ages[column.name][index],
                }
                for column in plan.columns
            ],
        }
        for index, row in enumerate(rows)
    ]


def _cell_text(column: Column, value: object) -> str | None:
    return None if value is None else shorten(codec_of(column.field.dtype).display_text(value))


def shorten(text: str, limit: int = _MAX_TEXT) -> str:
    """Return a text, shortened to a number of characters."""
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"


def _ttl_ms(ttl_s: float | None) -> int | None:
    if ttl_s is None:
        return None
    return FOREVER if math.isinf(ttl_s) else int(ttl_s * 1000)


def _ttl_histograms(
    store: FeatureStore, plan: ReadPlan, response: OnlineResponse
) -> dict[str, list[int]]:
    """Return the histogram of remaining TTLs, by kind of view.

    The last two buckets hold values beyond the last bound, and values that do not expire.
    """
    histograms: dict[str, list[int]] = {}
    for column in plan.columns:
        if _is_derived(store, column):
            continue
        kind = store.compiled.view(column.view).kind
        counts = histograms.setdefault(kind, [0] * (len(TTL_BOUNDS_MS) + 2))
        for ttl_s in response.freshness[column.name]:
            if ttl_s is None:
                continue
            bucket = -1 if math.isinf(ttl_s) else bisect_right(TTL_BOUNDS_MS, ttl_s * 1000)
            counts[bucket] += 1
    return histograms


def _code_examples(
    read: ConsoleRead, rows: Sequence[dict[str, object]], origin: str
) -> dict[str, str]:
    """Return the same read in Python, with curl for `featurekit serve`, and for a shell."""
    dtypes = {part.name: part.dtype for group in read.plan.groups for part in group.key.join_keys}
    columns = {name: [row[name] for row in rows] for name in dtypes}
    plain = {n: [codec_of(dtypes[n]).to_json(v) for v in values] for n, values in columns.items()}
    is_service = isinstance(read.features, str)
    body: dict[str, Any] = {"feature_service" if is_service else "features": read.features}
    body["entities"] = plain
    entities = [
        ",".join(f"{name}={codec_of(dtypes[name]).display_text(row[name])}" for name in dtypes)
        for row in rows
    ]
    features = [read.features] if isinstance(read.features, str) else list(read.features)
    entity_options = [word for entity in entities for word in ("--entity", entity)]
    return {
        "python": (
            "from featurekit import FeatureStore\n\n"
            "store = FeatureStore()\n"
            f"response = store.get_online_features({read.features!r}, {columns!r})\n"
            "print(response.to_dict())"
        ),
        "curl": (
            f"curl -s {shlex.quote(f'{origin}/get-online-features')} "
            f"-H 'Content-Type: application/json' "
            f"-d {shlex.quote(json.dumps(body, ensure_ascii=False))}"
        ),
        "shell": shlex.join(["featurekit", "get", *features, *entity_options]),
    }
