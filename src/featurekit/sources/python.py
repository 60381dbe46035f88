"""Python sources: the Arrow data that a function returns."""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

from typing_extensions import override

from featurekit.errors import FeatureKitError, SourceError, nearest
from featurekit.plan import SourcePlan, ViewPlan
from featurekit.ports import BatchSource, Scan
from featurekit.sources.arrow import arrow, scan_arrow
from featurekit.sources.session import Session

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class PythonSource(BatchSource):
    """A function, called anew for each scan with those of our arguments that it declares.

    These are `view` (the view's name), `start_ms` and `end_ms` (int or None), and `start` and
    `end` (aware datetimes or None). What the function raises is the cause of a `SourceError`.
    """

    def __init__(self, plan: SourcePlan, root: Path, batch_rows: int) -> None:
        self.plan = plan
        self.root = root.absolute()
        self.batch_rows = batch_rows

    @override
    def scan(self, view: ViewPlan, start_ms: int | None, end_ms: int | None) -> Scan:
        where = f"feature view {view.name}, {self.plan.callable}"
        session = Session()
        arguments: dict[str, object] = {
            "view": view.name,
            "start_ms": start_ms,
            "end_ms": end_ms,
            "start": _moment(start_ms),
            "end": _moment(end_ms),
        }
        with _importing_from(self.root), _failing_as_source(where, self.root):
            function = _function(self.plan.callable, where)
            result = function(**_declared(function, arguments))
            with session.errors(where):
                data = arrow(session.arrow, result, where)
            if data is None:
                return Scan("native", iter(()), 0)
            window = (start_ms, end_ms) if self.plan.timestamp_field else (None, None)
            return scan_arrow(session, data, view, self.plan, window, self.batch_rows)

    @override
    def locate(self, view: ViewPlan, row: dict[str, object]) -> str:
        return ""


@contextmanager
def _importing_from(root: Path) -> Iterator[None]:
    """Put a folder before all others that are imported from."""
    before = sys.path[:]
    sys.path.insert(0, str(root))
    try:
        yield
    finally:
        sys.path[:] = before


@contextmanager
def _failing_as_source(where: str, root: Path) -> Iterator[None]:
    """Make a `SourceError` of whatever the function, or its module, raises."""
    try:
        yield
    except FeatureKitError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        theirs = [f for f in frames if Path(f.filename).is_relative_to(root)]
        places = [f"{Path(f.filename).relative_to(root)}:{f.lineno}" for f in theirs[-1:]]
        raise SourceError(
            f"{type(error).__name__}: {error}",
            where=", ".join([where, *places]),
            hint="the function itself, or its module, raised this",
        ) from error


def _function(spelled: str, where: str) -> Callable[..., object]:
    module_name, _, name = spelled.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (ImportError, SyntaxError) as error:
        raise SourceError(
            f"cannot be imported: {error}",
            where=where,
            hint="modules are looked for in the repository's folder first",
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        known = [n for n, value in vars(module).items() if callable(value) and n[0] != "_"]
        raise SourceError(f"no function '{name}'", where=where, hint=nearest(name, known))
    return cast(Callable[..., object], function)


def _declared(function: Callable[..., object], arguments: dict[str, object]) -> dict[str, object]:
    """Those arguments that a function takes."""
    parameters = inspect.signature(function).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return arguments
    return {n: value for n, value in arguments.items() if n in parameters}


def _moment(ms: int | None) -> datetime | None:
    return None if ms is None else _EPOCH + timedelta(milliseconds=ms)
