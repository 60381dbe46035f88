"""One Spark session for all tests of the engine; they are skipped without Java or pyspark."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from typing import Any

import pytest

LACKS = [
    name
    for name, is_present in (
        ("pyspark", importlib.util.find_spec("pyspark") is not None),
        ("Java", shutil.which("java") is not None or "JAVA_HOME" in os.environ),
    )
    if not is_present
]


@pytest.fixture(scope="session")
def spark() -> Iterator[Any]:
    if LACKS:
        message = f"the engine 'spark' needs {' and '.join(LACKS)}"
        if os.environ.get("FEATUREKIT_REQUIRE_SPARK"):
            pytest.fail(message)
        pytest.skip(message)
    from pyspark.sql import SparkSession

    os.environ["PYSPARK_PYTHON"] = sys.executable
    settings = {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.shuffle.partitions": "2",
        "spark.driver.memory": "1g",
        "spark.driver.extraJavaOptions": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1",
    }
    builder = SparkSession.builder.master("local[2]").appName("tests")
    for name, value in settings.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    yield session
    session.stop()
