"""One Spark session for all tests of the engine; they are skipped without Java or pyspark."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.engines.settings import SETTINGS

LACKS = [
    name
    for name, is_present in (
        ("pyspark", importlib.util.find_spec("pyspark") is not None),
        ("Java", shutil.which("java") is not None or "JAVA_HOME" in os.environ),
    )
    if not is_present
]


@pytest.fixture(scope="session")
def has_spark() -> None:
    """Skip a test without Spark; where it is required, fail."""
    if LACKS:
        message = f"the engine 'spark' needs {' and '.join(LACKS)}"
        if os.environ.get("FEATUREKIT_REQUIRE_SPARK"):
            pytest.fail(message)
        pytest.skip(message)


@pytest.fixture(scope="session")
def spark(has_spark: None) -> Iterator[Any]:
    from pyspark.sql import SparkSession

    os.environ["PYSPARK_PYTHON"] = sys.executable
    builder = SparkSession.builder.master("local[2]").appName("tests")
    for name, value in SETTINGS.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    yield session
    session.stop()
