"""`featurekit generate contract` writes contracts of the Open Data Contract Standard."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from featurekit.codegen.contract import contract_files
from tests.generators.registries import DEFINITIONS, HOSTILE, registry


def contracts(folder: Path, definitions: str) -> dict[str, Any]:
    texts = contract_files(registry(folder, definitions)).texts
    return {name.removesuffix(".odcs.yaml"): yaml.safe_load(text) for name, text in texts.items()}


@pytest.mark.parametrize("definitions", DEFINITIONS.values(), ids=DEFINITIONS)
def test_every_contract_is_valid(tmp_path: Path, definitions: str) -> None:
    package = pytest.importorskip("open_data_contract_standard")
    schema = json.loads((files(package) / "schema.json").read_text())
    assert schema["properties"]["apiVersion"]["default"] == "v3.1.0"
    for document in contracts(tmp_path, definitions).values():
        jsonschema.Draft201909Validator(schema).validate(document)


def test_a_contract_has_the_keys_fields_rules_and_times_of_its_view(tmp_path: Path) -> None:
    document = contracts(tmp_path, HOSTILE)["interface"]
    [table] = document["schema"]
    fields = {field["name"]: field for field in table["properties"]}
    assert document["status"] == "deprecated"
    assert table["physicalName"] == "fs:class:<default>:<größe>:<day>"
    keys = [(name, each["logicalType"]) for name, each in fields.items() if "primaryKey" in each]
    assert keys == [("default", "string"), ("größe", "integer"), ("day", "date")]
    assert fields["größte"]["logicalTypeOptions"] == {
        "minimum": 0,
        "maximum": 1.5,
        "format": "f64",
    }
    assert fields["number"]["logicalType"] == "number"
    assert fields["toString"]["quality"][0]["arguments"]["validValues"] == [
        'a"b',
        "\\",
        "x\ny",
        "\u2028",
    ]
    levels = [
        (each["property"], each["value"], each["unit"], each["element"])
        for each in document["slaProperties"]
    ]
    assert levels == [
        ("frequency", 1, "min", "interface"),
        ("retention", 5, "min", "interface"),
        ("retention", 7, "d", "interface.odd"),
    ]


def test_a_contract_has_no_password_and_its_version_is_that_of_its_content(tmp_path: Path) -> None:
    before = contracts(tmp_path, HOSTILE)
    text = json.dumps(before)
    assert "secret" not in text
    assert "hidden" not in text
    after = contracts(tmp_path, HOSTILE.replace("refresh: 90s", "refresh: 91s"))
    changed = [name for name in before if before[name]["version"] != after[name]["version"]]
    assert changed == ["a__"]
