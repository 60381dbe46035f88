from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from featurekit.keys import JoinKey, KeyPlan
from featurekit.plan import FieldPlan, SourcePlan, ViewPlan
from featurekit.ports import SOURCE_ROW, BatchSource, TimeRange
from featurekit.sources import open_source
from featurekit.types import parse_dtype


def make_view(source: SourcePlan | None, keys: dict[str, str], fields: dict[str, str]) -> ViewPlan:
    return ViewPlan(
        name="profile",
        kind="batch",
        key=KeyPlan("fs", "user", tuple(JoinKey(n, parse_dtype(t)) for n, t in keys.items())),
        fields=tuple(FieldPlan(n, parse_dtype(t)) for n, t in fields.items()),
        expires="key",
        ttl_ms=1000,
        refresh_ms=500,
        source=source,
    )


@dataclass
class Read:
    """One scan, drained."""

    form: str
    rows: list[dict[str, Any]]
    rows_read: int
    schema: Any

    def column(self, name: str) -> list[Any]:
        return sorted(row[name] for row in self.rows)


@dataclass
class Repo:
    """A folder with sources, and a view of `user_id` and `n` over any of them."""

    root: Path
    keys: dict[str, str]
    fields: dict[str, str]

    def view(self, source: SourcePlan | None) -> ViewPlan:
        return make_view(source, self.keys, self.fields)

    def open(self, plan: SourcePlan) -> BatchSource:
        return open_source(plan, self.root, batch_rows=1000)

    def read(
        self, plan: SourcePlan, start_ms: int | None = None, end_ms: int | None = None
    ) -> Read:
        return drain(self.open(plan), self.view(plan), start_ms, end_ms)

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path


def drain(
    source: BatchSource, view: ViewPlan, start_ms: int | None = None, end_ms: int | None = None
) -> Read:
    scan = source.scan(view, TimeRange(start_ms, end_ms))
    batches = [batch.drop_columns([SOURCE_ROW]) for batch in scan.batches]
    rows = [row for batch in batches for row in batch.to_pylist()]
    return Read(scan.form, rows, scan.rows_read, batches[0].schema if batches else None)


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    return Repo(tmp_path, {"user_id": "string"}, {"n": "int64"})


@pytest.fixture
def read_data() -> Callable[..., Read]:
    return drain
