"""Repositories whose names are hard to generate code for, and the modules generated from them."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from featurekit import FeatureStore
from featurekit.codegen.python import python_module
from tests.servers import PATIENT_YAML

HOSTILE = r'''
entities:
  - {name: user, join_keys: {user_id: string}}
  - {name: pair, join_keys: {self: string, options: int64, date: date}}
  - {name: odd, join_keys: {values: int32, str: string}}
feature_views:
  - name: types
    entity: user
    description: ends with a quote "
    batch: {refresh: 24h, expires: field}
    fields:
      str: {type: string, default: "", description: "Say \"\"\"hi\"\"\" \a \u202e and \"bye\""}
      int: {type: int64, description: back\slash\}
      list: array<string>
      date: date
      datetime: {type: timestamp, required: true}
      Decimal: decimal
      bytes: bytes
      float: {type: float64, default: 1.5, allow_nan: true}
      bool: {type: bool, one_of: [true]}
      Any: json
      Literal: {type: string, one_of: ["it's", 'say "x"', "\\", "é"], default: é}
      Required: {type: int32, one_of: [1, 2, -3]}
      NotRequired: array<float64>
      tuple: vector<float32, 3>
      Json: {type: json, default: {}}
      Array: array<timestamp>
      object: float32
      número: int64
      名前: {type: string, description: 'x = """); import os; os._exit(1) #'}
      choice_bytes: {type: bytes, one_of: ["YQ=="]}
  - name: stream
    entity: pair
    stream: {refresh: 1m, ordering: event_time}
    fields:
      str: {type: string, deprecated: use other}
      int: {type: int64, default: 0, min: 0}
      dict: array<int64>
      values: {type: json, required: true}
      self_: bool
      type: string
      match: string
      get: string
      copy: int64
      items: {type: int64, description: "several\nlines\n\nand a paragraph"}
  - name: stream_
    entity: odd
    stream: {refresh: 1m}
    fields: {me: string, cls: {type: string, required: true}, options: string, self: int64}
  - {name: online, batch: {refresh: 24h}, fields: {rate: float64, tuple: int64}}
  - {name: global_stream, stream: {refresh: 24h}, fields: {rate: float64, property: int64}}
  - name: a_b
    entity: user
    batch: {refresh: 24h, ordering: event_time}
    fields: {x1: {type: int64, required: true}, row: string}
  - {name: a__b, entity: user, stream: {refresh: 1m}, fields: {x2: int64}}
  - {name: class, entity: user, stream: {refresh: 1m}, fields: {x3: int64}}
feature_services:
  - {name: online_, features: [online, types, stream]}
  - {name: class_, features: [class]}
  - name: a_b_
    description: Two roles of one view.
    features:
      - {view: a_b, as: origin, join_keys: {user_id: origin}}
      - {view: a_b, as: destination, join_keys: {user_id: destination}}
      - online
  - {name: import, features: [online]}
  - {name: typed, features: [stream, stream_]}
  - {name: stream__, features: [a_b, a__b, global_stream, online]}
'''

SHOP = """
entities:
  - {name: user, join_keys: {user_id: string}}
  - {name: item, join_keys: {shop: string, item_id: int64}}
feature_views:
  - name: profile
    entity: user
    description: Facts about a user.
    batch: {refresh: 24h}
    fields:
      age: {type: int64, description: Age in years.}
      tier: {type: string, one_of: [basic, gold], default: basic}
      email: {type: string, required: true}
  - name: activity
    entity: user
    stream: {refresh: 1m}
    fields:
      clicks_5m: {type: int64, default: 0}
      last_page: string
  - name: stock
    entity: item
    stream: {refresh: 1m, ordering: event_time}
    fields: {units: {type: int64, default: 0}, price: {type: float64, default: 0}}
feature_services:
  - {name: ranking, features: [profile, activity, stock]}
  - {name: greeting, features: ["profile:age", "profile:tier", "activity:clicks_5m"]}
"""


PAYMENTS = """
entities:
  - {name: user, join_keys: {user_id: string}}
requests:
  - name: payment
    fields:
      amount: {type: float64, description: What is to be paid.}
      request: {type: string, one_of: [web, app], default: web}
      terminal: {type: string, description: Not used by any feature.}
      object: timestamp
feature_views:
  - name: account
    entity: user
    batch: {refresh: 24h}
    fields: {average: float64, country: string}
  - name: payments
    entity: user
    stream: {refresh: 1m, once: {event_id: id}}
    inputs: {amount: {type: float64, required: true}, shop: string}
    fields:
      paid_10m: {type: int64, aggregate: count, window: 10m}
      largest_1h: {type: float64, aggregate: max, of: amount, window: 1h}
  - name: risk
    derived: {from: [account, payments, payment]}
    fields:
      ratio: {type: float64, expr: "amount / nullif(average, 0)", default: 1}
      is_large: {type: bool, expr: "amount > largest_1h", description: More than in the last hour.}
      text: {type: string, expr: "request || '/' || country"}
feature_services:
  - {name: fraud, features: [risk, "account:country", "payments:paid_10m"]}
"""

DEFINITIONS = {"shop": SHOP, "hostile": HOSTILE, "payments": PAYMENTS}
"""The definitions by project."""


def write_repo(folder: Path, definitions: str, url: str = "memory://") -> Path:
    """Write a repository; return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    url = f"memory://{folder}" if url == "memory://" else url  # shared with no other test
    store = f"online_store: {{url: '{url}', key_prefix: gen, {PATIENT_YAML}}}"
    project = next((name for name, text in DEFINITIONS.items() if text == definitions), "hostile")
    head = f"project: {project}\ndefinitions: [definitions.yaml]\n{store}\n"
    (folder / "featurerepo.yaml").write_text(head)
    (folder / "definitions.yaml").write_text(definitions)
    return folder


def source(folder: Path) -> str:
    """Return the module generated from the definitions in a folder."""
    return python_module(FeatureStore(folder).declared)


def load(name: str, path: Path) -> Any:
    """Import a file as a module of this name."""
    spec = spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
