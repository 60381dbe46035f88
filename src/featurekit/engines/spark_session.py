"""Spark sessions: opened from `featurerepo.yaml` or given by the caller, and their settings for a load."""

from __future__ import annotations

import json
import os
import re
import sys
import warnings
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from featurekit.errors import FeatureKitError, MissingExtraError, RequestError, SourceError

_SETTINGS = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "true",
}
"""Settings under which rows mean the same in Spark and in DuckDB: times without a zone are UTC, and a
cast that fails is an error instead of null."""

_MARK = "featurekit error "


def open_session(master: str | None, conf: Mapping[str, str], passwords: Mapping[str, str]) -> Any:
    """Return the active Spark session, or a new one.

    Args:
        master: The master of a new session; Spark's own default by default.
        conf: Settings of a new session.
        passwords: Environment variables of the executors of a new session, with passwords. Spark redacts
            them in its pages and logs.

    Raises:
        MissingExtraError: pyspark is not installed.
        RequestError: Spark does not start.
    """
    try:
        from pyspark.errors import PySparkException
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise MissingExtraError.of("spark", "the engine 'spark'") from error
    active = SparkSession.getActiveSession()
    if active is not None:
        return active
    builder = SparkSession.builder.appName("featurekit")
    if master is not None:
        builder = builder.master(master)
        if master.startswith("local"):  # otherwise tasks run the `python3` of the PATH
            os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    settings = {"spark.ui.showConsoleProgress": "false", **conf}
    settings |= {f"spark.executorEnv.{name}": value for name, value in passwords.items()}
    for name, value in settings.items():
        builder = builder.config(name, value)
    try:
        return builder.getOrCreate()
    except PySparkException as error:
        raise RequestError(
            f"Spark does not start: {first_line(error)}",
            hint="it needs Java 17 or newer on the PATH or in JAVA_HOME",
        ) from error


def small_frame(session: Any, rows: Sequence[tuple[Any, ...]], columns: Mapping[str, Any]) -> Any:
    """Return a frame of rows of this process. Plans contain them, so that no task reads them.

    Args:
        session: The Spark session.
        rows: The rows.
        columns: Their columns with their Arrow types.
    """
    import pyarrow as pa

    values = zip(*rows, strict=True) if rows else ((),) * len(columns)
    arrays = [
        pa.array(column, kind) for column, kind in zip(values, columns.values(), strict=True)
    ]
    return session.createDataFrame(pa.table(arrays, names=list(columns)))


@contextmanager
def load_settings(session: Any, extra: Mapping[str, str]) -> Iterator[None]:
    """Change the settings of a session during a load, and restore them."""
    changed = {**_SETTINGS, **extra}
    before = {name: session.conf.get(name, None) for name in changed}
    try:
        for name, value in changed.items():
            session.conf.set(name, value)
        with without_pandas_warning():
            yield
    finally:
        for name, value in before.items():
            if value is None:
                session.conf.unset(name)
            else:
                session.conf.set(name, value)


@contextmanager
def without_pandas_warning() -> Iterator[None]:
    """Hide the warning of pyspark that it does not support pandas 3 fully, which is not used."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


@contextmanager
def spark_errors(where: str) -> Iterator[None]:
    """Raise the errors of Spark in the block as `SourceError`."""
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    try:
        yield
    except (PySparkException, Py4JError) as error:
        if (own := _own_error(str(error))) is not None:
            raise own from error
        text = first_line(error)
        hint = ""
        if "ILLEGAL" in text or "UNSUPPORTED_TIME_TYPE" in text:
            hint = "Spark does not read this type; cast the column where the file is written"
        if "No module named" in text:
            hint = "install featurekit and the extra 'batch' for the Python of the executors (PYSPARK_PYTHON)"
        raise SourceError(f"Spark: {text}", where=where, hint=hint) from error


class TaskError(Exception):
    """One of our own errors in a task that has no other way to return it."""


def error_in_task(error: FeatureKitError) -> TaskError:
    """Return an error from which `spark_errors` makes a `SourceError` with the same text."""
    document = json.dumps([error.message, error.where, error.hint])
    return TaskError(f"{_MARK}{b64encode(document.encode()).decode()};")


def _own_error(text: str) -> SourceError | None:
    """Return the error of a task; `None` if the text, in which data may occur, has none."""
    _, mark, rest = text.rpartition(_MARK)
    if not mark:
        return None
    try:
        message, where, hint = map(str, json.loads(b64decode(rest.partition(";")[0])))
    except ValueError:
        return None
    return SourceError(message, where=where, hint=hint)


def is_connect(session: Any) -> bool:
    """Return whether a session is of Spark Connect, which has no `sparkContext`."""
    return type(session).__module__.startswith("pyspark.sql.connect")


def first_line(error: BaseException) -> str:
    """Return the first line of an error of Spark; of one in a task's Python, the line that names it."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    if lines and "Python worker" in lines[0]:
        lines = [line for line in lines if re.match(r"[\w.]+(Error|Exception)\b", line)][
            -1:
        ] or lines
    return lines[0].strip() if lines else type(error).__name__
