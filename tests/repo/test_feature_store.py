"""The Python surface of `FeatureStore`."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from featurekit import FeatureStore
from tests.promise.repos import applied
from tests.servers import Server


def test_its_repr_names_project_and_address_without_the_password(tmp_path: Path) -> None:
    url = "redis://user:secret@example.com:6379/1"
    store = FeatureStore.from_registry(url, "shop", root=tmp_path, must_exist=False)
    assert repr(store) == "<FeatureStore 'shop' at redis://user@example.com:6379/1>"


@pytest.mark.parametrize("name", ["materialize", "write_batch", "get_online_features"])
def test_async_twins_have_the_same_parameters(name: str) -> None:
    parameters = inspect.signature(getattr(FeatureStore, name)).parameters
    twin = inspect.signature(getattr(FeatureStore, f"{name}_async")).parameters
    assert list(twin.values()) == list(parameters.values())


async def test_async_twins_load_batches(valkey: Server, tmp_path: Path) -> None:
    with applied(tmp_path, valkey.url) as store:
        report = await store.write_batch_async("profile", {"u1": {"country": "NO"}})
        assert report.rows_written == 1
        assert store.online_reader("fraud_v1").read("u1").country == "NO"
