"""Ctrl-C during a query."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# The signal is sent when the query writes to disk, which it does only while it sorts.
SCRIPT = r"""
import os, signal, sys, threading, time
from pathlib import Path
from featurekit.sources.session import Session

session = Session()
sent = []

def send_signal_during_sort():
    while not any(p.stat().st_size for p in Path(os.environ["TMPDIR"]).rglob("*.tmp")):
        time.sleep(0.01)
    sent.append(time.monotonic())
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=send_signal_during_sort, daemon=True).start()
query = "SELECT hash(i) AS h, repeat('x', 100) AS text FROM range(20000000) t(i) ORDER BY h"
try:
    if sys.argv[1] == "statement":
        session.execute(f"CREATE TEMP TABLE sorted AS {query}")
    else:
        session.fetch_all(f"SELECT max(rn) FROM (SELECT row_number() OVER () AS rn FROM ({query}))")
except KeyboardInterrupt:
    print(time.monotonic() - sent[0])
    print(session.fetch_all("SELECT 1"))
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["statement", "result"])
def test_ctrl_c_interrupts_a_sort_at_once_and_the_session_stays_usable(
    tmp_path: Path, kind: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, kind],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    seconds, rows = done.stdout.splitlines()
    assert float(seconds) < 15
    assert rows == "[(1,)]"
    assert list(tmp_path.iterdir()) == []
