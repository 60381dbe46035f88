"""Blocks of the load log: many records of one view as one compressed value.

A block is JSON, compressed with zlib: an object that maps the name of each member to the list of its
values, one for each record, `null` where a record lacks it. To be small, `started_ms` is the difference
from the record before, and any other member whose name ends in `_ms` is the difference from `started_ms`
of the same record. Seconds are rounded to milliseconds.

The name of a block says what is in it, so that a reader fetches only blocks that it needs, and a writer
knows the size of all of them: `{first ended_ms}-{last ended_ms}-{records}-{bytes}`.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from typing_extensions import override

from featurekit.repo.stored_records import parse_json

_MAX_TEXT_BYTES = 64_000_000
"""The largest block that is read, decompressed."""

_NAME = re.compile(r"(\d{1,19})-(\d{1,19})-(\d{1,9})-(\d{1,12})")
_TIME = "started_ms"


class BlockName(NamedTuple):
    """What the name of a block says.

    Attributes:
        first_ms: The earliest `ended_ms` of its records.
        last_ms: The latest `ended_ms` of its records.
        records: How many records it has.
        size_bytes: Its size.
    """

    first_ms: int
    last_ms: int
    records: int
    size_bytes: int

    @classmethod
    def parse(cls, name: bytes) -> BlockName | None:
        """Return the parts of a name; `None` if it is not the name of a block."""
        found = _NAME.fullmatch(name.decode(errors="replace"))
        return cls(*map(int, found.groups())) if found else None

    @override
    def __str__(self) -> str:
        return "-".join(map(str, self))


def encode_block(documents: Sequence[Mapping[str, Any]]) -> tuple[BlockName, bytes]:
    """Return the name and the value of a block of valid records, oldest first."""
    names = dict.fromkeys(name for document in documents for name in document)
    columns: dict[str, list[Any]] = {name: [] for name in (_TIME, *names)}
    before = 0
    for document in documents:
        started = document.get(_TIME, 0)
        for name, values in columns.items():
            values.append(_packed(name, document.get(name), started))
        columns[_TIME][-1] = started - before
        before = started
    text = json.dumps(columns, separators=(",", ":"))
    data = zlib.compress(text.encode(), 9)
    ended = [document.get("ended_ms", 0) for document in documents]
    return BlockName(max(0, min(ended)), max(0, *ended), len(documents), len(data)), data


def decode_block(data: bytes) -> list[dict[str, Any]]:
    """Return the records of a block, oldest first; none if it is damaged."""
    try:
        text = zlib.decompressobj().decompress(data, _MAX_TEXT_BYTES)
    except zlib.error:
        return []
    columns = parse_json(text)
    try:
        return _documents(columns) if isinstance(columns, dict) else []
    except (TypeError, ValueError, KeyError):
        return []


def _documents(columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    documents = []
    started = 0
    for row in zip(*columns.values(), strict=True):
        document = dict(zip(columns, row, strict=True))
        started += document[_TIME]
        document[_TIME] = 0
        documents.append(
            {
                name: value + started if name.endswith("_ms") else value
                for name, value in document.items()
                if value is not None
            }
        )
    return documents


def _packed(name: str, value: Any, started: int) -> Any:
    if isinstance(value, float):
        return round(value, 3)
    is_time = value is not None and name.endswith("_ms")
    return value - started if is_time else value
