"""The stage: what the page and the endpoints of the demo do, through the library.

Answers have the keys of the seed's demo, and beside its texts the typed values and statuses.
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

from featurekit.demo.event_simulator import EventSimulator, Users
from featurekit.demo.repository import ACTIVITY, PROFILE, SERVICE, redeclare
from featurekit.demo.settings import Settings
from featurekit.demo.synthetic_users import profile, user_id
from featurekit.demo.user_count import UserCounter
from featurekit.errors import StoreError, StoreUnavailableError
from featurekit.plan import FieldPlan
from featurekit.repo import FeatureStore
from featurekit.repo.diagnostics import InspectedField
from featurekit.runtime.response import OnlineResponse
from featurekit.types import codec_of

SHOWN_IDS = 500
SAMPLE = 10
_WITNESS = "risk_segment"
"""A batch field, read beside others since it tells whether there is a user, and for how long."""

GONE, ENDLESS = -2, -1
"""What `HTTL` says of a field that is not there, and of one without a TTL of its own."""


@dataclass(slots=True)
class Stats:
    """What was read and written since the start or the last reset."""

    batch_writes_total: int = 0
    streaming_writes_total: int = 0
    reads_total: int = 0
    read_fields_total: int = 0


class DemoService:
    """One store and one worker for the life of the process.

    Args:
        settings: What the flags say.
        store: The demo's store, applied.

    Attributes:
        settings: The same.
        store: The same.
        ticker: The streaming worker.
        fields: The features by name.
    """

    def __init__(self, settings: Settings, store: FeatureStore) -> None:
        self.settings = settings
        self.store = store
        entity = settings.keys.entity
        self.ticker = EventSimulator(
            store.stream_writer(ACTIVITY),
            Users(
                store.online_reader(SERVICE),
                lambda: store.diagnostics.all_ids(entity),
                settings.users_per_tick,
                settings.tick_s,
            ),
        )
        views = [store.compiled.view(name) for name in (PROFILE, ACTIVITY)]
        self.fields: dict[str, FieldPlan] = {f.name: f for view in views for f in view.fields}
        self._views = {field.name: view.name for view in views for field in view.fields}
        self._census = UserCounter(lambda: store.diagnostics.all_ids(entity))
        self._stats = Stats()
        self._writing = threading.Lock()

    @property
    def default_fields(self) -> list[str]:
        """What a batch read asks for if nothing is said."""
        stream = [field.name for field in self.fields.values() if field.ttl_ms]
        return [*stream, "risk_segment"]

    @property
    def batch_ttl_s(self) -> int:
        """How long a loaded user lives, as applied."""
        return self.store.compiled.view(PROFILE).ttl_ms // 1000

    async def state(self) -> dict[str, object]:
        """How things stand; of a store that is away what was known last, and why."""
        count = await self._census.take()
        users = self.ticker.users
        ticks = users.ticks
        stats = asdict(self._stats) | {"streaming_writes_total": ticks.writes_count}
        worker = asdict(ticks) | {
            "running": self.ticker.running,
            "paused": users.paused,
            "users_per_tick": self.settings.users_per_tick,
        }
        return {
            "key_prefix": str(self.settings.keys),
            "batch_ttl_seconds": self.settings.batch_ttl_s,
            "streaming_ttl_seconds": self.settings.streaming_ttl_s,
            "entity_count": count.users,
            "entity_ids": count.ids[:SHOWN_IDS],
            "stats": stats,
            "worker": worker,
            "store": {
                "url": self.store.url,
                "available": not self._census.error,
                "error": self._census.error,
                "batch_ttl_seconds": self.batch_ttl_s,
            },
        }

    async def bulk_load(self, count: int, ttl_s: int) -> dict[str, object]:
        """Load so many users, with a TTL that becomes the declared one of their view."""
        answer = await asyncio.to_thread(self.load, count, ttl_s)
        await self._census.take(anew=True)
        return answer

    def load(self, count: int, ttl_s: int) -> dict[str, Any]:
        """As `bulk_load`, in this thread; the elapsed time is that of the load alone."""
        rows = {user_id(number): profile(number) for number in range(1, count + 1)}
        with self._writing:
            if ttl_s != self.batch_ttl_s:
                redeclare(self.store, self.settings, ttl_s)
            report = self.store.write_batch(PROFILE, rows, on_bad_row="skip")
            self._stats.batch_writes_total += report.rows_written
        answer: dict[str, Any] = {
            "loaded": report.rows_written,
            "ttl_seconds": ttl_s,
            "elapsed_ms": _ms(report.seconds),
        }
        if report.rows_rejected:
            answer |= {"rejected": report.rows_rejected, "reasons": report.reasons}
        return answer

    def toggle_worker(self) -> dict[str, object]:
        """Pause the worker, or have it go on."""
        users = self.ticker.users
        users.paused = not users.paused
        return {"paused": users.paused, "running": self.ticker.running}

    async def read(self, user: str, names: Sequence[str]) -> dict[str, object]:
        """Features of one user, by one round trip."""
        response, seconds = await self._ask([user], [*names, _WITNESS], freshness=True)
        if response.errors:
            raise StoreError(response.errors[0], where=f"{self.settings.keys}{user}")
        row = _Row(self.fields, response)
        values = {name: text for name in names if (text := row.text(name)) is not None}
        self._count(1, len(values))
        return {
            "requested": list(names),
            "values": values,
            "ttls": {name: row.ttl(name) for name in names},
            "key_ttl_seconds": row.key_ttl,
            "returned_count": len(values),
            "elapsed_ms": _ms(seconds),
            "found": response.found[0],
            "typed": {name: row.typed(name) for name in names},
            "statuses": {name: row.status(name) for name in names},
        }

    async def batch_read(self, count: int, names: Sequence[str]) -> dict[str, object]:
        """Features of some users, picked at random, by one round trip."""
        ids = (await self._census.take()).ids
        if not ids and self._census.error:
            raise StoreUnavailableError(self._census.error)
        users = sorted(random.sample(ids, min(count, len(ids))))
        response, seconds = await self._ask(users, names)
        told = response.statuses
        asked = [told.get(name, ["unknown"] * len(users)) for name in dict.fromkeys(names)]
        rows = [[column[index] for column in asked] for index in range(len(users))]
        counts = [
            {"id": user, "field_count": row.count("present")}
            for user, row in zip(users, rows, strict=True)
        ]
        statuses = Counter(status for row in rows for status in row)
        self._count(len(users), statuses["present"])
        return {
            "entity_count": len(users),
            "field_count": len(names),
            "elapsed_ms": _ms(seconds),
            "sample": counts[:SAMPLE],
            "entities": counts,
            "statuses": dict(statuses),
            "errors": {users[index]: reason for index, reason in response.errors.items()},
        }

    async def inspect(self, user: str) -> dict[str, object]:
        """All that is stored for one user, and what is declared and is not there."""
        seen = await asyncio.to_thread(self.store.inspect, self.settings.keys.entity, user)
        key_ttl = ENDLESS if seen.key_ttl_ms is None else _seconds(seen.key_ttl_ms / 1000)
        if not seen.found:
            return {"exists": False, "key_ttl_seconds": GONE}
        fields = sorted(seen.fields, key=lambda field: field.name)
        return {
            "exists": True,
            "key_ttl_seconds": key_ttl,
            "fields": [self._inspected(field) for field in fields],
            "key": seen.key,
            "encoding": seen.encoding,
        }

    async def reset(self) -> dict[str, object]:
        """Drop every user under the prefix, and nothing else; all counts are 0 then."""
        deleted = await asyncio.to_thread(self.clear)
        await self._census.take(anew=True)
        return {"deleted": deleted}

    def clear(self) -> int:
        """As `reset`, in this thread; returns how many there were."""
        with self._writing, self.ticker.users.resting():
            deleted = self.store.reset(self.settings.keys.entity)
            self._stats = Stats()
        return deleted

    async def _ask(
        self, users: Sequence[str], names: Sequence[str], *, freshness: bool = False
    ) -> tuple[OnlineResponse, float]:
        """The features of these names that there are, of these users; and how long that took."""
        known = [name for name in dict.fromkeys(names) if name in self.fields] or [_WITNESS]
        features = [f"{self._views[name]}:{name}" for name in known]
        start = time.perf_counter()
        response = await self.store.get_online_features_async(
            features, {"user_id": users}, freshness=freshness
        )
        return response, time.perf_counter() - start

    def _count(self, reads: int, fields: int) -> None:
        self._stats.reads_total += reads
        self._stats.read_fields_total += fields

    def _inspected(self, field: InspectedField) -> dict[str, object]:
        stored = field.raw is not None
        ttl = GONE if not stored else ENDLESS
        return {
            "name": field.name,
            "value": field.raw.decode(errors="backslashreplace")
            if field.raw is not None
            else None,
            "ttl_seconds": ttl if field.ttl_ms is None else _seconds(field.ttl_ms / 1000),
            "typed": _typed(self.fields.get(field.name), field.value),
            "type": field.dtype,
            "view": field.view,
            "status": field.status,
        }


class _Row:
    """One row of a response, field by field; a name that is no feature has the status `unknown`."""

    def __init__(
        self, fields: Mapping[str, FieldPlan], response: OnlineResponse, index: int = 0
    ) -> None:
        self._fields = fields
        self._values = {name: cells[index] for name, cells in response.to_dict().items()}
        self._statuses = {name: cells[index] for name, cells in response.statuses.items()}
        self._lives = {name: cells[index] for name, cells in response.freshness.items()}
        self._found = response.found[index]

    def status(self, name: str) -> str:
        return self._statuses.get(name, "unknown")

    def text(self, name: str) -> str | None:
        """The value as it stands in the hash; `None` if there is none that can be read."""
        if self.status(name) != "present":
            return None
        return codec_of(self._fields[name].dtype).encode(self._values[name]).decode()

    def typed(self, name: str) -> object:
        """The value, or the default where there is one."""
        return _typed(self._fields.get(name), self._values.get(name))

    def ttl(self, name: str) -> int:
        """Seconds to live, as `HTTL` has them."""
        life = self._lives.get(name)
        if life is None:
            return GONE
        return ENDLESS if not self._fields[name].ttl_ms else _seconds(life)

    @property
    def key_ttl(self) -> int:
        """Seconds that the key has to live, as `TTL` has them; told by its batch fields."""
        lives = [
            life
            for name, life in self._lives.items()
            if life is not None and not self._fields[name].ttl_ms
        ]
        if lives:
            return _seconds(lives[0])
        return ENDLESS if self._found else GONE


def _typed(field: FieldPlan | None, value: object) -> Any:
    return None if value is None or field is None else codec_of(field.dtype).to_json(value)


def _seconds(life: float) -> int:
    """Whole seconds, rounded as the server rounds them; -1 for no end."""
    return ENDLESS if life == float("inf") else int(life + 0.5)


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
