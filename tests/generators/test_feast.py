"""`featurekit import-feast` converts repositories of Feast; what they have is in feast/*.json."""

from __future__ import annotations

import ast
import json
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from featurekit import FeatureStore
from featurekit.codegen.feast.importing import import_feast
from featurekit.codegen.feast.report import Imported
from featurekit.loader import load_repo
from featurekit.models import FeatureView
from tests.cli.running import run, run_json
from tests.servers import Server, patient

DUMPS = Path(__file__).parent / "feast"
TIMES = [datetime(2026, 11, 1, hour, tzinfo=UTC) for hour in (1, 2, 3)]


def imported(folder: Path, name: str, document: dict[str, Any] | None = None) -> Imported:
    """Import a dump into `folder/new`."""
    dump = folder / "registry.json"
    dump.write_text(json.dumps(document) if document else (DUMPS / f"{name}.json").read_text())
    found = import_feast(dump, folder / "new")
    for path, text in found.texts.items():
        target = folder / "new" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    return found


def views(folder: Path) -> dict[str, FeatureView]:
    """Return the views of the new repository."""
    return {view.name: view for view in load_repo(folder / "new", {}).feature_views}


def write_parquet(path: Path, columns: dict[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns), path)


def test_a_repository_like_that_of_feast_init_applies_and_loads(
    tmp_path: Path, valkey: Server
) -> None:
    write_parquet(
        tmp_path / "data/couriers.parquet",
        {
            "courier_id": [7, 8, 7],
            "rating": pa.array([0.5, 0.25, 0.75], pa.float32()),
            "trips": [1, 2, 3],
            "vehicle": pa.array(
                [[], [("type", "car")], [("type", "bike")]], pa.map_("utf8", "utf8")
            ),
            "settings": ["{}", "{}", '{"a": [1]}'],
            "profile": [{"age": "30"}, {"age": "40"}, {"age": "31"}],
            "event_timestamp": TIMES,
            "created": [time.replace(tzinfo=None) for time in TIMES],
        },
    )
    report = imported(tmp_path, "couriers")
    states = {(each.kind, each.name): each.state for each in report.outcomes}
    assert states["feature view", "courier_hourly"] == "changed"
    assert states["on-demand feature view", "plus"] == "changed"
    assert states["request source", "amounts"] == "mapped"
    assert states["label view", "courier_labels"] == "left out"
    with FeatureStore(tmp_path / "new", url=patient(valkey.url)) as store:
        store.apply()
        store.materialize()
        sent = {"amount": 1}
        keys = [{"courier_id": 7}, {"courier_id": 9}]
        response = store.get_online_features("courier_v2", keys, request=sent)
        fresh = store.stream_writer("courier_fresh")
        fresh.write(7, {"rating": 1.0, "trips": 9})
        pushed = store.get_online_features("courier_v3", [{"courier_id": 7}], request=sent)
    assert response.to_rows()[0] == {
        "courier_id": 7,
        "rating": 0.75,
        "trips": 3,
        "vehicle": {"type": "bike"},
        "settings": {"a": [1]},
        "profile": {"age": "31"},
        "rating_plus": None,
    }
    assert response.statuses["rating_plus"][0] == "invalid"  # the function is not written yet
    assert response.found == [True, False]
    assert pushed.to_rows() == [{"courier_id": 7, "rating": 1.0, "trips": 9, "rating_plus": None}]


def test_a_repository_like_the_credit_scoring_tutorial_applies_and_loads(
    tmp_path: Path, valkey: Server
) -> None:
    times = {"event_timestamp": TIMES[:2], "created_timestamp": TIMES[:2]}
    write_parquet(
        tmp_path / "data/zipcodes.parquet",
        {
            "zipcode": [7675, 7675],
            "city": ["A", "B"],
            "population": [1, 2],
            "wages": [3, None],
            **times,
        },
    )
    write_parquet(
        tmp_path / "data/credit.parquet",
        {
            "dob_ssn": ["19530219_5179", "x"],
            "card_due": [8419, 1],
            "missed_1y": [1, None],
            **times,
        },
    )
    imported(tmp_path, "credit")
    with FeatureStore(tmp_path / "new", url=patient(valkey.url)) as store:
        store.apply()
        store.materialize()
        keys = [{"zipcode": 7675, "dob_ssn": "19530219_5179"}]
        sent = {"loan_amnt": 1000}
        [row] = store.get_online_features("credit_model", keys, request=sent).to_rows()
        module = tmp_path / "new/on_demand.py"
        written = (
            module.read_text().split("    raise ")[0] + "    return float(card_due + loan_amnt)\n"
        )
        module.write_text(written)
    with FeatureStore(tmp_path / "new", url=patient(valkey.url)) as store:
        store.apply()
        [computed] = store.get_online_features("credit_model", keys, request=sent).to_rows()
    assert computed["total_debt"] == 9419.0
    assert row == {
        **keys[0],
        "city": "B",
        "population": 2,
        "wages": None,
        "card_due": 8419,
        "missed_1y": 1,
        "total_debt": None,
    }


def test_names_keys_aliases_and_views_without_an_entity_have_their_equal(tmp_path: Path) -> None:
    imported(tmp_path, "routes")
    repo = load_repo(tmp_path / "new", {})
    found = views(tmp_path)
    entities = {entity.name: entity.join_keys for entity in repo.entities}
    assert entities == {
        "airport": {"airport": "string"},
        "airport_weather": {"airport": "string"},
        "origin_dest": {"origin": "string", "dest": "string"},
    }
    routes, rates = found["route_stats"], found["rates"]
    assert routes.entity == "origin_dest"
    assert routes.batch is not None
    assert routes.batch.source is not None
    assert routes.batch.source.columns == {"mean_delay": "MEAN_delay"}
    assert rates.entity is None
    assert (found["weather"].entity, found["bq"].entity) == ("airport_weather", "airport")
    assert found["weather"].fields_["embedding"].type == "vector<float32, 3>"
    assert [*found["sf"].fields_] == ["class_"]
    [service] = repo.feature_services
    assert [str(item) for item in service.items] == [
        "route_stats:mean_delay",
        "rates",
        "weather as origin_weather (airport: origin)",
        "weather:wind as dest_weather (airport: dest)",
        "doubled",
    ]
    assert service.logging is not None
    assert service.logging.sample_rate == 0.5


def test_reserved_names_and_a_service_named_like_a_view_get_other_names(tmp_path: Path) -> None:
    features = [{"name": name, "valueType": "INT64"} for name in ("found", "features", "trips")]
    document = {
        "entities": [{"spec": {"name": "courier", "joinKey": "courier_id"}}],
        "featureViews": [
            {"spec": {"name": "stats", "entities": ["courier"], "features": features}}
        ],
        "featureServices": [
            {
                "spec": {
                    "name": "Stats",
                    "features": [{"featureViewName": "stats", "featureColumns": []}],
                }
            },
            {
                "spec": {
                    "name": "stats",
                    "features": [{"featureViewName": "stats", "featureColumns": features[:1]}],
                }
            },
        ],
    }
    imported(tmp_path, "", document)
    assert [*views(tmp_path)["stats"].fields_] == ["found_", "features_", "trips"]
    services = load_repo(tmp_path / "new", {}).feature_services
    assert {each.name: [str(item) for item in each.items] for each in services} == {
        "stats_service": ["stats"],
        "stats_service_2": ["stats:found_"],
    }


def test_validate_names_the_sources_of_warehouses(tmp_path: Path) -> None:
    imported(tmp_path, "routes")
    warnings = [str(warning) for warning in load_repo(tmp_path / "new", {}).warnings]
    stubs = [text for text in warnings if "the query has only comments" in text]
    assert [text.split("'")[1] for text in stubs] == ["bq", "sf"]
    assert "features/views.yaml:" in stubs[0]


def test_what_is_left_out_is_a_comment_with_its_reason_and_its_code(tmp_path: Path) -> None:
    document = json.loads((DUMPS / "routes.json").read_text())
    document["onDemandFeatureViews"][0]["spec"]["sources"] = {"gone": {}}
    texts = imported(tmp_path, "", document).texts
    text = texts["features/views.yaml"]
    assert "# Left out: on-demand feature view doubled.\n# None of its inputs has an" in text
    assert '#       out["double"] = inputs["wind"] * 2' in text
    assert "# BigQuery: write the query of the source" in text
    assert "on_demand.py" not in texts
    load_repo(tmp_path / "new", {})


def test_on_demand_views_become_derived_views_whose_functions_are_to_be_written(
    tmp_path: Path,
) -> None:
    document = json.loads((DUMPS / "couriers.json").read_text())
    [view] = document["onDemandFeatureViews"]
    plus, amounts = view["spec"], view["spec"]["sources"]["amounts"]["requestDataSource"]
    amounts["name"] = "courier_hourly"  # as a view, and with values of other names here
    values = ("courier_id", "now", "class", "amount", "rating")
    schema = [{"name": name, "valueType": "INT64"} for name in values]
    amounts["requestDataOptions"]["schema"] = schema
    plus["features"] = [{"name": n, "valueType": "MAP"} for n in ("courier_id", "found", "a-b")]
    plus["featureTransformation"] = {"substraitTransformation": {}}
    plus["tags"], plus["description"], plus["writeToOnlineStore"] = {"a": "b"}, "d", True
    sources = {"plus": {"featureViewProjection": {"featureViewName": "plus"}}, **plus["sources"]}
    document["onDemandFeatureViews"].append(
        {"spec": {**plus, "name": "Plus", "sources": sources, "description": ""}}
    )
    report = imported(tmp_path, "", document)
    repo = load_repo(tmp_path / "new", {})
    assert {each.name: list(each.fields_) for each in repo.requests} == {
        "amounts": ["amount"],
        "courier_hourly_2": ["courier_id_2", "now_2", "class_", "amount_2", "rating"],
    }
    first, second = repo.derived_views
    assert (first.name, second.name) == ("plus", "plus_2")
    assert (second.description, second.tags) == ("d", {"a": "b"})
    assert [*second.fields_] == ["courier_id_2", "found_", "a_b"]
    inputs = second.fields_["a_b"].inputs
    assert inputs is not None
    assert inputs[:2] == ("courier_hourly_2.courier_id_2", "courier_hourly_2.now_2")
    assert inputs[5:7] == ("courier_hourly.rating", "courier_hourly.trips")
    module = report.texts["on_demand.py"]
    assert "class_, amount_2, courier_hourly_2_rating, courier_hourly_rating, trips" in module
    notes = {each.name: " ".join(each.notes) for each in report.outcomes}
    assert "without its input plus, which is another on-demand view" in notes["Plus"]
    assert "Feast computes it when rows are written" in notes["plus"]


def test_the_order_of_the_definitions_does_not_matter(tmp_path: Path) -> None:
    for name in ("couriers", "routes"):
        document = json.loads((DUMPS / f"{name}.json").read_text())
        turned = {k: v[::-1] if isinstance(v, list) else v for k, v in document.items()}
        assert imported(tmp_path, name).texts == imported(tmp_path, name, turned).texts


def test_hostile_texts_stay_in_comments_and_strings(tmp_path: Path) -> None:
    document = json.loads((DUMPS / "credit.json").read_text())
    for view in document["featureViews"]:
        view["spec"]["description"] = "a\nentities: [{name: x}]\n# \x1b[31m\u202e: yes"
        view["spec"]["owner"] = "!!python/object/apply:os.system ['true']"
    for view in document["onDemandFeatureViews"]:
        view["spec"]["name"] = "a\nproject: evil"
        function = view["spec"]["featureTransformation"]["userDefinedFunction"]
        function["bodyText"] = 'a\rimport os\x0cimport os\u2028import os\x85import os\n"""'
    report = imported(tmp_path, "", document)
    found = views(tmp_path)
    assert (
        found["credit_history"].description == document["featureViews"][0]["spec"]["description"]
    )
    keys = yaml.safe_load(report.texts["features/views.yaml"]).keys()
    assert keys == {"requests", "feature_views"}
    kinds = [type(node) for node in ast.parse(report.texts["on_demand.py"]).body]
    assert kinds == [ast.Expr, ast.FunctionDef]


def test_the_settings_of_feasts_store_become_a_url(tmp_path: Path) -> None:
    config = tmp_path / "feature_store.yaml"
    for store, url in (
        ("host:6380,ssl=true,db=2,password=hidden", "rediss://host:6380/2"),
        ("host:6379", "redis://host:6379"),
    ):
        settings = {"type": "redis", "connection_string": store}
        config.write_text(yaml.safe_dump({"project": "Fraud-Model", "online_store": settings}))
        text = imported(tmp_path, "credit").texts["featurerepo.yaml"]
        assert f"url: {url}\n" in text
        assert "project: fraud_model\n" in text
        assert "hidden" not in text
    config.write_text("project: p\nonline_store: {type: dynamodb}\n")
    text = imported(tmp_path, "credit").texts["featurerepo.yaml"]
    assert "embedded://" in text
    assert "# online_store dynamodb:" in text


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A Feast repository, and a program that stands for a Python with Feast."""
    folder = tmp_path / "feast" / "feature_repo"
    folder.mkdir(parents=True)
    (folder / "feature_store.yaml").write_text("project: credit\n")
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\ncp "{DUMPS}/credit.json" "$3"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return tmp_path


def test_the_command_reads_objects_with_another_python_and_reports(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)
    command = ("import-feast", "feast", "-o", "new", "--python", "./python")
    document = run_json(*command)
    assert document["files"][0] == "featurerepo.yaml"
    states = {each["name"]: each["state"] for each in document["definitions"]}
    assert states["total_debt_calc"] == "changed"
    assert len(document["problems"]) == 2
    assert "path: ../feast/feature_repo/data/" in Path("new/features/views.yaml").read_text()
    again = run(*command)
    assert again.exit_code == 1
    assert "new/featurerepo.yaml already exists" in again.stderr


def test_what_cannot_be_read_is_an_error_with_a_way_out(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)
    Path("other.json").write_text('{"a": 1}')
    Path("odd.json").write_text('{"featureViews": [{"spec": {"name": "x", "features": [{}]}}]}')
    Path("deep.json").write_text("[" * 100_000)
    Path("broken.sh").write_text("#!/bin/sh\necho 'ModuleNotFoundError: x' >&2; exit 1\n")
    Path("broken.sh").chmod(0o755)
    for arguments, message in (
        (("feast", "--python", "./missing"), "cannot run ./missing"),
        (("feast", "--python", "./broken.sh"), "ModuleNotFoundError: x"),
        (("odd.json",), "odd.json: the document of the registry has another form"),
        (("other.json",), "is not the JSON of a Feast registry"),
        (("deep.json",), "is not the JSON of a Feast registry"),
        ((".",), "there is no feature_store.yaml"),
    ):
        failed = run("import-feast", *arguments, "-o", "new")
        assert failed.exit_code == 1
        assert message in failed.stderr
        assert not Path("new").exists()
