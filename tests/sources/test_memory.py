"""The memory of a scan does not grow with the number of rows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

pytestmark = pytest.mark.slow

SCRIPT = r"""
import re, sys
from pathlib import Path
from featurekit.types import DType
from featurekit.keys import JoinKey, KeyPlan
from featurekit.plan import FieldPlan, ParquetSourcePlan, ViewPlan
from featurekit.sources import open_source

plan = ParquetSourcePlan(paths=("rows.parquet",), timestamp_field="ts")
key = KeyPlan("fs", "user", (JoinKey("user_id", DType("string")),))
fields = tuple(FieldPlan(n, DType("int64")) for n in "abc")
view = ViewPlan("v", "batch", key, fields, "key", 1, 1, source=plan)
scan = open_source(plan, Path(sys.argv[1])).scan(view)
print(sum(b.num_rows for b in scan.batches))
# Not `ru_maxrss`, which includes the process that forked this one.
print(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_eight_million_rows_half_of_them_superseded_fit_into_500_mb(tmp_path: Path) -> None:
    with duckdb.connect() as db:
        db.execute(
            "COPY (SELECT 'u' || (i * 7919 % 4000000) AS user_id, i AS a, i AS b, i AS c, "
            "TIMESTAMP '2026-01-01' + to_seconds((i % 86400)::DOUBLE) AS ts "
            f"FROM range(8000000) t(i)) TO '{tmp_path}/rows.parquet'"
        )
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, check=True
    )
    rows, peak_kb = map(int, done.stdout.split())
    assert rows == 4_000_000
    assert peak_kb < 500_000  # usual: 360 MB; without a limit: 850 MB
