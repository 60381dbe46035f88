"""What a load of a batch view reads: its source, and the rows of it that count."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from featurekit.errors import MissingExtraError, RequestError
from featurekit.plan import SourcePlan, ViewPlan
from featurekit.ports import BatchSource, TimeRange
from featurekit.runtime.load import MaterializeReport
from featurekit.wire import Reply, parse_info


def apply_lookback(view: ViewPlan, report: MaterializeReport) -> None:
    """Limit the load to the view's lookback, unless it has a start or an end."""
    has_window = (report.window_start_ms, report.window_end_ms) != (None, None)
    if view.lookback_ms is not None and not has_window:
        report.window_start_ms = report.started_ms - view.lookback_ms


def future_keys(view: ViewPlan, source: BatchSource, latest_ms: int) -> Iterator[bytes]:
    """Yield the keys of the rows of a source that are later than a time."""
    from featurekit.lower.columns import encode_batch

    scan = source.scan(view, TimeRange(start_ms=latest_ms))
    for batch in scan.batches:
        encoded = encode_batch(view, scan.form, batch)
        yield from encoded.keys.to_pylist()
        yield from encoded.rejected_keys


def source_of(view: ViewPlan) -> SourcePlan:
    """Return the source of a view; raise `RequestError` if it has none to load from."""
    if view.source is None:
        raise RequestError(
            f"feature view '{view.name}' has no batch source to materialize from",
            hint="give it a `source:`, or write it with write_batch()"
            if view.kind == "batch"
            else "a stream view gets its values from its stream",
        )
    return view.source


def import_sources() -> Any:
    """Import the batch sources, which need the extra `batch`."""
    try:
        import duckdb  # noqa: F401 - so that a missing library is reported before the load starts
        import pyarrow  # noqa: F401 - as above

        from featurekit import sources
    except ImportError as error:
        if isinstance(error, MissingExtraError):
            raise
        raise MissingExtraError.of("batch", "loading tables") from error
    return sources


def cpu_seconds(replies: Sequence[Reply]) -> float | None:
    """Return the CPU time that the servers have used so far, by their replies to `INFO cpu`."""
    if not replies:
        return None
    names = ("used_cpu_user", "used_cpu_sys")
    return sum(float(parse_info(reply).get(name, 0)) for reply in replies for name in names)
