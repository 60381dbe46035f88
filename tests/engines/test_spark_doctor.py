"""`featurekit doctor --engine spark`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from featurekit import FeatureStore
from featurekit.engines.spark_check import TaskFacts, versions
from featurekit.errors import RequestError
from featurekit.repo.diagnostics import CheckResult, spark_checks
from tests.promise.repos import applied
from tests.servers import Server, running, valkey_binary

pytestmark = pytest.mark.slow

VIEW = """
entities: [{name: user, join_keys: {user_id: string}}]
feature_views: [{name: profile, entity: user, batch: {refresh: 1h}, fields: {n: int64}}]
"""


@pytest.fixture
def store(tmp_path: Path, valkey: Server) -> Iterator[FeatureStore]:
    with applied(tmp_path, valkey.url, VIEW) as store:
        yield store


def by_subject(checks: list[CheckResult]) -> dict[str, CheckResult]:
    return {check.subject: check for check in checks}


def test_versions_java_and_the_way_to_the_store_are_checked(
    store: FeatureStore, spark: Any
) -> None:
    checks = by_subject(store.doctor(engine=spark))
    subjects = ("Spark packages", "Java", "Spark session", "executors", "store from executors")
    assert [checks[name].level for name in subjects] == ["ok"] * 5
    assert "cores: 2" in checks["Spark session"].message
    assert "tasks: 2, machines: 1; Python 3." in checks["executors"].message
    assert "all 2 tasks reach it; PING takes " in checks["store from executors"].message


def test_tasks_without_the_password_of_the_store_do_not_reach_it(
    tmp_path: Path, spark: Any
) -> None:
    with running(valkey_binary(), "--requirepass", "secret") as server:
        url = server.url.replace("unix://", "unix://:secret@")
        with applied(tmp_path, url, VIEW) as store:
            check = by_subject(store.doctor(engine=spark))["store from executors"]
    assert check.level == "fail"
    assert "2 of 2 tasks do not reach it" in check.message
    assert "FEATUREKIT_ONLINE_PASSWORD" in check.hint
    assert "secret" not in check.message


def test_other_versions_and_another_server_on_executors_are_failures(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = versions()
    task = TaskFacts("host", own, frozenset({"a"}))
    check = spark_checks._check_versions([task], own | {"pyarrow": "1.0"})
    assert (check.level, check.message.startswith("pyarrow is ")) == ("fail", True)
    lacking = replace(task, versions=own | {"featurekit": ""})
    assert "not installed on host" in spark_checks._check_versions([lacking], own).message
    assert spark_checks._check_store([task], frozenset({"a"})).level == "ok"
    check = spark_checks._check_store([task], frozenset({"b"}))
    assert (check.level, "another server" in check.message) == ("fail", True)


def test_a_machine_without_java_and_pyspark_is_told_what_to_install(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(spark_checks, "NEEDED", {"no-such-package": (4, 0)})
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    checks = by_subject(store.doctor(engine="spark"))
    assert "no-such-package is not installed; 4.0 or newer" in checks["Spark packages"].message
    assert "does not run" in checks["Java"].message
    assert "Spark session" not in checks  # it would not start
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\necho 'openjdk version \"1.8.0_1\"' >&2\n")
    java.chmod(0o755)
    check = by_subject(store.doctor(engine="spark"))["Java"]
    assert "is 1.8.0_1, too old" in check.message
    monkeypatch.delenv("JAVA_HOME")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "no java on the PATH" in by_subject(store.doctor(engine="spark"))["Java"].message
    with pytest.raises(RequestError, match="no engine 'dask'"):
        store.doctor(engine="dask")
