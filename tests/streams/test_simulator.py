"""The example from end to end: its simulator, a stream, a worker and a reader."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from featurekit import FeatureStore
from tests.cli.running import table_cells
from tests.examples.places import featurekit, python, repository

SIMULATOR = "examples/fraud/simulate.py"


@pytest.fixture(scope="module")
def example() -> Iterator[Path]:
    with repository("featurerepo.yaml", "examples/fraud") as folder:
        featurekit(folder, "apply", "--yes")
        yield folder


@pytest.mark.slow
def test_the_simulator_writes_events_of_every_user(example: Path) -> None:
    output = python(
        example, SIMULATOR, "--users", "2000", "--per-tick", "500", "--ticks", "4", "--interval", "0"
    )  # fmt: skip
    assert output == "4 ticks, 2,000 events in each of user-activity and user-transactions\n"
    assert "2,000 written, lag 0" in featurekit(example, "stream", "run", "--once")
    with FeatureStore(example) as store:
        users = [f"u{number:04}" for number in range(1, 2001)]
        features = ["user_activity"]
        rows = store.get_online_features(features, {"user_id": users}).to_rows()
        assert all(row["last_login_ts"] and row["session_country"] for row in rows)
        [state] = [each for each in store.status() if each.view == "user_activity"]
        row = {"amount": 100.0, "ip_country": "SE"}
        response = store.get_online_features("fraud_v2", {"user_id": users}, request=row)
    assert set(response.to_dict()["tx_count_10m"]) == {1}
    assert set(response.statuses["spent_1h"]) == {"present"}
    stream = state.stream
    assert stream is not None
    assert (state.live_share, state.sampled, stream.lag) == (1.0, 1000, 0)
    assert (state.state, state.reason) == ("on time", "")
    assert stream.newest_ttl_ms is not None
    assert 840_000 < stream.newest_ttl_ms <= 900_000
    shown = table_cells(featurekit(example, "status"))
    assert ["user_activity", "100%", "1,000"] in [row[:3] for row in shown]


@pytest.mark.slow
def test_a_signal_pauses_and_resumes(example: Path) -> None:
    simulator = subprocess.Popen(
        [sys.executable, SIMULATOR, "--interval", "0.01"],
        cwd=example,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert simulator.stdout is not None
    with simulator:
        try:
            with FeatureStore(example) as store:
                wait_for_events(store)
            for expected in ("paused\n", "resumed\n"):
                os.kill(simulator.pid, signal.SIGUSR1)
                assert simulator.stdout.readline() == expected
            os.kill(simulator.pid, signal.SIGINT)
            assert "events in each of user-activity" in simulator.stdout.read()
        finally:
            simulator.kill()


def wait_for_events(store: FeatureStore) -> None:
    """Wait until the simulator has started."""
    before = store.handle.store.call("XLEN", "user-activity")
    while store.handle.store.call("XLEN", "user-activity") == before:
        pass
