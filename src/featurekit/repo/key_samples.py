"""Samples of the entities of a repository: from labels, sources and the store, and invented ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

from featurekit.history_ports import SampledSource
from featurekit.keys import KeyPlan
from featurekit.lower.keys import entity_key_test, key_function, parse_entity_id
from featurekit.plan import EVENT_TIMESTAMP, ReadPlan, RepoPlan, ViewPlan
from featurekit.ports import OnlineStore
from featurekit.repo.diagnostics.sampling import sample_keys
from featurekit.repo.histories import history_of
from featurekit.repo.source_access import SourceAccess
from featurekit.sources import open_sampled
from featurekit.training.labels import first_labels
from featurekit.training.verify import Origin

UNKNOWN_SHARE = 20
"""The number of sampled keys for each invented one."""

MAX_UNKNOWN = 50


@dataclass(frozen=True, slots=True)
class SampledKey:
    """A key of an entity.

    Attributes:
        key: The key of its hash.
        entity: The values of its join keys, in declared order.
        origin: Where it comes from.
    """

    key: bytes
    entity: tuple[Any, ...]
    origin: Origin

    @property
    def is_invented(self) -> bool:
        """Whether no entity is likely to have it."""
        return self.origin == "unknown"


def sample_entity(
    plan: KeyPlan, candidates: dict[Origin, Sequence[bytes]], count: int
) -> list[SampledKey]:
    """Return up to `count` distinct keys, from each origin in turn, and some invented ones."""
    unknown = min(MAX_UNKNOWN, max(1, count // UNKNOWN_SHARE)) if count > 1 else 0
    known = islice(_in_turn(candidates), count)
    chosen = [*known, *((key, "unknown") for key in _unknown_keys(plan, unknown))]
    is_key = entity_key_test(plan)
    head = len(plan.entity_prefix.encode())
    sampled = []
    for key, origin in chosen[: count + unknown]:
        if is_key(key):  # another program may have written others
            entity = parse_entity_id(plan, key[head:].decode())
            values = entity if isinstance(entity, tuple) else (entity,)
            sampled.append(SampledKey(key, values, origin))
    return sampled


def _in_turn(candidates: dict[Origin, Sequence[bytes]]) -> Iterator[tuple[bytes, Origin]]:
    """Yield distinct keys, from each origin in turn."""
    seen: set[bytes] = set()
    for keys in zip_longest(*candidates.values()):
        for origin, key in zip(candidates, keys, strict=True):
            if key is not None and key not in seen:
                seen.add(key)
                yield key, origin


def _unknown_keys(plan: KeyPlan, count: int) -> Iterator[bytes]:
    """Yield keys that no entity is likely to have; none if a join key has another type."""
    texts = {
        "string": lambda i: f"featurekit-unknown-{i}",
        "int64": lambda i: str(-(2**62) - i),
        "int32": lambda i: str(-(2**30) - i),
        "date": lambda i: f"0001-01-{1 + i % 28:02}",
    }
    kinds = [str(join_key.dtype) for join_key in plan.join_keys]
    if all(kind in texts for kind in kinds):
        yield from (plan.key([texts[kind](i) for kind in kinds]) for i in range(count))


@dataclass(frozen=True, slots=True)
class KeySampler:
    """Samples the keys of entities.

    Attributes:
        repo: The applied registry, compiled.
        store: The online store.
        sources: The sources that may be opened.
        root: The repository's folder.
        count: How many keys of each entity to sample.
        seed: Chooses the keys.
    """

    repo: RepoPlan
    store: OnlineStore
    sources: SourceAccess
    root: Path
    count: int
    seed: int

    def sample(self, plan: ReadPlan, labels: Mapping[str, Sequence[bytes]]) -> list[SampledKey]:
        """Return keys of the entity of a plan with one group; `labels` has those of labels by entity."""
        views = [self.repo.view(name) for name in dict.fromkeys(c.view for c in plan.columns)]
        key = plan.groups[0].key
        if not key.join_keys:
            return [SampledKey(key.key(()), (), "store")]
        candidates: dict[Origin, Sequence[bytes]] = {
            "labels": labels.get(key.entity, ()),
            "source": self._source_keys(views),
            "store": sample_keys(self.store, key.scan_pattern(), self.count).keys,
        }
        return sample_entity(key, candidates, self.count)

    def _source_keys(self, views: Sequence[ViewPlan]) -> Sequence[bytes]:
        """Return keys of the first history that can be sampled."""
        for view in views:
            with self._opened(view) as source:
                if source is not None:
                    return source.sample_keys(view, self.count, self.seed)
        return ()

    def identity(self, view: ViewPlan) -> str:
        """Return what identifies the source of a view as it is now; empty if that is not known."""
        with self._opened(view) as source:
            return source.identity(view) if source is not None else ""

    @contextmanager
    def _opened(self, view: ViewPlan) -> Iterator[SampledSource | None]:
        plan = history_of(view)
        if plan is None:
            yield None
            return
        located = self.sources.locate(view, plan)
        with located.hidden_values():
            yield open_sampled(located.plan, self.root)


def label_keys(labels: object, keys: Sequence[KeyPlan], count: int) -> dict[str, Sequence[bytes]]:
    """Return some of the keys that labels have, by entity; none without labels."""
    if labels is None:
        return {}
    table = first_labels(labels, keys, EVENT_TIMESTAMP, count)
    found: dict[str, dict[bytes, None]] = {}
    for key in filter(lambda each: each.join_keys, keys):
        rows = table.select([join_key.name for join_key in key.join_keys]).drop_null().to_pylist()
        found.setdefault(key.entity, {}).update(dict.fromkeys(map(key_function(key), rows)))
    return {entity: list(each) for entity, each in found.items()}
