"""The rows of a source as a Spark DataFrame, and the newest row of each entity.

Every frame of rows has these columns, then those of `ports.Scan.batches`:

    @k0, ...  what identifies an entity
    @o0, ...  what orders rows by age, most important first
    @created  `number`, `time` or `=text`: what a created_timestamp_field of texts contains; else null
    _file, _row  where a row is, which decides among equally old rows; null if the source has no files

The answers equal those of `sources.newest`. `max_by` of structs orders as DuckDB does with `DESC NULLS
LAST`: null first, then numbers, then NaN. `max` of structs does too, in less time, but refuses maps.
Rejected: a window, which sorts whole rows; `dropDuplicates` after a sort, which does not keep the order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_never

import pyarrow as pa

from featurekit.engines.spark_session import error_in_task, small_frame
from featurekit.errors import FeatureKitError, SourceError
from featurekit.plan import (
    CsvSourcePlan,
    JsonlSourcePlan,
    ParquetSourcePlan,
    PythonSourcePlan,
    SourceColumns,
    SourcePlan,
    SqlSourcePlan,
    TableSourcePlan,
    ViewPlan,
)
from featurekit.ports import FILE, LINE, PROBLEM, SOURCE_ROW, RowForm, TimeRange
from featurekit.sources.files import FileSource
from featurekit.sources.selection import check_columns, select
from featurekit.sources.session import BATCH_ROWS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from featurekit.sources.session import Rows

ROW = "_row"
"""The column with the number of a row in its file, from 0."""

CREATED = "@created"
SENT_FIELDS = "@sent"
"""Of events of a source with a `sent_fields_column`: that column."""

_DATE = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
_CLOCK = "[0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]{1,9})?)?"
_OFFSET = "[+-](0[0-9]|1[0-5])(:?[0-5][0-9])?"
_TIME = f"^{_DATE}([T ]{_CLOCK}( ?Z| UTC| ?{_OFFSET})?)?$"
_NUMBER = "^-?[0-9]{1,19}([.][0-9]{1,18})?(E[+]?[0-9]{1,2})?$"


@dataclass(frozen=True, slots=True)
class SparkRows:
    """The rows of a source.

    Attributes:
        frame: A DataFrame with the columns above.
        form: The form of the rows, see `ports.Scan`.
        keys: The number of columns `@k0`, ...
        orders: The number of columns `@o0`, ...
        names: The columns of `ports.Scan.batches`.
        has_files: Whether rows have a file and a number.
        has_time: Whether `@o0` is the time of a row.
        where: The name of the source in messages.
        only_file: The file, if all rows are in one.
    """

    frame: Any
    form: RowForm
    keys: int
    orders: int
    names: tuple[str, ...]
    has_files: bool
    has_time: bool
    where: str
    only_file: str | None = None

    def within(self, times: TimeRange) -> SparkRows:
        """Return the rows of a range of times, and those without a time; also those of the future."""
        from pyspark.sql import functions as F  # noqa: N812 - as Spark's documentation has it

        frame, time = self.frame, F.col("@o0")
        if times.start_ms is not None or times.end_ms is not None:
            if not self.has_time:
                raise SourceError(
                    "a start or end needs a timestamp_field",
                    where=self.where,
                    hint="add `timestamp_field:` to the source, or load all rows",
                )
            condition = F.expr("true")
            if times.start_ms is not None:
                condition &= time >= F.timestamp_millis(F.lit(times.start_ms))
            if times.end_ms is not None:
                condition &= time < F.timestamp_millis(F.lit(times.end_ms))
            frame = frame.where(condition | time.isNull())
        return replace(self, frame=frame)

    def future(self, times: TimeRange) -> Any:
        """Return the condition of the rows that are too new to load."""
        from pyspark.sql import functions as F  # noqa: N812

        if not self.has_time or times.latest_ms is None:
            return F.expr("false")
        later = F.col("@o0") >= F.timestamp_millis(F.lit(times.latest_ms + 1))
        return F.coalesce(later, F.expr("false"))

    @property
    def complete(self) -> Any:
        """The condition of the rows with an entity and a time."""
        from pyspark.sql import functions as F  # noqa: N812

        names = [f"@k{i}" for i in range(self.keys)] + (["@o0"] if self.has_time else [])
        condition = F.expr("true")
        for name in names:
            condition &= F.col(name).isNotNull()
        return condition

    def check_created(self, found: Mapping[str, Any], column: str) -> None:
        """Raise `SourceError` if the texts of a created_timestamp_field have no common order.

        Args:
            found: How many of them are `numbers` and `times`, and one that is `other`.
            column: Its name.
        """
        if found["other"] is not None:
            problem = f"contains '{found['other'][1:]}', which is neither a number nor a time"
        elif found["numbers"] and found["times"]:
            problem = "contains numbers and times, which have no common order"
        else:
            return
        raise SourceError(
            f"created_timestamp_field '{column}' {problem}",
            where=self.where,
            hint="it orders rows with equal times: use a column of numbers or of times",
        )

    def newest(self, times: TimeRange) -> Any:
        """Return the newest row of each entity, and all rows without an entity or a time."""
        from pyspark.sql import functions as F  # noqa: N812

        keys = [f"@k{i}" for i in range(self.keys)]
        order = [f"@o{i}" for i in range(self.orders)]
        own: Any = F.struct(F.monotonically_increasing_id(), F.lit(0))
        if self.has_files:
            order += [ROW] if self.only_file else [FILE, ROW]
            own = F.struct(F.col(FILE), F.col(ROW))
        copies = self._copies()
        values = [name for name in self.names if name not in copies]
        chosen = self.frame.where(~self.future(times))
        chosen = chosen.withColumn("@own", F.when(~self.complete, own))
        # Rows are sorted by their groups, and numbers compare faster than texts that begin alike.
        first = [F.xxhash64(*keys).alias("@hash")] if keys else []
        groups = chosen.groupBy(*first, *keys, "@own")
        newest = groups.agg(self._largest(order, values).alias("@newest"))

        def column(name: str) -> Any:
            return F.col(name if name in keys else f"@newest.{quoted(name)}")

        none, file, row = F.lit(None).cast("string"), F.lit(self.only_file), F.lit(0)
        if self.has_files:
            file, row = file if self.only_file else column(FILE), column(ROW) + 1
        return newest.select(
            *(column(copies.get(name, name)).alias(name) for name in self.names),
            (file if self.has_files else none).alias(FILE),
            F.coalesce(row, F.lit(0)).alias(SOURCE_ROW),
        )

    def _copies(self) -> dict[str, str]:
        """Return the columns of `names` that are copies of keys or of the time."""
        if self.form != "native":
            return {}
        copies = {name: f"@k{i}" for i, name in enumerate(self.names[: self.keys])}
        return copies | ({"event_timestamp": "@o0"} if self.has_time else {})

    def _largest(self, order: Sequence[str], values: Sequence[str]) -> Any:
        """Return the largest struct of a group, which contains columns that order it, then values."""
        from pyspark.sql import functions as F  # noqa: N812

        row = F.struct(*(F.col(quoted(name)) for name in (*order, *values)))
        if not any(is_unordered(self.frame, name) for name in values):
            return F.max(row)
        ties = [] if self.has_files else [orderable(self.frame, name) for name in values]
        return F.max_by(row, F.struct(*(F.col(quoted(name)) for name in order), *ties))


def open_rows(
    session: Any,
    view: ViewPlan,
    source: SourcePlan,
    root: Path,
    *,
    skip_unreadable: bool = False,
) -> SparkRows:
    """Return the rows of a source.

    Args:
        session: The Spark session.
        view: The view.
        source: What to read.
        root: The repository's folder.
        skip_unreadable: Return lines of CSV and JSON Lines files that cannot be read as rows with a
            problem; otherwise they are errors.

    Raises:
        SourceError: Spark cannot read it, or it lacks a column.
    """
    where = f"feature view {view.name}"
    match source:
        case ParquetSourcePlan():
            frame, only_file = _parquet(session, view, source, root)
            rows = _native(frame, view, source, has_files=True)
            return replace(rows, only_file=only_file)
        case TableSourcePlan():
            frame, has_files = _with_place(session.table(source.table))
            return _native(frame, view, source, has_files=has_files)
        case SqlSourcePlan():
            if source.dialect != "spark":
                raise SourceError(
                    "the query is in DuckDB's SQL, which Spark does not run",
                    where=where,
                    hint="load it with --engine duckdb (engine='duckdb'), or rewrite it in Spark's SQL "
                    "and add `dialect: spark`",
                )
            frame = session.sql(source.query, args=dict(source.parameters))
            return _native(_without_place(frame), view, source, has_files=False)
        case CsvSourcePlan() | JsonlSourcePlan():
            texts = TextFiles(view, source, root, skip_unreadable)
            return _text(session, texts, where)
        case PythonSourcePlan():
            raise SourceError(
                "a Python function runs in one process, not on Spark",
                where=where,
                hint="load it with --engine duckdb (engine='duckdb')",
            )
        case _:
            assert_never(source)


def quoted(name: str) -> str:
    """Return the name of a column for Spark."""
    return "`" + name.replace("`", "``") + "`"


def _parquet(
    session: Any, view: ViewPlan, source: ParquetSourcePlan, root: Path
) -> tuple[Any, str | None]:
    """Return the rows of Parquet files, and the file if there is only one."""
    if source.hive_partitioning:
        raise SourceError(
            "folders named column=value are not read by Spark as the local engine reads them",
            where=f"feature view {view.name}",
            hint="register the folder as a table, and use a source of `type: table`",
        )
    frame: Any = None
    for rank, path in enumerate(source.paths):
        files = [path]
        if "://" not in path:
            files = FileSource(replace(source, paths=(path,)), root, BATCH_ROWS).files(view)
        read = session.read.option("mergeSchema", str(len(files) > 1).lower())
        part, _ = _with_place(read.parquet(*files), f"{rank:06d} ")
        frame = part if frame is None else frame.unionByName(part, allowMissingColumns=True)
    found = frame.inputFiles()
    return frame, found[0] if len(found) == 1 else None


def _with_place(frame: Any, prefix: str = "") -> tuple[Any, bool]:
    """Add where rows are, and return whether Spark knows it. Paths are ordered by their parts."""
    from pyspark.errors import AnalysisException
    from pyspark.sql import functions as F  # noqa: N812

    try:
        path = F.translate(F.col("_metadata.file_path"), "/", "\x01")
        placed = frame.select(
            "*", F.concat(F.lit(prefix), path).alias("@file"), "_metadata.row_index"
        ).withColumnRenamed("row_index", "@row")
        placed.schema  # noqa: B018 - Spark Connect analyses it here
    except AnalysisException:
        return _without_place(frame), False
    return placed, True


def _without_place(frame: Any) -> Any:
    from pyspark.sql import functions as F  # noqa: N812

    none = F.lit(None)
    return frame.withColumn("@file", none.cast("string")).withColumn("@row", none.cast("long"))


def _native(frame: Any, view: ViewPlan, source: SourceColumns, *, has_files: bool) -> SparkRows:
    from pyspark.sql import functions as F  # noqa: N812

    where = f"feature view {view.name}"
    kinds = {field.name: field.dataType.typeName() for field in frame.schema.fields}
    check_columns(view, source, kinds, where)
    names = [*(k.name for k in view.key.join_keys), *(f.name for f in view.fields)]
    outputs = [F.col(quoted(source.column(name))).alias(name) for name in names]
    keys = [F.col(quoted(source.column(k.name))) for k in view.key.join_keys]
    order: list[Any] = []
    created_text: Any = F.lit(None).cast("string")
    if source.timestamp_field:
        column = source.timestamp_field
        order.append(_time(F.col(quoted(column)), column, kinds[column], where))
        outputs.append(order[0].alias("event_timestamp"))
        names.append("event_timestamp")
    elif view.event_time_field:
        raise SourceError(
            "the rows have no time, which `ordering: event_time` needs",
            where=where,
            hint=f"add the column '{view.timestamp_field}'",
        )
    if source.created_timestamp_field:
        column = source.created_timestamp_field
        created, created_text = _created(F.col(quoted(column)), column, kinds[column], where)
        order += created
    frame = frame.select(
        *(key.alias(f"@k{i}") for i, key in enumerate(keys)),
        *(part.alias(f"@o{i}") for i, part in enumerate(order)),
        created_text.alias(CREATED),
        F.col("@file").alias(FILE),
        F.col("@row").alias(ROW),
        *([F.col(quoted(sent)).alias(SENT_FIELDS)] if (sent := source.sent_fields_column) else []),
        *outputs,
    )
    has_time = bool(source.timestamp_field)
    return SparkRows(
        frame, "native", len(keys), len(order), tuple(names), has_files, has_time, where
    )


def _time(value: Any, column: str, kind: str, where: str) -> Any:
    if kind in {"timestamp", "timestamp_ntz", "date"}:
        return value.cast("timestamp")
    if kind in {"string", "void"}:
        return _parsed_time(value)
    raise SourceError(
        f"timestamp_field '{column}' is {kind}, not a time",
        where=where,
        hint="make it a timestamp, a date, or RFC 3339 text",
    )


def _created(value: Any, column: str, kind: str, where: str) -> tuple[list[Any], Any]:
    """Return what orders rows of equal times, and what its texts contain."""
    from pyspark.sql import functions as F  # noqa: N812

    none = F.lit(None).cast("string")
    if kind in {"float", "double"}:  # NaN would be the largest number
        return [F.when(~F.isnan(value), value)], none
    if kind in {"timestamp", "timestamp_ntz", "date", "void"} or (
        kind in {"byte", "short", "integer", "long"} or kind.startswith("decimal")
    ):
        return [value], none
    if kind != "string":
        raise SourceError(
            f"created_timestamp_field '{column}' is {kind}, not a time or a number",
            where=where,
            hint="cast the column in a `type: sql` source",
        )
    upper = F.upper(value)
    number = F.when(upper.rlike(_NUMBER), upper.try_cast("decimal(38,18)"))
    time = _parsed_time(value)
    text = F.when(value.isNull(), none).when(number.isNotNull(), "number")
    text = text.when(time.isNotNull(), "time")
    return [number, time], text.otherwise(F.concat(F.lit("="), F.substring(value, 1, 40)))


def _parsed_time(value: Any) -> Any:
    from pyspark.sql import functions as F  # noqa: N812

    upper = F.upper(value.cast("string"))
    spelled = F.regexp_replace(upper, " (?=[+-]|Z|UTC)", "")
    return F.when(upper.rlike(_TIME), spelled.try_cast("timestamp"))


def is_unordered(frame: Any, name: str) -> bool:
    """Return whether Spark cannot order by a column."""
    kind = frame.schema[name].dataType.simpleString()
    return any(part in kind for part in ("map<", "variant"))


def orderable(frame: Any, name: str) -> Any:
    """Return an expression of a column that Spark can order by."""
    from pyspark.sql import functions as F  # noqa: N812

    column = F.col(quoted(name))
    return column.cast("string") if is_unordered(frame, name) else column


@dataclass(frozen=True, slots=True)
class TextFiles:
    """CSV or JSON Lines files, which tasks read with featurekit's own rules.

    Attributes:
        view: The view.
        source: The files.
        root: The folder that paths are relative to.
        skip_unreadable: Return lines that cannot be read as rows with a problem.
    """

    view: ViewPlan
    source: CsvSourcePlan | JsonlSourcePlan
    root: Path
    skip_unreadable: bool

    def open(self, paths: tuple[str, ...]) -> FileSource:
        """Return a source of some of the files."""
        plan, skip = replace(self.source, paths=paths), self.skip_unreadable
        return FileSource(plan, self.root, BATCH_ROWS, skip_unreadable=skip)

    @property
    def orders(self) -> dict[str, str]:
        """The columns `@o0`, ... with their types in Spark."""
        kinds = ["timestamp"] if self.source.timestamp_field else []
        kinds += ["decimal(38,18)", "timestamp"] if self.source.created_timestamp_field else []
        return {f"@o{i}": kind for i, kind in enumerate(kinds)}

    @property
    def outputs(self) -> dict[str, str]:
        """The columns of `ports.Scan.batches` with their types in Spark."""
        keys, fields = self.view.key.join_keys, self.view.fields
        is_json = isinstance(self.source, JsonlSourcePlan)
        names = ["json"] if is_json else [*(k.name for k in keys), *(f.name for f in fields)]
        columns = dict.fromkeys(names, "string")
        if self.source.timestamp_field:
            columns["event_timestamp"] = "timestamp"
        return columns | dict.fromkeys((PROBLEM, LINE) if self.skip_unreadable else (), "string")

    @property
    def columns(self) -> dict[str, str]:
        """All columns of a frame of rows with their types in Spark."""
        keys = {f"@k{i}": "string" for i in range(len(self.view.key.join_keys))}
        place = {CREATED: "string", FILE: "string", ROW: "long"}
        return {**keys, **self.orders, **place, **self.outputs}

    def read(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Yield the rows of the files in `batches` of ranks and paths. Runs in tasks."""
        for batch in batches:
            for file in batch.to_pylist():
                try:
                    yield from self._rows(file["rank"], file["path"])
                except FeatureKitError as error:
                    raise error_in_task(error) from error

    def _rows(self, rank: int, path: str) -> Iterator[Any]:
        label = f"{rank:06d} {path}".replace("'", "''")
        names = list(self.columns)
        for rows in self.open((path,)).all_rows(self.view, lambda rows: self._sql(rows, label)):
            yield rows.rename_columns(names)

    def _sql(self, rows: Rows, label: str) -> list[str]:
        """Return the SQL of the columns."""
        chosen = select(self.view, self.source, rows)
        kinds = [
            "DECIMAL(38, 18)" if kind.startswith("decimal") else "TIMESTAMPTZ"
            for kind in self.orders.values()
        ]
        missing = ["CAST(NULL AS VARCHAR)"] * (len(self.outputs) - len(chosen.values))
        return [
            *(f"CAST({key} AS VARCHAR)" for key in chosen.keys if self.view.key.join_keys),
            *(f"CAST({part} AS {kind})" for part, kind in zip(chosen.order, kinds, strict=True)),
            f"CAST({chosen.created_text or 'NULL'} AS VARCHAR)",
            f"'{label}'",
            "row_number() OVER () - 1",
            *chosen.values,
            *missing,
        ]


def _text(session: Any, texts: TextFiles, where: str) -> SparkRows:
    """Return the rows of CSV or JSON Lines files."""
    view, source = texts.view, texts.source
    if remote := [path for path in source.paths if "://" in path]:
        raise SourceError(
            f"{remote[0]} is not a file that tasks can open",
            where=where,
            hint="convert it to Parquet, or mount it as a folder on all machines",
        )
    if source.hive_partitioning:
        raise SourceError(
            "folders named column=value are not read on Spark",
            where=where,
            hint="load it with --engine duckdb (engine='duckdb')",
        )
    local = texts.open(source.paths)
    files = local.files(view)
    local.check_members(view)
    schema = ", ".join(f"{quoted(name)} {kind}" for name, kind in texts.columns.items())
    columns = {"rank": pa.int32(), "path": pa.string()}
    paths = small_frame(session, list(enumerate(files)), columns)
    frame = paths.repartition(len(files)).mapInArrow(texts.read, schema)
    form: RowForm = "json" if isinstance(source, JsonlSourcePlan) else "text"
    keys, has_time = len(view.key.join_keys), bool(source.timestamp_field)
    names = tuple(texts.outputs)
    orders = len(texts.orders)
    return SparkRows(
        frame, form, keys, orders, names, has_files=True, has_time=has_time, where=where
    )
