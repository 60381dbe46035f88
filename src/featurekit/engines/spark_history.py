"""The rows of a view's history at the times of labels, found by Spark.

Labels and rows are united, divided by key and sorted by time, each label after the rows of its instant, and
each label takes the last row before it: one shuffle and one sort, in the JVM, which spills to disk. So a
key with many rows needs one task, but no more memory. Rejected: `cogroup`, which holds all rows of a bucket
of keys in memory; a join by ranges of time, which reads rows twice; ties grouped before the join.

    @k      the key of a label or row, as text, see `lower.columns.encode_ids`
    @at     the time of a label in microseconds; `@time` and `@known` are those of a row
    @row    what a task needs of the row of a label: `@event_us`, its time or the smallest number; `@rn`;
            and its fields, or the bytes of their values
    @wrote  the millisecond of the last load before the label that renewed the row
    @end    the millisecond at which the key of the row ended; null if it did not

Values that a load would check in Python are encoded there: of native rows, only of those that were found.
Texts, JSON and events are encoded first, because they are read in Python anyway, or need all fields of
several rows for one label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from featurekit.engines.spark_load_times import (
    FIRST_MS,
    LAST_MS,
    Continuous,
    Logged,
    Scheduled,
    SparkLoadTimes,
    to_ms,
)
from featurekit.engines.spark_rows import CREATED, ROW, SparkRows, open_rows, quoted
from featurekit.engines.spark_session import small_frame
from featurekit.engines.spark_values import NULL, STATE, VALUE, encoding_task, native_key
from featurekit.errors import SourceError
from featurekit.history_ports import AsOf, HistoryQuery, PastLoad
from featurekit.plan import SourceColumns, SourcePlan, ViewPlan
from featurekit.ports import ALL_TIMES, FILE
from featurekit.sources.history_range import history_range
from featurekit.sources.load_times import FOREVER

MAX_ROWS = 2**40
"""More than the rows of a file."""

GLOBAL_PARTS = 16
"""Into how many parts labels are divided that all have the key of a view without an entity."""


@dataclass(frozen=True, slots=True)
class ViewHistory:
    """How the history of a view is read.

    Attributes:
        view: The view.
        source: Its source, with expanded locations.
        as_of: When a row counts, see `HistoryQuery`.
        loads: The loads of the view, for `loads`.
        owner: The view whose loads let the keys expire, if the view's values have TTLs of their own.
    """

    view: ViewPlan
    source: SourcePlan
    as_of: AsOf | None = None
    loads: Sequence[PastLoad] = ()
    owner: ViewHistory | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """What a history is read with.

    Attributes:
        session: The Spark session.
        root: The repository's folder.
        first_us, last_us: The times of the first and last label.
        cached: Frames to be freed at the end.
    """

    session: Any
    root: Path
    first_us: int | None
    last_us: int | None
    cached: list[Any] = field(default_factory=list)

    def keep(self, frame: Any) -> Any:
        """Return a frame that is computed once."""
        from pyspark import StorageLevel

        kept = frame.persist(StorageLevel.DISK_ONLY)
        self.cached.append(kept)
        return kept

    def query(self, history: ViewHistory, *, ends_keys: bool = False) -> HistoryQuery:
        """Return the query of all labels, for the range of times that can matter."""
        times = [] if self.first_us is None else [self.first_us, self.last_us]
        moments = pa.table({"at": pa.array(times, pa.int64())})
        return HistoryQuery(moments, history.as_of, history.loads, ends_keys=ends_keys)


@dataclass(frozen=True, slots=True)
class HistoryRows:
    """The rows of a history that have a key and a time.

    Attributes:
        frame: A frame with `@k`, `@time`, `@known`, `@o0`, ..., `@rn` and `@row`.
        orders: The columns that order rows by age, most important first.
        payload: The children of `@row`.
        is_encoded: Whether these are bytes of values.
        as_of: When rows count.
        loads: The loads.
        by_time: Whether rows are known from their time on.
        files: The files; a row of file `i` has the `@rn` `i * MAX_ROWS` + its number.
        rows_read, rows_incomplete: Counts, see `HistoricalRows`.
    """

    frame: Any
    orders: list[str]
    payload: list[str]
    is_encoded: bool
    as_of: str
    loads: SparkLoadTimes
    by_time: bool
    files: tuple[str, ...] = ()
    rows_read: int = 0
    rows_incomplete: int = 0


def open_history(
    reading: Reading, history: ViewHistory, *, ends_keys: bool = False
) -> HistoryRows:
    """Read the rows of a history, and count them.

    Raises:
        SourceError: Spark cannot read the source, or it lacks the times that `as_of` needs.
    """
    from pyspark.sql import functions as F  # noqa: N812

    view = replace(history.view, ordering="arrival")
    source: SourceColumns = history.source
    rows = open_rows(reading.session, view, history.source, reading.root)
    if view.kind == "batch" or rows.form == "native":
        times = history_range(view, source, reading.query(history, ends_keys=ends_keys))
        if rows.has_time and times != ALL_TIMES:
            rows = rows.within(times)
    created = _created(rows, source)
    times_of = _times(reading, history, rows, created)
    is_encoded = view.kind == "stream" or rows.form != "native" or native_key(rows, view) is None
    frame = rows.frame
    event_us = f"coalesce(unix_micros(`@o0`), {-FOREVER})" if rows.has_time else f"{-FOREVER}L"
    for name, sql in {**times_of.columns, "@event_us": event_us}.items():
        frame = frame.withColumn(name, F.expr(sql))
    orders = [f"@o{i}" for i in range(rows.has_time and not source.static, rows.orders)]
    if is_encoded:
        frame, payload = _encoded(reading, replace(rows, frame=frame), view, source)
    else:
        frame = frame.withColumn("@k", native_key(rows, view))
        payload = [item.name for item in view.fields]
    counts = frame.agg(
        F.count(F.lit(1)).alias("read"),
        F.count_if(F.col("@k").isNotNull() & F.col("@known").isNotNull()).alias("complete"),
    ).collect()[0]
    files = _files(rows, frame)
    frame = _numbered(reading, frame, files)
    if not rows.has_files:
        orders += _ties(frame, payload)
    frame = frame.where(F.col("@k").isNotNull() & F.col("@known").isNotNull())
    inner = [F.col(quoted(name)) for name in ("@event_us", "@rn", *payload)]
    return HistoryRows(
        frame.withColumn("@row", F.struct(*inner)),
        [*(["@time"] if not source.static else []), *orders, "@rn"],
        payload,
        is_encoded,
        times_of.as_of,
        times_of.loads,
        times_of.by_time and times_of.loads.moves_moments,
        files,
        counts["read"],
        counts["read"] - counts["complete"],
    )


@dataclass(frozen=True, slots=True)
class _Times:
    """When the rows of a history count; `columns` maps `@time` and `@known` to their SQL."""

    as_of: str
    columns: dict[str, str]
    loads: SparkLoadTimes
    by_time: bool


def _times(reading: Reading, history: ViewHistory, rows: SparkRows, created: str) -> _Times:
    """Return when rows count. See `sources.batch_history.row_times` and `sources.event_history`."""
    view, source = history.view, history.source
    if source.static:
        always = {"@time": f"{-FOREVER}L", "@known": f"{-FOREVER}L"}
        return _Times("static", always, Continuous(None), by_time=True)
    as_of = history.as_of or ("schedule" if view.schedule else None)
    if history.as_of == "created" and not created:
        column = source.created_timestamp_field
        raise SourceError(
            f"created_timestamp_field '{column}' holds no times"
            if column
            else "the source has no created_timestamp_field",
            where=rows.where,
            hint="use as_of='event_time'",
        )
    time = "unix_micros(`@o0`)" if rows.has_time else ""
    if view.kind == "stream":
        return _event_times(rows, time, created, as_of)
    by_time = not created or as_of == "event_time"
    known = (
        time if by_time else f"CASE WHEN {time} IS NOT NULL THEN greatest({time}, {created}) END"
    )
    loads: SparkLoadTimes = Continuous(view.lookback_ms)
    if as_of == "schedule" and view.schedule:
        loads = Scheduled(view.schedule, view.lookback_ms, (reading.last_us or 0) // 1000)
    elif as_of == "loads":
        loads = Logged.of(reading.session, history.loads)
    used = as_of if as_of in ("schedule", "loads") else "event_time" if by_time else "created"
    return _Times(str(used), {"@time": time, "@known": known}, loads, by_time)


def _event_times(rows: SparkRows, time: str, created: str, as_of: AsOf | None) -> _Times:
    if not time and not created:
        raise SourceError(
            "the history of events has neither a timestamp_field nor a created_timestamp_field",
            where=rows.where,
        )
    known = [part for part in (time, created) if part]
    if as_of != "event_time" and created:
        known.reverse()
    used = "event_time" if known[0] == time else "created"
    arrival = f"coalesce({', '.join(known)})"
    event = to_ms(f"coalesce({time}, {arrival})" if time else arrival)
    columns = {"@time": time or "CAST(NULL AS BIGINT)", "@known": arrival, "@event": event}
    return _Times(used, columns, Continuous(None), by_time=True)


def _created(rows: SparkRows, source: SourceColumns) -> str:
    """Return the SQL of a row's creation in microseconds; empty if that is not a time."""
    from pyspark.sql import functions as F  # noqa: N812

    parts = rows.orders - rows.has_time
    if not parts:
        return ""
    last = f"@o{rows.orders - 1}"
    if parts == 1:
        kind = rows.frame.schema[last].dataType.typeName()
        is_time = kind in ("timestamp", "timestamp_ntz", "date")
        return f"unix_micros(CAST(`{last}` AS TIMESTAMP))" if is_time else ""
    text = F.col(CREATED)
    (found,) = rows.frame.agg(
        F.count_if(text == "number").alias("numbers"),
        F.count_if(text == "time").alias("times"),
        F.min(F.when(text.startswith("="), text)).alias("other"),
    ).collect()
    rows.check_created(found.asDict(), source.created_timestamp_field or "")
    return "" if found["numbers"] else f"unix_micros(`{last}`)"


def _encoded(
    reading: Reading, rows: SparkRows, view: ViewPlan, source: SourceColumns
) -> tuple[Any, list[str]]:
    """Return rows with their keys and the bytes of their values, and the names of these."""
    from pyspark.sql.types import StructField, StructType

    kept = ["@time", "@known", "@event", "@event_us", FILE, ROW]
    kept += [f"@o{i}" for i in range(rows.orders)]
    passed = [f for f in rows.frame.schema.fields if f.name in kept]
    task = encoding_task(view, rows, source, [f.name for f in passed])
    fields = "`@k` string, `@bad` string"
    payload = ["@bad"]
    for i, _ in enumerate(view.fields):
        fields += f", `@v{i}` binary, `{STATE}{i}` tinyint"
        payload.append(f"@v{i}")
    added = StructType.fromDDL(fields)
    schema = StructType([*(StructField(f.name, f.dataType) for f in passed), *added.fields])
    return reading.keep(rows.frame.mapInArrow(task, schema)), payload


def _files(rows: SparkRows, frame: Any) -> tuple[str, ...]:
    """Return the files of rows, in order."""
    if not rows.has_files:
        return ()
    if rows.only_file:
        return (rows.only_file,)  # spares to look at the path of each row
    return tuple(sorted(row[0] for row in frame.select(FILE).distinct().collect()))


def _numbered(reading: Reading, frame: Any, files: tuple[str, ...]) -> Any:
    """Return rows with `@rn`, their number in the order of files; 0 without files."""
    from pyspark.sql import functions as F  # noqa: N812

    if not files:
        return frame.withColumn("@rn", F.lit(0).cast("long"))
    row = F.coalesce(F.col(ROW), F.lit(0)).cast("long")
    if len(files) == 1:
        return frame.withColumn("@rn", row)
    columns = {"@rank": pa.int64(), "@path": pa.string()}
    ranks = small_frame(reading.session, list(enumerate(files)), columns)
    joined = frame.join(F.broadcast(ranks), F.col(FILE) == F.col("@path"), "left")
    return joined.withColumn("@rn", F.col("@rank") * MAX_ROWS + row).drop("@rank", "@path")


def _ties(frame: Any, payload: Sequence[str]) -> list[str]:
    """Return the columns that decide among rows of one time that have no place in a file."""
    kinds = {f.name: f.dataType.simpleString() for f in frame.schema.fields}
    return [name for name in payload if "map" not in kinds[name]]


def key_ends(reading: Reading, history: ViewHistory) -> Any:
    """Return a frame of keys with `@ends`, see `HistorySource.key_ends`; `None` if no key expired."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F  # noqa: N812

    rows = open_history(reading, history, ends_keys=True)
    if rows.loads == Continuous(None):
        return None
    ttl = history.view.ttl_ms
    spans = rows.loads.spans(rows.frame.select("@k", "@time", "@known"), ttl)
    by_key = Window.partitionBy("@k").orderBy(FIRST_MS, LAST_MS)
    until_now = by_key.rowsBetween(Window.unboundedPreceding, 0)
    reach = spans.select(
        "@k",
        (F.max(LAST_MS).over(until_now) + ttl).alias("@reach"),
        F.lead(FIRST_MS).over(by_key).alias("@next"),
    )
    ended = reach.where(F.col("@next").isNull() | (F.col("@next") > F.col("@reach")))
    return ended.groupBy("@k").agg(F.collect_set("@reach").alias("@ends"))


def join_rows(labels: Any, rows: HistoryRows, ends: Any, view: ViewPlan) -> Any:
    """Return labels with `@row`, which a store would have held at their time, `@wrote` and `@end`.

    Args:
        labels: A frame with `@k` and `@at`.
        rows: The rows of a batch view.
        ends: Of `key_ends`, if the values of the view also end with their keys.
        view: The view.
    """
    from pyspark.sql import functions as F  # noqa: N812

    moments = rows.loads.moments(labels)
    if rows.by_time:
        found = rows.loads.joinable(rows.frame).withColumn("@position", F.col("@time"))
        moments = moments.withColumn("@position", F.col("@upto"))
        orders = [name for name in rows.orders if name != "@time"]
        row = F.last("@row", ignorenulls=True)
    else:
        found = rows.loads.taken(rows.frame).withColumn("@position", F.col("@from"))
        moments = moments.withColumn("@position", F.col("@at"))
        rank = F.struct(*(F.col(f"`{name}`") for name in rows.orders))
        found = found.withColumn("@rank", rank)
        orders, row = [], F.max_by("@row", "@rank")
    joined = _last_of(moments, found, orders, {"@row": row}, is_global=not view.key.join_keys)
    joined = rows.loads.wrote(joined.withColumn("@time", F.col("@row.`@event_us`"))).drop("@time")
    return _with_end(joined, ends, "`@wrote`", view)


def join_events(labels: Any, rows: HistoryRows, ends: Any, view: ViewPlan) -> Any:
    """Return labels with `@row0`, ...: for each field the event of its value at their time.

    See `sources.event_history`.
    """
    from pyspark.sql import functions as F  # noqa: N812

    events = _accepted(_with_end(rows.frame, ends, to_ms("`@known`"), view), view)
    events = events.withColumn("@position", F.col("@known"))
    found = {}
    for i, item in enumerate(view.fields):
        deadline = f"(`@event` + {item.ttl_ms or view.ttl_ms})"
        is_live = f"(`{STATE}{i}` = {VALUE} AND {deadline} > `@arrived`)"
        is_kept = f"`{STATE}{i}` = {NULL} OR {is_live}"
        if view.ordering == "event_time":
            is_kept = f"`{STATE}{i}` > 0"
        ended = F.expr(f"CASE WHEN {is_live} THEN least({deadline}, `@end`) ELSE -1 END")
        parts = [F.col(f"`{name}`") for name in ("@event_us", "@rn", "@bad", f"@v{i}")]
        event = F.struct(ended.alias("@deadline"), *parts)
        events = events.withColumn(f"@event{i}", F.when(F.expr(is_kept), event))
        found[f"@row{i}"] = F.last(f"@event{i}", ignorenulls=True)
    orders = [name for name in rows.orders if name != "@time"]
    return _last_of(labels, events, orders, found, is_global=not view.key.join_keys)


def _accepted(events: Any, view: ViewPlan) -> Any:
    """Return the events that the store accepts."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F  # noqa: N812

    events = events.withColumn("@arrived", F.expr(to_ms("`@known`")))
    events = events.where(f"`@event` >= 0 AND `@event` <= `@arrived` + {view.max_ahead_ms}")
    if view.ordering != "event_time":
        return events
    effects = " OR ".join(
        f"`{STATE}{i}` = {NULL} OR (`{STATE}{i}` = {VALUE} "
        f"AND `@event` + {item.ttl_ms or view.ttl_ms} > `@arrived`)"
        for i, item in enumerate(view.fields)
    )
    events = events.where(f"({effects}) AND `@event` + {view.longest_ttl_ms} > `@arrived`")
    before = (
        Window.partitionBy("@k", "@end")
        .orderBy("@known", "@rn")
        .rowsBetween(Window.unboundedPreceding, -1)
    )
    newest = events.withColumn("@newest", F.max("@event").over(before))
    return newest.where("`@newest` IS NULL OR `@event` >= `@newest`").drop("@newest")


def _last_of(
    labels: Any, rows: Any, orders: Sequence[str], found: dict[str, Any], *, is_global: bool
) -> Any:
    """Return labels with aggregates of the rows up to their position."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F  # noqa: N812

    if is_global:
        labels = labels.withColumn(
            "@k", F.pmod(F.xxhash64("@at"), F.lit(GLOBAL_PARTS)).cast("int")
        )
        rows = rows.withColumn("@k", F.explode(F.sequence(F.lit(0), F.lit(GLOBAL_PARTS - 1))))
    used = [name for name in rows.columns if name.startswith(("@row", "@rank", "@event"))]
    position = "@position" if "@position" in labels.columns else "@at"
    left = labels.select(
        "@k",
        (F.col(position) * 2 + 1).alias("@turn"),  # after the rows of that instant
        F.struct("*").alias("@label"),
    )
    inner = rows.schema["@row"].dataType.names if "@row" in used else []
    by_age = [F.col(f"`@row`.`{name}`" if name in inner else f"`{name}`") for name in orders]
    right = rows.select(
        "@k",
        (F.col("@position") * 2).alias("@turn"),
        *(F.col(f"`{name}`") for name in orders if name not in inner),
        *used,
    )
    window = (
        Window.partitionBy("@k")
        .orderBy("@turn", *(column.asc_nulls_first() for column in by_age))
        .rowsBetween(Window.unboundedPreceding, 0)
    )
    united = left.unionByName(right, allowMissingColumns=True)
    aggregates = [value.over(window).alias(name) for name, value in found.items()]
    joined = united.select("@label", *aggregates).where(F.col("@label").isNotNull())
    return joined.select("@label.*", *found).drop("@position")


def _with_end(frame: Any, ends: Any, time_ms: str, view: ViewPlan) -> Any:
    """Return a frame with `@end`: when its key ended after a time; null if it did not."""
    from pyspark.sql import functions as F  # noqa: N812

    if ends is None:
        return frame.withColumn("@end", F.lit(None).cast("long"))
    if view.key.join_keys:
        joined = frame.join(ends, "@k", "left")
    else:
        joined = frame.join(F.broadcast(ends.drop("@k")), F.expr("true"), "left")
    first = f"array_min(filter(`@ends`, end_ms -> end_ms >= {time_ms}))"
    return joined.withColumn("@end", F.expr(first)).drop("@ends")
