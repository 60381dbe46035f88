"""The Python surface of `FeatureStore`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurekit import FeatureService, FeatureStore, UnknownNameError
from featurekit.errors import RegistryError
from tests.promise.repos import FRAUD, applied, write_repo
from tests.servers import Server, patient


def test_its_repr_names_project_and_address_without_the_password(tmp_path: Path) -> None:
    url = "redis://user:secret@example.com:6379/1"
    store = FeatureStore.from_registry(patient(url), "shop", root=tmp_path, must_exist=False)
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


TAGGED = FRAUD.replace(
    "  - name: profile\n", "  - name: profile\n    tags: {tier: '1'}\n    owner: risk\n", 1
)


def test_it_lists_and_gets_what_is_applied_as_feast_does(valkey: Server, tmp_path: Path) -> None:
    with applied(tmp_path, valkey.url, TAGGED) as store:
        assert [entity.name for entity in store.list_entities()] == ["merchant", "route", "user"]
        assert store.get_entity("route").join_keys == {"origin": "string", "dest": "string"}
        assert store.get_entity("user").join_key == "user_id"
        views = [view.name for view in store.list_feature_views()]
        assert views == ["activity", "delays", "profile", "scores", "shop"]
        assert [view.name for view in store.list_stream_feature_views()] == ["activity"]
        assert [view.name for view in store.list_batch_feature_views()] == views[1:]
        assert [view.name for view in store.list_feature_views(tags={"tier": "1"})] == ["profile"]
        assert store.list_feature_views(tags={"tier": "2"}) == []
        view = store.get_feature_view("profile")
        assert (view.entity, view.kind, view.owner, view.tags, view.ttl) == (
            *("user", "batch", "risk", {"tier": "1"}),
            timedelta(hours=24),
        )
        assert [(feature.name, feature.dtype, feature.default) for feature in view.features] == [
            ("country", "string", None),
            ("tx_count_7d", "int64", 0),
            ("tags", "array<string>", []),
        ]
        risk, model = store.get_feature_view("scores").features
        assert (risk.ttl, model.ttl) == (timedelta(hours=2), timedelta(hours=1))
        service = store.get_feature_service("both")
        assert service.entities == ("user", "merchant")
        assert service.features[:2] == ("profile:tx_count_7d", "shop:sales")
        assert [each.name for each in store.list_feature_services()] == ["both", "fraud_v1"]
        for get in (store.get_entity, store.get_feature_view, store.get_feature_service):
            with pytest.raises(UnknownNameError, match="none_such"):
                get("none_such")


def test_a_read_takes_a_feature_service_as_well_as_its_name(
    valkey: Server, tmp_path: Path
) -> None:
    with applied(tmp_path, valkey.url) as store:
        service = store.get_feature_service("fraud_v1")
        response = store.get_online_features(service, {"user_id": ["u1"]})
        assert response.feature_names == list(service_fields(service))
        assert store.online_reader(service) is store.online_reader("fraud_v1")


def service_fields(service: FeatureService) -> Iterator[str]:
    return (feature.partition(":")[2] for feature in service.features)


def test_before_the_first_apply_the_lists_say_that_nothing_is_applied(tmp_path: Path) -> None:
    store = FeatureStore(write_repo(tmp_path, "memory://", FRAUD, registry="online"))
    with pytest.raises(RegistryError, match="nothing is applied yet"):
        store.list_feature_views()


def test_one_view_can_be_loaded_by_its_name_alone(valkey: Server, tmp_path: Path) -> None:
    users = pa.table({"user_id": ["u1"], "country": ["NO"], "t": [datetime.now(UTC)]})
    with applied(tmp_path, valkey.url) as store:
        for column in ("tx_count_7d", "tags"):
            users = users.append_column(column, pa.nulls(1))
        pq.write_table(users, tmp_path / "users.parquet")
        [report] = store.materialize("profile")
        assert (report.view, report.rows_written) == ("profile", 1)
        [report] = store.materialize("profile", from_file=tmp_path / "users.parquet")
        assert report.rows_written == 1
