"""Read Parquet files whose columns differ in type as one table, without changing a value.

DuckDB would cast such columns to a common type without a warning: `19.99` beside whole numbers of
38 digits becomes `20`. Columns that differ only in width are read together. Decimals are cast to
one type here; a value that does not fit it is an error. All others are refused.
"""

# ruff: noqa: S608 - all names and values in this SQL are quoted

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from featurekit.errors import SourceError
from featurekit.sources.session import Session, quote_files, quote_identifier, quote_list

_SIGNED_INTEGERS = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT"}
_INTEGERS = _SIGNED_INTEGERS | {f"U{kind}" for kind in _SIGNED_INTEGERS}
_DECIMAL = re.compile(r"DECIMAL\((\d+),(\d+)\)")
_MAX_DIGITS = 38

Types = dict[str, str]
"""Maps columns to the names of their DuckDB types."""


def parquet_groups(
    session: Session, files: Sequence[str], columns: Sequence[str], where: str
) -> list[tuple[list[str], Types]]:
    """Return consecutive files that can be read together, and the casts that each group needs.

    Raises:
        SourceError: The type of a column differs between files by more than its width.
    """
    types = _types_of_files(session, files, columns)
    _check_types(files, types, columns, where)
    common = {
        column: _common_decimal([t[column] for t in types if column in t]) for column in columns
    }
    decimals = [{c: t[c] for c in columns if c in t and common[c]} for t in types]
    return [
        (
            [file for file, _ in group],
            {c: common[c] for c, kind in each.items() if kind != common[c]},
        )
        for each, group in groupby(zip(files, decimals, strict=True), lambda pair: pair[1])
    ]


def check_decimals(
    session: Session, files: Sequence[str], columns: Sequence[str], where: str
) -> None:
    """Raise `SourceError` for a decimal of more than 38 digits, which DuckDB reads as a float."""
    found = session.fetch_all(
        f"SELECT name, precision, file_name FROM parquet_schema({quote_files(files)}) "
        f"WHERE precision > {_MAX_DIGITS} AND name IN {quote_list(columns)} LIMIT 1"
    )
    for column, precision, file in found:
        raise SourceError(
            f"column '{column}' is a decimal of {precision} digits in {Path(file).name}, "
            f"at most {_MAX_DIGITS} can be read exactly",
            where=where,
            hint="write the file with a decimal type of at most 38 digits",
        )


def cast_columns(table: str, casts: Types) -> str:
    """Return a FROM clause with some columns of a table cast."""
    if not casts:
        return f"FROM {table}"
    parts = [
        f"CAST({name} AS {kind}) AS {name}"
        for name, kind in zip(map(quote_identifier, casts), casts.values(), strict=True)
    ]
    return f"SELECT * REPLACE ({', '.join(parts)}) FROM {table}"


def _types_of_files(session: Session, files: Sequence[str], columns: Sequence[str]) -> list[Types]:
    """Return the types of those columns that each file has. Columns without a type are left out.

    Files with equal schemas have the same checksum; of those, DuckDB binds only one.
    """
    checksum = "sum(hash(concat_ws(chr(0), name, coalesce(duckdb_type, '')))::HUGEINT)"
    checksums = dict(
        session.fetch_all(
            f"SELECT file_name, {checksum} FROM parquet_schema({quote_files(files)}) GROUP BY ALL"
        )
    )
    types: dict[object, Types] = {}
    for file in files:
        # DuckDB may report a URL in another form than it was given.
        key = checksums.get(file, file)
        if key not in types:
            found = session.columns(f"read_parquet({quote_files([file])})")
            types[key] = {c: found[c] for c in columns if "NULL" not in found.get(c, "NULL")}
    return [types[checksums.get(file, file)] for file in files]


def _check_types(
    files: Sequence[str], types: Sequence[Types], columns: Sequence[str], where: str
) -> None:
    for column in columns:
        having = [(file, t[column]) for file, t in zip(files, types, strict=True) if column in t]
        for file, kind in having:
            first_file, first_kind = having[0]
            if _type_family(kind) != _type_family(first_kind):
                raise SourceError(
                    f"column '{column}' is {kind} in {Path(file).name} "
                    f"and {first_kind} in {Path(first_file).name}",
                    where=where,
                    hint="rewrite the files with one type, or cast the column in a `type: sql` "
                    "source",
                )


def _type_family(kind: str) -> str:
    """Return a type without its width: reading files together widens it and loses nothing."""
    if kind in _INTEGERS:
        return "integer"
    if kind in {"FLOAT", "DOUBLE"}:
        return "float"
    if kind.startswith("TIMESTAMP"):
        return "instant" if "TIME ZONE" in kind or "TZ" in kind else "timestamp"
    return "decimal" if _DECIMAL.fullmatch(kind) else kind


def _common_decimal(kinds: Sequence[str]) -> str:
    """Return the type that all decimals are cast to; empty if they agree, or are not decimals.

    It has the most fraction digits of any, so that none is rounded, and as many whole digits as
    fit. Casting a value with more whole digits is an error.
    """
    sizes = {(int(m[1]), int(m[2])) for kind in kinds if (m := _DECIMAL.fullmatch(kind))}
    if len(sizes) <= 1:
        return ""
    scale = max(scale for _, scale in sizes)
    whole = max(precision - scale for precision, scale in sizes)
    return f"DECIMAL({min(_MAX_DIGITS, whole + scale)},{scale})"
