"""Commands act on the store that the user names, and notice if it is not the registry's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.running import run, run_json
from tests.servers import Server, patient, running, valkey_binary


@pytest.fixture(scope="module")
def other() -> Iterator[Server]:
    with running(valkey_binary()) as server:
        yield server


def size(server: Server) -> int:
    with server.client() as client:
        return len(client.keys("fs:user:*"))


def test_reset_acts_on_the_named_store_and_no_other(
    filled: Path, valkey: Server, other: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file names the one store, the variable the other."""
    file = filled / "featurerepo.yaml"
    file.write_text(
        file.read_text().replace("${FEATUREKIT_ONLINE_URL:-embedded", "${NONE:-embedded")
    )
    file.write_text(file.read_text().replace("${NONE:-embedded://.featurekit/online}", valkey.url))
    monkeypatch.setenv("FEATUREKIT_ONLINE_URL", patient(other.url))
    assert run("reset", "--yes").exit_code == 1  # nothing is applied there
    for command in (["apply"], ["materialize"]):
        result = run(*command)
        assert result.exit_code == 0
        assert f"{other.url}, prefix fs" in result.output
    assert run_json("reset", "--yes") == {
        "deleted": 17, "entities": ["user"], "store": f"{other.url}, prefix fs"
    }  # fmt: skip
    assert (size(valkey), size(other)) == (17, 0)
    assert run_json("reset", "--yes", "--url", valkey.url)["deleted"] == 17
    assert size(valkey) == 0


def test_a_confirmation_names_the_store(filled: Path, valkey: Server) -> None:
    refused = run("reset")
    assert "delete fs:user:* of project" in refused.stderr
    assert f"in {valkey.url}, prefix fs without confirmation" in refused.stderr
    assert size(valkey) == 17


def test_a_flushed_store_fails_status_check_doctor_and_every_write_until_apply(
    filled: Path, valkey: Server
) -> None:
    file = filled / "featurerepo.yaml"
    file.write_text(file.read_text() + "registry: registry.json\n")
    assert run("apply").exit_code == 0
    with valkey.client() as client:
        client.flushall()
    assert "4 add" in run("plan").stdout
    for command, stdin in (
        (["materialize"], None),
        (["write", "user_profile"], '{"user_id": "u1"}'),
        (["stream", "push", "user_activity"], '{"user_id": "u1", "tx_count_5m": 1}'),
        (["reset", "--yes"], None),
        (["status", "--check"], None),
        (["doctor"], None),
    ):
        result = run(*command, stdin=stdin)
        assert result.exit_code == 1, command
        assert "flushed or replaced" in result.output.replace("\n", " "), command
    assert size(valkey) == 0
    assert run("get", "fraud_v1", "--entity", "user_id=u0001").exit_code == 0
    for command in (["apply"], ["materialize"], ["doctor"]):
        assert run(*command).exit_code == 0


def test_an_evicted_id_fails_status_check_although_all_views_are_on_time(
    filled: Path, valkey: Server
) -> None:
    with valkey.client() as client:
        key = client.keys("featurekit:*:store")[0]
        client.delete(key)
    result = run("status", "user_profile", "--check")
    assert (result.exit_code, "on time" in result.stdout) == (1, True)
    assert "eviction" in result.stderr
    assert run("apply").exit_code == 0
    assert run("status", "user_profile", "--check").exit_code == 0


def test_a_clone_of_a_repository_needs_nothing_but_the_store(
    filled: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    ignored = (filled / ".gitignore").read_text().splitlines()
    assert ignored[-2:] == [".featurekit/*", "!.featurekit/schemas/"]
    clone = tmp_path_factory.mktemp("clone")
    for path in filled.rglob("*"):
        name = path.relative_to(filled)
        if path.is_file() and (name.parts[0] != ".featurekit" or name.parts[1] == "schemas"):
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            (clone / name).write_bytes(path.read_bytes())
    assert run("--repo", str(clone), "plan").stdout == "no changes\n"
    assert run("--repo", str(clone), "materialize").exit_code == 0
    schema = (clone / "featurerepo.yaml").read_text().splitlines()[0].partition("$schema=")[2]
    assert (clone / schema).is_file()
