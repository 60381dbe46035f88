"""Files of logs by hour: complete, or left alone by readers."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurekit.logs.hourly_files import HOUR_MS, HourlyFiles
from featurekit.runtime.row_log import RowLog

SCHEMA = pa.schema([("at", pa.int64()), ("text", pa.string())])
START_MS = 496_000 * HOUR_MS + 59 * 60_000  # a minute before the end of an hour


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now_ms = START_MS

    def __call__(self) -> int:
        return self.now_ms


def encode(rows: Sequence[tuple[int, str]]) -> pa.RecordBatch:
    at, texts = zip(*rows, strict=True)
    return pa.record_batch([pa.array(at, pa.int64()), pa.array(texts, pa.string())], schema=SCHEMA)


def files_in(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.glob(f"*/{pattern}"))


def texts_of(folder: Path) -> list[str]:
    tables = [pq.read_table(file) for file in files_in(folder, "*.parquet")]
    return [text for table in tables for text in table["text"].to_pylist()]


def test_a_file_is_complete_when_its_hour_is_over(tmp_path: Path) -> None:
    clock = Clock()
    files = HourlyFiles(tmp_path, SCHEMA, encode, clock)
    files.write([(START_MS, "a"), (START_MS + 1, "b"), (START_MS + 60_000, "c")])
    assert texts_of(tmp_path) == []
    clock.now_ms += 80_000
    files.complete_past_hours()
    assert texts_of(tmp_path) == ["a", "b"]
    [file] = files_in(tmp_path, "*.parquet")
    assert file.parent.name == "2026-08-01"
    assert file.name.startswith("16-")
    files.close()
    assert texts_of(tmp_path) == ["a", "b", "c"]
    assert len(list(tmp_path.rglob("*"))) == 3


def test_rows_after_an_hour_is_complete_are_in_another_file(tmp_path: Path) -> None:
    clock = Clock()
    files = HourlyFiles(tmp_path, SCHEMA, encode, clock)
    for text in "ab":
        files.write([(START_MS, text)])
        files.close()
    assert sorted(texts_of(tmp_path)) == ["a", "b"]


def _kill(files: HourlyFiles, part: Path, *, idle_s: float) -> None:
    """Make a part look as if its process had died."""
    files.abandon()
    os.utime(part, (time.time() - idle_s,) * 2)


def test_the_part_of_a_dead_process_is_completed_by_the_next(tmp_path: Path) -> None:
    dead = HourlyFiles(tmp_path, SCHEMA, encode, Clock())
    dead.write([(START_MS, "a")])
    dead.write([(START_MS, "b")])
    [part] = files_in(tmp_path, "*.part")
    with part.open("ab") as file:  # killed in the middle of a message
        file.write(part.read_bytes()[-20:-3])
    _kill(dead, part, idle_s=5)
    now = lambda: time.time_ns() // 1_000_000  # noqa: E731
    first = HourlyFiles(tmp_path, SCHEMA, encode, now)
    first.write([(START_MS, "c")])
    first.close()
    assert texts_of(tmp_path) == ["c"]  # it may still be running
    part.with_name(f"{part.name.removesuffix('.arrows.part')}.parquet.1.tmp").write_bytes(b"PAR1")
    _kill(dead, part, idle_s=60)
    second = HourlyFiles(tmp_path, SCHEMA, encode, now)
    second.write([(START_MS, "d")])
    second.close()
    assert sorted(texts_of(tmp_path)) == ["a", "b", "c", "d"]
    assert [file.suffix for file in files_in(tmp_path, "*")] == [".damaged", *[".parquet"] * 3]


def test_a_part_without_rows_leaves_no_file(tmp_path: Path) -> None:
    folder = tmp_path / "2026-07-31"
    folder.mkdir()
    for number, data in enumerate((b"", b"x", SCHEMA.serialize().to_pybytes())):
        part = folder / f"15-1-elsewhere-1-{number}.arrows.part"
        part.write_bytes(data)
        os.utime(part, (1e9, 1e9))
    files = HourlyFiles(tmp_path, SCHEMA, encode, lambda: time.time_ns() // 1_000_000)
    files.write([(START_MS, "a")])
    files.close()
    assert texts_of(tmp_path) == ["a"]
    assert len(files_in(tmp_path, "*")) == 1


def test_a_damaged_part_is_read_up_to_the_damage_and_kept_and_stops_no_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = HourlyFiles(tmp_path / "source", SCHEMA, encode, Clock())
    source.write([(START_MS, "first")])
    source.write([(START_MS, "second")])
    [part] = files_in(tmp_path / "source", "*.part")
    good = part.read_bytes()
    at = good.index(b"second")
    offsets = at - 8  # those of the only text: 0 and 6
    damaged = {
        "letters": good[:at] + b"\xff" + good[at + 1 :],
        "offsets": good[:offsets] + b"\xff\xff\xff\x7f" * 2 + good[offsets + 8 :],
        "length": good.replace(good[4:8], b"\xff\xff\xff\x7f", 1),
    }
    for name, data in damaged.items():
        folder = tmp_path / name / "2026-07-31"
        folder.mkdir(parents=True)
        (folder / "15-1-elsewhere-1-0.arrows.part").write_bytes(data)
        os.utime(folder / "15-1-elsewhere-1-0.arrows.part", (1e9, 1e9))
        files = HourlyFiles(tmp_path / name, SCHEMA, encode, lambda: time.time_ns() // 1_000_000)
        files.write([(START_MS, "new")])
        files.close()
        rescued = ["first"] if name in ("letters", "offsets") else []
        assert sorted(texts_of(tmp_path / name)) == [*rescued, "new"], name
        [kept] = files_in(tmp_path / name, "*.damaged")
        assert kept.read_bytes() == data
        [warning] = [text for text in caplog.messages if str(kept) in text]
        assert f"first {len(rescued)} rows are in a Parquet file" in warning


def test_the_part_of_a_running_process_is_left_alone_however_old(tmp_path: Path) -> None:
    first = HourlyFiles(tmp_path, SCHEMA, encode, Clock())
    first.write([(START_MS, "a")])
    [part] = files_in(tmp_path, "*.part")
    os.utime(part, (1e9, 1e9))
    second = HourlyFiles(tmp_path, SCHEMA, encode, lambda: time.time_ns() // 1_000_000)
    second.write([(START_MS, "b")])
    second.close()
    assert texts_of(tmp_path) == ["b"]
    first.close()
    assert sorted(texts_of(tmp_path)) == ["a", "b"]


def test_rows_after_a_folder_is_deleted_are_in_a_new_file(tmp_path: Path) -> None:
    files = HourlyFiles(tmp_path / "log", SCHEMA, encode, Clock())
    files.write([(START_MS, "a")])
    shutil.rmtree(tmp_path / "log")
    files.write([(START_MS, "b")])
    files.close()
    assert texts_of(tmp_path / "log") == ["b"]


def _limit(size: int) -> None:
    """Make writes behind a size fail, as a full disk does."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


@pytest.fixture
def limited() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("limited")
def test_a_full_disk_leaves_no_open_files_and_no_empty_parts(tmp_path: Path) -> None:
    log = RowLog("test", HourlyFiles(tmp_path, SCHEMA, encode, Clock()))
    count = len(list(Path("/proc/self/fd").iterdir()))
    _limit(10)
    for _ in range(3):
        log.rows.append((START_MS, "lost"))
        log._write()
    assert len(list(Path("/proc/self/fd").iterdir())) <= count
    assert files_in(tmp_path, "*") == []
    assert (log.written, log.dropped) == (0, 3)


@pytest.mark.usefixtures("limited")
def test_a_file_that_cannot_be_completed_is_completed_once_there_is_space(tmp_path: Path) -> None:
    clock = Clock()
    log = RowLog("test", HourlyFiles(tmp_path, SCHEMA, encode, clock))
    log.rows.append((START_MS, "a"))
    log._write()
    clock.now_ms += 80_000
    _limit(10)
    log._write()
    assert texts_of(tmp_path) == []
    _limit(resource.RLIM_INFINITY)
    log._write()
    assert texts_of(tmp_path) == ["a"]
    assert (log.written, log.dropped) == (1, 0)
    assert len(files_in(tmp_path, "*")) == 1


def test_a_row_that_does_not_fit_is_dropped_alone(tmp_path: Path) -> None:
    log = RowLog("test", HourlyFiles(tmp_path, SCHEMA, encode, Clock()))
    log.extend([(START_MS, text) for text in ("a", "b", 7, "c")])
    log.close()
    assert texts_of(tmp_path) == ["a", "b", "c"]
    assert (log.written, log.dropped) == (3, 1)
    log.append((START_MS, "d"))
    log.close()
    assert texts_of(tmp_path).count("d") == 1


PROCESS = """
import multiprocessing, os, sys, time
from tests.logs.test_hourly_files import *
log = RowLog("test", HourlyFiles(Path(sys.argv[1]), SCHEMA, encode, Clock()))
log.append((START_MS, "parent"))
if sys.argv[2] == "fork":
    if (child := os.fork()) == 0:
        log.append((START_MS, "child"))
        sys.exit()
    os.waitpid(child, 0)
if sys.argv[2] == "multiprocessing":
    context = multiprocessing.get_context("fork")
    child = context.Process(target=lambda: log.append((START_MS, "child")))
    child.start()
    child.join()
if sys.argv[2] == "kill":
    log._wake.set()
    while not log.written:
        time.sleep(0.01)
    log.append((START_MS, "lost"))
    os.kill(os.getpid(), 9)
"""


def _run(folder: Path, how: str) -> int:
    command = [sys.executable, "-c", PROCESS, str(folder), how]
    return subprocess.run(command, check=False, timeout=60).returncode


@pytest.mark.parametrize("how", ["fork", pytest.param("multiprocessing", marks=pytest.mark.slow)])
def test_rows_are_written_at_exit_and_a_fork_writes_its_own(tmp_path: Path, how: str) -> None:
    assert _run(tmp_path, how) == 0
    assert sorted(texts_of(tmp_path)) == ["child", "parent"]
    assert len(files_in(tmp_path, "*.parquet")) == 2
    assert files_in(tmp_path, "*.part") == []


def test_a_killed_process_loses_only_its_buffer(tmp_path: Path) -> None:
    assert _run(tmp_path, "kill") == -signal.SIGKILL
    assert texts_of(tmp_path) == []
    [part] = files_in(tmp_path, "*.part")
    os.utime(part, (1e9, 1e9))
    files = HourlyFiles(tmp_path, SCHEMA, encode, lambda: time.time_ns() // 1_000_000)
    files.write([(START_MS, "next")])
    files.close()
    assert sorted(texts_of(tmp_path)) == ["next", "parent"]
