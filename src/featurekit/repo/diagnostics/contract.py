"""The contract suite of `featurekit doctor --contract`: what featurekit promises, tried on a server.

Each check writes a few entities through the same writers and readers as an application, under keys of its
own that expire within a minute, and deletes them. So it shows what a server does, not what it calls itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Any

from featurekit.compiler import compile_read
from featurekit.errors import FeatureKitError, LockedError, StoreError
from featurekit.keys import JoinKey, KeyPlan
from featurekit.plan import FieldPlan, RepoPlan, ViewPlan
from featurekit.ports import StoreHandle
from featurekit.repo.deletion import delete_keys
from featurekit.repo.diagnostics.check_result import CheckResult
from featurekit.repo.json_rows import RowWriter
from featurekit.runtime.counters import Counters
from featurekit.runtime.lock import ViewLock
from featurekit.runtime.reader import OnlineReader
from featurekit.runtime.write_report import WriteReport
from featurekit.runtime.writer import StreamWriter
from featurekit.types import parse_dtype
from featurekit.wire import EXEC, MULTI, ErrorReply, Reply, command

LONG_MS = 60_000
"""The TTL of what must still be there at the end of a check."""

SHORT_MS = (300, 1500, 6000)
"""The TTLs to try for what must expire: the next one if a round trip takes half of it."""

GRACE_MS = 50
MAX_SKEW_MS = 1000
MANY = 500
BYTES = bytes(range(256)) * 400
"""A value with all bytes, larger than what a hash keeps in its compact form."""

WaitMs = Callable[[int], None]


class _BrokenPromiseError(Exception):
    """A check found that the server does something else; the message says what."""


@dataclass(slots=True)
class _Trial:
    """The views of a check, their writers and readers, and the keys that it wrote.

    Attributes:
        handle: The online store.
        prefix: The prefix of the keys of this run.
        wait_ms: Waits.
        keys: The keys to delete at the end.
    """

    handle: StoreHandle
    prefix: str
    wait_ms: WaitMs
    keys: dict[bytes, None] = field(default_factory=dict)

    def batch(self, ttl_ms: int = LONG_MS, *, ordered: bool = False) -> ViewPlan:
        """Return a batch view with the fields `a` and `b` that owns the key's TTL."""
        fields = (_field("a"), _field("b"))
        ordering: Any = "event_time" if ordered else "arrival"
        ttls = {"ttl_ms": ttl_ms, "refresh_ms": ttl_ms, "ordering": ordering}
        return ViewPlan("rows", "batch", self._key, fields, expires="key", **ttls)

    def stream(self, ttl_ms: int = LONG_MS, *, ordered: bool = False) -> ViewPlan:
        """Return a stream view: `c` lives for a TTL, `d` for a minute."""
        fields = (_field("c", ttl_ms), _field("d", LONG_MS))
        ordering: Any = "event_time" if ordered else "arrival"
        ttls = {"ttl_ms": ttl_ms, "refresh_ms": ttl_ms, "ordering": ordering}
        return ViewPlan("events", "stream", self._key, fields, expires="field", **ttls)

    @property
    def _key(self) -> KeyPlan:
        return KeyPlan(self.prefix, "entity", (JoinKey("id", parse_dtype("string")),))

    def write_row(self, view: ViewPlan, entity: str, **values: object) -> int:
        """Write a row; return whether it was written."""
        self._note(entity)
        return RowWriter(view, self.handle, Counters()).write([{"id": entity, **values}]).written

    def write_event(
        self, view: ViewPlan, entity: str, at_ms: int | None, **values: Any
    ) -> WriteReport:
        """Write an event."""
        self._note(entity)
        return StreamWriter(view, self.handle).write_many([(entity, values, at_ms)])

    def read(self, *views: ViewPlan, entity: str) -> dict[str, Any]:
        """Return the values of an entity that are stored, by field."""
        return self.read_many(*views, entities=[entity])[0]

    def read_many(self, *views: ViewPlan, entities: list[str]) -> list[dict[str, Any]]:
        """Return the values of some entities that are stored, by field."""
        plan = RepoPlan("contract", self.prefix, "", views=views)
        reader = OnlineReader(compile_read(plan, [view.name for view in views]), self.handle)
        rows = reader.read_many(entities)
        return [{k: v for k, v in row.to_dict().items() if v is not None} for row in rows]

    def pttl(self, entity: str, name: str | None = None) -> int:
        """Return the remaining TTL of a key, or of a field.

        Raises:
            StoreError: The server refuses the command.
        """
        key, store = self.key(entity), self.handle.store
        if name is None:
            return int(_accepted("PTTL", store.call("PTTL", key, key=key)))
        [left_ms] = _accepted("HPTTL", store.call("HPTTL", key, "FIELDS", 1, name, key=key))
        return int(left_ms)

    def key(self, entity: str) -> bytes:
        """Return the key of an entity."""
        return self._key.key([entity])

    def _note(self, entity: str) -> None:
        self.keys[self.key(entity)] = None

    def server_ms(self) -> int:
        """Return the server's time.

        Raises:
            StoreError: The user may not run `TIME`.
        """
        seconds, micros = _accepted("TIME", self.handle.store.call("TIME"))
        return int(seconds) * 1000 + int(micros) // 1000

    def expires(
        self, write: Callable[[int], object], is_live: Callable[[], bool], what: str
    ) -> None:
        """Check that something is live after a write with a TTL, and gone when it has passed."""
        for ttl_ms in SHORT_MS:
            began = time.monotonic()
            write(ttl_ms)
            was_live = is_live()
            if (time.monotonic() - began) * 1000 > ttl_ms / 2:
                continue
            _require(was_live, f"{what} with a TTL of {ttl_ms} ms is gone at once")
            self.wait_ms(ttl_ms + GRACE_MS)
            _require(not is_live(), f"{what} is still served {GRACE_MS} ms after its TTL")
            return
        raise StoreError(f"a round trip takes more than {SHORT_MS[-1] // 2} ms")


def run_contract(handle: StoreHandle, prefix: str, wait_ms: WaitMs) -> list[CheckResult]:
    """Try each promise on a server, under keys of its own.

    Args:
        handle: The online store.
        prefix: The key prefix of the project, below which its users may write.
        wait_ms: Waits some milliseconds.
    """
    trial = _Trial(handle, f"{prefix}:@contract:{token_hex(6)}", wait_ms)
    results = []
    try:
        for subject, promise, check in CHECKS:
            results.append(_run(subject, promise, check, trial))
    finally:
        delete_keys(handle.store, list(trial.keys))
    return results


def _run(
    subject: str, promise: str, check: Callable[[_Trial], None], trial: _Trial
) -> CheckResult:
    try:
        check(trial)
    except _BrokenPromiseError as error:
        return CheckResult("fail", f"contract: {subject}", f"not so: {promise}; {error}", _HINT)
    except FeatureKitError as error:
        return CheckResult(
            "fail", f"contract: {subject}", f"{promise}: {error.message}", error.hint
        )
    return CheckResult("ok", f"contract: {subject}", promise)


def _require(held: bool, otherwise: str) -> None:  # noqa: FBT001 - a condition
    if not held:
        raise _BrokenPromiseError(otherwise)


def _require_equal(found: object, expected: object, what: str) -> None:
    _require(found == expected, f"{what}: found {found!r}, expected {expected!r}")


def _accepted(name: str, reply: Reply) -> Any:
    """Return a reply; raise `StoreError` if the server refused the command."""
    if isinstance(reply, ErrorReply):
        raise StoreError(f"the server refused {name}: {reply}")
    return reply


def _field(name: str, ttl_ms: int = 0) -> FieldPlan:
    return FieldPlan(name, parse_dtype("bytes" if name == "d" else "string"), ttl_ms=ttl_ms)


def _clock(trial: _Trial) -> None:
    before, server, after = trial.handle.now_ms(), trial.server_ms(), trial.handle.now_ms()
    skew_ms = max(server - after, before - server, 0)
    _require(skew_ms <= MAX_SKEW_MS, f"they differ by {skew_ms} ms")


def _rows(trial: _Trial) -> None:
    view = trial.batch()
    trial.write_row(view, "row", a="1", b="2")
    _require_equal(trial.read(view, entity="row"), {"a": "1", "b": "2"}, "the row")
    _require(0 < trial.pttl("row") <= LONG_MS, f"the key's TTL is {trial.pttl('row')} ms")
    trial.write_row(view, "row", a="3", b=None)
    _require_equal(trial.read(view, entity="row"), {"a": "3"}, "after a row with null")
    trial.expires(
        lambda ttl_ms: trial.write_row(trial.batch(ttl_ms), "row", a="1"),
        lambda: bool(trial.read(view, entity="row")),
        "a row",
    )


def _events(trial: _Trial) -> None:
    rows, events = trial.batch(), trial.stream()
    trial.write_row(rows, "event", a="1")

    def write(ttl_ms: int) -> None:
        trial.write_event(trial.stream(ttl_ms), "event", None, c="x", d=b"y")

    trial.expires(write, lambda: "c" in trial.read(events, entity="event"), "a field")
    left = {"a": "1", "d": b"y"}
    _require_equal(trial.read(rows, events, entity="event"), left, "the other fields")
    before_ms = trial.pttl("event", "d")
    _require(0 < before_ms <= LONG_MS, f"the TTL of the other field is {before_ms} ms")
    trial.write_row(rows, "event", a="2")
    after_ms = trial.pttl("event", "d")
    _require(0 < after_ms <= before_ms, f"a load changed it from {before_ms} to {after_ms} ms")
    trial.write_event(events, "event", None, d=None)
    _require_equal(
        trial.read(rows, events, entity="event"), {"a": "2"}, "after an event with null"
    )


def _event_times(trial: _Trial) -> None:
    view, now_ms = trial.stream(ordered=True), trial.server_ms()
    trial.write_event(view, "times", now_ms - 1000, c="new", d=b"1")
    older = trial.write_event(view, "times", now_ms - 2000, c="old")
    _require_equal(older.dropped_older, 1, "older events that were dropped")
    trial.write_event(view, "times", now_ms - 1000, c="later")
    _require_equal(trial.read(view, entity="times"), {"c": "later", "d": b"1"}, "the values")
    left_ms = trial.pttl("times", "c")
    _require(0 < left_ms <= LONG_MS - 1000, f"the TTL of an event of 1 s ago is {left_ms} ms")
    trial.expires(
        lambda ttl_ms: trial.write_event(trial.stream(ttl_ms), "timed", trial.server_ms(), c="x"),
        lambda: "c" in trial.read(trial.stream(), entity="timed"),
        "an event",
    )


def _ordered_rows(trial: _Trial) -> None:
    view, now_ms = trial.batch(ordered=True), trial.server_ms()
    trial.write_row(view, "ordered", a="new", event_timestamp=now_ms - 1000)
    trial.write_row(view, "ordered", a="old", b="x", event_timestamp=now_ms - 2000)
    _require_equal(trial.read(view, entity="ordered"), {"a": "new"}, "the row")


def _transactions(trial: _Trial) -> None:
    store, key = trial.handle.store, trial.key("whole")
    if not store.capabilities.transactions:  # a cluster: each row is one command
        return
    trial.keys[key] = None
    unit = [MULTI, command(b"HSET", key, b"a", b"1"), command(b"NOSUCHCOMMAND"), EXEC]
    replies = store.run([key] * len(unit), unit)
    _require(isinstance(replies[-1], ErrorReply), f"EXEC answered {replies[-1]!r}")
    _require_equal(store.call("HGET", key, "a", key=key), None, "the field of the transaction")


def _values(trial: _Trial) -> None:
    view = trial.stream()
    for entity in ("øre {}:*?[a]", "a:b", "a%3Ab", "x" * 1000):
        trial.write_event(view, entity, None, c=entity, d=BYTES)
        stored = trial.read(view, entity=entity)
        _require(stored == {"c": entity, "d": BYTES}, "a value or a key comes back changed")


def _many(trial: _Trial) -> None:
    view, names = trial.stream(), [f"many{i}" for i in range(MANY)]
    trial.keys |= dict.fromkeys(map(trial.key, names))
    StreamWriter(view, trial.handle).write_many([(name, {"c": name}) for name in names])
    backwards = names[::-1]
    _require(
        trial.read_many(view, entities=backwards) == [{"c": name} for name in backwards],
        f"{MANY} entities come back in another order, or incomplete",
    )


def _lock(trial: _Trial) -> None:
    store = trial.handle.store
    with ViewLock(store, trial.prefix, "rows", trial.handle.now_ms):
        try:
            with ViewLock(store, trial.prefix, "rows", trial.handle.now_ms):
                raise _BrokenPromiseError("two loads hold the lock of a view")
        except LockedError:
            pass
    with ViewLock(store, trial.prefix, "rows", trial.handle.now_ms):
        pass


def _checks() -> Iterator[tuple[str, str, Callable[[_Trial], None]]]:
    yield "clock", "the server's clock agrees with this machine's", _clock
    yield "rows", "a load renews the key's TTL, null deletes, and the key expires with it", _rows
    yield (
        "events",
        "an event renews the TTLs of its own fields, and a load leaves them alone",
        _events,
    )
    yield "event times", "an older event is dropped, and TTLs count from event times", _event_times
    yield "ordered rows", "a load keeps a newer row", _ordered_rows
    yield "transactions", "a refused command discards its transaction", _transactions
    yield "values", "keys and values of any bytes come back unchanged", _values
    yield "many", f"{MANY} entities are read in one call, in order", _many
    yield "locks", "one load of a view at a time", _lock


CHECKS = tuple(_checks())
_HINT = "this server does not keep what featurekit promises: use Redis 7.4 or newer, or Valkey 9 or newer"
