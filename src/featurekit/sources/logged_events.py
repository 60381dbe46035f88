"""Read the log of a view's events again, in the order of their positions in the source."""

# ruff: noqa: S608 - all names and values in this SQL are quoted

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from featurekit.errors import RequestError, SourceError
from featurekit.plan import EventLogColumns as Columns
from featurekit.plan import KafkaTopicPlan, ViewPlan
from featurekit.sources.session import BATCH_ROWS, Session, quote_files, quote_identifier
from featurekit.types import DType
from featurekit.types.arrow import python_value

_TOPIC_ORDER = "string_split({p}, '/')[-2]::BIGINT, string_split({p}, '/')[-1]::BIGINT"
_STREAM_ORDER = "string_split({p}, '-')[1]::HUGEINT, string_split({p}, '-')[2]::HUGEINT"


class LoggedEvent(NamedTuple):
    """An event in a log.

    Attributes:
        join_keys: The values of its join keys.
        values: Its inputs, and its id if the view has one.
        time_ms: Its time.
        position: Where it was in its source; `None` if a program wrote it.
        arrived_ms: When it was logged.
    """

    join_keys: tuple[object, ...]
    values: dict[str, object]
    time_ms: int
    position: str | None
    arrived_ms: int


def logged_events(view: ViewPlan, folder: Path, start_ms: int) -> Iterator[LoggedEvent]:
    """Yield the events of a log whose time is `start_ms` or later.

    They come partition by partition in the order of their offsets, or in that of entries of a
    stream, so that an event in several files comes again at once. If ids find repeated events, they
    come in the order of their arrival.

    Raises:
        SourceError: The log has no files, or they cannot be read.
        RequestError: An event has no position, or one of another source than the view's.
    """
    files = sorted(str(path) for path in folder.glob("*/*.parquet"))
    if not files:
        raise SourceError("the log has no files", where=str(folder))
    session = Session()
    session.parquet_files = files
    source = f"read_parquet({quote_files(files)}, union_by_name = true, hive_partitioning = false)"
    try:
        with session.errors(str(folder)):
            present = session.columns(source)
            needs_position = view.windows is None or view.windows.event_id is None
            if needs_position:
                _check_positions(session, view, source, present, folder)
            session.execute(_events_table(view, source, present, start_ms))
            query = session.connection.sql(_select(view, needs_position=needs_position))
            for batch in query.to_arrow_reader(BATCH_ROWS):
                yield from _events(view, batch)
    finally:
        session.close()


def _check_positions(
    session: Session, view: ViewPlan, source: str, present: dict[str, str], folder: Path
) -> None:
    """Raise `RequestError` unless all events have a position in the view's stream."""
    found: list[tuple[Any, ...]] = [(1, None)]
    if Columns.POSITION in present:
        position = quote_identifier(Columns.POSITION)
        pattern = r"^[0-9]+-[0-9]+$"
        if isinstance(view.stream, KafkaTopicPlan):
            topic = view.stream.topic.replace(".", r"\.")  # other characters of topics are literal
            pattern = rf"^{topic}/[0-9]+/[0-9]+$"
        found = session.fetch_all(
            f"SELECT count(*), any_value({position}) FROM {source} "
            f"WHERE NOT coalesce(regexp_matches({position}, '{pattern}'), false)"
        )
    [(count, example)] = found
    if count:
        which = (
            f"the position '{example}', which is not one of its stream"
            if example
            else "no position"
        )
        raise RequestError(
            f"the log of '{view.name}' has events with {which}, so that it is not known which of them "
            "a worker reads again",
            where=str(folder),
            hint="only the events of a worker since the view has its stream can be replayed",
        )


def _events_table(view: ViewPlan, source: str, present: dict[str, str], start_ms: int) -> str:
    """Return the statement that stores the events of the log in the order of `_select`."""
    names = [*(name for name, _ in _columns(view)), Columns.POSITION, Columns.ARRIVED_AT]
    columns = [
        quote_identifier(name) if name in present else f"NULL AS {quote_identifier(name)}"
        for name in names
    ]
    time, arrived = map(quote_identifier, (Columns.EVENT_TIMESTAMP, Columns.ARRIVED_AT))
    return (
        f"CREATE VIEW events AS SELECT {', '.join(columns)}, epoch_ms({time}) AS _time_ms, "
        f"coalesce(epoch_ms({arrived}), epoch_ms({time})) AS _arrived_ms "
        f"FROM {source} WHERE epoch_ms({time}) >= {start_ms:d}"
    )


def _select(view: ViewPlan, *, needs_position: bool) -> str:
    position = quote_identifier(Columns.POSITION)
    order = quote_identifier(Columns.ARRIVED_AT)
    if needs_position:
        is_topic = isinstance(view.stream, KafkaTopicPlan)
        order = (_TOPIC_ORDER if is_topic else _STREAM_ORDER).format(p=position)
    return f"SELECT * FROM events ORDER BY {order}"


def _columns(view: ViewPlan) -> list[tuple[str, DType | None]]:
    """Return the columns of an event and their types; the id of an event is text without one."""
    columns: list[tuple[str, DType | None]] = [(k.name, k.dtype) for k in view.key.join_keys]
    columns += [(field.name, field.dtype) for field in view.event_fields]
    event_id = view.windows.event_id if view.windows else None
    if event_id is not None and event_id not in dict(columns):
        columns.append((event_id, None))
    return columns


def _events(view: ViewPlan, batch: Any) -> Iterator[LoggedEvent]:
    keys = len(view.key.join_keys)
    named = _columns(view)
    data = [_values(dtype, batch.column(name)) for name, dtype in named]
    names = [name for name, _ in named[keys:]]
    positions = batch.column(Columns.POSITION).to_pylist()
    times_ms = batch.column("_time_ms").to_pylist()
    arrived_ms = batch.column("_arrived_ms").to_pylist()
    rows = zip(*data, strict=True) if data else [()] * len(times_ms)
    for row, *rest in zip(rows, times_ms, positions, arrived_ms, strict=True):
        values = dict(zip(names, row[keys:], strict=True))
        yield LoggedEvent(row[:keys], values, *rest)


def _values(dtype: DType | None, column: Any) -> list[object]:
    if dtype is None:
        values: list[object] = column.to_pylist()
        return values
    return [python_value(dtype, each) if each.is_valid else None for each in column]
