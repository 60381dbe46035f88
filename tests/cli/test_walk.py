"""From an empty folder to served features, and back: init to reset."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.running import replace, run, run_json, table_cells
from tests.servers import Server

USERS = "features/users.yaml"


def test_a_new_repository_is_valid(folder: Path) -> None:
    assert run("validate").stdout == "ok: 1 entity, 2 views, 1 service\n"


def test_init_overwrites_nothing(folder: Path) -> None:
    before = (folder / USERS).read_text()
    result = run("init")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "already exists" in result.stderr
    assert (folder / USERS).read_text() == before


def test_init_writes_the_schemas_that_its_files_refer_to(folder: Path) -> None:
    for file in (folder / "featurerepo.yaml", folder / USERS):
        pointed = file.read_text().splitlines()[0].partition("$schema=")[2]
        assert json.loads((file.parent / pointed).read_text())["type"] == "object"


def test_plan_shows_each_change_and_apply_leaves_none(folder: Path, valkey: Server) -> None:
    planned = run("plan").stdout
    assert ["+ add", "entity user"] in table_cells(planned)
    assert run("apply").stdout == planned + f"applied to {valkey.url}, prefix fs\n"
    assert run("plan").stdout == "no changes\n"


def test_apply_names_the_batch_views_that_need_a_load(folder: Path) -> None:
    note = "note: not loaded yet: user_profile; run `featurekit materialize user_profile`\n"
    assert run("apply").stderr == note
    run("materialize")
    replace(folder / USERS, "ttl: 48h ", "ttl: 72h ")
    assert run("apply").stderr == ""
    replace(folder / USERS, "is_verified: bool", "is_verified: bool\n      is_new: bool")
    assert run_json("plan")["views_to_load"] == ["user_profile"]
    assert run("apply").stderr == note


def test_the_entries_of_a_plan_are_fields_in_json(folder: Path) -> None:
    run("apply")
    replace(folder / USERS, "ttl: 48h ", "ttl: 72h ")
    replace(folder / USERS, "is_verified: bool", "is_verified: string")
    ttl, breaking = run_json("plan")["changes"]
    assert {name: ttl[name] for name in ("kind", "object", "view", "field")} == {
        "kind": "ttl", "object": "feature view", "view": "user_profile", "field": None
    }  # fmt: skip
    assert [ttl[name] for name in ("attribute", "before", "after")] == ["ttl", "2d", "3d"]
    assert {name: breaking[name] for name in ("kind", "object", "view", "field")} == {
        "kind": "breaking", "object": "field", "view": "user_profile", "field": "is_verified"
    }  # fmt: skip
    assert [breaking[name] for name in ("attribute", "before", "after")] == [
        "type", "bool", "string"
    ]  # fmt: skip


def test_detailed_exitcode_is_2_only_where_there_are_changes(folder: Path) -> None:
    assert run("plan", "--detailed-exitcode").exit_code == 2
    run("apply")
    assert run("plan", "--detailed-exitcode").exit_code == 0


def test_materialize_reports_what_it_wrote(folder: Path) -> None:
    run("apply")
    report = run_json("materialize")[0]
    counts = {name: report[name] for name in ("rows_read", "rows_written", "rows_superseded")}
    assert counts == {"rows_read": 21, "rows_written": 17, "rows_superseded": 4}


def test_get_shows_each_feature_with_its_status(filled: Path) -> None:
    lines = run("get", "fraud_v1", "--entity", "user_id=u0001").stdout.splitlines()
    assert lines[0] == "user_id u0001"
    assert table_cells(lines[2]) == [["country_iso", "US", "present"]]
    assert lines[-2].split() == ["tx_count_5m", "0", "default"]
    assert lines[-1].split() == ["failed_logins_15m", "-", "missing"]


def test_get_shows_several_entities_a_line_each_in_order(filled: Path) -> None:
    asked = ("--entity", "user_id=u0005", "--entity", "user_id=no", "--entity", "user_id=u0005")
    lines = run("get", "user_profile:tx_count_7d", *asked).stdout.splitlines()
    assert [line.split() for line in lines] == [
        ["user_id", "tx_count_7d"],
        ["u0005", "23"],
        ["no", "0", "(default)"],
        ["u0005", "23"],
    ]


def test_get_as_json_has_values_of_their_types(filled: Path) -> None:
    answer = run_json("get", "user_profile", "--entity", "user_id=u0001", "--freshness")
    assert answer["features"] == {
        "user_id": ["u0001"],
        "country_iso": ["US"],
        "tx_count_7d": [5],
        "avg_amount_7d": [69.0],
        "is_verified": [True],
        "signed_up": ["2023-03-13"],
    }
    assert 0 < answer["seconds_left"]["tx_count_7d"][0] <= 48 * 3600


def test_get_reports_that_nothing_is_stored(filled: Path) -> None:
    result = run("get", "fraud_v1", "--entity", "user_id=nobody")
    assert result.exit_code == 0
    assert result.stdout.startswith("user_id nobody: nothing is stored\n")


def test_an_id_may_hold_commas_and_equals_signs(filled: Path) -> None:
    result = run("get", "user_profile", "--entity", 'user_id="a,b=c"')
    assert result.stdout.startswith("user_id a,b=c: nothing is stored\n")
    refused = run("get", "user_profile", "--entity", "user_id=a,b=c")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "unknown join key 'b'" in refused.stderr
    assert "in double quotes" in refused.stderr


def test_get_fails_at_a_key_of_another_type(filled: Path, valkey: Server) -> None:
    with valkey.client() as client:
        client.set("fs:user:odd", "text")
    result = run("get", "user_profile", "--entity", "user_id=odd")
    assert result.exit_code == 1
    assert "error: user_id=odd: WRONGTYPE" in result.stderr


def test_get_shows_values_older_than_a_bound_as_stale(filled: Path, valkey: Server) -> None:
    with valkey.client() as client:
        client.pexpire("fs:user:u0001", 46 * 3600 * 1000)
    asked = ("get", "user_profile", "--entity", "user_id=u0001", "--timeout", "1s", "--partial")
    fresh = run(*asked, "--max-age", "user_profile=3h").stdout
    assert "present" in fresh
    assert "stale" not in fresh
    result = run(*asked, "--max-age", "user_profile=1h")
    assert (result.exit_code, result.stderr) == (0, "")
    assert ["tx_count_7d", "0", "stale"] in [line.split() for line in result.stdout.splitlines()]


def test_write_takes_rows_of_json(filled: Path) -> None:
    rows = '{"user_id": "n1", "tx_count_7d": 3}\n{"user_id": "n2", "country_iso": "NO"}\n'
    assert run_json("write", "user_profile", stdin=rows)[0]["rows_written"] == 2
    answer = run_json("get", "user_profile:tx_count_7d", "--entity", "user_id=n1")
    assert answer["features"]["tx_count_7d"] == [3]


def test_write_refuses_a_bad_row_by_its_line(filled: Path) -> None:
    rows = '{"user_id": "n1"}\n{"user_id": "n2", "tx_count_7d": "12"}\n'
    result = run("write", "user_profile", stdin=rows)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "line 2" in result.stderr
    assert "tx_count_7d" in result.stderr


def test_rejected_rows_are_reported_with_exit_code_1(filled: Path) -> None:
    rows = '{"user_id": "n1"}\n{"user_id": "n2", "tx_count_7d": "12"}\n'
    result = run("write", "user_profile", "--on-bad-row", "skip", stdin=rows)
    assert result.exit_code == 1
    assert table_cells(result.stdout)[0][:4] == ["view", "read", "written", "rejected"]
    assert "1 row rejected; they are in " in result.stderr


def test_reset_needs_a_yes_and_deletes_what_was_stored(filled: Path, valkey: Server) -> None:
    refused = run("reset")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr.endswith("hint: add --yes\n")
    where = f"{valkey.url}, prefix fs"
    assert f" in {where} without confirmation" in refused.stderr
    assert run("reset", "user", "--yes").stdout == f"17 entities deleted in {where}\n"
    assert run_json("reset", "--yes") == {"deleted": 0, "entities": ["user"], "store": where}


def test_removing_needs_a_yes_and_adding_does_not(filled: Path) -> None:
    replace(filled / USERS, "      is_verified: bool\n", "      is_new: bool\n")
    refused = run("apply")
    assert refused.exit_code == 1
    assert refused.stdout.split()[:4] == ["-", "remove", "field", "user_profile:is_verified"]
    assert "hint: add --yes" in refused.stderr
    assert run("apply", "--yes").exit_code == 0


def test_a_breaking_change_needs_allow_breaking(filled: Path) -> None:
    replace(filled / USERS, "avg_amount_7d: {type: float64", "avg_amount_7d: {type: int64")
    refused = run("apply", "--yes")
    assert refused.exit_code == 1
    assert "! breaking" in refused.stdout
    assert "--allow-breaking" in refused.stderr
    assert run("apply", "--yes", "--allow-breaking").exit_code == 0


def test_delete_forgets_entities_after_confirmation(folder: Path) -> None:
    run("apply")
    run("materialize")
    refused = run("delete", "user", "u0001")
    assert refused.exit_code == 1
    assert "cannot delete user u0001 of project" in refused.stderr
    assert run_json("delete", "user", "u0001", "u0002", "u9999", "--yes")["entities"] == 2
    assert not run_json("inspect", "user", "u0001")["found"]
    result = run("delete", "user", "u0003", "--yes")
    assert result.stdout.startswith("1 entity and 0 dead letters deleted in ")
    assert run("delete", "user").exit_code == 2


def test_prune_and_ttl_of_one_load(folder: Path) -> None:
    run("apply")
    assert "the first values of user_profile " in run("materialize", "--ttl", "1s").stderr
    assert "the first values" not in run("materialize", "--ttl", "1h").stderr
    assert 3_500_000 < run_json("inspect", "user", "u0001")["key_ttl_ms"] <= 3_600_000
    data = folder / "data/users.csv"
    data.write_text(
        "".join(line + "\n" for line in data.read_text().splitlines() if "u0001" not in line)
    )
    [report] = run_json("materialize", "--prune")
    assert report["entities_pruned"] == 1
    assert not run_json("inspect", "user", "u0001")["found"]
    data.write_text(data.read_text().splitlines()[0] + "\n")
    refused = run("materialize", "--prune")
    assert refused.exit_code == 1
    assert "add --yes" in refused.stderr
    [report] = run_json("materialize", "--prune", "--yes")
    assert report["entities_pruned"] == 16
    assert run("materialize", "--prune", "--start", "2026-01-01").exit_code == 1
    assert run("materialize", "--ttl", "0s").exit_code == 2


def test_apply_deletes_retired_values_on_request(folder: Path) -> None:
    run("apply")
    run("materialize")
    replace(folder / USERS, "      is_verified: bool\n", "")
    assert run("apply", "--yes").exit_code == 0
    assert run("apply", "--delete-retired").exit_code == 1
    result = run("apply", "--delete-retired", "--yes")
    assert result.stdout.splitlines()[-1] == "17 values of 17 entities deleted"
    assert run_json("apply", "--delete-retired", "--yes")["deleted"] == {
        "entities": 0,
        "values": 0,
    }
