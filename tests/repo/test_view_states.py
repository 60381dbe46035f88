"""The state of a stream view, from observations that a real store gives only with many entities."""

from __future__ import annotations

from dataclasses import replace

import pytest

from featurekit.keys import JoinKey, KeyPlan
from featurekit.plan import FieldPlan, RepoPlan, ViewPlan
from featurekit.repo.diagnostics import Observation, StreamLag, ViewCount, ViewStatus
from featurekit.repo.diagnostics.view_status import view_statuses
from featurekit.repo.heartbeats import WorkerStatus
from featurekit.types import DType

NOW_MS = 1_800_000_000_000
STRING = DType("string")
VIEW = ViewPlan(
    name="activity",
    kind="stream",
    key=KeyPlan("fs", "user", (JoinKey("user_id", STRING),)),
    fields=(FieldPlan("device", STRING, ttl_ms=300_000),),
    expires="field",
    ttl_ms=300_000,
    refresh_ms=60_000,
)
PLAN = RepoPlan("shop", "fs", "", views=(VIEW,))

NONE_LIVE = ViewCount("activity", 1000, 0, None, None, {}, None, whole=False)
ALL_LIVE = replace(NONE_LIVE, live=1000, newest_age_ms=5_000)
WORKER = WorkerStatus(
    name="w",
    host="h",
    pid=1,
    view="activity",
    started_ms=0,
    at_ms=0,
    read=9,
    written=9,
    ignored=0,
    dropped_older=0,
    dropped_expired=0,
    rejected=0,
    events_per_second=0.0,
    lag=3,
    newest_age_ms=1_000,
    trouble="",
    error="",
)


def status(
    count: ViewCount, *workers: WorkerStatus, lag: int | None = None, written_ms: int = 0
) -> ViewStatus:
    observation = Observation(
        {"activity": count},
        {"activity": StreamLag("activity", "kafka t", lag=lag)},
        {"activity": workers} if workers else {},
        {"activity": written_ms} if written_ms else {},
    )
    [found] = view_statuses(PLAN, {}, observation, NOW_MS)
    return found


@pytest.mark.parametrize(
    ("found", "state"),
    [
        (status(ALL_LIVE), "on time"),
        (status(replace(ALL_LIVE, newest_age_ms=61_000)), "late"),
        (status(replace(ALL_LIVE, newest_age_ms=121_000)), "silent"),
        (status(ALL_LIVE, lag=1), "silent"),
        (status(ALL_LIVE, WORKER, lag=1), "on time"),
        (status(NONE_LIVE), "silent"),
        (status(NONE_LIVE, WORKER), "on time"),
        (status(NONE_LIVE, replace(WORKER, newest_age_ms=300_000)), "silent"),
        (status(replace(ALL_LIVE, newest_age_ms=200_000), written_ms=NOW_MS - 1000), "on time"),
        (status(replace(NONE_LIVE, whole=True)), "never"),
        (status(replace(NONE_LIVE, whole=True), written_ms=NOW_MS - 1000), "silent"),
        (status(replace(NONE_LIVE, whole=True), WORKER), "silent"),
        (status(replace(NONE_LIVE, whole=True, sampled=0)), "never"),
    ],
)
def test_a_sample_of_many_entities_is_weighed_with_the_workers(
    found: ViewStatus, state: str
) -> None:
    assert found.state == state
    assert bool(found.reason) == (state != "on time")


def test_the_lag_of_a_topic_comes_from_its_workers() -> None:
    stream = status(ALL_LIVE, WORKER, replace(WORKER, name="v", lag=8)).stream
    assert stream is not None
    assert (stream.lag, stream.workers) == (8, 2)


def test_workers_that_cannot_be_read_are_not_taken_for_stopped() -> None:
    observation = Observation(
        {"activity": ALL_LIVE}, {"activity": StreamLag("activity", "", lag=5)}, None
    )
    [found] = view_statuses(PLAN, {}, observation, NOW_MS)
    assert found.state == "on time"
