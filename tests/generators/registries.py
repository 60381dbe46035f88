"""Registries whose names, types and descriptions are as awkward as the models allow."""

from __future__ import annotations

from pathlib import Path

from featurekit.loader import load_repo
from featurekit.registry import Registry
from tests.promise.repos import ALL_TYPES, FRAUD

HOSTILE = r"""
entities:
  - name: class
    join_keys: {default: string, "größe": int64, day: date}
    description: "A </script><script>alert(1)</script> */ entity\nof two lines \u202e\e[31m"
    owner: "<b>owner</b> & co"
    tags: {"a<b": "c\"d"}
  - {name: airport, join_keys: {airport: string}, hash_tag: {join_key: airport}}
feature_views:
  - name: interface
    entity: class
    description: "*/ ${danger} `code` </style>"
    deprecated: "use `other` */ <i>now</i>"
    stream:
      refresh: 1m
      ordering: event_time
      source: {type: kafka, topic: t, bootstrap_servers: "kafka://me:secret@broker:9092"}
    fields:
      constructor: {type: int64, default: 7, min: -9223372036854775808, description: "Ends */ here"}
      toString: {type: string, one_of: ["a\"b", "\\", "x\ny", "\u2028"], default: "\\"}
      number: {type: decimal, min: "0.10", one_of: ["1.50", "2"]}
      "größte": {type: float64, allow_nan: true, min: 0, max: 1.5}
      big: {type: int64, one_of: [9007199254740993, 1], deprecated: true}
      odd: {type: string, pattern: "(?i)no", max_length: 3, ttl: 7d}
  - name: a_
    batch: {refresh: 1h, min_rows: 1, max_source_age: 2h, source: {type: sql, query: "select 1 /* \" */", timestamp_field: t}}
    fields: {rate: {type: float32, required: true}}
  - name: a__
    entity: airport
    batch: {refresh: 90s, expires: field, source: {type: csv, path: ["s3://k:hidden@b/x.csv"]}}
    fields: {wind: {type: "vector<float32, 3>", default: [0, 0, 0]}, notes: {type: json, default: {a: [1]}}, raw: bytes}
feature_services:
  - name: delete
    description: "With </script> and */"
    deprecated: true
    features:
      - interface
      - a_
      - {view: a__, as: origin, join_keys: {airport: start}}
      - {view: a__, as: to, join_keys: {airport: to}, fields: [wind]}
  - {name: function, features: [a_]}
"""


def registry(folder: Path, definitions: str) -> Registry:
    """Return the registry of definitions."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "featurerepo.yaml").write_text("project: hostile\ndefinitions: [f.yaml]\n")
    (folder / "f.yaml").write_text(definitions.replace(", source: SOURCE", ""))
    return Registry.from_loaded(load_repo(folder, {}), None)


def wide(views: int) -> str:
    """Return definitions of many views, and of a service with one feature of each."""
    lines = ["entities: [{name: user, join_keys: {user_id: string}}]", "feature_views:"]
    lines += [
        f"  - {{name: view_{n}, entity: user, batch: {{refresh: 1h, expires: field}}, "
        f"fields: {{feature_{n}: int64, other_{n}: {{type: string, default: x}}}}}}"
        for n in range(views)
    ]
    features = ", ".join(f"'view_{n}:feature_{n}'" for n in range(views))
    return "\n".join([*lines, f"feature_services: [{{name: all, features: [{features}]}}]"])


DERIVED = """\
entities:
  - {name: user, join_keys: {user_id: string}}
requests:
  - name: payment
    fields: {amount: {type: float64, min: 0}, "currency": {type: string, default: "<b>"}}
feature_views:
  - name: profile
    entity: user
    batch: {refresh: 24h}
    fields: {mean: float64, country: string}
  - name: risk
    description: "*/ <i>how</i> unusual"
    owner: risk@example.com
    derived: {from: [profile, payment]}
    fields:
      ratio: {type: float64, expr: "amount / nullif(mean, 0)", default: 1}
      is_odd: {type: bool, expr: "ratio > 3 and currency <> '<script>*/'", deprecated: use ratio}
feature_services:
  - {name: risk_v1, features: [risk, "profile:country"]}
  - {name: risk_v2, features: ["risk:is_odd"]}
"""

DEFINITIONS = {
    "hostile": HOSTILE,
    "all types": ALL_TYPES,
    "fraud": FRAUD,
    "derived": DERIVED,
    "empty": "entities: []",
}
"""Definitions by what is special about them."""
