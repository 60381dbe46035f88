"""What tests give to a feature store, and check in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from featurekit.errors import FeatureKitError, RequestError, UnknownNameError, ValueRefusedError
from featurekit.feature_lists import GLOBAL
from featurekit.models.scalars import format_duration
from featurekit.plan import (
    EVENT_TIMESTAMP,
    Column,
    DerivedColumn,
    DerivedInput,
    ReadColumn,
    ReadPlan,
    ViewPlan,
)
from featurekit.ports import Progress
from featurekit.repo import FeatureStore
from featurekit.repo.diagnostics.explain import Explanation
from featurekit.repo.serving import Features
from featurekit.repo.time_arguments import Time, to_ms
from featurekit.runtime.write_report import WriteReport
from featurekit.testing.clock import Clock
from featurekit.testing.rows import Row, RowSplitter
from featurekit.types import codec_of, short_repr

P = ParamSpec("P")
T = TypeVar("T")

_ABSENT = ("missing", "default")

_PART = "0"
"""The part of a source in a mark, as a topic of one partition has it."""


def _at_the_callers_line(
    method: Callable[Concatenate[StoreUnderTest, P], T],
) -> Callable[Concatenate[StoreUnderTest, P], T]:
    """Return a method whose errors pytest shows at the line of the test, without featurekit's own."""

    @wraps(method)
    def call(self: StoreUnderTest, /, *args: P.args, **kwargs: P.kwargs) -> T:
        __tracebackhide__ = True
        try:
            return method(self, *args, **kwargs)
        except (AssertionError, FeatureKitError) as error:
            raise error.with_traceback(None) from None

    return call


class StoreUnderTest(FeatureStore):
    """A feature store that a test fills and checks.

    Attributes:
        clock: Its clock.
    """

    clock: Clock

    @_at_the_callers_line
    def given_features(self, *rows: Row, view: str | None = None) -> None:
        """Write features now, as the pipelines of their views do.

        Args:
            rows: For each entity its join keys and features, of any of its views: `{"user_id": "u1",
                "tx_count_7d": 3}`. Of a batch view, what a row leaves out is deleted, as in a load;
                of a stream view, it is left alone.
            view: The view of all the features, if several views have such names.

        Raises:
            RequestError: No entity has such join keys, or several have.
            UnknownNameError: The entity has no such feature.
            BadRowError: A value does not fit its view, or a required one is missing.
            BadEventError: The same of a stream view.
        """
        written: dict[str, list[Row]] = {}
        splitter = RowSplitter(self.compiled, view)
        for row in rows:
            for name, part in splitter.split(row).items():
                written.setdefault(name, []).append(part)
        for name, parts in written.items():
            plan = self.compiled.view(name)
            if plan.kind == "stream":
                self.given_events(name, *parts)
                continue
            if plan.ordering == "event_time":
                timed = [{**part, EVENT_TIMESTAMP: self.clock.now_ms()} for part in parts]
                self.write_batch(name, timed, allow_older=True)
            else:
                self.write_batch(name, parts)

    @_at_the_callers_line
    def given_events(self, view: str, *events: Row, at: Time = None) -> WriteReport:
        """Write events into a stream view, in order, as its worker does.

        Of a view with windows, all events up to now are then applied, as its worker would say: a read
        that comes later than the stream's `ttl` takes the windows as stale. Without events, it says so
        again, as a worker does that has nothing to write.

        Args:
            view: The stream view.
            events: For each event its join keys and fields, and when it happened as
                `event_timestamp`, if that is not `at`. Of a view with windows, the inputs and the event id.
            at: When events without a time of their own happened. By default they have none, so that
                their TTLs count from now; with `ordering: event_time` it is now.

        Returns:
            How many events were written, or dropped as older than what is stored, as expired, or as
            repeated.

        Raises:
            RequestError: The view is a batch view, or an event lacks a join key.
            BadEventError: A value does not fit the view.
        """
        plan = self.compiled.view(view)
        at_ms = to_ms(at, where="at")
        if at_ms is None and plan.ordering == "event_time":
            at_ms = self.clock.now_ms()
        writer = self.stream_writer(view)
        report = writer.write_many([_event(plan, event, at_ms) for event in events])
        if plan.mark_key is not None:
            progress = Progress({_PART: self.clock.now_ms()}, frozenset({_PART}))
            writer.write_mark(plan.mark_key, progress)
        return report

    @_at_the_callers_line
    def assert_served(
        self, features: Features, keys: Row, expected: Row, *, request: Row | None = None
    ) -> None:
        """Check the values that a read returns, whether they are stored, computed or defaults.

        Args:
            features: A feature service, or a list of features, as in `get_online_features`.
            keys: The join keys of the read.
            expected: Values by the names of the response; features that are left out may have any. A
                value may be of `pytest.approx`.
            request: The request data of the read.

        Raises:
            AssertionError: A value differs; says which, and why it is not present.
            UnknownNameError: The read has no such feature.
        """
        if not isinstance(expected, Mapping):
            raise RequestError(f"expected a dict of features, not {short_repr(expected)}")
        served = self._read(features, keys, expected, request)
        wrong = [
            f"{name}: expected {value!r}, {self._describe(served, name)}"
            for name, value in expected.items()
            if not _is_equal(served.columns[name], served.row[name], value)
        ]
        _fail_if(wrong, served, "serves other values")

    @_at_the_callers_line
    def assert_missing(
        self, features: Features, keys: Row, *names: str, request: Row | None = None
    ) -> None:
        """Check that features have no value, so that a read returns their default or `None`.

        Args:
            features: A feature service, or a list of features, as in `get_online_features`.
            keys: The join keys of the read.
            names: Names of the response; by default all.
            request: The request data of the read.

        Raises:
            AssertionError: One has a value; says which, and for how long.
            UnknownNameError: The read has no such feature.
        """
        served = self._read(features, keys, names, request)
        wrong = [
            f"{name}: {self._describe(served, name)}"
            for name in names or served.columns
            if served.statuses[name] not in _ABSENT
        ]
        _fail_if(wrong, served, "has values")

    def _read(
        self, features: Features, keys: Row, names: Iterable[str], request: Row | None
    ) -> _Served:
        if request is not None and not isinstance(request, Mapping):
            raise RequestError(f"expected a dict of request values, not {short_repr(request)}")
        reader = self.online_reader(features, freshness=True)
        columns = {c.name: c for c in reader.plan.columns if not c.is_event_time}
        for name in names:
            if not isinstance(name, str):
                raise RequestError(
                    f"expected the name of a feature, not {short_repr(name)}",
                    hint="several names are several arguments: assert_missing(..., name, name)",
                )
            if name not in columns:
                raise UnknownNameError.among("feature", name, columns, where=reader.plan.name)
        row = reader.get([keys], request=request)
        [values], statuses = row.to_rows(), row.statuses
        ttls = {name: column[0] for name, column in row.freshness.items()}
        sent = {**keys, **(request or {})}
        return _Served(
            reader.plan, sent, columns, values, {n: s[0] for n, s in statuses.items()}, ttls
        )

    def _describe(self, served: _Served, name: str) -> str:
        """Return what is served for a feature, and until when or why not."""
        status, text = (
            served.statuses[name],
            f"served {served.row[name]!r} ({served.statuses[name]}",
        )
        left_s = served.ttls_s.get(name)
        if status == "present":
            if left_s is None:
                return f"{text}, without TTL)"
            return f"{text}, for {format_duration(round(left_s * 1000))} more)"
        column = served.columns[name]
        if isinstance(column, ReadColumn):
            return f"{text})\n    {self._why(served, column).text}"
        stored = (at for at, each in _arguments(column) if not each.is_request)
        inputs = (self._why(served, served.plan.stored[at]) for at in stored)
        lines = [f"\n    {e.view}.{e.field}: {e.text}" for e in inputs if e.status != "present"]
        return f"{text}, computed when it is read){''.join(lines)}"

    def _why(self, served: _Served, column: ReadColumn) -> Explanation:
        """Return why a stored feature has the status that it has."""
        view = self.compiled.view(column.view)
        parts = [served.keys[key.name] for key in served.plan.groups[column.group].key.join_keys]
        entity, key = view.key.entity, parts[0] if len(parts) == 1 else tuple(parts)
        if not parts:
            entity, key = GLOBAL, view.name
        return self.why(entity, key, column.field.name)[0]


@dataclass(frozen=True, slots=True)
class _Served:
    """One row that was read: values, statuses and remaining TTLs by the names of the response.

    `keys` are the join keys and the request data.
    """

    plan: ReadPlan
    keys: Row
    columns: Mapping[str, Column]
    row: Row
    statuses: Mapping[str, str]
    ttls_s: Mapping[str, float | None]


def _arguments(column: DerivedColumn) -> Iterable[tuple[int, DerivedInput]]:
    """Return the inputs of a derived feature, with their places in the plan of the read."""
    return zip(column.arguments, column.feature.inputs, strict=True)


def _event(plan: ViewPlan, event: Row, at_ms: int | None) -> tuple[object, dict[str, object], Any]:
    """Return an event as `StreamWriter.write_many` takes it."""
    if not isinstance(event, Mapping):
        raise RequestError(
            f"expected a dict of join keys and fields, not {short_repr(event)}", where=plan.name
        )
    values = dict(event)
    names = [key.name for key in plan.key.join_keys]
    if lacking := [name for name in names if name not in values]:
        raise RequestError(
            f"the event {short_repr(event)} lacks the join key '{lacking[0]}'", where=plan.name
        )
    parts = tuple(values.pop(name) for name in names)
    time = values.pop(EVENT_TIMESTAMP, at_ms)
    return parts[0] if len(parts) == 1 else parts, values, time


def _is_equal(column: Column, served: object, expected: object) -> bool:
    """Return whether two values are the same, by their bytes if both fit the type."""
    if served is None or expected is None:
        return served is expected
    codec = codec_of(column.field.dtype)
    try:
        return codec.encode(served) == codec.encode(expected)
    except ValueRefusedError:
        return bool(served == expected)


def _fail_if(wrong: list[str], served: _Served, what: str) -> None:
    if wrong:
        lines = "".join(f"\n  {line}" for line in wrong)
        raise AssertionError(f"{served.plan.name} {what} for {dict(served.keys)}:{lines}")
