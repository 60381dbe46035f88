"""Reading: features as the page shows them, with what each read took."""

from __future__ import annotations

import json
import math
import shlex
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from itertools import cycle, islice
from time import perf_counter
from typing import Any

from featurekit.errors import FeatureKitError, RequestError
from featurekit.keys import KeyPlan
from featurekit.lower.keys import parse_entity_id
from featurekit.plan import ReadColumn, ReadPlan
from featurekit.repo import FeatureStore
from featurekit.runtime.response import OnlineResponse
from featurekit.server.console.asking import (
    MOST_ENTITIES,
    MOST_RUNS,
    MOST_VALUES,
    Asked,
    ids_of_body,
    number,
)
from featurekit.server.console.sampler import Sampler
from featurekit.types import codec_of
from featurekit.types.display import value_text

FOREVER = -1
"""The TTL of a value that nothing expires, as the server spells it."""

_S, _M, _H = 1000, 60_000, 3_600_000
EDGES_MS = (5 * _S, 15 * _S, 30 * _S, _M, 2 * _M, 5 * _M, 15 * _M, _H, 6 * _H, 24 * _H, 168 * _H)
"""The bounds of the histogram of TTL left."""

_TEXT = 2000
"""Characters of a value that are shown."""


def read(store: FeatureStore, body: object, origin: str) -> dict[str, object]:
    """Features of some entities, and the lines of Python, curl and shell that ask for the same."""
    asked = Asked.of(store, body)
    rows = asked.rows(ids_of_body(body))
    if len(rows) * len(asked.plan.columns) > MOST_VALUES:
        raise RequestError(
            f"{len(rows)} rows of {len(asked.plan.columns)} features are too many at once",
            hint=f"at most {MOST_VALUES} values are shown",
        )
    reader = asked.reader(store, freshness=True)
    began = perf_counter()
    response = reader.get(rows)
    elapsed_ms = (perf_counter() - began) * 1000
    return {
        "features": [_feature(store, column) for column in asked.plan.columns],
        "rows": _rows(asked.plan, response, rows),
        "elapsed_ms": elapsed_ms,
        "lines": _lines(asked, rows, origin),
    }


def batch_read(store: FeatureStore, sampler: Sampler, body: object) -> dict[str, object]:
    """The same features of many sampled entities, again and again: what each read took."""
    asked = Asked.of(store, body)
    count = number(body, "entities", 100, MOST_ENTITIES)
    runs = number(body, "runs", 10, MOST_RUNS)
    rows = _sampled_rows(asked, sampler, count)
    features = [_feature(store, column) for column in asked.plan.columns]
    if not rows:
        return {"entities": 0, "runs_ms": [], "features": features, "statuses": [], "left": {}}
    reader = asked.reader(store, freshness=False)
    times = []
    for _ in range(runs):
        began = perf_counter()
        reader.get(rows)
        times.append((perf_counter() - began) * 1000)
    response = asked.reader(store, freshness=True).get(rows)
    return {
        "entities": len(rows),
        "runs_ms": times,
        "features": features,
        "statuses": [Counter(statuses) for statuses in response.statuses.values()],
        "edges_ms": EDGES_MS,
        "left": _left(store, asked.plan, response),
    }


def _sampled_rows(asked: Asked, sampler: Sampler, count: int) -> list[dict[str, object]]:
    """Rows of entities that are there; of fewer than asked for, if there are fewer."""
    ids = {g.key.entity: _readable(g.key, sampler.ids(g.key.entity))[:count] for g in asked.groups}
    if not all(ids.values()):
        return []
    most = max(map(len, ids.values()))
    return asked.rows({name: list(islice(cycle(i), most)) for name, i in ids.items()})


def _readable(key: KeyPlan, ids: Sequence[str]) -> list[str]:
    """The ids that are ids of the entity: something else may have written other keys."""
    found = []
    for text in ids:
        try:
            parse_entity_id(key, text)
        except FeatureKitError:
            continue
        found.append(text)
    return found


def _feature(store: FeatureStore, column: ReadColumn) -> dict[str, object]:
    view = store.compiled.view(column.view)
    return {
        "name": column.field.name,
        "view": column.view,
        "kind": view.kind,
        "entity": view.key.entity,
        "type": str(column.field.dtype),
        "ttl_ms": column.field.ttl_ms or view.ttl_ms,
    }


def _rows(
    plan: ReadPlan, response: OnlineResponse, rows: Sequence[dict[str, object]]
) -> list[dict[str, object]]:
    values, statuses, lives = response.to_dict(), response.statuses, response.freshness
    ages, found, errors = response.ages, response.found, response.errors
    return [
        {
            "keys": {name: str(value) for name, value in row.items()},
            "found": found[index],
            "error": errors.get(index, ""),
            "cells": [
                {
                    "text": shown(column, values[column.name][index]),
                    "status": statuses[column.name][index],
                    "ttl_ms": _ttl_ms(lives[column.name][index]),
                    "age_s": ages[column.name][index],
                }
                for column in plan.columns
            ],
        }
        for index, row in enumerate(rows)
    ]


def shown(column: ReadColumn, value: object) -> str | None:
    """A value as text; `None` for none."""
    return None if value is None else cut(value_text(column.field.dtype, value))


def cut(text: str, most: int = _TEXT) -> str:
    """Text, its end left out if it is long."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text)} characters)"


def _ttl_ms(life: float | None) -> int | None:
    if life is None:
        return None
    return FOREVER if math.isinf(life) else int(life * 1000)


def _left(store: FeatureStore, plan: ReadPlan, response: OnlineResponse) -> dict[str, list[int]]:
    """How long values have to live: for each kind of view, the values below each bound.

    After the last bound come the values that have longer, and those that nothing expires.
    """
    left: dict[str, list[int]] = {}
    for column in plan.columns:
        kind = store.compiled.view(column.view).kind
        counts = left.setdefault(kind, [0] * (len(EDGES_MS) + 2))
        for life in response.freshness[column.name]:
            if life is None:
                continue
            counts[-1 if math.isinf(life) else bisect_right(EDGES_MS, life * 1000)] += 1
    return left


def _lines(asked: Asked, rows: Sequence[dict[str, object]], origin: str) -> dict[str, str]:
    """What asks for the same: with Python, with curl from `featurekit serve`, and from a shell."""
    dtypes = {part.name: part.dtype for group in asked.plan.groups for part in group.key.join_keys}
    columns = {name: [row[name] for row in rows] for name in dtypes}
    plain = {n: [codec_of(dtypes[n]).to_json(v) for v in values] for n, values in columns.items()}
    named = isinstance(asked.features, str)
    body: dict[str, Any] = {"feature_service" if named else "features": asked.features}
    body["entities"] = plain
    entities = [
        ",".join(f"{name}={value_text(dtypes[name], row[name])}" for name in dtypes)
        for row in rows
    ]
    features = [asked.features] if isinstance(asked.features, str) else list(asked.features)
    shell = [word for entity in entities for word in ("--entity", entity)]
    return {
        "python": (
            "from featurekit import FeatureStore\n\n"
            "store = FeatureStore()\n"
            f"answer = store.get_online_features({asked.features!r}, {columns!r})\n"
            "print(answer.to_dict())"
        ),
        "curl": (
            f"curl -s {shlex.quote(f'{origin}/get-online-features')} "
            f"-H 'Content-Type: application/json' "
            f"-d {shlex.quote(json.dumps(body, ensure_ascii=False))}"
        ),
        "shell": shlex.join(["featurekit", "get", *features, *shell]),
    }
