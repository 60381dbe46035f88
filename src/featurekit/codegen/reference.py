"""The reference of the YAML files, `docs/yaml.md`, made from the models' own descriptions.

`python -m featurekit.codegen.reference docs/` writes it; with `--check` it exits with 1 if the
file says something else.
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

Made from the models that check the files; `featurekit schema` prints the same for editors.

Every key that is accepted is obeyed, and an unknown key is an error. A duration is a number and a
unit, or several from large to small: `90s`, `5m`, `24h`, `7d`, `1h30m`. Text is text: `country: NO`
and `12:30` stay what they look like.
"""
DESCRIPTIVE = "Descriptive keys"
ACRONYMS = {"Csv", "Jsonl", "Sql", "Tls"}
SIMPLE = {"string": "text", "integer": "whole number", "number": "number", "boolean": "flag"}


def yaml_page() -> str:
    """The reference of both kinds of files, in Markdown."""
    repo, definitions = repo_json_schema(), definitions_json_schema()
    parts = [
        HEAD,
        *_part("`featurerepo.yaml`", repo),
        *_part("Definition files", definitions),
        f"## {DESCRIPTIVE}\n\nThey are for people and generated docs, and nothing else obeys them.\n",
        _table(definitions["$defs"]["Entity"], {*Described.model_fields}),
    ]
    return "\n".join(parts)


def publish(folder: Path, name: str, text: str, *, check: bool) -> bool:
    """Write a page, or check that it is there as it should be; returns whether all is well."""
    path = folder / name
    if not check:
        path.write_text(text, encoding="utf-8")
        return True
    fresh = path.exists() and path.read_text(encoding="utf-8") == text
    if not fresh:
        sys.stderr.write(f"{path} is stale; make it again without --check\n")
    return fresh


def _part(title: str, schema: dict[str, Any]) -> Iterator[str]:
    """A file's own keys, then those of all mappings in it, in the order they are met."""
    told = str(schema["description"])
    yield f"## {title}\n" + ("" if told.startswith(title) else f"\n{told}\n")
    yield _table(schema)
    for name in _met(schema, schema["$defs"]):
        model = schema["$defs"][name]
        yield f"### {_title(name)}\n\n{_told(model)}\n"
        yield _table(model)


def _met(schema: dict[str, Any], models: dict[str, Any]) -> list[str]:
    names: list[str] = []
    for name in re.findall(r'"\$ref": "#/\$defs/(\w+)"', json.dumps(schema.get("properties", {}))):
        if name not in names and "properties" in models[name]:
            names += [name, *_met(models[name], models)]
    return list(dict.fromkeys(names))


def _told(model: dict[str, Any]) -> str:
    described = set(Described.model_fields) <= set(model["properties"])
    link = f" Takes the [descriptive keys](#{_anchor(DESCRIPTIVE)}), too."
    return str(model["description"]) + (link if described else "")


def _table(model: dict[str, Any], only: set[str] | None = None) -> str:
    required = model.get("required", [])
    keys = [key for key in model["properties"] if _wanted(key, model, only)]
    keys.sort(key=lambda key: (key not in required, key != "type"))
    rows = [_row(key, model["properties"][key], required=key in required) for key in keys]
    return "\n".join(["| Key | Value | Default | |", "|---|---|---|---|", *rows, ""])


def _wanted(key: str, model: dict[str, Any], only: set[str] | None) -> bool:
    if only is not None:
        return key in only
    descriptive = set(Described.model_fields)
    return key not in descriptive or not descriptive <= set(model["properties"])


def _row(key: str, value: dict[str, Any], *, required: bool) -> str:
    default = "*required*" if required else _default(value)
    cells = [f"`{key}`", _type(value), default, value["description"]]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _default(value: dict[str, Any]) -> str:
    default = value.get("default")
    if default in (None, "", [], {}, False) or isinstance(default, dict):
        return "no" if default is False else ""
    return f"`{default if isinstance(default, str) else json.dumps(default)}`"


def _type(value: dict[str, Any]) -> str:
    """What may stand there, in words."""
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        return (
            "any value" if name == "JsonValue" else f"[{_title(name)}](#{_anchor(_title(name))})"
        )
    if "const" in value:
        return f"`{value['const']}`"
    if "enum" in value:
        return ", ".join(f"`{choice}`" for choice in value["enum"])
    for several in ("oneOf", "anyOf"):
        if several in value:
            return _either(value[several])
    return _plain_type(value)


def _either(choices: Sequence[dict[str, Any]]) -> str:
    if any("float64" in choice.get("enum", ()) for choice in choices):
        models = [_type(choice) for choice in choices if "$ref" in choice]
        return " or ".join(["a type", *models])
    return " or ".join(dict.fromkeys(map(_type, choices)))


def _plain_type(value: dict[str, Any]) -> str:
    kind = value.get("type")
    if kind == "array":
        return f"list of {_type(value['items'])}"
    if kind == "object":
        inner = value.get("additionalProperties") or next(
            iter(value["patternProperties"].values())
        )
        return f"mapping of names to {_type(inner)}"
    if isinstance(kind, list):
        return "number" if "boolean" not in kind else "text"
    return "duration" if "90s" in value.get("examples", ()) else SIMPLE[str(kind)]


def _title(name: str) -> str:
    """`CsvSource` as `CSV source`."""
    first, *rest = re.findall("[A-Z][a-z]*", name)
    words = [first.upper() if first in ACRONYMS else first, *map(str.lower, rest)]
    return " ".join(word for word in words if word not in {"config", "spec"})


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")


def main(arguments: Sequence[str]) -> int:
    """Write the page into the folder named, or check it there."""
    folders = [Path(argument) for argument in arguments if argument != "--check"]
    fresh = [publish(f, PAGE, yaml_page(), check="--check" in arguments) for f in folders]
    return 0 if fresh and all(fresh) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
