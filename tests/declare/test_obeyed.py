"""Every key that YAML accepts is obeyed: it changes a plan, or what the plan is carried out on."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from featurekit import FeatureStore
from featurekit.compiler import compile_repo
from featurekit.models.config import OnlineStoreConfig, RepoConfig, Tls
from featurekit.models.model import Described, Model
from featurekit.plan import RepoPlan
from featurekit.registry import Registry
from featurekit.repo.registry_store import FileRegistryStore, OnlineRegistryStore
from featurekit.stores.url import StoreUrl
from tests.declare.conftest import REPO, Load

DECLARED = """
entities:
  - name: person
    join_keys: {person_id: string, region: string}
    hash_tag: {join_key: region}
    description: described
    owner: owned
    tags: {tier: tagged}
    deprecated: outdated
  - name: shop
    join_keys: {shop_id: string}
    hash_tag: {literal: vip}
feature_services:
  - {name: model_v1, features: [checked], logging: {path: log/model, sample_rate: 0.5}}
requests:
  - name: payment
    fields:
      amount: {type: float64, default: 1.25, min: 0.125, max: 99.5, required: true, allow_nan: true}
      currency: {type: string, one_of: [EUR, GBP], pattern: '[A-Z]*', max_length: 33}
feature_views:
  - {name: other, stream: {refresh: 5m}, fields: {score: float64}}
  - name: risk
    derived: {from: [checked, payment]}
    fields:
      ratio: {type: float64, expr: amount / score, default: 6.5}
      rate: {type: float64, callable: "risks:rate", inputs: [amount, score]}
  - name: checked
    entity: shop
    stream: {refresh: 3m}
    fields:
      score: {type: float64, default: 0.5, min: 0.25, max: 9.5, allow_nan: true, required: true}
      country: {type: string, one_of: [NO, SE], pattern: '[A-Z]+', max_length: 64, ttl: 21m}
  - name: counted
    entity: shop
    stream: {refresh: 5m, once: {event_id: payment}}
    inputs:
      amount: {type: float64, min: 0.75, max: 7.5, required: true}
      fee: float64
      currency: {type: string, one_of: [EUR, USD], pattern: '[A-Z]{3}', max_length: 3}
    fields:
      amount_1h: {type: float64, aggregate: sum, of: amount, window: 1h, tile: 6m, where: fee > 0.5}
"""

ALIASED = "[checked, {view: checked, as: rated, join_keys: {shop_id: seller}, fields: [score]}]"

BATCH = """
  - name: loaded
    entity: person
    batch:
      refresh: 24h
      ttl: 50h
      expires: field
      schedule: {every: 24h, at: 02:00, takes: 10m}
      source: {timestamp_field: at, created_timestamp_field: made, columns: {person_id: pid}, OWN}
    fields: {age: int64}
"""

WRITTEN = """
  - name: written
    entity: person
    batch:
      refresh: 24h
      expires: field
      batch_source: {static: true, OWN}
    fields: {age: int64}
"""

EVENTS = """
  - name: clicked
    entity: person
    stream:
      refresh: 1m
      log: {path: log/clicked}
      batch_source: {timestamp_field: at, created_timestamp_field: made, columns: {person_id: pid}, OWN}
    fields: {clicks: int64}
"""

STREAM = """
  - name: streamed
    entity: person
    stream:
      refresh: 1m
      ttl: 7m
      ordering: event_time
      source: {group: readers, columns: {person_id: pid}, where: {kind: login}, event_timestamp_field: at, dead_letter: refused, OWN}
    fields: {clicks: int64}
"""

FILES = "path: rows.x, hive_partitioning: true, date_partition_column: day"
SOURCES = {
    "ParquetSource": (BATCH, f"type: parquet, {FILES}"),
    "CsvSource": (
        BATCH,
        f"type: csv, {FILES}, delimiter: ';', 'null': [NA, ''], encoding: latin-1",
    ),
    "JsonlSource": (BATCH, f"type: jsonl, {FILES}, absent: 'null'"),
    "JsonlEvents": (EVENTS, f"type: jsonl, {FILES}"),
    "ParquetEvents": (EVENTS, f"type: parquet, {FILES}, nulls: delete"),
    "SqlEvents": (EVENTS, "type: sql, query: select 1, parameters: {least: 2}, nulls: delete"),
    "SqlSource": (BATCH, "type: sql, query: select 1, parameters: {least: 2}"),
    "TableSource": (BATCH, "type: table, table: lake.rows"),
    "PythonSource": (BATCH, "type: python, callable: rows:make"),
    "RedisStreamSource": (
        STREAM,
        "type: redis_stream, stream: events, format: json, field: body",
    ),
    "KafkaSource": (
        STREAM,
        "type: kafka, topic: clicks, bootstrap_servers: 'broker:1', start: latest",
    ),
}


CHANGES = {
    "Entity.name": (": shop", ": store"),
    "Entity.join_keys": ("shop_id: string", "shop_id: int64"),
    "Entity.hash_tag": ("hash_tag: {literal: vip}", "owner: none"),
    "HashTag.literal": ("vip", "all"),
    "HashTag.join_key": ("join_key: region", "join_key: person_id"),
    "FeatureService.name": ("model_v1", "model_v2"),
    "FeatureService.features": ("[checked]", "['checked:score']"),
    "AliasedView.view": (
        "view: checked, as: rated, join_keys: {shop_id: seller}, fields: [score]",
        "view: loaded, as: rated, join_keys: {person_id: seller}, fields: [age]",
    ),
    "AliasedView.as": ("as: rated", "as: judged"),
    "AliasedView.join_keys": ("seller", "buyer"),
    "AliasedView.fields": ("[score]", "[country]"),
    "FeatureView.name": ("checked", "judged"),
    "FeatureView.entity": ("entity: shop", "entity: person"),
    "FeatureView.batch": ("stream: {refresh: 3m}", "batch: {refresh: 3m, expires: field}"),
    "FeatureView.stream": ("stream: {refresh: 3m}", "batch: {refresh: 3m, expires: field}"),
    "FeatureView.fields": ("country:", "land:"),
    "Batch.refresh": ("24h", "12h"),
    "Batch.ttl": ("50h", "60h"),
    "Batch.expires": ("expires: field", "expires: key"),
    "Batch.future_rows": ("expires: field", "expires: field\n      future_rows: load"),
    "Batch.ordering": ("expires: field", "expires: field\n      ordering: event_time"),
    "Batch.min_rows": ("expires: field", "expires: field\n      min_rows: 5"),
    "Batch.max_source_age": ("expires: field", "expires: field\n      max_source_age: 5h"),
    "Batch.max_rejected": ("expires: field", "expires: field\n      max_rejected: 0.5"),
    "Batch.source": ("batch_source:", "source:"),
    "Batch.batch_source": ("batch_source:", "# batch_source:"),
    "Batch.lookback": ("expires: field", "expires: field\n      lookback: 7d"),
    "Batch.schedule": ("schedule:", "# schedule:"),
    "Schedule.every": ("every: 24h", "every: 12h"),
    "Schedule.at": ("at: 02:00", "at: 03:00:30"),
    "Schedule.takes": ("takes: 10m", "takes: 20m"),
    "EventLog.path": ("log/clicked", "log/others"),
    "FeatureLogging.path": ("log/model", "log/others"),
    "FeatureLogging.sample_rate": ("sample_rate: 0.5", "sample_rate: 0.25"),
    "FeatureService.logging": (", logging: {path: log/model, sample_rate: 0.5}", ""),
    "Stream.batch_source": ("batch_source:", "# batch_source:"),
    "Stream.log": ("log: {path: log/clicked}", "# none"),
    "Stream.refresh": ("3m", "4m"),
    "Stream.ttl": ("7m", "8m"),
    "Stream.ordering": ("{refresh: 3m}", "{refresh: 3m, ordering: event_time}"),
    "Stream.max_ahead": ("{refresh: 3m}", "{refresh: 3m, max_ahead: 1h}"),
    "Stream.source": ("source:", "# source:"),
    "FieldSpec.type": ("score: {type: float64", "score: {type: float32"),
    "FieldSpec.default": ("default: 0.5", "default: 1.5"),
    "FieldSpec.min": ("min: 0.25", "min: 0.125"),
    "FieldSpec.max": ("max: 9.5", "max: 8.5"),
    "FieldSpec.one_of": ("SE", "DK"),
    "FieldSpec.pattern": ("A-Z", "A-Y"),
    "FieldSpec.max_length": ("max_length: 64", "max_length: 65"),
    "FieldSpec.required": ("required: true", "required: false"),
    "FieldSpec.allow_nan": ("allow_nan: true", "allow_nan: false"),
    "FieldSpec.ttl": ("21m", "22m"),
    "FieldSpec.aggregate": ("aggregate: sum", "aggregate: mean"),
    "FieldSpec.of": ("of: amount", "of: fee"),
    "FieldSpec.window": ("window: 1h", "window: 2h"),
    "FieldSpec.tile": ("tile: 6m", "tile: 12m"),
    "FieldSpec.where": ("fee > 0.5", "fee > 1.5"),
    "Request.name": ("payment", "transfer"),
    "Request.fields": ("currency:", "unit:"),
    "RequestField.type": ("amount: {type: float64, default", "amount: {type: float32, default"),
    "RequestField.default": ("default: 1.25", "default: 1.5"),
    "RequestField.min": ("min: 0.125", "min: 0"),
    "RequestField.max": ("max: 99.5", "max: 99"),
    "RequestField.required": ("max: 99.5, required: true", "max: 99.5"),
    "RequestField.allow_nan": ("allow_nan: true}\n      curr", "allow_nan: false}\n      curr"),
    "RequestField.one_of": ("GBP", "DKK"),
    "RequestField.pattern": ("[A-Z]*", "[A-Y]*"),
    "RequestField.max_length": ("max_length: 33", "max_length: 34"),
    "DerivedView.name": ("name: risk", "name: danger"),
    "DerivedView.derived": ("{from: [checked, payment]}", "{from: [other, payment]}"),
    "DerivedView.fields": ("ratio:", "share:"),
    "Derived.from": ("from: [checked, payment]", "from: [other, payment]"),
    "DerivedField.type": ("ratio: {type: float64", "ratio: {type: float32"),
    "DerivedField.default": ("default: 6.5", "default: 7.5"),
    "DerivedField.expr": ("amount / score", "score / amount"),
    "DerivedField.callable": ("risks:rate", "risks:rank"),
    "DerivedField.inputs": ("[amount, score]", "[score, amount]"),
    "FeatureView.inputs": ("amount: {type", "other: int64\n      amount: {type"),
    "Stream.once": ("{event_id: payment}", "none"),
    "EventId.event_id": ("event_id: payment", "event_id: transfer"),
    "InputSpec.type": ("amount: {type: float64", "amount: {type: float32"),
    "InputSpec.min": ("min: 0.75", "min: 0.5"),
    "InputSpec.max": ("max: 7.5", "max: 8"),
    "InputSpec.one_of": ("USD", "NOK"),
    "InputSpec.pattern": ("{3}", "+"),
    "InputSpec.max_length": ("max_length: 3", "max_length: 4"),
    "InputSpec.required": ("max: 7.5, required: true", "max: 7.5"),
    "CsvSource.delimiter": ("';'", "'|'"),
    "CsvSource.encoding": ("latin-1", "utf-16"),
    "CsvSource.null": ("[NA, '']", "nil"),
    "JsonlSource.absent": ("absent: 'null'", "absent: refuse"),
    "SqlSource.dialect": ("type: sql", "type: sql, dialect: spark"),
    "TableSource.table": ("lake.rows", "lake.others"),
    "PythonSource.callable": ("rows:make", "rows:build"),
    "RedisStreamSource.stream": ("stream: events", "stream: others"),
    "RedisStreamSource.format": ("format: json, field: body", "format: fields"),
    "RedisStreamSource.field": ("field: body", "field: text"),
    "KafkaSource.topic": ("topic: clicks", "topic: visits"),
    "KafkaSource.bootstrap_servers": ("broker:1", "broker:2"),
    "KafkaSource.start": ("latest", "earliest"),
}
for name in ("SqlSource", "SqlEvents"):
    CHANGES |= {
        f"{name}.query": ("select 1", "select 2"),
        f"{name}.query_file": ("query: select 1", "query_file: two.sql"),
        f"{name}.parameters": ("least: 2", "least: 3"),
    }
for name in ("ParquetEvents", "SqlEvents"):
    CHANGES |= {
        f"{name}.nulls": (", nulls: delete", ""),
        f"{name}.sent_fields_column": ("nulls: delete", "sent_fields_column: sent"),
    }
for name, (shape, own) in SOURCES.items():
    CHANGES |= {f"{name}.columns": ("pid", "uid")}
    if shape is BATCH:
        CHANGES |= {f"{name}.static": ("static: true", "timestamp_field: at")}
    if shape is not STREAM:
        CHANGES |= {
            f"{name}.timestamp_field": ("{timestamp_field: at", "{timestamp_field: then"),
            f"{name}.created_timestamp_field": ("made", "built"),
        }
    else:
        CHANGES |= {
            f"{name}.group": ("readers", "others"),
            f"{name}.where": ("login", "logout"),
            f"{name}.event_timestamp_field": ("field: at", "field: then"),
            f"{name}.dead_letter": ("refused", "buried"),
        }
    if "path" in own:
        CHANGES |= {
            f"{name}.path": ("rows.x", "others.x"),
            f"{name}.hive_partitioning": (FILES, "path: rows.x"),
            f"{name}.date_partition_column": ("column: day", "column: dag"),
        }
"""A text of the definitions and what takes its place, for each key."""

OF_CONNECTIONS: dict[str, tuple[str, str, object]] = {
    "timeout": ("timeout: 1m30s", "timeout_s", 90.0),
    "connect_timeout": ("connect_timeout: 20ms", "connect_timeout_s", 0.02),
    "load_timeout": ("load_timeout: 1h", "load_timeout_s", 3600.0),
    "retries": ("retries: 0", "retries", 0),
    "max_connections": ("max_connections: 7", "max_connections", 7),
    "health_check": ("health_check: 1s", "health_check_s", 1.0),
    "read_from": ("read_from: replica", "read_from", "replica"),
    "tls.ca_certs": ("tls: {ca_certs: ca}", "tls", (("ssl_ca_certs", "ca"),)),
    "tls.certfile": ("tls: {certfile: crt}", "tls", (("ssl_certfile", "crt"),)),
    "tls.keyfile": ("tls: {keyfile: key}", "tls", (("ssl_keyfile", "key"),)),
    "tls.cert_reqs": ("tls: {cert_reqs: none}", "tls", (("ssl_cert_reqs", "none"),)),
    "tls.check_hostname": (
        "tls: {check_hostname: false}",
        "tls",
        (("ssl_check_hostname", False),),
    ),
}
"""Each option of a connection: how it is written, and what comes of it."""


@pytest.fixture(autouse=True)
def functions(tmp_path: Path) -> None:
    functions = "def rate(a, b):\n    return a\n\n\ndef rank(a, b):\n    return b\n"
    (tmp_path / "risks.py").write_text(functions)


def keys_of(model: type[Model]) -> Iterator[str]:
    """The keys of all models below, without those that are descriptive or choose the model."""
    for below in model.__subclasses__():
        if not below.__module__.startswith("featurekit.models"):
            continue  # made by the loader, out of a model, for what it salvages
        yield from keys_of(below)
        for name, info in below.model_fields.items():
            chooses = name == "type" and below.__name__ in SOURCES
            if name not in Described.model_fields and not chooses:
                yield f"{below.__name__}.{info.alias or name}"


def declared_for(key: str) -> str:
    model, _, name = key.partition(".")
    others = {"Stream": "RedisStreamSource", "EventLog": "JsonlEvents"}
    if key in ("Stream.batch_source", "Stream.log"):
        model = "JsonlEvents"
    shape, own = SOURCES.get(model) or SOURCES[others.get(model, "CsvSource")]
    if name in ("static", "source", "batch_source") and shape is BATCH:
        shape, own = WRITTEN, own.replace(", date_partition_column: day", "")
    listed = ALIASED if model == "AliasedView" else "[checked]"
    return DECLARED.replace("[checked]", listed) + shape.replace("OWN", own)


def compiled(load: Load, text: str, repo: str = REPO) -> RepoPlan:
    plan = compile_repo(Registry.from_loaded(load(text, repo), None))
    return replace(plan, fingerprint="")


def test_each_key_is_looked_at() -> None:
    of_files = {
        "Named.name",
        "Definitions.entities",
        "Definitions.requests",
        "Definitions.feature_views",
        "Definitions.feature_services",
    }
    bases = {
        key for key in keys_of(Model) if key.startswith(("_", "TypedValue.", "ConstrainedValue."))
    }
    refused = {"InputSpec.default", "InputSpec.allow_nan"}
    of_repo = {f"RepoConfig.{name}" for name in RepoConfig.model_fields}
    of_repo |= {"EnginesConfig.spark", "SparkConfig.master", "SparkConfig.conf"}
    of_repo |= {"LoadLogConfig.keep", "LoadLogConfig.max_bytes"}
    of_store = {f"OnlineStoreConfig.{name}" for name in OnlineStoreConfig.model_fields}
    of_store |= {f"Tls.{name}" for name in Tls.model_fields}
    assert {*keys_of(Model)} - bases - refused - of_files == {*CHANGES} | of_repo | of_store


@pytest.mark.parametrize("key", CHANGES)
def test_a_key_changes_the_plan(load: Load, tmp_path: Path, key: str) -> None:
    (tmp_path / "two.sql").write_text("select 2")
    before, (old, new) = declared_for(key), CHANGES[key]
    assert old in before
    assert compiled(load, before) != compiled(load, before.replace(old, new))


@pytest.mark.parametrize("told", ["described", "owned", "tagged", "outdated"])
def test_a_descriptive_key_changes_no_plan(load: Load, told: str) -> None:
    before = declared_for("")
    assert told in before
    assert compiled(load, before) == compiled(load, before.replace(told, "other"))


@pytest.mark.parametrize(
    "repo",
    [REPO.replace("fraud", "shop"), REPO + "online_store: {key_prefix: features}\n"],
    ids=["project", "key_prefix"],
)
def test_the_repository_changes_the_plan(load: Load, repo: str) -> None:
    assert compiled(load, DECLARED) != compiled(load, DECLARED, repo)


@pytest.mark.parametrize("key", OF_CONNECTIONS)
def test_an_option_of_the_store_reaches_its_connections(
    load: Load, tmp_path: Path, key: str
) -> None:
    written, attribute, value = OF_CONNECTIONS[key]
    url = "rediss+cluster://h:1"
    load(DECLARED, f"{REPO}online_store: {{url: '{url}', {written}}}\n")
    handle = pickle.loads(pickle.dumps(FeatureStore(tmp_path).handle))
    assert getattr(StoreUrl.parse(url, handle.options), attribute) == value
    assert getattr(StoreUrl.parse(url), attribute) != value


def test_each_option_of_the_store_is_looked_at() -> None:
    told = {*OnlineStoreConfig.model_fields, *(f"tls.{name}" for name in Tls.model_fields)}
    assert told - {"url", "key_prefix", "tls"} == {*OF_CONNECTIONS}


def test_the_defaults_in_the_file_are_those_of_urls() -> None:
    every = OnlineStoreConfig().model_copy()
    every.model_fields_set.update({*OnlineStoreConfig.model_fields} - {"max_connections", "tls"})
    assert StoreUrl.parse("redis+cluster://h", every.options) == StoreUrl.parse(
        "redis+cluster://h"
    )


def test_the_repository_chooses_files_store_and_registry(load: Load, tmp_path: Path) -> None:
    load(DECLARED, REPO)
    by_default = FeatureStore(tmp_path)
    assert isinstance(by_default._registry_store, OnlineRegistryStore)
    (tmp_path / "none.yaml").write_text("{}")
    load(
        DECLARED,
        "project: fraud\ndefinitions: none.yaml\nregistry: r.json\nonline_store: {url: 'embedded://obeyed'}\n",
    )
    chosen = FeatureStore(tmp_path)
    assert isinstance(chosen._registry_store, FileRegistryStore)
    assert chosen.handle.url == "embedded://obeyed" != by_default.handle.url
    assert chosen.declared.entities == ()
    chosen.close()
