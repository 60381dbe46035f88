"""Sample rows of an entity: of its sources, of histories of events, of examples, or invented.

Of each source the rows whose keys have the lowest hashes are taken, so that the samples of several views
are of the same entities, and show which views an entity has.
"""

from __future__ import annotations

import json
import random
import string
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

from featurekit.errors import RequestError, ValueRefusedError
from featurekit.keys import KeyPlan
from featurekit.lower.columns import encode_batch
from featurekit.lower.keys import key_function
from featurekit.plan import EVENT_TIMESTAMP, FieldPlan, RepoPlan, SourcePlan, ViewPlan
from featurekit.ports import BatchSource, TimeRange
from featurekit.repo.estimate_report import Origin
from featurekit.repo.estimate_windows import invented_window, with_guard
from featurekit.repo.histories import history_of
from featurekit.runtime.load_tables import split_problems
from featurekit.types import DType, codec_of

INVENTED_ID_CHARACTERS = 16
"""The length of a join key of text that no source has."""

_TEXT_CHARACTERS, _ELEMENTS, _BLOB_BYTES = 12, 5, 16
_MAX_NUMBER = 10_000

Row = Sequence[bytes | None]
OpenSource = Callable[[ViewPlan, SourcePlan], BatchSource]


@dataclass(frozen=True, slots=True)
class ViewRows:
    """The rows of one view for the sampled entities.

    Attributes:
        view: The compiled view.
        rows: For each entity the bytes of the view's fields; `None` if it has no row.
        origins: Where the values of each field come from.
    """

    view: ViewPlan
    rows: Sequence[Row | None]
    origins: Mapping[str, Origin]


@dataclass(frozen=True, slots=True)
class EntityRows:
    """A sample of an entity.

    Attributes:
        keys: The keys.
        views: The rows of each view.
        has_real_keys: Whether the keys are of a source or of examples.
    """

    keys: list[bytes]
    views: list[ViewRows]
    has_real_keys: bool


class Example(NamedTuple):
    """An object of a file of examples, and where it is."""

    where: str
    values: Mapping[str, Any]


@dataclass(slots=True)
class _LowestKeys:
    """The rows with the lowest hashes of their keys.

    Attributes:
        count: How many to keep.
        limit: Rows with this hash or a higher one may be missing.
        rows: The rows, by key.
    """

    count: int
    limit: float = inf
    rows: dict[bytes, Row] = field(default_factory=dict)

    def add(self, keys: Sequence[bytes], columns: Sequence[Any]) -> None:
        """Add a record batch: its keys, and a binary array for each field."""
        chosen = [i for i, key in enumerate(keys) if _hash(key) < self.limit]
        if not chosen:
            return
        values = [column.take(chosen).to_pylist() for column in columns]
        rows = zip(*values, strict=True) if values else iter([()] * len(chosen))
        self.rows.update(zip((keys[i] for i in chosen), rows, strict=True))
        if len(self.rows) > self.count:
            ordered = sorted(self.rows, key=_hash)
            self.limit = _hash(ordered[self.count])
            self.rows = {key: self.rows[key] for key in ordered[: self.count]}


def _hash(key: bytes) -> int:
    return zlib.crc32(key)


@dataclass(frozen=True, slots=True)
class RowSampler:
    """Samples the rows of entities.

    Attributes:
        count: How many entities.
        open: Opens a source of a view.
        examples: Objects of a file of examples, with their places.
        now_ms: The time that a load would start at.
    """

    count: int
    open: OpenSource
    examples: Sequence[Example]
    now_ms: int

    def sample(self, key: KeyPlan, views: Sequence[ViewPlan]) -> EntityRows:
        """Return a sample of one entity."""
        views = list(map(with_guard, views))
        found = {v.name: self._read(v, v.source) for v in views if v.source is not None}
        keys, is_real = self._keys(key, list(found.values()))
        return EntityRows(
            keys, [self._rows(view, keys, found.get(view.name)) for view in views], is_real
        )

    def _keys(self, plan: KeyPlan, found: Sequence[_LowestKeys]) -> tuple[list[bytes], bool]:
        limit = min((each.limit for each in found), default=inf)
        keys = dict.fromkeys(
            key for each in found for key in sorted(each.rows, key=_hash) if _hash(key) < limit
        )
        if keys:
            return sorted(keys, key=_hash)[: self.count], True
        names = [join_key.name for join_key in plan.join_keys]
        examples = [each for each in self.examples if all(name in each.values for name in names)]
        if examples:
            return list(dict.fromkeys(_example_key(plan, each) for each in examples)), True
        invented = (
            plan.key([_invented_id(join_key.dtype, i) for join_key in plan.join_keys])
            for i in range(self.count)
        )
        return list(invented), False

    def _read(self, view: ViewPlan, source: SourcePlan) -> _LowestKeys:
        """Return rows that a load of a source would take."""
        start_ms = None if view.lookback_ms is None else self.now_ms - view.lookback_ms
        latest_ms = self.now_ms if view.future_rows == "skip" else None
        plain = replace(view, source=source, ordering="arrival")
        scan = self.open(plain, source).scan(plain, TimeRange(start_ms, None, latest_ms))
        lowest = _LowestKeys(self.count)
        for rows in scan.batches:
            batch, _ = split_problems(rows, scan.form, None)
            encoded = encode_batch(plain, scan.form, batch)
            lowest.add(encoded.keys.to_pylist(), encoded.values)
        return lowest

    def _rows(self, view: ViewPlan, keys: Sequence[bytes], found: _LowestKeys | None) -> ViewRows:
        """Return the rows of a view. Without a source, each entity has all fields."""
        pools, origins = self._pools(view, has_source=found is not None)
        rows: list[Row | None] = []
        for number, key in enumerate(keys):
            row = found.rows.get(key) if found is not None else [None] * len(view.fields)
            if row is not None:
                row = [
                    pools[each.name][number % len(pools[each.name])]
                    if each.name in pools
                    else value
                    for each, value in zip(view.fields, row, strict=True)
                ]
            rows.append(row)
        return ViewRows(view, rows, origins)

    def _pools(
        self, view: ViewPlan, *, has_source: bool
    ) -> tuple[dict[str, list[bytes]], dict[str, Origin]]:
        """Return the values of the fields that no source has, or that examples have."""
        if view.windows is not None:
            return self._windows(view), {each.name: "invented" for each in view.fields}
        examples = self._example_values(view)
        history = {} if has_source else self._history_values(view)
        pools: dict[str, list[bytes]] = {}
        origins: dict[str, Origin] = {}
        for each in view.fields:
            if values := examples.get(each.name):
                pools[each.name], origins[each.name] = values, "example"
            elif has_source:
                origins[each.name] = "source"
            elif values := history.get(each.name):
                pools[each.name], origins[each.name] = values, "history"
            else:
                chance = random.Random(each.name)  # noqa: S311 - repeatable values, not a secret
                pools[each.name] = [invented_value(each, chance) for _ in range(self.count)]
                origins[each.name] = "invented"
        return pools, origins

    def _windows(self, view: ViewPlan) -> dict[str, list[bytes]]:
        """Return what is stored of windows. Histories and examples have events and values instead."""
        chance = random.Random(view.name)  # noqa: S311 - repeatable values, not a secret
        return {
            each.name: [
                invented_window(view, each, chance, self.now_ms) for _ in range(self.count)
            ]
            for each in view.fields
        }

    def _history_values(self, view: ViewPlan) -> dict[str, list[bytes]]:
        history = history_of(view)
        if history is None:
            return {}
        rows = self._read(view, history).rows.values()
        columns = zip(*rows, strict=True)
        return {
            each.name: [value for value in column if value is not None]
            for each, column in zip(view.fields, columns, strict=False)
        }

    def _example_values(self, view: ViewPlan) -> dict[str, list[bytes]]:
        values: dict[str, list[bytes]] = {}
        for where, row in self.examples:
            for each in view.fields:
                if row.get(each.name) is None:
                    continue
                codec = codec_of(each.dtype)
                try:
                    value = codec.encode(codec.from_json(row[each.name]))
                except ValueRefusedError as error:
                    raise RequestError(error.message, where=f"{where}, {each.name}") from error
                values.setdefault(each.name, []).append(value)
        return values


def _example_key(plan: KeyPlan, example: Example) -> bytes:
    names = [join_key.name for join_key in plan.join_keys]
    try:
        return key_function(plan)({name: example.values[name] for name in names})
    except ValueRefusedError as error:
        raise RequestError(error.message, where=f"{example.where}, {', '.join(names)}") from error


def read_examples(path: Path) -> list[Example]:
    """Return the objects of a file of JSON Lines.

    Raises:
        RequestError: It cannot be read, or a line is not an object.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise RequestError(f"cannot be read: {reason}", where=str(path)) from error
    return list(_objects(lines, path))


def unused_names(repo: RepoPlan, examples: Sequence[Example]) -> list[str]:
    """Return the names in examples that are neither a join key nor a field of any view."""
    known = {EVENT_TIMESTAMP}
    for view in repo.views:
        known.update(key.name for key in view.key.join_keys)
        known.update(field.name for field in view.fields)
    names = dict.fromkeys(name for each in examples for name in each.values)
    return [name for name in names if name not in known]


def _objects(lines: Sequence[str], path: Path) -> Iterator[Example]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            members = json.loads(line, parse_float=Decimal)
        except (ValueError, RecursionError) as error:
            raise RequestError(f"not JSON: {error}", where=f"{path}:{number}") from error
        if not isinstance(members, dict):
            raise RequestError("not an object", where=f"{path}:{number}")
        yield Example(f"{path}:{number}", members)


def _invented_id(dtype: DType, number: int) -> str:
    codec = codec_of(dtype)
    if codec.is_integer:
        return str(10_000_000 + number)
    if codec.python_type == "date":
        return (date(2000, 1, 1) + timedelta(days=number)).isoformat()
    return f"u{number:0{INVENTED_ID_CHARACTERS - 1}d}"


def invented_value(plan: FieldPlan, chance: random.Random) -> bytes:
    """Return the bytes of a value that a field may have; a `pattern` is not obeyed."""
    if plan.constraints.one_of:
        return chance.choice(plan.constraints.one_of)
    dtype = plan.dtype
    if dtype.element:
        element = DType(dtype.element)
        most = plan.constraints.max_length or _ELEMENTS
        value: object = [_scalar(element, plan, chance) for _ in range(min(most, _ELEMENTS))]
    elif dtype.size:
        value = [chance.uniform(-1, 1) for _ in range(dtype.size)]
    else:
        value = _scalar(dtype, plan, chance)
    return codec_of(dtype).encode(value)


def _scalar(dtype: DType, plan: FieldPlan, chance: random.Random) -> object:
    rules = plan.constraints
    low = float(rules.min) if rules.min is not None else 0.0
    high = float(rules.max) if rules.max is not None else max(low, 0.0) + _MAX_NUMBER
    length = rules.max_length if rules.max_length and not plan.dtype.element else None
    kinds: dict[str, Callable[[], object]] = {
        "str": lambda: "".join(
            chance.choices(string.ascii_lowercase, k=min(length or _TEXT_CHARACTERS, 64))
        ),
        "int": lambda: int(chance.uniform(min(low, high), high)),
        "float": lambda: chance.uniform(min(low, high), high),
        "bool": lambda: chance.random() < 0.5,  # noqa: PLR2004 - a coin
        "datetime": lambda: (
            datetime(2026, 1, 1, tzinfo=UTC) + timedelta(milliseconds=chance.randrange(10**10))
        ),
        "date": lambda: date(2026, 1, 1) + timedelta(days=chance.randrange(300)),
        "Decimal": lambda: Decimal(int(chance.uniform(min(low, high), high) * 100)) / 100,
        "bytes": lambda: chance.randbytes(min(length or _BLOB_BYTES, 64)),
        "Any": lambda: {"value": chance.randrange(_MAX_NUMBER)},
    }
    return kinds[codec_of(dtype).python_type]()
