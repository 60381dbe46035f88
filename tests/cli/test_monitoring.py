"""Commands that show: list, describe, inspect, status, doctor and schema."""

from __future__ import annotations

from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from featurekit import FeatureStore
from featurekit.repo.heartbeats import Heartbeats
from featurekit.runtime.worker import Worker, WorkerOptions
from tests.cli.running import replace, run, run_json, table_cells
from tests.servers import Server
from tests.streams.worker_processes import until


def test_list_shows_entities_views_and_services(filled: Path) -> None:
    listed = run_json("list")
    assert {kind: [each["name"] for each in of_kind] for kind, of_kind in listed.items()} == {
        "entities": ["user"],
        "views": ["user_activity", "user_profile"],
        "services": ["fraud_v1"],
    }


@pytest.mark.parametrize("what", ["entities", "views", "services", "fields", "loads", "applies"])
def test_list_of_one_kind_is_a_list_and_a_line_each(filled: Path, what: str) -> None:
    assert len(run("list", what).stdout.splitlines()) == len(run_json("list", what)) + 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("user", "fs:user:<user_id>"),
        ("user_profile", "csv data/users.csv, timestamp_field event_timestamp"),
        ("user_profile", "max_length 2"),
        ("user_activity", "5m, field by field"),
        ("user_activity:failed_logins_15m", "15m"),
        ("fraud_v1", "user_activity:failed_logins_15m"),
    ],
)
def test_describe_shows_details(filled: Path, name: str, expected: str) -> None:
    assert expected in run("describe", name).stdout


@pytest.mark.parametrize("name", ["user", "user_profile", "fraud_v1", "user_profile:signed_up"])
def test_describe_has_a_json_form(filled: Path, name: str) -> None:
    assert run_json("describe", name)["kind"]


def test_describe_of_an_unknown_name_gives_the_nearest(filled: Path) -> None:
    result = run("describe", "user_profil")
    assert result.exit_code == 1
    assert "did you mean 'user_profile'?" in result.stderr


def test_inspect_marks_what_no_view_declares(filled: Path, valkey: Server) -> None:
    with valkey.client() as client:
        client.hset("fs:user:u0001", "stray", "7")
    inspection = run_json("inspect", "user", "u0001")
    assert inspection["key"] == "fs:user:u0001"
    statuses = {field["name"]: field["status"] for field in inspection["fields"]}
    assert statuses["stray"] == "unknown"
    assert statuses["country_iso"] == "present"
    assert statuses["failed_logins_15m"] == "missing"
    assert "stray" in run("inspect", "user", "u0001").stdout


def test_status_shows_the_state_of_each_view(folder: Path) -> None:
    run("apply")
    assert table_cells(run("status").stdout)[2][-1] == "never"
    run("materialize")
    assert table_cells(run("status").stdout)[2][-1] == "on time"
    assert [state["state"] for state in run_json("status")] == ["never", "on time"]


def test_status_check_and_doctor_strict_fail_unless_all_views_are_on_time(folder: Path) -> None:
    run("apply")
    run("materialize")
    for command in (("status", "--check"), ("doctor", "--strict")):
        assert run(*command).exit_code == 1, command
        assert "user_activity" in run(*command).stdout
        assert run(*command, "--json").exit_code == 1
    assert run("status").exit_code == run("doctor").exit_code == 0
    assert run("status", "user_profile", "--check").exit_code == 0
    assert run("status", "user_activity", "--check").exit_code == 1
    assert run("status", "nothing", "--check").exit_code == 1
    run("stream", "push", "user_activity", stdin='{"user_id": "u0001", "tx_count_5m": 1}')
    for command in (("status", "--check"), ("doctor", "--strict")):
        result = run(*command)
        assert result.exit_code == 0, result.stdout
    assert run("status", "--chekc").exit_code == 2


def test_list_shows_the_last_loads_and_applies(folder: Path) -> None:
    run("apply")
    assert run_json("list", "loads") == []
    run("materialize")
    [load], [apply] = run_json("list", "loads"), run_json("list", "applies")
    assert (load["view"], load["rows_written"], load["error"]) == ("user_profile", 17, "")
    assert ("add", "entity user") in [(c["kind"], c["subject"]) for c in apply["changes"]]
    assert table_cells(run("list", "loads").stdout)[1][:2] == ["user_profile", "just now"]
    assert run_json("list", "loads", "user_profile", "--since", "2026-01-01") == [load]
    assert run_json("list", "loads", "--until", "2026-01-01") == []
    assert run("list", "views", "--since", "2026-01-01").exit_code == 1
    assert "add entity user; " in run("list", "applies").stdout


def test_status_shows_running_workers(folder: Path, valkey: Server) -> None:
    run("apply")
    with FeatureStore(folder) as store:
        worker = Worker(
            store.stream_writer("user_activity"),
            None,  # type: ignore[arg-type]
            WorkerOptions(),
            print,
            lambda: 0,
        )
        with Heartbeats(store.handle.store, store.project, "w1", [worker]):
            until(lambda: any(view["workers"] for view in run_json("status")))
            [worker_status] = next(
                v["workers"] for v in run_json("status") if v["kind"] == "stream"
            )
            assert (worker_status["name"], worker_status["view"], worker_status["read"]) == (
                "w1",
                "user_activity",
                0,
            )
            assert ["w1", "user_activity"] in [r[:2] for r in table_cells(run("status").stdout)]


def test_doctor_finds_nothing_wrong_with_a_sound_store(filled: Path) -> None:
    run("stream", "push", "user_activity", stdin='{"user_id": "u0001", "tx_count_5m": 1}')
    findings = run_json("doctor")
    assert findings["ok"]
    assert {finding["level"] for finding in findings["findings"]} == {"ok"}
    [how] = [f["message"] for f in findings["findings"] if f["subject"] == "connection"]
    assert "://" in how
    assert "; timeout 10s, " in how


def test_doctor_fails_where_nothing_is_applied(folder: Path) -> None:
    result = run("doctor")
    assert result.exit_code == 1
    assert "nothing is applied yet" in result.stdout


@pytest.mark.parametrize("what", ["repo", "definitions"])
def test_schema_is_a_json_schema(folder: Path, what: str) -> None:
    Draft202012Validator.check_schema(run_json("schema", what))


def test_why_explains_what_is_missing(filled: Path) -> None:
    missing = {each["field"]: each["cause"] for each in run_json("why", "user", "u0001")}
    assert missing == {"tx_count_5m": "no event", "failed_logins_15m": "no event"}
    [one] = run_json("why", "user", "u9999", "country_iso")
    assert (one["status"], one["cause"]) == ("missing", "not in load")
    shown = table_cells(run("why", "user", "u9999", "country_iso").stdout)[1]
    assert shown[:3] == ["country_iso", "missing", "not in load"]
    assert run("why", "user", "u9999", "country").exit_code == 1


def test_dead_letters_of_one_entity(filled: Path, valkey: Server) -> None:
    users = filled / "features/users.yaml"
    replace(
        users, "stream:\n", "stream:\n      source: {type: redis_stream, stream: user-activity}\n"
    )
    assert run("apply").exit_code == 0
    with valkey.client() as client:
        for user in ("u0001", "u0002"):
            client.xadd("user-activity", {"user_id": user, "tx_count_5m": "many"})
    assert run("stream", "run", "--once").exit_code == 0
    [letter] = run_json("stream", "dead", "user_activity", "--entity", "u0002")
    assert letter["fields"]["user_id"] == "u0002"


def test_list_and_describe_find_a_field_by_its_own_name(filled: Path) -> None:
    feature = "user_profile:tx_count_7d"
    assert run_json("describe", "tx_count_7d") == run_json("describe", feature)
    for name in ("tx_count_7d", feature):
        assert [each["feature"] for each in run_json("list", "fields", name)] == [feature]
    [view] = run_json("list", "views", "user_profile")
    assert view["name"] == "user_profile"
    assert {each["view"] for each in run_json("list", "loads", "user_profile")} == {"user_profile"}
    for what, name, error in (
        ("fields", "tx_count_7", "unknown field 'tx_count_7'"),
        ("views", "fraud_v1", "unknown view 'fraud_v1'"),
        ("applies", "user", "applies have no names"),
    ):
        unknown = run("list", what, name)
        assert (unknown.exit_code, error in unknown.stderr) == (1, True)
