"""Estimate what entities cost on the connected server, from a sample that is written, measured and deleted."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median
from typing import Literal

from featurekit.errors import RequestError
from featurekit.lower.window_scripts import MAX_IDS
from featurekit.plan import RepoPlan, ViewPlan
from featurekit.ports import OnlineStore
from featurekit.repo.estimate_memory import Measured, SampleHashes, ServerMemory
from featurekit.repo.estimate_report import Choice, EntityEstimate, FieldCost, ReadCost
from featurekit.repo.estimate_rows import EntityRows, Row, RowSampler, ViewRows
from featurekit.repo.estimate_windows import DISTINCT
from featurekit.wire import text_command

FIELD_SAMPLE = 100
"""Hashes that are written without a field, to measure it."""

MAX_FIELD_HASHES = 20_000
"""Hashes in all that are written for it, so that many fields have smaller samples."""

READS = 200
"""Reads of one entity that are timed; of many entities, a tenth."""

READ_SIZES = (1, 100)

_LISTPACK_DEADLINE = 10
"""The bytes of the deadline of a field in a compact hash of Redis."""


@dataclass(frozen=True, slots=True)
class Estimator:
    """Estimates the cost of entities.

    Attributes:
        repo: The definitions, compiled.
        store: The online store.
        server: What is known of its servers.
        sampler: Samples the rows of entities.
    """

    repo: RepoPlan
    store: OnlineStore
    server: ServerMemory
    sampler: RowSampler

    def estimate(self, entity: str, count: int, notes: dict[str, None]) -> EntityEstimate:
        """Return the cost of an entity; what is assumed goes to `notes`."""
        views = [view for view in self.repo.views if view.key.entity == entity]
        if not views:
            raise RequestError(
                f"entity '{entity}' has no feature view", hint="name an entity with views"
            )
        rows = self.sampler.sample(views[0].key, views)
        notes.update(dict.fromkeys(_assumptions(entity, rows)))
        with SampleHashes(self.store, self.repo.prefix, self.server) as hashes:
            whole = hashes.measure(rows.keys, rows.views, count)
            if whole is None:
                raise RequestError(
                    f"no source has a row of '{entity}'", hint="pass rows with --example FILE"
                )
            reads, server_us = self._time_reads(hashes, rows)
            hashes.delete()
            return _Costs(hashes, self.server, rows, whole, count).result(entity, reads, server_us)

    def _time_reads(
        self, hashes: SampleHashes, rows: EntityRows
    ) -> tuple[tuple[ReadCost, ...], float | None]:
        """Time reads of all features of the sample, as a reader sends them."""
        keys = hashes.write(rows.keys, rows.views)
        names = [field.name for each in rows.views for field in each.view.fields]
        requests = {key: text_command("HMGET", key, *names) for key in keys}
        before = self._hmget_stats()
        costs = []
        for size in READ_SIZES:
            part = [keys[number % len(keys)] for number in range(size)]
            data = [requests[key] for key in part]
            times_us = []
            for _ in range(READS if size == 1 else READS // 10):
                start = time.perf_counter()
                self.store.read(part, data)
                times_us.append((time.perf_counter() - start) * 1e6)
            times_us.sort()
            costs.append(ReadCost(size, median(times_us), times_us[int(len(times_us) * 0.99)]))
        after = self._hmget_stats()
        if before is None or after is None or after[0] == before[0]:
            return tuple(costs), None
        return tuple(costs), (after[1] - before[1]) / (after[0] - before[0])

    def _hmget_stats(self) -> tuple[int, int] | None:
        """Return how many `HMGET`s the servers have run, and their CPU time in microseconds."""
        stats = [server.get("cmdstat_hmget", "") for server in self.store.info("commandstats")]
        if not stats:
            return None
        parts = [dict(p.partition("=")[::2] for p in stat.split(",")) for stat in stats]
        return (
            sum(int(part.get("calls", 0)) for part in parts),
            sum(int(part.get("usec", 0)) for part in parts),
        )


@dataclass(frozen=True, slots=True)
class _Costs:
    """The costs of the parts of an entity, and of other ways to store it."""

    hashes: SampleHashes
    server: ServerMemory
    rows: EntityRows
    whole: Measured
    count: int

    def result(
        self, entity: str, reads: tuple[ReadCost, ...], server_us: float | None
    ) -> EntityEstimate:
        """Return the estimate."""
        costs = tuple(self._fields())
        choices = sorted(self._choices(), key=lambda choice: choice.bytes)
        total = sum(self.whole.encodings.values())
        return EntityEstimate(
            entity=entity,
            count=self.count,
            sample=total,
            bytes=self.whole.bytes,
            key_bytes=max(0.0, self.whole.bytes - sum(each.bytes for each in costs)),
            total_bytes=round(self.whole.bytes * self.count),
            encodings={name: n / total for name, n in self.whole.encodings.most_common()},
            views=self._views(costs),
            fields=costs,
            wide_because=tuple(self._reasons(costs)),
            choices=tuple(choice for choice in choices if choice.bytes < self.whole.bytes),
            reads=reads,
            server_us=server_us,
        )

    def _measure(self, views: Sequence[ViewRows], most: int | None = None) -> Measured | None:
        """Return the memory of hashes with other contents, and delete them at once."""
        part = [replace(each, rows=each.rows[:most]) for each in views if each.view.fields]
        measured = self.hashes.measure(self.rows.keys[:most], part, self.count) if part else None
        self.hashes.delete()
        return measured

    def _views(self, costs: Sequence[FieldCost]) -> dict[str, float]:
        """Return what an entity needs less without a view."""
        if len(self.rows.views) == 1:
            return {self.rows.views[0].view.name: sum(each.bytes for each in costs)}
        saved = {}
        for each in self.rows.views:
            others = [other for other in self.rows.views if other is not each]
            rest = self._measure(others)
            left = self._share(others) * _bytes(rest)
            saved[each.view.name] = max(0.0, self.whole.bytes - left)
        return saved

    def _share(self, views: Sequence[ViewRows]) -> float:
        """Return the share of entities that have a row of one of these views."""
        held = [
            any(each.rows[i] is not None for each in views) for i in range(len(self.rows.keys))
        ]
        return fmean(held) if held else 0.0

    def _fields(self) -> Iterator[FieldCost]:
        fields = sum(len(each.view.fields) for each in self.rows.views)
        most = max(10, min(FIELD_SAMPLE, MAX_FIELD_HASHES // fields))
        base = self._measure(self.rows.views, most)
        for each in self.rows.views:
            for number, plan in enumerate(each.view.fields):
                others = [
                    _without(view, {plan.name}) if view is each else view
                    for view in self.rows.views
                ]
                rest = self._measure(others, most)
                sizes = [
                    len(v)
                    for row in each.rows
                    if row is not None and (v := row[number]) is not None
                ]
                longest = max(sizes, default=0)
                yield FieldCost(
                    view=each.view.name,
                    name=plan.name,
                    dtype=str(plan.dtype),
                    origin=each.origins[plan.name],
                    share=len(sizes) / max(1, len(each.rows)),
                    value_bytes=fmean(sizes) if sizes else 0.0,
                    max_value_bytes=longest,
                    bytes=self._field_bytes(each, number, base, rest),
                    causes_wide=longest > self.server.max_value_bytes,
                )

    def _field_bytes(
        self, each: ViewRows, number: int, base: Measured | None, rest: Measured | None
    ) -> float:
        """Return the bytes of a field: of its entries in compact hashes, else what was measured.

        Allocators round up a compact hash as a whole, which hides a small field.
        """
        if base is not None and rest is not None and (base.wide_share or rest.wide_share):
            return max(0.0, base.bytes - rest.bytes)
        name = listpack_bytes(each.view.fields[number].name.encode())
        if each.view.expires == "field":
            name += _LISTPACK_DEADLINE
        sizes = [
            name + listpack_bytes(value)
            for row in each.rows
            if row is not None and (value := row[number]) is not None
        ]
        return sum(sizes) / max(1, len(each.rows))

    def _reasons(self, costs: Sequence[FieldCost]) -> Iterator[str]:
        """Yield why hashes are wide."""
        if not self.whole.wide_share:
            return
        limit = self.server.max_value_bytes
        if long := [each.name for each in costs if each.causes_wide]:
            yield f"values of more than {limit} bytes: {', '.join(long)}"
        names = [f.name for each in self.rows.views for f in each.view.fields]
        if long_names := [name for name in names if len(name.encode()) > limit]:
            yield f"field names of more than {limit} bytes: {', '.join(long_names)}"
        if len(names) > self.server.max_fields:
            yield f"{len(names)} fields, more than {self.server.max_fields}"
        if self.server.is_valkey and (ttl := _views_with_field_ttls(self.rows.views)):
            yield f"field TTLs, of {', '.join(each.view.name for each in ttl)}"

    def _choices(self) -> Iterator[Choice]:
        views, limit = self.rows.views, self.server.max_value_bytes
        long = {
            field.name
            for each in views
            for number, field in enumerate(each.view.fields)
            if any(row is not None and len(row[number] or b"") > limit for row in each.rows)
        }
        with_ttl = _views_with_field_ttls(views)
        others = [each for each in views if each not in with_ttl]
        if with_ttl and not any(each.view.windows for each in views):
            same = [replace(each, view=_with_key_ttl(each.view)) for each in views]
            yield from self._choice("one TTL for the key, no TTLs of fields", [same])
        if with_ttl and others:
            names = ", ".join(each.view.name for each in with_ttl)
            yield from self._choice(f"{names} in an entity of their own", [others, with_ttl])
        if own := {name for name in long if not name.startswith("@")}:  # a guard stays in its view
            rest = [_without(each, own) for each in views]
            alone = [_without(each, own, keep=True) for each in views]
            names = ", ".join(sorted(own))
            yield from self._choice(f"{names} in an entity of their own", [rest, alone])
        if long and not (self.server.is_valkey and with_ttl):
            yield from self._wider_limit([_without(each, long) for each in views], long)

    def _choice(self, name: str, hashes: Sequence[Sequence[ViewRows]]) -> Iterator[Choice]:
        """Yield a choice of one or more hashes for each entity."""
        total = 0.0
        for each_hash in hashes:
            views = [each for each in each_hash if each.view.fields]
            if (measured := self._measure(views)) is None:
                return
            total += measured.bytes * self._share(views)
        yield Choice(name, total, round(total * self.count), "measured")

    def _wider_limit(self, short: Sequence[ViewRows], long: set[str]) -> Iterator[Choice]:
        """Yield the setting that keeps long values in a compact hash, computed from its format."""
        compact = self._measure(short)
        if compact is None or compact.wide_share:
            return
        sizes, longest = [], 0
        for i in range(len(self.rows.keys)):
            added = 0
            for each in self.rows.views:
                row = each.rows[i]
                for number, field in enumerate(each.view.fields):
                    if row is not None and field.name in long and (value := row[number]):
                        longest = max(longest, len(value))
                        added += listpack_bytes(field.name.encode()) + listpack_bytes(value)
            sizes.append(added)
        total = compact.bytes + fmean(sizes)
        setting = 1 << (longest - 1).bit_length()
        name = f"hash-max-listpack-value {setting} on the server"
        yield Choice(name, total, round(total * self.count), "computed")


def listpack_bytes(data: bytes) -> int:
    """Return the size of an entry of a listpack, the format of compact hashes."""
    size = _listpack_data_bytes(data)
    back = 1
    while size >= 1 << (7 * back):
        back += 1
    return size + back


def _listpack_data_bytes(data: bytes) -> int:
    text = data.decode("latin-1")
    if text.lstrip("-").isdigit() and len(text) < 20 and str(int(text)) == text:  # noqa: PLR2004
        number = int(text)
        sizes = ((0, 1 << 7, 1), (-(1 << 12), 1 << 12, 2), (-(1 << 15), 1 << 15, 3),
                 (-(1 << 23), 1 << 23, 4), (-(1 << 31), 1 << 31, 5), (-(1 << 63), 1 << 63, 9))  # fmt: skip
        for low, end, size in sizes:
            if low <= number < end:
                return size
    head = 1 if len(data) < 1 << 6 else 2 if len(data) < 1 << 12 else 5
    return head + len(data)


def _bytes(measured: Measured | None) -> float:
    return measured.bytes if measured is not None else 0.0


def _views_with_field_ttls(views: Sequence[ViewRows]) -> list[ViewRows]:
    return [each for each in views if each.view.expires == "field"]


def _without(each: ViewRows, names: set[str], *, keep: bool = False) -> ViewRows:
    """Return the rows without some fields, or with only these."""
    kept = [i for i, f in enumerate(each.view.fields) if (f.name in names) == keep]
    view = replace(each.view, fields=tuple(each.view.fields[i] for i in kept))
    rows: list[Row | None] = [
        None if row is None or not kept else [row[i] for i in kept] for row in each.rows
    ]
    return replace(each, view=view, rows=rows)


def _with_key_ttl(view: ViewPlan) -> ViewPlan:
    fields = tuple(replace(field, ttl_ms=0) for field in view.fields)
    kind: Literal["batch"] = "batch"
    return replace(view, kind=kind, expires="key", fields=fields)


def _assumptions(entity: str, rows: EntityRows) -> Iterator[str]:
    if not rows.has_real_keys:
        yield f"no source has keys of {entity}: their length is assumed; --example FILE has real ones"
    invented = [
        f"{each.view.name}:{name}"
        for each in rows.views
        for name, origin in each.origins.items()
        if origin == "invented" and each.view.windows is None
    ]
    if invented:
        yield f"values made from types and constraints: {', '.join(invented)}"
    if windows := [each.view.name for each in rows.views if each.view.windows is not None]:
        yield (
            f"windows of {', '.join(windows)} are taken to be full: each tile has events, of {DISTINCT} distinct "
            f"values, and a guard by event ids has {MAX_IDS}"
        )
    complete = [each.view.name for each in rows.views if "source" not in each.origins.values()]
    if empty := [v.view.name for v in rows.views if all(row is None for row in v.rows)]:
        yield f"no {entity} of the sample has a row of {', '.join(empty)}, which then cost nothing"
    if complete:
        yield f"every {entity} is taken to have all fields of {', '.join(complete)}"


def counts_by_entity(repo: RepoPlan, entities: Mapping[str, int]) -> Mapping[str, int]:
    """Return the counts after checking them.

    Raises:
        UnknownNameError: There is no such entity.
        RequestError: A count is not positive, or there is none.
    """
    if not entities:
        raise RequestError("no entity is named", hint="pass counts, such as {'user': 10_000_000}")
    for name, count in entities.items():
        repo.entity(name)
        if type(count) is not int or count < 1:
            raise RequestError(f"the count of {name} must be at least 1, not {count!r}")
    return entities
