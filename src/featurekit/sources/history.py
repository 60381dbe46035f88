"""Read what a store would have held from the history of a view."""

from __future__ import annotations

from featurekit.history_ports import HistoricalRows, HistoryQuery
from featurekit.plan import SourceColumns, ViewPlan
from featurekit.sources.batch_history import batch_rows_at
from featurekit.sources.event_history import event_rows_at
from featurekit.sources.session import Rows
from featurekit.sources.window_history import window_rows_at


def rows_at(
    rows: Rows, view: ViewPlan, source: SourceColumns, query: HistoryQuery
) -> HistoricalRows:
    """Return the rows of each moment. See `ports.HistorySource`."""
    read = event_rows_at if view.kind == "stream" else batch_rows_at
    return (window_rows_at if view.windows else read)(rows, view, source, query)
