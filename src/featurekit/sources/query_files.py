"""Which files a query reads, as far as its text says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from featurekit.sources.partitions import matching_paths
from featurekit.sources.session import Session, quote_text

_READERS = re.compile(r"read_\w+|parquet_scan|sniff_csv|glob")
_FILE = re.compile(r".*[./\\*].*", re.DOTALL)


def query_files(session: Session, query: str, root: Path) -> list[str] | None:
    """Return the local files that a query reads; `None` if its text does not name all of them.

    It names them in functions such as `read_csv('a.csv')`, or as tables: `FROM 'a.csv'`.
    """
