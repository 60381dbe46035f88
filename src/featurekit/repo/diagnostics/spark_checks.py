"""The checks of `featurekit doctor --engine spark`: Java, versions, and whether tasks reach the store."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurekit.errors import FeatureKitError, MissingExtraError
from featurekit.repo.diagnostics.check_result import CheckResult
from featurekit.repo.store_handle import LazyStoreHandle

if TYPE_CHECKING:
    from featurekit.engines.spark_check import TaskFacts

MIN_JAVA = 17
NEEDED = {"pyspark": (4, 0), "pandas": (2, 2), "pyarrow": (18, 0)}
"""The oldest versions on the driver."""


def check_spark(handle: LazyStoreHandle, open_session: Callable[[], Any]) -> list[CheckResult]:
    """Check Java and the packages of this machine, then open a session and ask its tasks.

    Args:
        handle: The online store.
        open_session: Returns the Spark session.
    """
    local = [*_check_packages(), _check_java()]
    if any(check.level == "fail" for check in local):
        return local
    try:
        session = open_session()
        opened = CheckResult("ok", "Spark session", _session_text(session))
        return [*local, opened, *_check_tasks(session, handle)]
    except FeatureKitError as error:
        return [*local, CheckResult("fail", "Spark session", error.message, error.hint)]


def _check_packages() -> Iterator[CheckResult]:
    found = {}
    for name, oldest in NEEDED.items():
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = ""
        numbers = tuple(int(part) for part in re.findall(r"\d+", found[name])[:2])
        if numbers < oldest:
            least = ".".join(map(str, oldest))
            problem = f"{name} is {found[name] or 'not installed'}; {least} or newer is needed"
            hint = MissingExtraError.of("spark", "Spark").hint
            yield CheckResult("fail", "Spark packages", problem, hint)
            return
    text = ", ".join(f"{name} {number}" for name, number in found.items())
    yield CheckResult("ok", "Spark packages", text)


def _check_java() -> CheckResult:
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    hint = f"install Java {MIN_JAVA} or newer, and set JAVA_HOME to it"
    if java is None:
        return CheckResult("fail", "Java", "there is no java on the PATH, and no JAVA_HOME", hint)
    try:
        output = subprocess.run(  # noqa: S603 - the Java that Spark runs
            [java, "-version"], capture_output=True, text=True, check=True, timeout=30
        ).stderr
    except (OSError, subprocess.SubprocessError) as error:
        return CheckResult("fail", "Java", f"{java} does not run: {error}", hint)
    found = re.search(r'version "((?:1\.)?(\d+)[^"]*)"', output)
    text = found[1] if found else "of an unknown version"
    if found and int(found[2]) < MIN_JAVA:
        return CheckResult("fail", "Java", f"{java} is {text}, too old for Spark 4", hint)
    return CheckResult("ok", "Java", f"{java} is {text}")


def _session_text(session: Any) -> str:
    from featurekit.engines.spark_session import is_connect

    if is_connect(session):
        return f"Spark {session.version} over Spark Connect"
    context = session.sparkContext
    return f"Spark {session.version} on {context.master}, cores: {context.defaultParallelism}"


def _check_tasks(session: Any, handle: LazyStoreHandle) -> list[CheckResult]:
    from featurekit.engines.spark_check import check_tasks, server_ids, versions

    facts = check_tasks(session, handle.for_tasks())
    return [_check_versions(facts, versions()), _check_store(facts, server_ids(handle.store))]


def _check_versions(facts: Sequence[TaskFacts], own: dict[str, str]) -> CheckResult:
    for task in facts:
        for name, number in task.versions.items():
            if number != own[name]:
                text = (
                    f"{name} is {number or 'not installed'} on {task.host}, and {own[name]} here"
                )
                hint = "ship the same environment to all machines; docs/spark.md says how"
                return CheckResult("fail", "executors", text, hint)
    hosts = len({task.host for task in facts})
    text = ", ".join(f"{name} {number}" for name, number in own.items())
    return CheckResult("ok", "executors", f"tasks: {len(facts)}, machines: {hosts}; {text}")


def _check_store(facts: Sequence[TaskFacts], servers: frozenset[str]) -> CheckResult:
    subject = "store from executors"
    if failed := [task for task in facts if task.error]:
        return CheckResult(
            "fail",
            subject,
            f"{len(failed)} of {len(facts)} tasks do not reach it; {failed[0].host}: {failed[0].error}",
            "use an address that all machines reach; give the password in the executors' environment "
            "as FEATUREKIT_ONLINE_PASSWORD",
        )
    if others := [task for task in facts if task.servers - servers]:
        return CheckResult(
            "fail",
            subject,
            f"{others[0].host} reaches another server under the same address",
            "use an address that means the same server on all machines, not localhost",
        )
    slowest = max(task.ping_ms for task in facts)
    return CheckResult(
        "ok", subject, f"all {len(facts)} tasks reach it; PING takes {slowest:.1f} ms"
    )
