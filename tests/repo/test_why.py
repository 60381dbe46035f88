"""`why` gives the true cause of a missing value."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
import time_machine

from featurekit import FeatureStore, StreamOptions
from featurekit.errors import BadRowError, UnknownNameError
from featurekit.repo.diagnostics import Explanation
from featurekit.runtime import load
from tests.promise.repos import FRAUD, applied
from tests.servers import Server
from tests.streams.repositories import repository

PLACES = ["registry.json", "online"]


@pytest.fixture(params=PLACES)
def store(
    tmp_path: Path, valkey: Server, request: pytest.FixtureRequest
) -> Iterator[FeatureStore]:
    with applied(tmp_path, valkey.url, registry=str(request.param)) as store:
        yield store


def why(store: FeatureStore, field: str, id_: str = "u1") -> Explanation:
    [explanation] = store.why("user", id_, field)
    return explanation


def caused(store: FeatureStore, field: str, id_: str = "u1") -> str:
    return why(store, field, id_).cause


def test_a_row_that_the_last_load_rejected_is_the_cause(store: FeatureStore) -> None:
    rows = {"u1": {"tx_count_7d": -5}, "u2": {"tx_count_7d": 5}}
    report = store.write_batch("profile", rows, on_bad_row="skip")
    assert caused(store, "country") == "rejected"
    text = why(store, "country").text
    assert "The last load of profile rejected the row of this entity" in text
    assert report.rejects_path in text
    assert caused(store, "country", "u2") == "null"
    assert caused(store, "country", "u3") == "not in load"
    store.write_batch("profile", {"u1": {"tx_count_7d": 5}})
    assert caused(store, "country") == "null"


def test_rejected_rows_of_tables_and_of_json_lines_are_found(store: FeatureStore) -> None:
    table = pa.table(
        {
            "user_id": ["u1", None, "u3"],
            "country": ["NO", "NO", "NO"],
            "tx_count_7d": [-1, 1, 1],
            "tags": pa.nulls(3, pa.list_(pa.string())),
        }
    )
    store.write_batch("profile", table, on_bad_row="skip")
    assert [caused(store, "country", id_) for id_ in ("u1", "u3", "u4")] == [
        "rejected", "present", "not in load"
    ]  # fmt: skip
    store.reset("user")
    lines = ['{"user_id": "u4", "tx_count_7d": "x"}', '{"user_id": "u3", "tx_count_7d": 1}', "{"]
    store.write_jsonl("profile", lines, on_bad_row="skip")
    assert caused(store, "country", "u4") == "rejected"


def test_a_row_that_stopped_a_load_is_the_cause_for_its_entity(store: FeatureStore) -> None:
    store.write_batch("profile", {"u0": {"country": "NO"}})
    with pytest.raises(BadRowError):
        store.write_batch("profile", {"u1": {"tx_count_7d": -5}})
    assert caused(store, "country") == "rejected"
    assert "-5 is below min 0" in why(store, "country").text
    assert caused(store, "country", "u2") == "load failed"


def test_beyond_the_recorded_keys_the_answer_is_maybe(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load.RejectedKeys.__init__, "__defaults__", (b"", 3))
    rows = {f"u{n}": {"tx_count_7d": -n} for n in range(1, 6)} | {"u0": {"tx_count_7d": 1}}
    store.write_batch("profile", rows, on_bad_row="skip")
    assert caused(store, "country", "u3") == "rejected"
    assert caused(store, "country", "u5") == "maybe rejected"
    assert "Maybe the row of this entity was among the 5 rows" in why(store, "country", "u5").text
    assert "Maybe that row is of an earlier load" in why(store, "country", "u0").text


def test_a_field_that_was_added_after_the_last_load_is_not_null(
    store: FeatureStore, tmp_path: Path
) -> None:
    store.write_batch("profile", {"u1": {"country": "NO"}})
    store.stream_writer("activity").write("u1", {"tx_count_5m": 1})
    text = FRAUD.replace(
        "country: string\n      tx", "country: string\n      city: string\n      tx", 1
    )
    text = text.replace("device: string", "device: string\n      os: string")
    (tmp_path / "features.yaml").write_text(text)
    store.reload_definitions()
    store.apply()
    assert caused(store, "city") == "added"
    assert "after profile was last written for this entity" in why(store, "city").text
    assert caused(store, "os") == "added"
    assert caused(store, "tags") == "null"
    store.write_batch("profile", {"u1": {"country": "NO"}})
    assert caused(store, "city") == "null"


def test_values_that_expired_differ_from_those_never_loaded_and_not_in_the_last_load(
    store: FeatureStore,
) -> None:
    assert caused(store, "country") == "never loaded"
    with time_machine.travel(0) as clock:
        clock.move_to(1_800_000_000)
        store.write_batch("profile", {"u2": {"country": "NO"}})
        assert caused(store, "country") == "not in load"
        clock.shift(24 * 3600 + 1)
        assert caused(store, "country") == "expired"
        assert "All values of profile expired at" in why(store, "country").text


def test_a_present_field_and_an_unknown_one(store: FeatureStore) -> None:
    store.write_batch("profile", {"u1": {"country": "NO"}})
    assert caused(store, "country") == "present"
    assert "country" not in [each.field for each in store.why("user", "u1")]
    with pytest.raises(UnknownNameError, match="unknown field 'cuntry'"):
        why(store, "cuntry")


def test_a_dead_letter_is_the_cause_for_its_entity(tmp_path: Path, valkey: Server) -> None:
    with repository(tmp_path, valkey.url) as store, valkey.client() as client:
        client.xadd("activity-events", {"user_id": "u1", "count": "many", "kind": "k"})
        client.xadd("activity-events", {"user_id": "u2", "count": "1", "kind": "k"})
        client.xadd("session-events", {"body": '{"uid": "u1", "type": "session", "step": "x"}'})
        store.streams.run(options=StreamOptions(once=True))
        explanation = why(store, "count")
        assert explanation.cause == "dead letter"
        assert "count: " in explanation.text
        assert caused(store, "step") == "dead letter"
        assert caused(store, "count", "u3") == "no event"
        assert [
            e.fields["count"] for e in store.streams.dead_letters("activity", entity="u1")
        ] == ["many"]
        assert len(store.streams.dead_letters("session", entity="u1")) == 1
        assert store.streams.dead_letters("activity", entity="u2") == []
        client.xadd("activity-events", {"user_id": "u1", "count": "1", "kind": "k"})
        store.streams.run(["activity"], StreamOptions(once=True))
        assert caused(store, "device") == "no event"


def test_a_missing_stream_value_names_the_state_of_its_view(store: FeatureStore) -> None:
    text = why(store, "device").text
    assert "The view is never: no write of it is known" in text


def test_a_store_that_was_flushed_is_the_cause(store: FeatureStore, valkey: Server) -> None:
    store.write_batch("profile", {"u1": {"country": "NO"}})
    with valkey.client() as client:
        client.flushall()
    assert caused(store, "country") == "store lost"
    assert "flushed or replaced since the registry was applied" in why(store, "device").text
    assert store.metrics().store_state == "replaced"
