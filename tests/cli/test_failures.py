"""A failing command prints one message on standard error, and sets its exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from featurekit.cli.program import COMMANDS
from tests.cli.running import replace, run
from tests.servers import Server


def test_all_problems_are_reported_each_at_its_place(folder: Path) -> None:
    users = folder / "features/users.yaml"
    replace(users, "type: int64, default: 0, min: 0", "type: int65, default: 0")
    replace(users, "signed_up: date", "signed_up: dat")
    result = run("validate")
    assert (result.exit_code, result.stdout) == (1, "")
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 2
    assert all("features/users.yaml:" in line for line in lines)
    assert result.stderr.endswith("2 problems in the definitions\n")
    document = json.loads(run("validate", "--json").stdout)
    assert document["error"]["type"] == "DefinitionError"
    assert document["reports"] == []
    for problem, line in zip(document["problems"], lines, strict=True):
        assert line.startswith(f"error: {problem['where']}: {problem['message']}")
        place = f"{problem['file']}:{problem['line']}:{problem['column']}"
        assert (problem["where"], problem["file"]) == (place, "features/users.yaml")


def test_a_warning_leaves_the_exit_code_at_0(folder: Path) -> None:
    replace(folder / "features/users.yaml", "ttl: 48h ", "ttl: 25h ")
    result = run("validate")
    assert result.exit_code == 0
    assert result.stderr.startswith("warning: features/users.yaml:")
    assert result.stdout.startswith("ok: ")


def test_a_failure_is_one_message_and_with_json_one_document_too(
    folder: Path, valkey: Server
) -> None:
    result = run("list", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {
        "error": {
            "type": "RegistryError",
            "message": "nothing is applied yet",
            "where": valkey.url,
            "hint": "run `featurekit apply` first",
        },
        "problems": [],
        "reports": [],
    }
    error = f"error: {valkey.url}: nothing is applied yet\n  hint: run `featurekit apply` first\n"
    assert result.stderr == error
    assert run("list").stdout == ""


ARGUMENTS: dict[str, list[str]] = {
    "describe": ["user"],
    "get": ["fraud_v1", "--entity", "user_id=u"],
    "inspect": ["user", "u"],
    "write": ["user_profile"],
    "stream push": ["user_activity"],
    "stream dead": ["user_activity"],
    "embedded start": [],
    "embedded stop": [],
    "embedded status": [],
    "generate python": ["-o", "features.py"],
    "demo": ["--port", "-1"],
    "serve": ["--port", "-1"],
    "schema": ["neither"],
    "init": ["--force"],
}
"""Arguments with which a command fails outside a repository, or is refused."""


@pytest.mark.parametrize(
    "command",
    sorted({*COMMANDS, "stream run", *ARGUMENTS} - {"stream", "embedded", "generate"}),
)
def test_every_command_that_fails_prints_one_json_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FEATUREKIT_REPO", raising=False)
    result = run(*command.split(), *ARGUMENTS.get(command, []), "--json", stdin="")
    assert result.exit_code in {1, 2}
    document = json.loads(result.stdout)
    error = document["error"]
    assert document.keys() == {"error", "problems", "reports"}
    assert set(error) == {"type", "message", "where", "hint"}
    assert result.stderr.startswith(f"error: {error['message']}")


def test_all_problems_of_the_definitions_are_in_the_json_document(folder: Path) -> None:
    replace(folder / "features/users.yaml", "signed_up: date", "signed_up: dat")
    [problem] = json.loads(run("validate", "--json").stdout)["problems"]
    assert problem["message"] == "field 'user_profile:signed_up': unknown type 'dat'"
    assert problem["where"].startswith("features/users.yaml:")


def test_a_command_that_printed_its_document_prints_no_second_one(filled: Path) -> None:
    rows = '{"user_id": "n2", "tx_count_7d": "12"}\n'
    result = run("write", "user_profile", "--on-bad-row", "skip", "--json", stdin=rows)
    assert result.exit_code == 1
    assert json.loads(result.stdout)[0]["rows_rejected"] == 1


def test_no_repository_is_one_message(tmp_path: Path) -> None:
    result = run("plan", "--repo", str(tmp_path))
    assert result.exit_code == 1
    assert result.stderr.startswith("error: no featurerepo.yaml in ")


def test_repo_is_taken_before_and_after_the_command_and_from_the_environment(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert run("validate").exit_code == 1
    assert run("--repo", str(folder), "validate").exit_code == 0
    assert run("validate", "--repo", str(folder / "features")).exit_code == 0
    monkeypatch.setenv("FEATUREKIT_REPO", str(folder))
    assert run("validate").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["materialise"], "did you mean 'materialize'?"),
        (["get", "x", "--entity", "a=b", "--max-age", "2m"], "'2m' is not NAME=DURATION"),
        (["get", "x", "--entity", "a=b", "--max-age", "v=2"], "found 2, expected a duration"),
        (["get", "x", "--entity", "a=b", "--timeout", "50"], "found 50, expected a duration"),
        (["list", "people"], "'people' is not one of"),
        (["plan", "--fast"], "no such option"),
    ],
)
def test_wrong_usage_is_exit_code_2(folder: Path, arguments: list[str], message: str) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ")
    assert message in result.stderr


@pytest.mark.parametrize(
    ("entity", "message"),
    [
        ("u0001", "'u0001' is not NAME=VALUE"),
        ("usr_id=u0001", "unknown join key 'usr_id'"),
        ("user_id=", "must not be empty"),
    ],
)
def test_an_invalid_entity_is_refused(filled: Path, entity: str, message: str) -> None:
    result = run("get", "fraud_v1", "--entity", entity)
    assert result.exit_code == 1
    assert message in result.stderr


def test_a_read_without_an_entity_is_wrong_usage(filled: Path) -> None:
    result = run("get", "fraud_v1")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "missing option '--entity', for example --entity user_id=" in result.stderr


def test_join_keys_are_read_by_their_type(folder: Path) -> None:
    users = folder / "features/users.yaml"
    replace(users, "{user_id: string}", "{user_id: int64, day: date}")
    run("apply")
    found = run("get", "user_activity", "--entity", "user_id=12,day=2026-11-22")
    assert found.stdout.startswith("user_id 12, day 2026-11-22: nothing is stored\n")
    refused = run("get", "user_activity", "--entity", "user_id=twelve,day=2026-11-22")
    assert refused.exit_code == 1
    assert "'twelve' is not an int64" in refused.stderr


def test_a_view_without_a_source_is_refused_before_any_load(filled: Path) -> None:
    result = run("materialize", "user_profile", "user_activity")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "'user_activity' has no batch source" in result.stderr


def test_secrets_of_the_url_are_never_printed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("apply")
    url = "redis://reader:hunter2@127.0.0.1:1/0?connect_timeout=50ms&retries=0"
    monkeypatch.setenv("FEATUREKIT_ONLINE_URL", url)
    for arguments in (
        ["doctor"],
        ["materialize"],
        ["embedded", "status"],
        ["inspect", "user", "u"],
    ):
        result = run(*arguments)
        assert result.exit_code == 1
        assert "hunter2" not in result.output
