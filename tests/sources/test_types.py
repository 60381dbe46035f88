"""Types of columns that are read exactly, or refused by name."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurekit.errors import SourceError
from featurekit.plan import ParquetSourcePlan
from featurekit.sources import ArrowSource

HIVE = ParquetSourcePlan(paths=("d",), hive_partitioning=True)


def put(repo: Any, name: str, **columns: Any) -> None:
    (repo.root / name).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), repo.root / name)


@pytest.mark.parametrize("folders", [["47"], ["47", "none"], ["047"]])
def test_a_folder_column_of_text_does_not_depend_on_the_other_folders(
    repo: Any, folders: list[str]
) -> None:
    for folder in folders:
        put(repo, f"d/n={folder}/x.parquet", user_id=[folder])
    repo.fields = {"n": "string"}
    assert repo.read(HIVE).column("n") == folders


def test_a_folder_column_of_numbers_or_dates_has_their_type(repo: Any) -> None:
    put(repo, "d/n=007/day=2026-01-02/f=1.5/x.parquet", user_id=["a"])
    repo.fields = {"n": "int64", "day": "date", "f": "float64"}
    (row,) = repo.read(HIVE).rows
    assert (row["n"], row["day"].isoformat(), row["f"]) == (7, "2026-01-02", 1.5)
    put(repo, "d/n=1.5/day=2026-01-02/f=1/x.parquet", user_id=["b"])
    with pytest.raises(SourceError, match=r"folder n=1\.5 is not int64"):
        repo.read(HIVE)


def test_a_parquet_decimal_of_more_than_38_digits_is_refused(repo: Any) -> None:
    wide = pa.array([Decimal("12345678901234567890123456789012345678901.25")])
    put(repo, "rows.parquet", user_id=["a"], n=wide)
    repo.fields = {"n": "float64"}
    with pytest.raises(SourceError, match=r"column 'n' is a decimal of \d+ digits in rows.parq"):
        repo.read(ParquetSourcePlan(paths=("rows.parquet",)))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array([np.float16(1.5)]), 1.5),
        (pa.array([[np.float16(1.5)]], pa.list_(pa.float16())), [1.5]),
        (pa.array([Decimal("19.99")], pa.decimal256(50, 2)), Decimal("19.99")),
        (pa.array([Decimal("19.99")], pa.decimal256(76, 38)), Decimal("19.99")),
        (pa.array([Decimal(1500)], pa.decimal128(5, -2)), Decimal(1500)),
    ],
)
def test_unusual_arrow_types_are_read_exactly(
    repo: Any, read_data: Any, values: Any, expected: object
) -> None:
    data = pa.table({"user_id": ["a"], "n": values})
    for source in (data, data.to_reader()):
        (row,) = read_data(ArrowSource(source), repo.view(None)).rows
        assert row["n"] == expected


def test_an_arrow_decimal_that_does_not_fit_is_refused_by_column(
    repo: Any, read_data: Any
) -> None:
    wide = pa.array([Decimal(10) ** 45 + Decimal("0.25")], pa.decimal256(60, 2))
    data = pa.table({"user_id": ["a"], "n": wide})
    for source in (data, data.to_reader()):
        with pytest.raises(SourceError, match="column 'n' is decimal256"):
            read_data(ArrowSource(source), repo.view(None))
