"""What tests give to a feature store, and check in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from featurekit.errors import FeatureKitError, RequestError, UnknownNameError, ValueRefusedError
from featurekit.feature_lists import GLOBAL
from featurekit.models.scalars import format_duration
from featurekit.plan import EVENT_TIMESTAMP, Column, DerivedColumn, ReadPlan, ViewPlan
from featurekit.repo import FeatureStore
from featurekit.repo.serving import Features
from featurekit.repo.time_arguments import Time, to_ms
from featurekit.runtime.write_report import WriteReport
from featurekit.testing.clock import Clock
from featurekit.testing.rows import Row, RowSplitter
from featurekit.types import codec_of, short_repr

P = ParamSpec("P")
T = TypeVar("T")

_ABSENT = ("missing", "default")


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
        """Write events into a stream view, in order.

        Args:
            view: The stream view.
            events: For each event its join keys and fields, and when it happened as
                `event_timestamp`, if that is not `at`.
            at: When events without a time of their own happened. By default they have none, so that
                their TTLs count from now; with `ordering: event_time` it is now.

        Returns:
            How many events were written, or dropped as older than what is stored, or as expired.

        Raises:
            RequestError: The view is a batch view, or an event lacks a join key.
            BadEventError: A value does not fit the view.
        """
        plan = self.compiled.view(view)
        at_ms = to_ms(at, where="at")
        if at_ms is None and plan.ordering == "event_time":
            at_ms = self.clock.now_ms()
        writer = self.stream_writer(view)
        return writer.write_many([_event(plan, event, at_ms) for event in events])

    @_at_the_callers_line
    def assert_served(self, features: Features, keys: Row, expected: Row) -> None:
        """Check the values that a read returns, whether they are stored or defaults.

        Args:
            features: A feature service, or a list of features, as in `get_online_features`.
            keys: The join keys of the read.
            expected: Values by the names of the response; features that are left out may have any. A
                value may be of `pytest.approx`.

        Raises:
            AssertionError: A value differs; says which, and why it is not present.
            UnknownNameError: The read has no such feature.
        """
        if not isinstance(expected, Mapping):
            raise RequestError(f"expected a dict of features, not {short_repr(expected)}")
        served = self._read(features, keys, expected)
        wrong = [
            f"{name}: expected {value!r}, {self._describe(served, name)}"
            for name, value in expected.items()
            if not _is_equal(served.columns[name], served.row[name], value)
        ]
        _fail_if(wrong, served, "serves other values")

    @_at_the_callers_line
    def assert_missing(self, features: Features, keys: Row, *names: str) -> None:
        """Check that features have no stored value, so that a read returns their default or `None`.

        Args:
            features: A feature service, or a list of features, as in `get_online_features`.
            keys: The join keys of the read.
            names: Names of the response; by default all.

        Raises:
            AssertionError: A value is stored; says which, and for how long.
            UnknownNameError: The read has no such feature.
        """
        served = self._read(features, keys, names)
        wrong = [
            f"{name}: {self._describe(served, name)}"
            for name in names or served.columns
            if served.statuses[name] not in _ABSENT
        ]
        _fail_if(wrong, served, "has values")

    def _read(self, features: Features, keys: Row, names: Iterable[str]) -> _Served:
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
        row = reader.get([keys])
        [values], statuses = row.to_rows(), row.statuses
        ttls = {name: column[0] for name, column in row.freshness.items()}
        return _Served(
            reader.plan, keys, columns, values, {n: s[0] for n, s in statuses.items()}, ttls
        )

    def _describe(self, served: _Served, name: str) -> str:
        """Return what is served for a feature, and until when or why not."""
        status, text = (
            served.statuses[name],
            f"served {served.row[name]!r} ({served.statuses[name]}",
        )
        left_s = served.ttls_s.get(name)
        if status == "present":
            lives = (
                "without TTL" if left_s is None else f"for {format_duration(round(left_s * 1000))}"
            )
            return f"{text}, {lives} more)"
        column = served.columns[name]
        if isinstance(column, DerivedColumn):
            return f"{text}, computed when it is read)"
        view = self.compiled.view(column.view)
        parts = [served.keys[key.name] for key in served.plan.groups[column.group].key.join_keys]
        entity, key = view.key.entity, parts[0] if len(parts) == 1 else tuple(parts)
        if not parts:
            entity, key = GLOBAL, view.name
        return f"{text})\n    {self.why(entity, key, column.field.name)[0].text}"


@dataclass(frozen=True, slots=True)
class _Served:
    """One row that was read: values, statuses and remaining TTLs by the names of the response."""

    plan: ReadPlan
    keys: Row
    columns: Mapping[str, Column]
    row: Row
    statuses: Mapping[str, str]
    ttls_s: Mapping[str, float | None]


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
