"""Parquet files read together: DuckDB would cast a column of several types in silence."""

# ruff: noqa: S608 - all names and values in this SQL are quoted

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from featurekit.errors import SourceError
from featurekit.sources.session import Session, text, texts

_SIGNED = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT"}
_WHOLE = _SIGNED | {f"U{kind}" for kind in _SIGNED}


def check_together(
    session: Session, files: Sequence[str], columns: Sequence[str], where: str
) -> None:
    """Refuse files that differ in the type of a column, other than in its width.

    Raises:
        SourceError: They do; names the column and two of the files.
    """
    # A schema lists the members of structs, too, under bare names: what differs is only suspect.
    suspects = session.rows(
        "SELECT name, min(file_name) FROM parquet_schema("
        f"{texts(files)}) WHERE name IN {texts(columns)} AND duckdb_type IS NOT NULL "
        "GROUP BY name, duckdb_type ORDER BY name, min(file_name)"
    )
    first: dict[str, tuple[str, str]] = {}
    names = [column for column, _ in suspects]
    for column, file in suspects:
        if names.count(column) == 1:
            continue
        kind = session.columns(f"read_parquet({text(file)})").get(column, "")
        if not kind or "NULL" in kind:
            continue
        other, known = first.setdefault(column, (file, kind))
        if _family(kind) != _family(known):
            raise SourceError(
                f"column '{column}' is {kind} in {Path(file).name} "
                f"and {known} in {Path(other).name}",
                where=where,
                hint="write the files anew with one type, or cast it by a source of `type: sql`",
            )


def _family(kind: str) -> str:
    """A type without its width, which reading together widens and loses nothing."""
    if kind in _WHOLE:
        return "whole"
    if kind in {"FLOAT", "DOUBLE"}:
        return "float"
    if kind.startswith("TIMESTAMP"):
        return "moment" if "TIME ZONE" in kind or "TZ" in kind else "timestamp"
    return "decimal" if kind.startswith("DECIMAL(") and kind[-1] == ")" else kind
