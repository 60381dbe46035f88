"""Reads with `timeout` and `partial`."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from featurekit import FeatureStore
from featurekit.errors import RequestError, StoreUnavailableError
from featurekit.ports import DEFAULT_READ_OPTIONS, ReadOptions
from featurekit.runtime.read_arguments import read_options
from tests.promise.repos import applied, commands
from tests.servers import Server, running, valkey_binary

FEATURES = ["profile:tx_count_7d", "profile:country", "activity:device"]
USERS = {"user_id": ["u1", "u2"]}


@pytest.fixture
def unreachable(tmp_path: Path) -> Iterator[FeatureStore]:
    """A store whose server stored a user and was killed."""
    with running(valkey_binary()) as server, applied(tmp_path, server.url) as store:
        store.write_batch("profile", {"u1": {"country": "NO", "tx_count_7d": 5}})
        server.stop()
        yield store


@pytest.mark.parametrize("freshness", [False, True])
def test_partial_rows_of_an_unreachable_server_are_unavailable(
    unreachable: FeatureStore, *, freshness: bool
) -> None:
    answer = unreachable.get_online_features(FEATURES, USERS, partial=True, freshness=freshness)
    assert answer.to_dict() == USERS | {
        "tx_count_7d": [0, 0],
        "country": [None, None],
        "device": [None, None],
    }
    assert set(answer.statuses) == {"tx_count_7d", "country", "device"}
    assert all(each == ["unavailable"] * 2 for each in answer.statuses.values())
    assert answer.found == [False, False]
    assert list(answer.errors) == [0, 1]
    assert "nothing listens at" in answer.errors[1]
    assert answer.to_arrow().num_rows == 2


@pytest.mark.parametrize("features", [FEATURES, "both"])
def test_a_record_of_an_unreachable_server_has_its_error(
    unreachable: FeatureStore, features: Any
) -> None:
    reader = unreachable.online_reader(features)
    row = (
        reader.read({"user_id": "u1", "merchant_id": 7}, partial=True)
        if (features == "both")
        else reader.read("u1", partial=True)
    )
    assert (row.tx_count_7d, row.found) == (0, False)
    assert set(row.statuses.values()) == {"unavailable"}
    assert row.error.startswith("UNAVAILABLE")
    assert pickle.loads(pickle.dumps(row)) == row


async def test_asyncio_reads_return_the_same(unreachable: FeatureStore) -> None:
    answer = await unreachable.get_online_features_async(FEATURES, USERS, partial=True)
    assert answer.statuses["country"] == ["unavailable"] * 2
    row = await unreachable.online_reader("fraud_v1").read_async("u1", partial=True)
    assert row.error == answer.errors[0]
    await unreachable.close_async()


def test_a_read_without_partial_raises(unreachable: FeatureStore) -> None:
    with pytest.raises(StoreUnavailableError):
        unreachable.get_online_features(FEATURES, USERS)
    with pytest.raises(StoreUnavailableError):
        unreachable.online_reader(FEATURES).read("u1", timeout=0.1)


def test_a_timeout_limits_the_call_including_retries(shop: FeatureStore, valkey: Server) -> None:
    reader = shop.online_reader(FEATURES)
    reader.read("u1")
    with valkey.client() as client:
        client.client_pause(2000)
    with pytest.raises(StoreUnavailableError, match="within the 20 ms of the call"):
        shop.get_online_features(FEATURES, USERS, timeout=timedelta(milliseconds=20))
    late = reader.read("u1", timeout=0.02, partial=True)
    assert set(late.statuses.values()) == {"unavailable"}
    assert reader.read("u1", timeout=60).statuses["country"] == "present"


@pytest.mark.parametrize(
    ("timeout", "partial", "terms"),
    [
        (None, False, DEFAULT_READ_OPTIONS),
        (None, True, ReadOptions(0.0, partial=True)),
        (0.05, False, ReadOptions(0.05)),
        (2, True, ReadOptions(2.0, partial=True)),
        (timedelta(milliseconds=50), False, ReadOptions(0.05)),
        (3600, False, ReadOptions(3600.0)),
    ],
)
def test_a_timeout_is_seconds_or_a_timedelta(
    timeout: Any, *, partial: bool, terms: ReadOptions
) -> None:
    assert read_options(timeout, partial=partial) == terms


@pytest.mark.parametrize(
    "timeout",
    [0, -1, 3601, "50ms", True, float("nan"), float("inf"), timedelta(0), timedelta(days=1), [1]],
)
def test_a_wrong_timeout_is_refused_before_anything_is_sent(
    shop: FeatureStore, valkey: Server, timeout: Any
) -> None:
    with commands(valkey) as seen, pytest.raises(RequestError, match="at most an hour"):
        shop.get_online_features(FEATURES, USERS, timeout=timeout)
    assert seen == []
