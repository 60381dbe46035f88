"""Rows and responses as Python, JSON and HTML."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
from fastapi import FastAPI

from featurekit import FeatureStore, OnlineResponse
from featurekit.errors import RequestError, UnknownNameError
from featurekit.loader.cross_checks import RESERVED_NAMES
from featurekit.lower.records import Record
from featurekit.server.app import create_app
from featurekit.server.context import ServerContext
from tests.promise.repos import ALL_TYPES, applied
from tests.servers import PATIENT_YAML, Server, patient
from tests.testclient import TestClient

DEFINITIONS = ALL_TYPES.replace(", source: SOURCE", "").replace(
    "{type: 'vector<float32, 3>'}", "{type: 'vector<float32, 3>', default: [0, 0.5, 1]}"
)
WIDENED = [0.10000000149011612, 1.0, 2.0]
"""The float32 numbers nearest to 0.1, 1 and 2."""


@pytest.fixture
def store(valkey: Server, tmp_path: Path) -> Iterator[FeatureStore]:
    """One user with some values, and the default of a vector."""
    with applied(tmp_path / "all", valkey.url, DEFINITIONS) as store:
        row = {
            "a_string": "<script>alert(1)</script>\u202e",
            "a_float64": float("inf"),
            "a_bytes": b"\xff\x00",
            "a_json": {"a": [1]},
            "c_vector": numpy.array([0.1, 1, 2]),
        }
        store.write_batch("everything", {"u1": row})
        yield store


def response_of(store: FeatureStore, *ids: str) -> OnlineResponse:
    return store.get_online_features("all", {"user_id": list(ids)})


def test_a_vector_is_a_list_of_floats_wherever_a_row_is_python(store: FeatureStore) -> None:
    row, other = store.online_reader("all").read_many(["u1", "u2"])
    response = response_of(store, "u1", "u2")
    stored = [row.c_vector, row.to_dict()["c_vector"], row["c_vector"], dict(row)["c_vector"]]
    stored += [response.to_dict()["c_vector"][0], response.to_rows()[0]["c_vector"]]
    assert stored == [WIDENED] * 6
    for default in (other.c_vector, response.to_rows()[1]["c_vector"]):
        assert default == [0.0, 0.5, 1.0]
    assert {type(value) for value in (*stored, other.c_vector)} == {list}
    assert {type(number) for number in row.c_vector} == {float}
    assert [value.as_py() for value in response.to_arrow()["c_vector"]] == [WIDENED, [0, 0.5, 1]]
    assert isinstance(response.to_pandas()["c_vector"][0], numpy.ndarray)


def test_a_row_converts_to_a_dict(store: FeatureStore) -> None:
    row = store.online_reader("all").read("u1")
    assert dict(row) == row.to_dict() == {**row}
    assert row.keys() == tuple(row) == tuple(row.to_dict())
    assert "a_string" in row
    assert "none" not in row
    with pytest.raises(KeyError, match="none"):
        row["none"]


def test_the_name_that_feast_has_for_a_data_frame_is_known(store: FeatureStore) -> None:
    response = response_of(store, "u1")
    assert response.to_df().equals(response.to_pandas())


def test_a_fastapi_route_can_return_a_response_as_json_or_rows(store: FeatureStore) -> None:
    app = FastAPI()

    @app.get("/json")
    def as_json() -> Any:
        return response_of(store, "u1", "u2").to_json()

    @app.get("/rows")
    def as_rows() -> Any:
        response = store.get_online_features(["everything:c_vector"], {"user_id": ["u1"]})
        return response.to_rows()

    client = TestClient(app)
    stored, absent = client.get("/json").json()
    assert {name: value for name, value in stored.items() if value is not None} == {
        "user_id": "u1",
        "a_string": "<script>alert(1)</script>\u202e",
        "a_float64": "inf",
        "a_bytes": "/wA=",
        "a_json": {"a": [1]},
        "c_vector": [0.1, 1.0, 2.0],
    }
    assert absent["c_vector"] == [0.0, 0.5, 1.0]
    assert client.get("/rows").json() == [{"user_id": "u1", "c_vector": WIDENED}]


def test_json_has_python_values_for_join_keys_of_numpy(shop: FeatureStore) -> None:
    merchants: Any = {"merchant_id": numpy.array([7, 8])}
    response = shop.get_online_features(["shop:sales"], merchants)
    assert json.loads(json.dumps(response.to_json())) == [
        {"merchant_id": 7, "sales": 70},
        {"merchant_id": 8, "sales": None},
    ]


def test_a_row_of_several_entities_takes_a_tuple_of_join_keys(shop: FeatureStore) -> None:
    reader = shop.online_reader("both")
    assert reader.plan.join_keys == ("user_id", "merchant_id")
    assert reader.read(("u1", 7)) == reader.read({"merchant_id": 7, "user_id": "u1"})
    for wrong in (("u1",), ("u1", 7, 8), "u1"):
        with pytest.raises(RequestError, match="a dict or a tuple of user_id, merchant_id"):
            reader.read(wrong)


def test_a_response_shows_as_html_that_is_escaped_and_needs_no_network(
    store: FeatureStore,
) -> None:
    html = response_of(store, "u1", "<b>")._repr_html_()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;\\u202e" in html
    assert "<td>&lt;b&gt;</td>" in html
    assert '<td title="missing">missing</td>' in html
    assert '<td title="default">[0, 0.5, 1]</td>' in html
    assert not any(text in html for text in ("<script", "http", "src=", "href=", "<b>"))
    many = response_of(store, *map(str, range(30)))._repr_html_()
    assert "<caption>30 rows, the first 20</caption>" in many
    assert many.count("<tr>") == 21
    assert "0 rows" in response_of(store)._repr_html_()


def test_a_store_shows_its_views_as_html_without_a_call_to_the_server(tmp_path: Path) -> None:
    url = "redis://user:secret@127.0.0.1:1/"
    (tmp_path / "featurerepo.yaml").write_text(
        f"project: shop\ndefinitions: [f.yaml]\nonline_store: {{url: '{url}', key_prefix: fs, {PATIENT_YAML}}}\n"
    )
    (tmp_path / "f.yaml").write_text(
        DEFINITIONS.replace("name: everything", "name: everything\n    description: '<i>&\"'")
    )
    html = FeatureStore(tmp_path)._repr_html_()
    assert 'title="&lt;i&gt;&amp;&quot;">everything</td>' in html
    assert "secret" not in html
    opened = FeatureStore.from_registry(patient(url), "shop", root=tmp_path, must_exist=False)
    assert "<tbody></tbody>" in opened._repr_html_()


def test_every_attribute_of_rows_and_responses_is_a_reserved_name(store: FeatureStore) -> None:
    response = response_of(store, "u1")
    names = {*dir(Record), *dir(response)}
    app = create_app(ServerContext(store))
    body = {"entities": [{"user_id": "u1"}]}
    [row] = TestClient(app).post("/v1/services/all/read", json=body).json()["rows"]
    public = {name for name in names if not name.startswith("_")}
    assert public | {*row, "error"} == RESERVED_NAMES


def test_a_field_given_as_a_view_is_named_with_its_view(shop: FeatureStore) -> None:
    with pytest.raises(UnknownNameError, match="as in 'profile:tags'"):
        shop.online_reader(["tags"])


def test_the_reserved_names_are_documented() -> None:
    page = Path("docs/reading.md").read_text()
    section = page.partition("## Reserved names\n")[2].partition("\n## ")[0]
    assert RESERVED_NAMES | {"event_timestamp"} == {*re.findall(r"`(\w+)`", section)}
