"""The Arrow data that a Python function returns as a batch source."""

from __future__ import annotations

import importlib
import inspect
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

from typing_extensions import override

from featurekit.errors import FeatureKitError, SourceError, name_hint
from featurekit.history_ports import HistoricalRows, HistoryQuery
from featurekit.import_path import import_path
from featurekit.plan import PythonSourcePlan, ViewPlan
from featurekit.ports import ALL_TIMES, RowFacts, Scan, TimeRange
from featurekit.sources.arrow import open_arrow, scan_arrow, to_arrow
from featurekit.sources.batch_history import batch_key_ends
from featurekit.sources.history import rows_at
from featurekit.sources.inspection import inspect_rows
from featurekit.sources.session import Rows, Session, SessionSource

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class PythonSource(SessionSource):
    """A function, called once per scan with those of these arguments that it declares.

    The arguments are `view` (the view's name), `start_ms` and `end_ms` (int or None), `start` and
    `end` (aware datetimes or None). An exception of the function is the cause of a `SourceError`.
    """

    def __init__(self, plan: PythonSourcePlan, root: Path, batch_rows: int) -> None:
        super().__init__(batch_rows)
        self.plan = plan
        self.root = root.absolute()
        self._history: Any = None

    @override
    def scan(self, view: ViewPlan, times: TimeRange = ALL_TIMES) -> Scan:
        identity = f"function {self.plan.callable}"
        session = self.add_session(Session())
        with self._called(session, view, times) as data:
            if data is None:
                return Scan("native", iter(()), 0, source_identity=identity)
            has_time = self.plan.timestamp_field is not None
            times = times if has_time else ALL_TIMES
            scan = scan_arrow(session, data, view, self.plan, times, self.batch_rows)
            return replace(scan, source_identity=identity)

    def inspect(self, view: ViewPlan, times: TimeRange, *, every_row: bool) -> Scan:
        """Return a scan with `facts`. See `ports.InspectedSource`."""
        session = self.add_session(Session())
        with self._called(session, view, times) as data:
            if data is None:
                return Scan("native", iter(()), 0, facts=RowFacts(0))
            times = times if self.plan.timestamp_field is not None else ALL_TIMES
            rows = open_arrow(session, data, view, self.plan)
            return inspect_rows(rows, view, self.plan, times, every_row=every_row)

    def rows_at(self, view: ViewPlan, query: HistoryQuery) -> HistoricalRows:
        """Return the row of each moment. See `ports.HistorySource`."""
        return rows_at(self._history_rows(view), view, self.plan, query)

    def key_ends(self, view: ViewPlan, query: HistoryQuery) -> Any:
        """Return when keys expired. See `ports.HistorySource`."""
        return batch_key_ends(self._history_rows(view), view, self.plan, query)

    def _history_rows(self, view: ViewPlan) -> Rows:
        """Return all rows of the function, which is called once."""
        session = self.add_session(Session())
        if self._history is None:
            with self._called(session, view, ALL_TIMES) as data:
                if data is None:
                    raise SourceError(
                        "the function returned no data, not even columns",
                        where=f"feature view {view.name}, {self.plan.callable}",
                    )
                is_table = isinstance(data, session.arrow.Table)
                self._history = data if is_table else data.read_all()
        return open_arrow(session, self._history, view, self.plan)

    @contextmanager
    def _called(self, session: Session, view: ViewPlan, times: TimeRange) -> Iterator[Any]:
        """Yield what the function returns, as Arrow data; exceptions of it are `SourceError`s."""
        where = f"feature view {view.name}, {self.plan.callable}"
        arguments: dict[str, object] = {
            "view": view.name,
            "start_ms": times.start_ms,
            "end_ms": times.end_ms,
            "start": _datetime(times.start_ms),
            "end": _datetime(times.end_ms),
        }
        with import_path(self.root), _source_errors(where, self.root):
            function = _import_function(self.plan.callable, where)
            result = function(**_accepted_arguments(function, arguments))
            with session.errors(where):
                data = to_arrow(session.arrow, result, view, where)
            yield data


@contextmanager
def _source_errors(where: str, root: Path) -> Iterator[None]:
    """Turn any exception of the function, or of its module, into a `SourceError`."""
    try:
        yield
    except FeatureKitError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if Path(frame.filename).is_relative_to(root)]
        lines = [f"{Path(f.filename).relative_to(root)}:{f.lineno}" for f in own[-1:]]
        raise SourceError(
            f"{type(error).__name__}: {error}",
            where=", ".join([where, *lines]),
            hint="the exception comes from the function or its module",
        ) from error


def _import_function(callable_path: str, where: str) -> Callable[..., object]:
    module_name, _, name = callable_path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (ImportError, SyntaxError) as error:
        raise SourceError(
            f"cannot be imported: {error}",
            where=where,
            hint="modules are first searched for in the repository's folder",
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        known = [n for n, value in vars(module).items() if callable(value) and n[0] != "_"]
        raise SourceError(f"no function '{name}'", where=where, hint=name_hint(name, known))
    return cast(Callable[..., object], function)


def _accepted_arguments(
    function: Callable[..., object], arguments: dict[str, object]
) -> dict[str, object]:
    parameters = inspect.signature(function).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return arguments
    return {name: value for name, value in arguments.items() if name in parameters}


def _datetime(ms: int | None) -> datetime | None:
    return None if ms is None else _EPOCH + timedelta(milliseconds=ms)
