"""TypeScript types of the HTTP answers of a registry, and a client that uses `fetch`.

The types are in two interfaces, `Services` and `Views`, whose members have the names of the registry:
no name is changed, so none can collide. `typescript_client.ts` has the rest, which does not depend on
the registry.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from importlib.resources import files

from featurekit.codegen.files import MARK
from featurekit.codegen.row_schemas import (
    IGNORED,
    as_field,
    fields_of_read,
    join_key_schemas,
    request_fields,
    written_row_schema,
)
from featurekit.codegen.value_schemas import Schema, field_schema
from featurekit.compiler import compile_read, compile_repo
from featurekit.models import FeatureService, FeatureView, FieldSpec, format_duration
from featurekit.models.model import Described
from featurekit.plan import EVENT_TIMESTAMP, Column, ReadPlan, RepoPlan
from featurekit.printable import printable, printable_json
from featurekit.registry import Registry

_TYPES = {
    "string": "string",
    "integer": "number",
    "number": "number",
    "boolean": "boolean",
    "null": "null",
}
_SAFE_INTEGER = 2**53 - 1
_IDENTIFIER = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")


def typescript_module(registry: Registry) -> str:
    """Return the module with the types and the client."""
    plan = compile_repo(registry)
    client = (files("featurekit.codegen") / "typescript_client.ts").read_text(encoding="utf-8")
    lines = [
        f"// {MARK} typescript` from the registry of project {registry.project}.",
        "// Do not edit it: run the command again.",
        "",
        *_interface(
            "Services",
            "The feature services, with the types of their requests and responses.",
            (_service(registry, plan, each) for each in registry.feature_services),
        ),
        "",
        *_interface(
            "Views",
            "The feature views, with the rows or events that are written to them.",
            (_view(registry, each) for each in registry.feature_views),
        ),
        "",
        client.rstrip("\n"),
    ]
    return "\n".join(lines) + "\n"


def _interface(name: str, about: str, members: Iterable[list[str]]) -> Iterator[str]:
    yield f"/** {about} */"
    yield f"export interface {name} {{"
    for member in members:
        yield from (f"  {line}" if line else line for line in member)
    yield "}"


def _service(registry: Registry, plan: RepoPlan, service: FeatureService) -> list[str]:
    read = compile_read(plan, service.name)
    keys, fields = join_key_schemas(read), fields_of_read(registry, read)
    groups = dict.fromkeys(group.name for group in read.groups if not group.is_global)
    ages = dict.fromkeys(n for c in read.stored for n in (c.view, c.alias) if n)
    columns = {column.name: column for column in read.columns}
    features = [
        line
        for name, field in fields.items()
        for line in [*_comment(*_field_notes(field, columns[name])), _feature(name, field)]
    ]
    return [
        *_comment(*_notes(service)),
        f"{_name(service.name)}: {{",
        *_object("entity", [f"{_name(name)}: {_type(schema)};" for name, schema in keys.items()]),
        *_object("features", features),
        *_request(registry, read),
        f"  groups: {_union(map(_quote, groups))};",
        f"  max_age: {_union(map(_quote, ages))};",
        "};",
    ]


def _request(registry: Registry, read: ReadPlan) -> list[str]:
    """Return the member with the values that a request sends along."""
    fields = request_fields(registry, read)
    if not fields:
        return ["  request: never;"]
    lines = []
    for name, field in fields.items():
        value = _field_type(field, in_request=True)
        optional = "" if field.default is None else "?"
        lines += [*_comment(*_field_notes(field)), f"{_name(name)}{optional}: {value};"]
    for name in read.ignored_request_values:
        lines += [*_comment(IGNORED), f"{_name(name)}?: unknown;"]
    return _object("request", lines)


def _object(name: str, lines: Sequence[str]) -> list[str]:
    return (
        [f"  {name}: {{", *(f"    {line}" for line in lines), "  };"]
        if lines
        else [f"  {name}: Record<never, never>;"]
    )


def _feature(name: str, field: FieldSpec) -> str:
    value = _field_type(field, in_request=False)
    kind = "OptionalFeature" if field.default is None else "DefaultedFeature"
    return f"{_name(name)}: {kind}<{value}>;"


def _view(registry: Registry, view: FeatureView) -> list[str]:
    row = written_row_schema(registry, view)
    fields = {name: as_field(each) for name, each in (view.inputs or view.fields_).items()}
    lines = []
    for name, schema in row["properties"].items():
        field = fields.get(name)
        value = _type(schema)
        if field is not None and name != EVENT_TIMESTAMP:
            value = _field_type(field, in_request=True)
            value += "" if field.required else " | null"
            lines += _comment(*_field_notes(field))
        elif name == EVENT_TIMESTAMP:
            value = "string | number | Date"
            lines += _comment("When it happened; a number is milliseconds since the Unix epoch.")
        optional = "" if name in row["required"] else "?"
        lines.append(f"{_name(name)}{optional}: {value};")
    kind = "batch" if view.batch else "stream"
    return [
        *_comment(*_notes(view), f"A {kind} view, expected every {_every(view)}."),
        f"{_name(view.name)}: {{",
        f"  kind: {_quote(kind)};",
        *_object("row", lines),
        "};",
    ]


def _every(view: FeatureView) -> str:
    return format_duration(view.ingestion.refresh)


def _notes(model: Described) -> Iterator[str]:
    if model.description:
        yield model.description
    if model.deprecated:
        reason = "" if model.deprecated is True else f" {model.deprecated}"
        yield f"@deprecated{reason}"


def _field_notes(field: FieldSpec, column: Column | None = None) -> Iterator[str]:
    """Yield the description, then the type with the view and the default."""
    parts = [field.type]
    if column is not None:
        alias = f" as `{column.alias}`" if column.alias else ""
        parts.append(f"from `{column.view}`{alias}")
    if field.default is not None:
        parts.append(f"default {json.dumps(field.default, ensure_ascii=False)}")
    about, *deprecated = [*_notes(field)] if field.description else ["", *_notes(field)]
    yield from [about] * bool(about)
    yield ", ".join(parts)
    yield from deprecated


def _comment(*notes: str) -> list[str]:
    """Return a comment of documentation; a note cannot end it."""
    lines = [
        printable(line, one_line=True).replace("*/", "*\\/")
        for note in notes
        for line in note.strip().splitlines()
    ]
    if len(lines) <= 1:
        return [f"/** {line} */" for line in lines]
    return ["/**", *(f" * {line}".rstrip() for line in lines), " */"]


def _field_type(field: FieldSpec, *, in_request: bool) -> str:
    """Return the type of a value that is not null."""
    schema = field_schema(field, in_request=in_request)
    value = _type(schema)
    is_time = schema.get("format") == "date-time"
    return f"{value} | Date" if in_request and is_time else value


def _type(schema: Schema) -> str:
    """Return the type of the values that a JSON Schema describes."""
    if "enum" in schema:
        return _union(dict.fromkeys(map(_literal, schema["enum"])))
    if "anyOf" in schema:
        return _union(dict.fromkeys(map(_type, schema["anyOf"])))
    if schema.get("type") == "array":
        item = _type(schema["items"])
        return f"readonly {item}[]" if _IDENTIFIER.fullmatch(item) else f"readonly ({item})[]"
    return _TYPES[schema["type"]] if "type" in schema else "JsonValue"


def _literal(value: object) -> str:
    """Return a type with one value; an integer that JavaScript rounds has none."""
    if isinstance(value, int) and abs(value) > _SAFE_INTEGER:
        return "number"
    return _quote(value)


def _union(types: Iterable[str]) -> str:
    return " | ".join(types) or "never"


def _name(name: str) -> str:
    return name if _IDENTIFIER.fullmatch(name) else _quote(name)


def _quote(value: object) -> str:
    return printable_json(json.dumps(value, ensure_ascii=False))
