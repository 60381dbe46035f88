"""Declarations of histories: problems, warnings, changes, and what the plan has of them."""

from __future__ import annotations

import pytest

from featurekit.changes import diff
from featurekit.codegen.catalog import history_rows, logging_text
from featurekit.compiler import compile_repo
from featurekit.models import definitions_json_schema
from featurekit.plan import (
    JsonlSourcePlan,
    LogPlan,
    ParquetSourcePlan,
    RepoPlan,
    SchedulePlan,
)
from featurekit.registry import Registry
from tests.declare.conftest import Load, Problems

HEAD = """\
entities: [{name: user, join_keys: {user_id: string}}]
feature_services: [{name: s, features: [v]LOGGING}]
feature_views:
- name: v
  entity: user
  fields: {a: int64}
"""
TIMED = "source: {type: csv, path: x, timestamp_field: t}"
UNTIMED = "source: {type: csv, path: x}"


def batch(text: str, logging: str = "") -> str:
    return f"{HEAD.replace('LOGGING', logging)}  batch: {{refresh: 24h, {text}}}\n"


def stream(text: str, logging: str = "") -> str:
    return f"{HEAD.replace('LOGGING', logging)}  stream: {{refresh: 1m, {text}}}\n"


NO_EFFECT = "feature view 'v': {} has no effect, because {}"
WRONG = {
    "lookback without a source": (
        batch("lookback: 7d"),
        f"7:25: {NO_EFFECT.format('lookback', 'the view has no source')}",
    ),
    "schedule without a source": (
        batch("schedule: {every: 24h}"),
        f"7:25: {NO_EFFECT.format('schedule', 'the view has no source')}",
    ),
    "lookback without times": (
        batch(f"{UNTIMED}, lookback: 7d"),
        "7:55: feature view 'v': lookback needs the times of the rows",
    ),
    "schedule without times": (
        batch(f"{UNTIMED}, schedule: {{every: 24h}}"),
        "7:55: feature view 'v': schedule needs the times of the rows",
    ),
    "history without times": (
        batch(f"batch_{UNTIMED}"),
        "7:25: feature view 'v': batch_source needs the times of the rows",
    ),
    "lookback of static rows": (
        batch("source: {type: csv, path: x, static: true}, lookback: 7d"),
        f"7:69: {NO_EFFECT.format('lookback', 'the rows hold for all times')}",
    ),
    "two histories": (
        batch(f"{TIMED}, batch_{TIMED}"),
        f"7:75: {NO_EFFECT.format('batch_source', 'the source is the history')}",
    ),
    "static with times": (
        batch("source: {type: csv, path: x, timestamp_field: t, static: true}"),
        "7:82: feature view 'v': batch.source.static: rows with a 'timestamp_field' do not hold for "
        "all times",
    ),
    "partition without folders": (
        batch("source: {type: csv, path: x, timestamp_field: t, date_partition_column: day}"),
        "7:97: feature view 'v': batch.source.date_partition_column: it is a column of folders: add "
        "'hive_partitioning: true'",
    ),
    "partition without times": (
        batch("source: {type: csv, path: x, hive_partitioning: true, date_partition_column: day}"),
        "7:102: feature view 'v': batch.source.date_partition_column: it has the date of a row's time: "
        "add 'timestamp_field'",
    ),
    "time of day": (
        batch(f"{TIMED}, schedule: {{every: 24h, at: 2am}}"),
        "7:102: feature view 'v': batch.schedule.at: found '2am', expected a time of day in UTC such as "
        "02:00",
    ),
    "unknown column": (
        stream("batch_source: {type: jsonl, path: x, timestamp_field: t, columns: {b: c}}"),
        "7:92: feature view 'v': columns: unknown field or join key 'b'",
    ),
    "events without times": (
        stream("batch_source: {type: jsonl, path: x}"),
        "7:25: feature view 'v': batch_source has no times of the events",
    ),
    "nulls twice": (
        stream(
            "batch_source: {type: parquet, path: x, timestamp_field: t, nulls: delete, "
            "sent_fields_column: f}"
        ),
        "7:119: feature view 'v': stream.batch_source.sent_fields_column: the column says which nulls "
        "delete, and so does 'nulls: delete'",
    ),
    "nulls of JSON": (
        stream("batch_source: {type: jsonl, path: x, timestamp_field: t, nulls: delete}"),
        "7:82: unknown key 'nulls' in stream.batch_source of feature view 'v'",
    ),
    "events in CSV": (
        stream("batch_source: {type: csv, path: x, timestamp_field: t}"),
        "7:46: feature view 'v': stream.batch_source",
    ),
    "location of a log": (
        stream("log: {path: '${'}"),
        "7:37: feature view 'v': ",
    ),
    "location of a log of a service": (
        batch(TIMED, ", logging: {path: '${'}"),
        "2:61: feature service 's': ",
    ),
    "sample rate": (
        batch(TIMED, ", logging: {path: x, sample_rate: 0}"),
        "2:77: feature service 's': logging.sample_rate: found 0, expected a number above 0, up to 1",
    ),
    "two logs in a folder": (
        stream("log: {path: log/}", ", logging: {path: log}"),
        "2:61: feature service 's': 'log' is already the folder of another log (f.yaml:7:37)",
    ),
    "query file of a history": (
        stream("batch_source: {type: sql, query_file: none.sql, timestamp_field: t}"),
        "7:63: feature view 'v': cannot read 'none.sql': No such file or directory",
    ),
}


@pytest.mark.parametrize(("text", "problem"), WRONG.values(), ids=WRONG)
def test_a_wrong_history_is_one_clear_problem(problems: Problems, text: str, problem: str) -> None:
    [found] = problems(text)
    assert found.startswith(f"f.yaml:{problem}")


@pytest.mark.parametrize(
    ("text", "warnings"),
    [
        (f"{TIMED}, lookback: 24h, schedule: {{every: 24h, at: 02:00}}", []),
        (
            f"{TIMED}, schedule: {{every: 12h}}",
            ["feature view 'v': loads run every 12h, but the refresh is 1d"],
        ),
        (
            f"{TIMED}, lookback: 1h",
            [
                "feature view 'v': lookback 1h is less than the 1d between two loads, so rows in between "
                "are never loaded"
            ],
        ),
    ],
)
def test_a_load_at_other_times_than_expected_is_a_warning(
    load: Load, text: str, warnings: list[str]
) -> None:
    assert [warning.message for warning in load(batch(text)).warnings] == warnings


def compiled(load: Load, text: str) -> RepoPlan:
    return compile_repo(Registry.from_loaded(load(text), None))


def test_the_plan_has_the_history_of_a_view(load: Load) -> None:
    text = batch(
        "source: {type: parquet, path: x, hive_partitioning: true, timestamp_field: t, "
        "date_partition_column: day}, lookback: 7d, "
        "schedule: {every: 24h, at: 02:00:30, takes: 10m}",
        ", logging: {path: log, sample_rate: 0.25}",
    )
    plan = compiled(load, text)
    view = plan.view("v")
    assert view.source == ParquetSourcePlan(
        paths=("x",),
        hive_partitioning=True,
        timestamp_field="t",
        date_partition_column="day",
    )
    assert view.lookback_ms == 7 * 86_400_000
    assert view.schedule == SchedulePlan(86_400_000, 7_230_000, 600_000)
    assert plan.service("s").logging == LogPlan("log", 0.25)


def test_the_plan_has_the_events_of_a_view(load: Load) -> None:
    view = compiled(
        load,
        stream(
            "log: {path: log}, "
            "batch_source: {type: parquet, path: x, created_timestamp_field: c, sent_fields_column: f}"
        ),
    ).view("v")
    assert view.history == ParquetSourcePlan(
        paths=("x",), created_timestamp_field="c", sent_fields_column="f"
    )
    assert view.log == LogPlan("log")
    text = stream("batch_source: {type: jsonl, path: x, timestamp_field: t}")
    assert compiled(load, text).view("v").history == JsonlSourcePlan(
        paths=("x",), timestamp_field="t", absent="null"
    )


CHANGED = {
    "lookback": (
        batch(TIMED),
        batch(f"{TIMED}, lookback: 7d"),
        ["compatible feature view v: lookback none -> 7d"],
    ),
    "schedule": (
        batch(f"{TIMED}, schedule: {{every: 24h}}"),
        batch(f"{TIMED}, schedule: {{every: 24h, at: 02:00, takes: 10m}}"),
        [
            "compatible feature view v: schedule every 1d at 00:00:00Z -> "
            "every 1d at 02:00:00Z, takes 10m"
        ],
    ),
    "batch_source": (
        stream("log: {path: a}"),
        stream("batch_source: {type: jsonl, path: x, timestamp_field: t}"),
        ["compatible feature view v: log a -> none", "compatible feature view v: a batch_source"],
    ),
    "logging": (
        batch(TIMED, ", logging: {path: log}"),
        batch(TIMED, ", logging: {path: log, sample_rate: 0.01}"),
        ["compatible feature service s: logging log -> log, sample_rate 0.01"],
    ),
}


@pytest.mark.parametrize(("old", "new", "changes"), CHANGED.values(), ids=CHANGED)
def test_a_change_of_a_history_is_compatible(
    load: Load, old: str, new: str, changes: list[str]
) -> None:
    assert [str(each) for each in diff(compiled(load, old), compiled(load, new))] == changes


def test_a_registry_without_histories_has_none_of_their_keys(load: Load) -> None:
    text = Registry.from_loaded(load(batch(TIMED)), None).to_json()
    for key in ("static", "lookback", "schedule", "batch_source", "date_partition", "logging"):
        assert key not in text
    registry = Registry.from_loaded(
        load(batch(f"{TIMED}, schedule: {{every: 24h, at: 02:00}}", ", logging: {path: log}")),
        None,
    )
    again = Registry.from_json(registry.to_json())
    assert again == registry
    assert '"at":"02:00"' in registry.to_json()


def test_the_schema_has_no_defaults_of_another_type() -> None:
    models = definitions_json_schema()["$defs"]
    assert "default" not in models["Schedule"]["properties"]["at"]
    assert models["FeatureLogging"]["properties"]["sample_rate"]["exclusiveMinimum"] == 0


def test_a_description_has_the_history(load: Load) -> None:
    text = batch(
        f"batch_{TIMED}, lookback: 7d, schedule: {{every: 24h, at: 02:00, takes: 10m}}",
        ", logging: {path: log, sample_rate: 0.25}",
    )
    registry = Registry.from_loaded(load(text), None)
    assert history_rows(registry.feature_views[0]) == [
        ("batch_source", "csv x, timestamp_field t"),
        ("lookback", "7d"),
        ("schedule", "every 1d at 02:00 UTC, takes 10m"),
    ]
    assert logging_text(registry.feature_services[0]) == "log, sample rate 0.25"
    registry = Registry.from_loaded(load(stream("log: {path: log}")), None)
    assert history_rows(registry.feature_views[0]) == [("log", "log")]
    assert logging_text(registry.feature_services[0]) == ""
