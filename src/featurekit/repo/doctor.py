"""Doctor: what is well and what is not, from the server up to the hashes in it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median

from featurekit.errors import FeatureKitError, RegistryError, StoreError
from featurekit.plan import EntityPlan, RepoPlan
from featurekit.ports import OnlineStore
from featurekit.repo.inspection import ViewStatus
from featurekit.repo.registry_state import RegistryState
from featurekit.repo.sample import sample
from featurekit.repo.store_handle import LazyStoreHandle
from featurekit.wire import command

OK, WARN, FAIL = "ok", "warn", "fail"

_PINGS = 50
_SLOW_MS = 5.0
_SAMPLE = 200


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at.

    Attributes:
        level: `ok`, `warn` or `fail`.
        subject: What was looked at.
        message: What was found.
        hint: What to do about it; empty if nothing is to be done.
    """

    level: str
    subject: str
    message: str
    hint: str = ""


def examine(
    door: LazyStoreHandle,
    applied: RegistryState,
    status: Callable[[], list[ViewStatus]],
    project: str,
) -> list[Finding]:
    """Look at everything, from the server up; what cannot be reached ends it."""
    store = door.store
    try:
        server = [
            *_server(store),
            Finding(OK, "connection", f"{store.describe()}; {door.options_text}"),
        ]
    except StoreError as error:
        return [Finding(FAIL, "server", error.message, error.hint)]
    registry, plan = _registry(applied, project)
    if plan is None:
        return [*server, *registry]
    return [
        *server,
        _writable(store, plan),
        *registry,
        *_views(status()),
        *_retired(plan),
        *(finding for entity in plan.entities for finding in _hashes(store, plan, entity)),
    ]


def _server(store: OnlineStore) -> Iterator[Finding]:
    capabilities = store.capabilities
    way = "HSETEX" if capabilities.hsetex else "HSET and HPEXPIRE"
    yield Finding(OK, "server", f"{capabilities.server}; fields expire by {way}")
    yield _latency(store)
    yield _eviction(store)


def _latency(store: OnlineStore) -> Finding:
    times = []
    for _ in range(_PINGS):
        start = time.perf_counter()
        store.call("PING")
        times.append((time.perf_counter() - start) * 1000)
    message = f"PING takes {median(times):.2f} ms, {max(times):.2f} ms at most, of {_PINGS}"
    if median(times) > _SLOW_MS:
        return Finding(WARN, "latency", message, "serve from a machine close to the store")
    return Finding(OK, "latency", message)


def _eviction(store: OnlineStore) -> Finding:
    servers = store.info("memory")
    policies = sorted({told.get("maxmemory_policy", "") for told in servers})
    limits = sorted({int(told.get("maxmemory", "0")) for told in servers})
    if "" in policies:
        return Finding(OK, "eviction", "the server does not tell its maxmemory-policy")
    shown = " and ".join(str(limit or "unlimited") for limit in limits)
    message = f"maxmemory-policy is {' and '.join(policies)}, maxmemory {shown}"
    if policies == ["noeviction"]:
        return Finding(OK, "eviction", message)
    return Finding(
        WARN,
        "eviction",
        f"{message}: it may evict features that have not expired",
        "set maxmemory-policy noeviction, and watch the memory",
    )


def _writable(store: OnlineStore, plan: RepoPlan) -> Finding:
    try:
        store.check_writable(plan.prefix)
    except StoreError as error:
        return Finding(FAIL, "writing", error.message, error.hint)
    return Finding(OK, "writing", "this user may write, and what it writes expires")


def _registry(applied: RegistryState, project: str) -> tuple[list[Finding], RepoPlan | None]:
    try:
        plan = applied.plan
    except RegistryError as error:
        return [Finding(FAIL, "registry", error.message, error.hint)], None
    counts = (
        f"entities: {len(plan.entities)}, views: {len(plan.views)}, services: {len(plan.services)}"
    )
    found = f"{project} {plan.fingerprint[:12]}: {counts}"
    try:
        changes = applied.changes()
    except FeatureKitError:
        return [Finding(OK, "registry", found)], plan
    if changes:
        message = f"{found}; the definitions differ from it in {len(changes.changes)} ways"
        return [Finding(WARN, "registry", message, "see `featurekit plan`")], plan
    return [Finding(OK, "registry", found)], plan


def _views(states: list[ViewStatus]) -> Iterator[Finding]:
    for state in states:
        if state.kind != "batch":
            continue
        subject = f"view {state.view}"
        if state.error:
            yield Finding(FAIL, subject, f"its last load failed: {state.error}", "load it again")
        elif state.age_ms is None:
            yield Finding(
                WARN, subject, "it was never loaded", f"featurekit materialize {state.view}"
            )
        elif state.late:
            late = (
                f"loaded {state.age_ms // 1000} s ago, expected every {state.refresh_ms // 1000} s"
            )
            yield Finding(WARN, subject, late, f"featurekit materialize {state.view}")
        else:
            yield Finding(OK, subject, f"loaded {state.age_ms // 1000} s ago, rows: {state.rows}")


def _retired(plan: RepoPlan) -> Iterator[Finding]:
    for entity in plan.entities:
        if entity.retired:
            names = ", ".join(entity.retired)
            message = f"{names}: no view declares them now; each load deletes them from its rows"
            yield Finding(OK, f"retired fields of {entity.name}", message)


def _hashes(store: OnlineStore, plan: RepoPlan, entity: EntityPlan) -> Iterator[Finding]:
    """How a sample of an entity's hashes is kept, and whether all of them expire."""
    subject = f"hashes of {entity.name}"
    found = sample(store, entity.key.scan_pattern(), _SAMPLE).keys
    if not found:
        yield Finding(OK, subject, "none is stored")
        return
    encodings = store.run(found, [command(b"OBJECT", b"ENCODING", key) for key in found])
    kinds = Counter(e.decode() if isinstance(e, bytes) else "unknown" for e in encodings)
    shown = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    yield Finding(OK, subject, f"of {len(found)}: {shown}")
    owned = any(
        v.expires == "key" and v.kind == "batch" and v.key == entity.key for v in plan.views
    )
    ttls = store.run(found, [command(b"PTTL", key) for key in found]) if owned else []
    if immortal := [key for key, ttl in zip(found, ttls, strict=False) if ttl == -1]:
        shown = ", ".join(key.decode(errors="replace") for key in immortal[:3])
        yield Finding(
            WARN,
            subject,
            f"{len(immortal)} of {len(found)} have no key TTL, as {shown}",
            "their stream fields still expire; other fields were written by something else",
        )
