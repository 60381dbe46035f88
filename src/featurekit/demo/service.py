"""The operations behind the demo's page and endpoints, built on the library.

Results have the keys of the Redis guide's demo, and add typed values and statuses.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from featurekit.demo.event_simulator import EventSimulator, SimulatedUsers
from featurekit.demo.repository import (
    ACTIVITY,
    PROFILE,
    SERVICE,
    WINDOWS,
    redeclare,
    windows_entity,
)
from featurekit.demo.settings import Settings
from featurekit.demo.synthetic_users import profile, user_id
from featurekit.demo.transactions import USER, Transactions
from featurekit.demo.user_count import UserCounter
from featurekit.errors import StoreError, StoreUnavailableError
from featurekit.plan import FieldPlan
from featurekit.repo import FeatureStore
from featurekit.repo.diagnostics import InspectedField
from featurekit.repo.store_identity import StoreState
from featurekit.runtime.marks import RESET, set_mark_field
from featurekit.runtime.response import OnlineResponse
from featurekit.types import codec_of, json_value

MAX_IDS = 500
SAMPLE_SIZE = 10

_BATCH_FIELD = "risk_segment"
"""Read with every request: it shows whether the user exists, and the TTL of the key."""

NOT_FOUND, NO_TTL = -2, -1
"""What Redis' `HTTL` returns for a missing field, and for a field without a TTL."""


@dataclass(slots=True)
class Stats:
    """Counters since the start or the last reset."""

    batch_writes_total: int = 0
    streaming_writes_total: int = 0
    reads_total: int = 0
    read_fields_total: int = 0


class DemoService:
    """One store and one event simulator, for the life of the process.

    Args:
        settings: The command's flags.
        store: The demo's store, with its definitions applied.

    Attributes:
        settings: The command's flags.
        store: The demo's store.
        simulator: The streaming worker and its event source.
        transactions: The windows of one user, which it fills in each tick.
        fields: The features by name.
    """

    def __init__(self, settings: Settings, store: FeatureStore) -> None:
        self.settings = settings
        self.store = store
        entity = settings.keys.entity
        self.simulator = EventSimulator(
            store.stream_writer(ACTIVITY),
            SimulatedUsers(
                store.readers.reader(SERVICE, counted=False),
                lambda: store.diagnostics.all_ids(entity),
                settings.users_per_tick,
                settings.tick_s,
            ),
        )
        users = self.simulator.users
        self.transactions = Transactions(
            store, users.stop, settings.tick_s, self.simulator.on_report
        )
        users.after_write = self.transactions.tick
        views = [store.compiled.view(name) for name in (PROFILE, ACTIVITY)]
        self.fields: dict[str, FieldPlan] = {f.name: f for view in views for f in view.fields}
        self._views = {field.name: view.name for view in views for field in view.fields}
        self._user_counter = UserCounter(lambda: store.diagnostics.all_ids(entity))
        self._event_commands = (
            "HSETEX" if store.handle.store.capabilities.hsetex else "HSET and HPEXPIRE"
        )
        self._stats = Stats()
        self._write_lock = threading.Lock()

    @property
    def default_fields(self) -> list[str]:
        """The fields of a batch read that names none."""
        stream = [field.name for field in self.fields.values() if field.ttl_ms]
        return [*stream, _BATCH_FIELD]

    @property
    def batch_ttl_s(self) -> int:
        """The applied TTL of a loaded user, in seconds."""
        return self.store.compiled.view(PROFILE).ttl_ms // 1000

    async def state(self) -> dict[str, object]:
        """Return the current state; of an unavailable store, the last known one and the error."""
        count = await self._user_counter.count()
        users = self.simulator.users
        stats = asdict(self._stats) | {"streaming_writes_total": users.stats.writes_count}
        worker = asdict(users.stats) | {
            "running": self.simulator.running,
            "paused": users.paused,
            "users_per_tick": self.settings.users_per_tick,
        }
        return {
            "key_prefix": str(self.settings.keys),
            "batch_ttl_seconds": self.settings.batch_ttl_s,
            "streaming_ttl_seconds": self.settings.streaming_ttl_s,
            "entity_count": count.users,
            "entity_ids": count.ids[:MAX_IDS],
            "stats": stats,
            "worker": worker,
            "windows": await self._windows(),
            "commands": {
                "load": "HSET and PEXPIRE",
                "event": self._event_commands,
                "read": "HMGET",
            },
            "store": {
                "url": self.store.url,
                "available": not self._user_counter.error,
                "error": self._user_counter.error,
                "batch_ttl_seconds": self.batch_ttl_s,
            },
        }

    async def _windows(self) -> dict[str, object] | None:
        """Return the windows of the user that pays in each tick; `None` of an unavailable store."""
        try:
            response = await self.store.get_online_features_async([WINDOWS], {"user_id": [USER]})
        except StoreError:
            return None
        names = self.store.compiled.view(WINDOWS).fields
        values = response.to_dict()
        return {
            "user": USER,
            "values": {field.name: values[field.name][0] for field in names},
            "statuses": {field.name: response.statuses[field.name][0] for field in names},
        }

    async def bulk_load(self, count: int, ttl_s: int) -> dict[str, object]:
        """Load users; the TTL becomes the declared TTL of their view."""
        result = await asyncio.to_thread(self.load, count, ttl_s)
        await self._user_counter.count(refresh=True)
        return result

    def load(self, count: int, ttl_s: int) -> dict[str, Any]:
        """Load users in this thread; `elapsed_ms` covers only the load."""
        rows = {user_id(number): profile(number) for number in range(1, count + 1)}
        with self._write_lock:
            if ttl_s != self.batch_ttl_s or self.store.store_state() is not StoreState.SAME:
                redeclare(self.store, self.settings, ttl_s)
            report = self.store.write_batch(PROFILE, rows, on_bad_row="skip")
            self._stats.batch_writes_total += report.rows_written
        result: dict[str, Any] = {
            "loaded": report.rows_written,
            "ttl_seconds": ttl_s,
            "elapsed_ms": _milliseconds(report.seconds),
        }
        if report.rows_rejected:
            result |= {"rejected": report.rows_rejected, "reasons": report.reasons}
        return result

    def toggle_worker(self) -> dict[str, object]:
        """Pause the worker, or resume it."""
        users = self.simulator.users
        users.paused = not users.paused
        return {"paused": users.paused, "running": self.simulator.running}

    async def read(self, user: str, names: Sequence[str]) -> dict[str, object]:
        """Read features of one user in one round trip."""
        response, seconds = await self._read_features(
            [user], [*names, _BATCH_FIELD], freshness=True
        )
        if response.errors:
            raise StoreError(response.errors[0], where=f"{self.settings.keys}{user}")
        row = _Row(self.fields, response)
        values = {name: text for name in names if (text := row.text(name)) is not None}
        self._count_reads(1, len(values))
        return {
            "requested": list(names),
            "values": values,
            "ttls": {name: row.ttl(name) for name in names},
            "key_ttl_seconds": row.key_ttl,
            "returned_count": len(values),
            "elapsed_ms": _milliseconds(seconds),
            "found": response.found[0],
            "typed": {name: row.typed(name) for name in names},
            "statuses": {name: row.status(name) for name in names},
        }

    async def batch_read(self, count: int, names: Sequence[str]) -> dict[str, object]:
        """Read features of random users in one round trip."""
        ids = (await self._user_counter.count()).ids
        if not ids and self._user_counter.error:
            raise StoreUnavailableError(self._user_counter.error)
        users = sorted(random.sample(ids, min(count, len(ids))))
        response, seconds = await self._read_features(users, names)
        unknown = ["unknown"] * len(users)
        columns = [response.statuses.get(name, unknown) for name in dict.fromkeys(names)]
        rows = [[column[index] for column in columns] for index in range(len(users))]
        entities = [
            {"id": user, "field_count": row.count("present")}
            for user, row in zip(users, rows, strict=True)
        ]
        statuses = Counter(status for row in rows for status in row)
        self._count_reads(len(users), statuses["present"])
        return {
            "entity_count": len(users),
            "field_count": len(names),
            "elapsed_ms": _milliseconds(seconds),
            "sample": entities[:SAMPLE_SIZE],
            "entities": entities,
            "statuses": dict(statuses),
            "errors": {users[index]: reason for index, reason in response.errors.items()},
        }

    async def inspect(self, user: str) -> dict[str, object]:
        """Return everything stored for one user, and the declared fields that are missing."""
        seen = await asyncio.to_thread(self.store.inspect, self.settings.keys.entity, user)
        key_ttl = NO_TTL if seen.key_ttl_ms is None else _whole_seconds(seen.key_ttl_ms / 1000)
        if not seen.found:
            return {"exists": False, "key_ttl_seconds": NOT_FOUND}
        fields = sorted(seen.fields, key=lambda field: field.name)
        return {
            "exists": True,
            "key_ttl_seconds": key_ttl,
            "fields": [self._field_document(field) for field in fields],
            "key": seen.key,
            "encoding": seen.encoding,
        }

    async def reset(self) -> dict[str, object]:
        """Delete all users under the key prefix and reset all counters."""
        deleted = await asyncio.to_thread(self.clear)
        await self._user_counter.count(refresh=True)
        return {"deleted": deleted}

    def clear(self) -> int:
        """Delete the users in this thread; return how many there were."""
        with self._write_lock, self.simulator.users.resetting():
            deleted = self.store.reset(self.settings.keys.entity)
            windows = windows_entity(self.settings.keys)
            self.store.reset(windows)
            # No event is left, so the windows are complete at once.
            for view in (each for each in self.store.compiled.views if each.key.entity == windows):
                set_mark_field(self.store.handle.store, view, RESET, None)
            self._stats = Stats()
        return deleted

    async def _read_features(
        self, users: Sequence[str], names: Sequence[str], *, freshness: bool = False
    ) -> tuple[OnlineResponse, float]:
        """Return the known features of some users, and the duration of the read in seconds."""
        known = [name for name in dict.fromkeys(names) if name in self.fields] or [_BATCH_FIELD]
        features = [f"{self._views[name]}:{name}" for name in known]
        start = time.perf_counter()
        response = await self.store.get_online_features_async(
            features, {"user_id": users}, freshness=freshness
        )
        return response, time.perf_counter() - start

    def _count_reads(self, reads: int, fields: int) -> None:
        self._stats.reads_total += reads
        self._stats.read_fields_total += fields

    def _field_document(self, field: InspectedField) -> dict[str, object]:
        raw = field.raw
        ttl = NOT_FOUND if raw is None else NO_TTL
        return {
            "name": field.name,
            "value": None if raw is None else raw.decode(errors="backslashreplace"),
            "ttl_seconds": ttl if field.ttl_ms is None else _whole_seconds(field.ttl_ms / 1000),
            "typed": _typed_value(self.fields.get(field.name), field.value),
            "type": field.dtype,
            "view": field.view,
            "status": field.status,
        }


class _Row:
    """One row of a response; a name without a feature has the status `unknown`."""

    def __init__(
        self, fields: Mapping[str, FieldPlan], response: OnlineResponse, index: int = 0
    ) -> None:
        self._fields = fields
        self._values = {name: cells[index] for name, cells in response.to_dict().items()}
        self._statuses = {name: cells[index] for name, cells in response.statuses.items()}
        self._freshness = {name: cells[index] for name, cells in response.freshness.items()}
        self._found = response.found[index]

    def status(self, name: str) -> str:
        return self._statuses.get(name, "unknown")

    def text(self, name: str) -> str | None:
        """Return the value as stored in the hash; `None` if it is not `present`."""
        if self.status(name) != "present":
            return None
        return codec_of(self._fields[name].dtype).encode(self._values[name]).decode()

    def typed(self, name: str) -> object:
        """Return the decoded value, or the default."""
        return _typed_value(self._fields.get(name), self._values.get(name))

    def ttl(self, name: str) -> int:
        """Return the remaining seconds, as `HTTL` does."""
        ttl_s = self._freshness.get(name)
        if ttl_s is None:
            return NOT_FOUND
        return NO_TTL if not self._fields[name].ttl_ms else _whole_seconds(ttl_s)

    @property
    def key_ttl(self) -> int:
        """The remaining seconds of the key, as `TTL` returns; known from its batch fields."""
        for name, ttl_s in self._freshness.items():
            if ttl_s is not None and not self._fields[name].ttl_ms:
                return _whole_seconds(ttl_s)
        return NO_TTL if self._found else NOT_FOUND


def _typed_value(field: FieldPlan | None, value: object) -> object:
    return None if field is None else json_value(field.dtype, value)


def _whole_seconds(ttl_s: float) -> int:
    """Return a TTL in whole seconds, rounded as Redis does; -1 for no expiry."""
    return NO_TTL if ttl_s == float("inf") else int(ttl_s + 0.5)


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)
