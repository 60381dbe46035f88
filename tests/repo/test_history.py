"""The history of loads and applies, in the online store."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from featurekit import FeatureStore
from featurekit.changes import Change
from featurekit.errors import BadRowError, UnknownNameError
from featurekit.repo.history import (
    MAX_APPLIES,
    MAX_LOADS,
    ApplyRecord,
    History,
    LoadRecord,
)
from tests.promise.repos import FRAUD, applied
from tests.servers import Server


def history_of(store: FeatureStore) -> History:
    return History(store.handle, store.project)


def test_loads_are_recorded_newest_first_with_their_counts(valkey: Server, tmp_path: Path) -> None:
    with applied(tmp_path, valkey.url) as store:
        store.write_batch("profile", {"u1": {}, "u2": {}})
        rows = {"u1": {"tx_count_7d": -5}, "u2": {}}
        report = store.write_batch("profile", rows, on_bad_row="skip")
        with pytest.raises(BadRowError):
            store.write_batch("profile", rows)
        failed, second, first = store.load_history("profile")
    assert "is below min" in failed.error
    assert failed.good_ms == second.ended_ms
    assert (second.rows_read, second.rows_written, second.rows_rejected) == (2, 1, 1)
    assert second.rejects_path == report.rejects_path != ""
    assert (first.rows_written, first.error, first.size_bytes > 0) == (2, "", True)
    assert 0 < first.started_ms <= first.ended_ms <= second.started_ms


def test_the_history_keeps_the_newest_loads_of_each_view(valkey: Server, tmp_path: Path) -> None:
    with applied(tmp_path, valkey.url) as store:
        history = history_of(store)
        for number in range(MAX_LOADS + 5):
            history.new_load(LoadRecord("profile", ended_ms=number, rows_read=number)).run(
                store.handle.store
            )
        history.new_load(LoadRecord("shop", ended_ms=MAX_LOADS)).run(store.handle.store)
        runs = store.load_history("profile")
        assert [run.rows_read for run in runs] == list(range(MAX_LOADS + 4, 4, -1))
        assert len(store.load_history()) == MAX_LOADS + 1
        with pytest.raises(UnknownNameError):
            store.load_history("nope")


def test_concurrent_loads_are_all_recorded(valkey: Server, tmp_path: Path) -> None:
    with applied(tmp_path, valkey.url) as store:
        history = history_of(store)

        def record(view: str) -> None:
            for number in range(10):
                history.new_load(LoadRecord(view, ended_ms=number)).run(store.handle.store)

        threads = [threading.Thread(target=record, args=(v,)) for v in ("profile", "shop") * 2]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(store.load_history()) == 40


def test_applies_are_recorded_with_user_and_changes(valkey: Server, tmp_path: Path) -> None:
    with applied(tmp_path, valkey.url) as store:
        [first] = store.apply_history()
        assert (first.before, first.after) == ("", _fingerprint(store))
        assert Change("add", "entity user") in first.changes
        assert "@" in first.who
        store.apply()
        assert len(store.apply_history()) == 1
    again = FRAUD.replace("12h, ttl: 24h", "12h, ttl: 48h")
    with applied(tmp_path, valkey.url, again) as store:
        second, first = store.apply_history()
        assert (second.before, second.after) == (first.after, _fingerprint(store))
        assert [change.kind for change in second.changes] == ["ttl"]


def test_the_history_keeps_the_newest_applies(valkey: Server, tmp_path: Path) -> None:
    with applied(tmp_path, valkey.url) as store:
        for number in range(MAX_APPLIES + 5):
            history_of(store).record_apply(ApplyRecord(number))
        assert [each.at_ms for each in store.apply_history()] == list(
            range(MAX_APPLIES + 4, 4, -1)
        )


VALID: dict[str, Any] = {"view": "profile", "ended_ms": 5}
DAMAGED: list[Any] = [
    None, 5, "x", [], {}, {"ended_ms": 5}, VALID | {"ended_ms": "5"}, VALID | {"error": None},
    VALID | {"seconds": [1]},
]  # fmt: skip


def test_damaged_records_are_skipped(valkey: Server, tmp_path: Path) -> None:
    with applied(tmp_path, valkey.url) as store:
        with valkey.client() as client:
            texts = [json.dumps(document) for document in [*DAMAGED, VALID]]
            client.lpush("featurekit:{shop}:runs:profile", "{", b"\xff", *texts)
        assert store.load_history() == [LoadRecord("profile", ended_ms=5)]
        store.write_batch("profile", {"u1": {}})
        assert len(store.load_history("profile")) == 2


def _fingerprint(store: FeatureStore) -> str:
    assert store.registry is not None
    return store.registry.fingerprint
