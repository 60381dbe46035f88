"""Which files a query reads, as far as its text says."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from featurekit.file_globs import matching_paths
from featurekit.sources.session import Session, quote_text

_READERS = ("parquet_scan", "read_")
_NO_FILES = {"generate_series", "range", "repeat", "unnest"}


def query_files(
    session: Session, query: str, parameters: Mapping[str, str], root: Path
) -> list[str]:
    """Return the local files that a query reads; none if its text does not name all of them.

    It names them in functions such as `read_csv('a.csv')`, or as tables: `FROM 'a.csv'`.
    """
    files: dict[str, None] = {}
    for name in _names(session, query, parameters):
        found = [root / path for path in matching_paths(root, name)] if name else []
        if not found or not all(path.is_file() for path in found):
            return []
        files |= dict.fromkeys(map(str, found))
    return list(files)


def _names(session: Session, query: str, parameters: Mapping[str, str]) -> Iterator[str]:
    """Yield the names of the files, and an empty one for anything else that is read."""
    nodes = list(_nodes(_parsed(session, query)))
    for name in (name for node in nodes for name in _cte_names(node)):
        if "." in name or "/" in name:  # it may also be the name of a file
            yield ""
    local = {name for node in nodes for name in _cte_names(node)}
    for node in nodes:
        if node.get("error"):
            yield ""
        elif node.get("type") == "BASE_TABLE":
            name = node.get("table_name", "")
            is_plain = not (node.get("schema_name") or node.get("catalog_name"))
            if not (is_plain and name in local):
                yield name if is_plain else ""
        elif node.get("type") == "TABLE_FUNCTION":
            yield from _names_of_call(node.get("function", {}), parameters)


def _names_of_call(function: dict[str, Any], parameters: Mapping[str, str]) -> Iterator[str]:
    called = function.get("function_name", "")
    if called in _NO_FILES:
        return
    arguments = function.get("arguments")
    if not called.startswith(_READERS) or not arguments:
        yield ""
        return
    first = arguments[0].get("expression", {})
    items = [first]
    if first.get("function_name") == "list_value":
        items = [item.get("expression", {}) for item in first.get("arguments", ())]
    for item in items or [{}]:
        literal = item.get("literal", {})
        is_text = item.get("class") == "CONSTANT" and literal.get("kind") == "STRING"
        yield literal["text"] if is_text else parameters.get(item.get("identifier", ""), "")


def _parsed(session: Session, query: str) -> object:
    """Return the syntax tree of a query; one with an error if it has none."""
    try:
        ((text,),) = session.fetch_all(f"SELECT json_serialize_sql({quote_text(query)})")
        return json.loads(text)
    except (session.duckdb.Error, ValueError, RecursionError):
        return {"error": True}


def _nodes(tree: object) -> Iterator[dict[str, Any]]:
    """Yield all objects of a JSON document."""
    left = [tree]
    while left:
        part = left.pop()
        if isinstance(part, dict):
            yield part
        left += part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()


def _cte_names(node: dict[str, Any]) -> list[str]:
    ctes = node.get("cte_map")
    entries = ctes.get("map", ()) if isinstance(ctes, dict) else ()
    return [entry["key"] for entry in entries]
