"""Spans for an application that uses OpenTelemetry, read back from its own in-memory exporter."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from featurekit import FeatureStore
from featurekit.errors import BadRowError, StoreUnavailableError, ValueRefusedError
from tests.promise.repos import applied
from tests.servers import Server, running, valkey_binary

EXPORTER = InMemorySpanExporter()
READ = "featurekit.get_online_features"


@pytest.fixture(scope="module", autouse=True)
def provider() -> TracerProvider:
    """The provider of this process; OpenTelemetry accepts only one."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(EXPORTER))
    trace.set_tracer_provider(provider)
    return provider


@pytest.fixture
def shop(shop: FeatureStore) -> Iterator[FeatureStore]:
    """The shop, without the spans of earlier tests."""
    EXPORTER.clear()
    yield shop
    EXPORTER.clear()


def spans() -> list[ReadableSpan]:
    return list(EXPORTER.get_finished_spans())


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return {
        name.removeprefix("featurekit."): value for name, value in (span.attributes or {}).items()
    }


def test_a_read_is_a_child_of_the_applications_span(shop: FeatureStore) -> None:
    with trace.get_tracer("app").start_as_current_span("request") as request:
        shop.get_online_features("fraud_v1", {"user_id": ["u1", "u2"]})
    read, outer = spans()
    assert (read.name, outer.name) == (READ, "request")
    assert read.parent is not None
    assert read.parent.span_id == request.get_span_context().span_id
    assert attributes(read) == {
        "service": "fraud_v1",
        "views": ("profile", "activity"),
        "features": 5,
        "entities": 2,
        "store": "ok",
    }
    assert (read.start_time or 0) < (read.end_time or 0)
    assert (outer.start_time or 0) - 1_000_000 < (read.start_time or 0)


async def test_each_form_of_a_read_is_one_span(shop: FeatureStore) -> None:
    reader = shop.online_reader("both")
    row = {"user_id": "u1", "merchant_id": 7}
    reader.read(row)
    reader.read_many([row, row])
    await reader.read_many_async([row, row, row])
    await shop.get_online_features_async("fraud_v1", [{"user_id": "u1"}], freshness=True)
    assert [span.name for span in spans()] == [READ] * 4
    assert [attributes(span)["entities"] for span in spans()] == [1, 2, 3, 1]
    await shop.close_async()


def test_a_span_of_an_unreachable_store_has_its_error_but_no_address(tmp_path: Path) -> None:
    with running(valkey_binary()) as server, applied(tmp_path, server.url) as store:
        server.stop()
        EXPORTER.clear()
        with pytest.raises(StoreUnavailableError):
            store.online_reader("fraud_v1").read("u1")
        for features in ("fraud_v1", ["profile", "shop"]):
            rows = [{"user_id": "u1"} | ({} if features == "fraud_v1" else {"merchant_id": 7})]
            store.get_online_features(features, rows, partial=True)
        store.online_reader("fraud_v1").read("u1", partial=True)
    failed, *partial = spans()
    assert failed.status.status_code is StatusCode.ERROR
    assert attributes(failed)["store"] == "unavailable"
    assert failed.status.description == attributes(failed)["error.type"] == "StoreUnavailableError"
    assert [attributes(span)["store"] for span in partial] == ["partial"] * 3


def test_a_load_is_a_span_with_its_row_counts(shop: FeatureStore) -> None:
    shop.write_batch("profile", {"u1": {}, "u2": {}})
    with pytest.raises(BadRowError):
        shop.write_batch("profile", {"secret-id": {"tx_count_7d": -5}})
    done, failed = spans()
    assert done.name == failed.name == "featurekit.load"
    assert attributes(done) == {
        "view": "profile", "store": "ok", "rows_written": 2, "rows_rejected": 0
    }  # fmt: skip
    assert attributes(failed) == {"view": "profile", "error.type": "BadRowError"}
    assert "secret-id" not in "".join(span.to_json() for span in spans())


async def test_a_stream_write_is_a_span_with_its_event_counts(shop: FeatureStore) -> None:
    writer = shop.stream_writer("activity")
    writer.write("u1", {"device": "d"})
    await writer.write_async("u1", {"device": "d"})
    events: list[Any] = [("u1", {"device": "d"}), ("u2", {"device": 5})]
    writer.write_many(events, on_bad_event="skip")
    await writer.write_many_async(events, on_bad_event="skip")
    with pytest.raises(ValueRefusedError):
        writer.write("u1", {"device": 5})
    one, other, many, others, failed = spans()
    assert {span.name for span in spans()} == {"featurekit.write_events"}
    assert attributes(one) == attributes(other)
    assert attributes(one) == {"view": "activity", "store": "ok", "events_written": 1}
    assert attributes(many) == attributes(others)
    assert attributes(many)["events_rejected"] == 1
    assert attributes(failed) == {"view": "activity", "error.type": "ValueRefusedError"}
    await shop.close_async()


WORK = """
with FeatureStore({path!r}) as store:
    store.get_online_features("fraud_v1", [{{"user_id": "u1"}}])
    store.stream_writer("activity").write("u1", {{"device": "d"}})
    store.write_batch("profile", {{"u1": {{}}}})
"""
WITHOUT = f"""
import sys
sys.modules["opentelemetry"] = None  # what is not installed
from featurekit import FeatureStore
{WORK}
"""
LATER = f"""
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
from featurekit import FeatureStore
{WORK}
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(formatter=lambda s: s.name + " ")))
trace.set_tracer_provider(provider)
{WORK}
"""


@pytest.mark.parametrize(
    ("script", "expected"),
    [(WITHOUT, []), (LATER, [READ, "featurekit.write_events", "featurekit.load"])],
)
def test_spans_are_recorded_if_the_application_has_set_a_provider(
    valkey: Server, tmp_path: Path, script: str, expected: list[str]
) -> None:
    with applied(tmp_path, valkey.url):
        command = [sys.executable, "-c", script.format(path=str(tmp_path))]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.split() == expected
