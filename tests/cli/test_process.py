"""The command as a process: what it imports, what it costs, and how it ends."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.running import run, table_cells

FEATUREKIT = [sys.executable, "-m", "featurekit"]
HEAVY = {"redis", "pydantic", "rich", "duckdb", "pyarrow", "yaml"}


def _run(*arguments: str, **settings: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        [*FEATUREKIT, *arguments], capture_output=True, text=True, check=False, **settings
    )


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder of a short path, for sockets."""
    with tempfile.TemporaryDirectory(prefix="fk") as folder:
        yield Path(folder)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from featurekit.cli import program\n"
        "try: program(['--help'])\n"
        f"except SystemExit: print(sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"


def test_help_costs_less_than_200_ms_of_cpu() -> None:
    def cpu() -> float:
        before = os.times()
        assert _run("--help").returncode == 0
        after = os.times()
        return sum(after[2:4]) - sum(before[2:4])

    assert any(cpu() < 0.2 for _ in range(10))  # other work on the machine adds to it


def test_without_a_command_it_prints_its_help() -> None:
    assert _run().stdout == _run("--help").stdout
    assert "start" in _run("embedded").stdout


def test_version_is_that_of_the_package() -> None:
    assert _run("--version").stdout.startswith("featurekit ")


def test_a_reader_that_leaves_is_no_error(short: Path) -> None:
    with subprocess.Popen(
        [*FEATUREKIT, "schema"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""


def test_an_interrupt_is_one_line_and_exit_code_130(folder: Path) -> None:
    assert run("apply").exit_code == 0
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*FEATUREKIT, "write", "user_profile"], stdin=theirs, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "reading JSON objects, one per line, until Ctrl-D\n"
        process.send_signal(signal.SIGINT)
        assert process.stderr.read().strip() == "error: interrupted"
    os.close(ours)
    os.close(theirs)
    assert process.returncode == 130


@pytest.mark.slow
def test_an_embedded_server_starts_when_needed_and_stops_on_request(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FEATUREKIT_ONLINE_URL", raising=False)
    monkeypatch.chdir(short)
    try:
        assert run("init").exit_code == 0
        assert _run("apply").returncode == 0
        assert run("materialize").exit_code == 0
        answer = run("get", "user_profile:tx_count_7d", "--entity", "user_id=u0001")
        assert ["tx_count_7d", "5", "present"] in table_cells(answer.stdout)
        assert run("embedded", "status").stdout.startswith("running\n")
    finally:
        assert _run("embedded", "stop").stdout == "stopped\n"
    assert run("embedded", "stop").stdout == "the server was not running\n"


@pytest.mark.slow
def test_a_terminal_gets_colours_and_a_question(filled: Path) -> None:
    assert "\x1b[" in _on_terminal("list")
    assert "\x1b[" not in _run("list").stdout
    asked = _on_terminal("reset", typed=b"n\n")
    assert "Delete fs:user:* of project" in asked
    assert "not confirmed; nothing was changed" in asked


def _on_terminal(*arguments: str, typed: bytes = b"") -> str:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    environment.pop("NO_COLOR", None)
    with subprocess.Popen(
        [*FEATUREKIT, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    ) as process:
        os.close(theirs)
        os.write(ours, typed)
        text = _read_all(ours)
    os.close(ours)
    assert process.returncode is not None
    return text


def _read_all(terminal: int) -> str:
    text = b""
    while True:
        try:
            text += os.read(terminal, 65536)
        except OSError:  # the other side is closed
            return text.decode()
