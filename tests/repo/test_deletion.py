"""Deletions of entities and of retired values, pruning, and a TTL for one load."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurekit import FeatureStore, StreamOptions
from featurekit.errors import BadRowError, RequestError, UnknownNameError
from featurekit.repo import deletion
from tests.promise.repos import FRAUD, applied
from tests.servers import Server
from tests.streams.repositories import repository

COUNTRIES = ("NO", "SE", "DK", "FI", "IS")


@pytest.fixture
def store(tmp_path: Path, valkey: Server) -> Iterator[FeatureStore]:
    with applied(tmp_path, valkey.url) as store:
        yield store


def test_the_store_in_memory_prunes_too(tmp_path: Path) -> None:
    with applied(tmp_path, "memory://prune") as store:
        write_users(store, "u1", "u2")
        store.materialize(["profile"])
        write_users(store, "u1")
        assert store.materialize(["profile"], prune=True)[0].entities_pruned == 1
        assert users_with(store) == ["u1"]


def write_users(store: FeatureStore, *users: str, **columns: list[object]) -> None:
    """Write the source of the view `profile`: one row for each user."""
    now = datetime.now(UTC)
    table = {
        "user_id": list(users),
        "country": ["NO"] * len(users),
        "tx_count_7d": pa.array([1] * len(users), pa.int64()),
        "tags": pa.nulls(len(users), pa.list_(pa.string())),
        "t": pa.array([now - timedelta(hours=1)] * len(users), pa.timestamp("us", "UTC")),
    } | columns
    pq.write_table(pa.table(table), store.path / "users.parquet")


def users_with(store: FeatureStore, field: str = "country") -> list[str]:
    """Return the users that have a value of a field."""
    users = [f"u{n}" for n in range(6)]
    view = "profile" if field == "country" else "activity"
    values = store.get_online_features([f"{view}:{field}"], {"user_id": users}).to_dict()[field]
    return [user for user, value in zip(users, values, strict=True) if value is not None]


def test_pruning_deletes_the_view_of_entities_that_the_source_no_longer_has(
    store: FeatureStore,
) -> None:
    write_users(store, "u1", "u2", "u3")
    store.materialize(["profile"])
    store.stream_writer("activity").write("u3", {"device": "ios"})
    store.write_batch("scores", {"u3": {"model": "a"}})
    write_users(store, "u1", "u2")
    [report] = store.materialize(["profile"])
    assert users_with(store) == ["u1", "u2", "u3"]
    [report] = store.materialize(["profile"], prune=True)
    assert (users_with(store), report.entities_pruned) == (["u1", "u2"], 1)
    assert users_with(store, "device") == ["u3"]
    assert store.load_history("profile")[0].entities_pruned == 1
    [report] = store.materialize(["profile"], prune=True)
    assert report.entities_pruned == 0


def test_entities_whose_rows_are_rejected_or_of_the_future_are_not_pruned(
    store: FeatureStore,
) -> None:
    write_users(store, "u1", "u2", "u3", "u4")
    store.materialize(["profile"])
    past, future = datetime.now(UTC), datetime.now(UTC) + timedelta(days=1)
    write_users(
        store,
        "u1",
        "u2",
        "u3",
        tx_count_7d=pa.array([1, -1, 1], pa.int64()),
        t=pa.array([past, past, future], pa.timestamp("us", "UTC")),
    )
    [report] = store.materialize(["profile"], prune=True, on_bad_row="skip")
    assert (report.rows_rejected, report.rows_future, report.entities_pruned) == (1, 1, 1)
    assert users_with(store) == ["u1", "u2", "u3"]


def test_a_rejected_row_without_a_key_prevents_pruning(store: FeatureStore) -> None:
    write_users(store, "u1", "u2")
    store.materialize(["profile"])
    write_users(store, "u1", "")
    with pytest.raises(BadRowError, match="1 rejected rows have no readable key"):
        store.materialize(["profile"], prune=True, on_bad_row="skip")
    assert users_with(store) == ["u1", "u2"]


def test_an_empty_source_is_pruned_only_if_asked(store: FeatureStore) -> None:
    write_users(store, "u1")
    store.materialize(["profile"])
    write_users(store)
    with pytest.raises(RequestError, match="pruning would delete all values of 'profile'"):
        store.materialize(["profile"], prune=True)
    assert users_with(store) == ["u1"]
    [report] = store.materialize(["profile"], prune=True, prune_all=True)
    assert (users_with(store), report.entities_pruned) == ([], 1)


def test_a_load_of_a_part_does_not_prune(store: FeatureStore) -> None:
    write_users(store, "u1")
    parts = ({"start": "2026-01-01"}, {"end": 0}, {"missing_only": True})
    for part in parts:
        with pytest.raises(RequestError, match="only a whole load shows"):
            store.materialize(["profile"], prune=True, **part)


def test_a_view_with_field_ttls_is_pruned_by_them_also_after_a_shorter_ttl(
    tmp_path: Path, valkey: Server
) -> None:
    text = FRAUD.replace("ttl: 24h, source", "ttl: 24h, expires: field, source")
    with applied(tmp_path, valkey.url, text) as store:
        write_users(store, "u1", "u2")
        store.materialize(["profile"])
        write_users(store, "u1")
        [report] = store.materialize(["profile"], prune=True, ttl="1h")
        assert (users_with(store), report.entities_pruned) == (["u1"], 1)


def test_a_load_can_have_a_ttl_of_its_own(store: FeatureStore, valkey: Server) -> None:
    write_users(store, "u1")
    store.materialize(["profile"], ttl="1h")
    store.write_batch("profile", {"u2": {"country": "SE"}}, ttl=timedelta(minutes=30))
    store.write_batch("scores", {"u3": {"risk": 0.5, "model": "a"}}, ttl=timedelta(minutes=5))
    with valkey.client() as client:
        assert 3_590_000 < client.pttl("fs:user:u1") <= 3_600_000
        assert 1_790_000 < client.pttl("fs:user:u2") <= 1_800_000
        assert all(290_000 < ttl <= 300_000 for ttl in client.hpttl("fs:user:u3", "risk", "model"))
    [load] = store.load_history("scores")
    assert load.expires_ms is not None
    assert load.expires_ms - load.ended_ms == 300_000
    with pytest.raises(RequestError, match="not a duration"):
        store.write_batch("profile", {}, ttl=timedelta(0))


def test_an_entity_is_deleted_with_its_dead_letters(tmp_path: Path, valkey: Server) -> None:
    with repository(tmp_path, valkey.url) as store, valkey.client() as client:
        store.write_batch("profile", {f"u{n}": {"country": "NO"} for n in range(3)})
        for user in ("u1", "u2", "u1"):
            client.xadd("activity-events", {"user_id": user, "count": "x"})
        store.streams.run(["activity"], StreamOptions(once=True))
        deleted = store.delete("user", "u1")
        assert (deleted.entities, deleted.dead_letters) == (1, 2)
        assert client.exists("fs:user:u1") == 0
        assert [each.fields["user_id"] for each in store.streams.dead_letters("activity")] == [
            "u2"
        ]
        deleted = store.delete("user", ["u0", "u1", "u2", "u2"])
        assert (deleted.entities, deleted.dead_letters) == (2, 1)
        store.stream_writer("delays").write(("JFK", "LAX"), {"minutes": 1.0})
        assert store.delete("route", ("JFK", "LAX")).entities == 1
        assert store.delete("route", "JFK:LAX").entities == 0
        with pytest.raises(UnknownNameError):
            store.delete("usr", "u1")


def test_retired_values_are_deleted_on_request(
    store: FeatureStore, tmp_path: Path, valkey: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write_batch("profile", {f"u{n}": {"country": "NO", "tags": ["a"]} for n in range(9)})
    store.write_batch("shop", {n: {"country": "NO", "sales": n} for n in range(4)})
    start, end = FRAUD.index("  - name: shop"), FRAUD.index("  - name: delays")
    text = FRAUD[:start] + FRAUD[end:]
    text = text.replace("      tags: {type: 'array<string>', default: []}\n", "")
    text = text.replace("  - {name: merchant, join_keys: {merchant_id: int64}}\n", "")
    services = text.index("feature_services")
    (tmp_path / "features.yaml").write_text(text[:services])
    store.reload_definitions()
    store.apply()
    assert deletion.retired_names(store.compiled) == [
        "user:tags", "merchant:country", "merchant:sales"
    ]  # fmt: skip
    pauses: list[float] = []
    monkeypatch.setattr("featurekit.repo.deletion.time.sleep", pauses.append)
    counts: list[int] = []
    deleted = store.delete_retired(counts.append)
    assert (deleted.entities, deleted.values) == (13, 9 + 8)
    assert counts[-1] == 17
    assert len(pauses) == len(counts)
    with valkey.client() as client:
        assert client.keys("fs:merchant:*") == []
        assert client.hkeys("fs:user:u1") == [b"country"]
    assert store.delete_retired().values == 0
