"""Generate `docs/yaml.md`, the reference of the YAML files, from the models.

`python -m featurekit.codegen.reference docs/` writes the page; with `--check`, it exits with 1 if
the file is stale.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from featurekit.models import definitions_json_schema, repo_json_schema
from featurekit.models.model import Described

PAGE = "yaml.md"
HEAD = """\
# YAML reference

This page is generated from the models that check the files; `featurekit schema` prints the same
reference as JSON Schema, for editors.

An unknown key is an error. A duration is a number and a unit, or several of them, largest first:
`90s`, `5m`, `24h`, `7d`, `1h30m`. Text stays text: `country: NO` and `12:30` are not converted.
"""
DESCRIPTIVE_KEYS = "Descriptive keys"
ACRONYMS = {"Csv", "Jsonl", "Sql", "Tls"}
TYPE_NAMES = {"string": "text", "integer": "whole number", "number": "number", "boolean": "flag"}


def yaml_page() -> str:
    """Return the reference of all YAML files, in Markdown."""
    repo, definitions = repo_json_schema(), definitions_json_schema()
    parts = [
        HEAD,
        *_file_sections("`featurerepo.yaml`", repo),
        *_file_sections("Definition files", definitions),
        f"## {DESCRIPTIVE_KEYS}\n\nThese keys are for people and generated docs only.\n",
        _key_table(definitions["$defs"]["Entity"], {*Described.model_fields}),
    ]
    return "\n".join(parts)


def write_pages(arguments: Sequence[str], name: str, text: str) -> int:
    """Write a page into the folders in `arguments`, or check it with `--check`.

    Returns:
        The exit code: 1 if a page is stale or no folder is given.
    """
    folders = [Path(argument) for argument in arguments if argument != "--check"]
    is_fresh = bool(folders)
    for path in (folder / name for folder in folders):
        if "--check" not in arguments:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            sys.stderr.write(f"{path} is stale; run the command again without --check\n")
            is_fresh = False
    return 0 if is_fresh else 1


def _file_sections(title: str, schema: dict[str, Any]) -> Iterator[str]:
    """Yield a section for the file, then one for each nested mapping, in order."""
    description = str(schema["description"])
    yield f"## {title}\n" + ("" if description.startswith(title) else f"\n{description}\n")
    yield _key_table(schema)
    for name in _nested_models(schema, schema["$defs"]):
        model = schema["$defs"][name]
        yield f"### {_title(name)}\n\n{_description(model)}\n"
        yield _key_table(model)


def _nested_models(schema: dict[str, Any], models: dict[str, Any]) -> list[str]:
    names: list[str] = []
    for name in re.findall(r'"\$ref": "#/\$defs/(\w+)"', json.dumps(schema.get("properties", {}))):
        if name not in names and "properties" in models[name]:
            names += [name, *_nested_models(models[name], models)]
    return list(dict.fromkeys(names))


def _description(model: dict[str, Any]) -> str:
    is_described = set(Described.model_fields) <= set(model["properties"])
    link = f" Accepts the [descriptive keys](#{_anchor(DESCRIPTIVE_KEYS)})."
    return str(model["description"]) + (link if is_described else "")


def _key_table(model: dict[str, Any], only: set[str] | None = None) -> str:
    required = model.get("required", [])
    keys = [key for key in model["properties"] if _is_listed(key, model, only)]
    keys.sort(key=lambda key: (key not in required, key != "type"))
    rows = [_key_row(key, model["properties"][key], required=key in required) for key in keys]
    return "\n".join(["| Key | Value | Default | Description |", "|---|---|---|---|", *rows, ""])


def _is_listed(key: str, model: dict[str, Any], only: set[str] | None) -> bool:
    if only is not None:
        return key in only
    descriptive = set(Described.model_fields)
    return key not in descriptive or not descriptive <= set(model["properties"])


def _key_row(key: str, value: dict[str, Any], *, required: bool) -> str:
    default = "*required*" if required else _default_cell(value)
    cells = [f"`{key}`", _type_cell(value), default, value["description"]]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _default_cell(value: dict[str, Any]) -> str:
    default = value.get("default")
    if default in (None, "", [], {}, False) or isinstance(default, dict):
        return "`false`" if default is False else ""
    return f"`{default if isinstance(default, str) else json.dumps(default)}`"


def _type_cell(value: dict[str, Any]) -> str:
    """Return the accepted values in words."""
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        title = _title(name)
        return "any value" if name == "JsonValue" else f"[{title}](#{_anchor(title)})"
    if "const" in value:
        return f"`{value['const']}`"
    if "enum" in value:
        return ", ".join(f"`{choice}`" for choice in value["enum"] if choice is not None)
    for union in ("oneOf", "anyOf"):
        if union in value:
            return _union_cell(value[union])
    return _simple_type_cell(value)


def _union_cell(choices: Sequence[dict[str, Any]]) -> str:
    if any("float64" in choice.get("enum", ()) for choice in choices):
        models = [_type_cell(choice) for choice in choices if "$ref" in choice]
        return " or ".join(["a type", *models])
    return " or ".join(dict.fromkeys(map(_type_cell, choices)))


def _simple_type_cell(value: dict[str, Any]) -> str:
    kind = value.get("type")
    if kind == "array":
        return f"list of {_type_cell(value['items'])}"
    if kind == "object":
        item = value.get("additionalProperties") or next(iter(value["patternProperties"].values()))
        return f"mapping of names to {_type_cell(item)}"
    if isinstance(kind, list):
        return "number" if "boolean" not in kind else "text"
    return "duration" if "90s" in value.get("examples", ()) else TYPE_NAMES[str(kind)]


def _title(name: str) -> str:
    """Return `CsvSource` as `CSV source`."""
    first, *rest = re.findall("[A-Z][a-z]*", name)
    words = [first.upper() if first in ACRONYMS else first, *map(str.lower, rest)]
    return " ".join(word for word in words if word not in {"config", "spec"})


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")


def main(arguments: Sequence[str]) -> int:
    """Write the page into the given folder, or check it there; returns the exit code."""
    return write_pages(arguments, PAGE, yaml_page())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
