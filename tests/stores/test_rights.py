"""The rights listed in docs/wire-format.md suffice."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from featurekit import FeatureStore, StreamOptions
from featurekit.errors import StoreUnfitError
from featurekit.stores.probe import RIGHTS
from tests.promise.repos import write_repo
from tests.servers import Server
from tests.streams.repositories import DEFINITIONS

DOCS = Path(__file__).parents[2] / "docs"
FEATURES = ["profile:country", "activity:count", "session:step"]
USER = [{"user_id": "u1"}]
OPTIONAL_COMMANDS = {"ping", "info"}
"""Commands that featurekit sends but can do without."""

Action = Callable[[FeatureStore], Any]


def parse_rights(reported: str) -> set[str]:
    """Return the rights in a text of the docs."""
    return set(re.findall(r"\+[a-z|]+", reported.replace("\\|", "|")))


def documented_rights() -> dict[str, set[str]]:
    """Return the rights that docs/wire-format.md lists for each use; all writers need a stream writer's."""
    page = (DOCS / "wire-format.md").read_text().partition("## Rights")[2]
    listed = {
        name: parse_rights(reported)
        for name, reported in re.findall(r"^\| (.+?) \| (.*\+.*) \|$", page, re.MULTILINE)
    }
    stream = listed["writing a stream view"]
    return {n: own | stream if n.startswith("writing") else own for n, own in listed.items()}


def write_stream(store: FeatureStore) -> None:
    writer = store.stream_writer("activity")
    assert writer.write("u1", {"count": 1, "device": None, "failed": 2, "kind": "x"})
    assert writer.write_many([("u1", {"count": 1, "kind": "x"})]).written == 1


def write_timed(store: FeatureStore) -> None:
    writer, now_ms = store.stream_writer("session"), store.handle.now_ms()
    assert writer.write("u1", {"step": 1, "page": "x", "score": None}, event_timestamp=now_ms)
    assert writer.write_many([("u1", {"step": 1}, now_ms)]).written == 1


ACTIONS: dict[str, Action] = {
    "reading": lambda store: store.get_online_features(FEATURES, USER),
    "reading with freshness or max_age": lambda store: store.get_online_features(
        FEATURES, USER, freshness=True, max_age={"profile": "1h"}
    ),
    "writing a stream view": write_stream,
    "writing one with `ordering: event_time`": write_timed,
    "writing a batch view": lambda store: store.write_batch("profile", {"u1": {"country": "NO"}}),
    "`inspect`": lambda store: store.inspect("user", "u1"),
    "`reset`": lambda store: store.reset(),
}


def denied_commands(
    server: Server,
    folder: Path,
    granted: set[str],
    action: Action,
    *,
    registry: str = "registry.json",
) -> set[str]:
    """Return the commands that a user with only these rights was denied during an action."""

    def repo(url: str) -> Path:
        return write_repo(folder, url, DEFINITIONS, registry=registry)

    keys = ["~fs:*", "~activity-events*", "~featurekit:*"]
    with server.client() as client:
        with FeatureStore(repo(server.url)) as store:
            store.apply()
        client.execute_command("ACL", "LOG", "RESET")
        client.execute_command("ACL", "SETUSER", "u", "reset", "on", ">p", *keys, *granted)
        with FeatureStore(repo(f"unix://u:p@{server.socket}")) as store:
            action(store)
        log: Any = client.execute_command("ACL", "LOG")
        client.execute_command("ACL", "DELUSER", "u")
        return {entry[b"object"].decode() for entry in log} - OPTIONAL_COMMANDS


@pytest.mark.parametrize("use", ACTIONS)
def test_the_rights_listed_suffice(server: Server, tmp_path: Path, use: str) -> None:
    if use == "`inspect`":
        with FeatureStore(write_repo(tmp_path, server.url, DEFINITIONS)) as store:
            store.apply()
            write_stream(store)
    assert denied_commands(server, tmp_path, documented_rights()[use], ACTIONS[use]) == set()


def test_a_user_who_may_not_renew_a_lock_is_refused_before_a_write(
    server: Server, tmp_path: Path
) -> None:
    def load(store: FeatureStore) -> None:
        with pytest.raises(StoreUnfitError, match="no permission to hold the lock"):
            store.write_batch("profile", {"u1": {"country": "NO"}})

    granted = documented_rights()["writing a batch view"] - {"+eval"}
    assert denied_commands(server, tmp_path, granted, load) == {"eval"}
    with server.client() as client:
        assert client.keys("fs:*") == []


def test_the_rights_listed_suffice_for_status(server: Server, tmp_path: Path) -> None:
    granted = documented_rights()["`status` and `/metrics`"]
    assert denied_commands(server, tmp_path, granted, lambda s: s.status()) == {
        "session-events", "session-events:dead",  # this user may read one stream only
    }  # fmt: skip


def test_the_rights_listed_suffice_for_an_online_registry(server: Server, tmp_path: Path) -> None:
    def load(store: FeatureStore) -> None:
        store.apply()
        ACTIONS["writing a batch view"](store)

    page = (DOCS / "wire-format.md").read_text()
    granted = parse_rights(page.partition("- Everyone also needs")[2].partition("\n- ")[0])
    wanted = documented_rights()["writing a batch view"] | granted
    assert denied_commands(server, tmp_path, wanted, load, registry="online") == set()


def test_the_rights_listed_suffice_for_a_worker(server: Server, tmp_path: Path) -> None:
    def run(store: FeatureStore) -> None:
        [report] = store.streams.run(["activity"], StreamOptions(once=True))
        assert (report.written, report.rejected) == (1, 1)

    with server.client() as client:
        client.xadd("activity-events", {"user_id": "u1", "count": "1", "kind": "x"})
        client.xadd("activity-events", {"user_id": "u1", "count": "one"})
    page = (DOCS / "streaming.md").read_text().partition("## Rights")[2]
    wanted = documented_rights()["writing a stream view"] | parse_rights(
        page.partition("\n## ")[0]
    )
    assert denied_commands(server, tmp_path, wanted, run) == set()


def test_the_rights_listed_suffice_to_see_workers_and_dead_letters(
    server: Server, tmp_path: Path
) -> None:
    def list_workers(store: FeatureStore) -> None:
        assert store.streams.workers() == []
        assert store.streams.dead_letters("activity") == []

    page = (DOCS / "wire-format.md").read_text()
    granted = parse_rights(page.partition("- Stream workers report")[2].partition("\n- ")[0])
    assert denied_commands(server, tmp_path, granted, list_workers) == set()


def test_the_hint_lists_the_rights_that_loads_need() -> None:
    listed = (
        documented_rights()["writing a batch view"]
        | documented_rights()["writing one with `ordering: event_time`"]
    )
    assert parse_rights(RIGHTS) == listed - {"+command|info"}
