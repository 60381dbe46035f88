"""Random loads, windows, rows of a program and events, against a small model of what is stored."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from featurekit import FeatureStore
from featurekit.errors import OlderRowsError
from featurekit.runtime.load import MaterializeReport
from tests.conftest import KINDS, flushed
from tests.servers import PATIENT_YAML, Server

DEFINITIONS = """
entities: [{name: user, join_keys: {user_id: string}}]
feature_views:
  - name: ordered
    entity: user
    batch: {refresh: 24h, ordering: event_time, EXPIRES source: SOURCE}
    fields: {a: int64, b: int64}
  - name: plain
    entity: user
    batch: {refresh: 24h, expires: field, source: SOURCE}
    fields: {c: int64, d: int64}
  - name: session
    entity: user
    stream: {refresh: 1h, ttl: 24h, ordering: event_time}
    fields: {e: int64, f: int64}
""".replace("SOURCE", "{type: jsonl, path: rows.jsonl, timestamp_field: at, absent: 'null'}")
FIELDS = {"ordered": ("a", "b"), "plain": ("c", "d"), "session": ("e", "f")}
USERS = [f"u{i}" for i in range(6)]
BASE_MS = int(datetime.now(UTC).timestamp()) * 1000 - 3_600_000
"""An hour ago. The times of a test are up to 30 seconds later."""

Row = dict[str, Any]


@dataclass
class Model:
    """What the hashes hold: for each user its values, and the newest time of each ordered view.

    Attributes:
        newest_ms: The newest time that loads of `plain` wrote.
    """

    values: dict[str, dict[str, int]] = field(default_factory=lambda: {u: {} for u in USERS})
    newest_ms: int = 0

    def load(
        self, view: str, rows: list[Row], window: tuple[int, int] | None, option: str
    ) -> tuple[int, int, int] | None:
        """Load rows; return how many were written, superseded and kept, or `None` if refused."""
        start, end = window or (0, BASE_MS * 2)
        rows = [row for row in rows if start <= row["at"] < end]
        newest = {row["user_id"]: row for row in sorted(rows, key=lambda row: row["at"])}
        own_ms = max((row["at"] for row in rows), default=self.newest_ms)
        if view == "plain" and not option and own_ms < self.newest_ms:
            return None
        written = [row for row in newest.values() if self.write(view, row, option)]
        if view == "plain" and written:
            lowers = option == "allow_older" and window is None
            self.newest_ms = own_ms if lowers else max(self.newest_ms, own_ms)
        return len(written), len(rows) - len(newest), len(newest) - len(written)

    def write(self, view: str, row: Row, option: str = "", *, is_event: bool = False) -> bool:
        """Write a row or an event; return whether it was written."""
        stored, clock, names = self.values[row["user_id"]], f"@{view}", FIELDS[view]
        if option == "missing_only" and any(name in stored for name in names):
            return False
        if view != "plain":
            if option != "allow_older" and stored.get(clock, 0) > row["at"]:
                return False
            stored[clock] = row["at"]
        for name in names:
            if row.get(name) is not None:
                stored[name] = row[name]
            elif not is_event or name in row:
                stored.pop(name, None)
        return True


class Actor:
    """Does the same at random to a store and to the model, and compares the two."""

    def __init__(self, store: FeatureStore, server: Server, rng: random.Random) -> None:
        self.store, self.server, self.rng = store, server, rng
        self.model = Model()
        self.writer = store.stream_writer("session")

    def row(self, view: str) -> Row:
        row: Row = {
            "user_id": self.rng.choice(USERS),
            "at": BASE_MS + self.rng.randrange(30) * 1000,
        }
        for name in FIELDS[view]:
            if (value := self.rng.randrange(5)) != 0:
                row[name] = value
            elif self.rng.random() < 0.5:
                row[name] = None
        return row

    def load(self) -> None:
        view = self.rng.choice(["ordered", "ordered", "plain"])
        rows = [self.row(view) for _ in range(self.rng.randrange(1, 12))]
        option = self.rng.choice(["", "", "", "allow_older", "missing_only"])
        ends = sorted(BASE_MS + self.rng.randrange(31) * 1000 for _ in range(2))
        window = (ends[0], ends[1] + 1000) if self.rng.random() < 0.3 else None
        lines = [json.dumps({**row, "at": to_text(row["at"])}) for row in rows]
        (self.store.path / "rows.jsonl").write_text("\n".join(lines) + "\n")
        options: dict[str, Any] = {option: True} if option else {}
        if window:
            options |= {"start": to_text(window[0]), "end": to_text(window[1])}
        expected = self.model.load(view, rows, window, option)
        if expected is None:
            with pytest.raises(OlderRowsError):
                self.store.materialize([view], **options)
            return
        [report] = self.store.materialize([view], **options)
        assert counts(report) == expected

    def write_rows(self) -> None:
        rows = [self.row("ordered") for _ in range(self.rng.randrange(1, 6))]
        option = self.rng.choice(["", "", "allow_older"])
        written = [row["user_id"] for row in rows if self.model.write("ordered", row, option)]
        report = self.store.write_batch(
            "ordered",
            [
                {k: v for k, v in row.items() if k != "at"} | {"event_timestamp": row["at"]}
                for row in rows
            ],
            allow_older=bool(option),
        )
        entities = len(set(written))
        assert counts(report) == (entities, len(written) - entities, len(rows) - len(written))

    def write_event(self) -> None:
        row = self.row("session")
        values = {name: row[name] for name in FIELDS["session"] if name in row}
        is_written = bool(values) and self.model.write("session", row, is_event=True)
        event = self.writer.write(row["user_id"], values, event_timestamp=row["at"])
        assert event == is_written

    def compare(self) -> None:
        with self.server.client() as client:
            for user, values in self.model.values.items():
                found = {k.decode(): int(v) for k, v in client.hgetall(f"fs:user:{user}").items()}
                assert found == values


def to_text(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat()


def counts(report: MaterializeReport) -> tuple[int, int, int]:
    return report.rows_written, report.rows_superseded, report.rows_kept


@pytest.fixture(params=["valkey", "redis8"])
def kind(request: pytest.FixtureRequest) -> str:
    if request.param not in KINDS:
        pytest.skip("this machine has no such server")
    return str(request.param)


@pytest.fixture
def run(kind: str, tmp_path: Path, started: dict[str, Server]) -> Iterator[Callable[[int], None]]:
    """Return the function that runs some random steps, the same for the same seed."""
    server = flushed(kind, started)
    (tmp_path / "featurerepo.yaml").write_text(
        "project: shop\ndefinitions: [f.yaml]\n"
        f"online_store: {{url: '{server.url}', key_prefix: fs, {PATIENT_YAML}}}\n"
    )
    expires = "" if kind == "valkey" else "expires: field,"
    (tmp_path / "f.yaml").write_text(DEFINITIONS.replace("EXPIRES", expires))

    def run(seed: int) -> None:
        rng = random.Random(seed)
        store.reset()
        with server.client() as client:
            client.delete(*client.keys("featurekit:*:runs:*"), "none")
        actor = Actor(store, server, rng)
        for _ in range(25):
            rng.choice([actor.load, actor.write_rows, actor.write_event, actor.write_event])()
            actor.compare()

    with FeatureStore(tmp_path) as store:
        store.apply()
        yield run


def test_any_order_of_loads_and_events_leaves_what_the_model_says(
    run: Callable[[int], None],
) -> None:
    for seed in range(2):
        run(seed)


@pytest.mark.slow
def test_many_orders_of_loads_and_events_leave_what_the_model_says(
    run: Callable[[int], None],
) -> None:
    for seed in range(2, 40):
        run(seed)
