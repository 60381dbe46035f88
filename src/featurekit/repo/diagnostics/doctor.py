"""The checks of `featurekit doctor`: server, connection, registry, views and stored hashes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from statistics import median

from featurekit.errors import FeatureKitError, RegistryError, StoreError
from featurekit.plan import EntityPlan, RepoPlan, ViewPlan
from featurekit.ports import OnlineStore
from featurekit.repo.diagnostics.check_result import CheckResult, Level
from featurekit.repo.diagnostics.contract import WaitMs, run_contract
from featurekit.repo.diagnostics.sampling import sample_keys
from featurekit.repo.diagnostics.view_status import ViewState, ViewStatus
from featurekit.repo.registry_store import RegistryState
from featurekit.repo.store_handle import LazyStoreHandle
from featurekit.wire import command

_PINGS = 50
_SLOW_MS = 5.0
_SAMPLED_KEYS = 200


def run_checks(
    handle: LazyStoreHandle,
    registry: RegistryState,
    statuses: Callable[[], list[ViewStatus]],
    project: str,
    contract_wait: WaitMs | None,
) -> list[CheckResult]:
    """Run all checks, from the server up. If the server is away, the others are not run.

    Args:
        handle: The online store.
        registry: The registry.
        statuses: Returns the states of the views.
        project: The project's name.
        contract_wait: Waits some milliseconds, for the contract suite; `None` to leave it out.
    """
    store = handle.store
    try:
        server = [
            *_check_server(store),
            CheckResult("ok", "connection", f"{store.describe()}; {handle.options_text}"),
        ]
    except StoreError as error:
        return [CheckResult("fail", "server", error.message, error.hint)]
    try:
        plan = registry.plan
    except RegistryError as error:
        failed = CheckResult("fail", "registry", error.message, error.hint)
        return [*server, failed, *_check_contract(handle, registry, contract_wait)]
    return [
        *server,
        _check_writing(store, plan),
        *_check_contract(handle, registry, contract_wait),
        _check_own_store(registry),
        _check_registry(registry, plan, project),
        *(_check_view(status, plan.view(status.view)) for status in statuses()),
        *_check_retired_fields(plan),
        *(result for entity in plan.entities for result in _check_hashes(store, plan, entity)),
    ]


def _check_contract(
    handle: LazyStoreHandle, registry: RegistryState, wait_ms: WaitMs | None
) -> list[CheckResult]:
    if wait_ms is None:
        return []
    try:
        prefix = (registry.registry or registry.declared).key_prefix
        # The suite brings its own views: whether the registry was applied does not matter.
        return run_contract(handle.without_check(), prefix, wait_ms)
    except (RegistryError, StoreError) as error:
        return [CheckResult("fail", "contract", error.message, error.hint)]


def _check_server(store: OnlineStore) -> Iterator[CheckResult]:
    capabilities = store.capabilities
    commands = "HSETEX" if capabilities.hsetex else "HSET and HPEXPIRE"
    yield CheckResult("ok", "server", f"{capabilities.server}; fields expire by {commands}")
    yield _check_latency(store)
    yield _check_eviction(store)


def _check_latency(store: OnlineStore) -> CheckResult:
    times = []
    for _ in range(_PINGS):
        start = time.perf_counter()
        store.call("PING")
        times.append((time.perf_counter() - start) * 1000)
    message = f"PING: median {median(times):.2f} ms, maximum {max(times):.2f} ms of {_PINGS}"
    if median(times) > _SLOW_MS:
        return CheckResult("warn", "latency", message, "run closer to the store's machine")
    return CheckResult("ok", "latency", message)


def _check_eviction(store: OnlineStore) -> CheckResult:
    servers = store.info("memory")
    policies = sorted({info.get("maxmemory_policy", "") for info in servers})
    limits = sorted({int(info.get("maxmemory", "0")) for info in servers})
    if "" in policies:
        return CheckResult("ok", "eviction", "the server does not report its maxmemory-policy")
    limit_text = " and ".join(str(limit or "unlimited") for limit in limits)
    message = f"maxmemory-policy is {' and '.join(policies)}, maxmemory {limit_text}"
    if policies == ["noeviction"]:
        return CheckResult("ok", "eviction", message)
    return CheckResult(
        "warn",
        "eviction",
        f"{message}: the server may evict features that have not expired",
        "set maxmemory-policy noeviction, and monitor the memory",
    )


def _check_writing(store: OnlineStore, plan: RepoPlan) -> CheckResult:
    try:
        store.check_writable(plan.prefix)
    except StoreError as error:
        return CheckResult("fail", "writing", error.message, error.hint)
    return CheckResult("ok", "writing", "this user may write, and what it writes expires")


def _check_own_store(registry: RegistryState) -> CheckResult:
    try:
        registry.require_own_store()
    except RegistryError as error:
        return CheckResult("fail", "store", error.message, error.hint)
    return CheckResult("ok", "store", "the registry was applied to it")


def _check_registry(registry: RegistryState, plan: RepoPlan, project: str) -> CheckResult:
    entities = sum(bool(entity.key.join_keys) for entity in plan.entities)
    message = (
        f"{project} {plan.fingerprint[:12]}: "
        f"entities: {entities}, views: {len(plan.views)}, services: {len(plan.services)}"
    )
    try:
        changes = registry.changes()
    except FeatureKitError:  # there are no valid definitions to compare with
        return CheckResult("ok", "registry", message)
    if not changes:
        return CheckResult("ok", "registry", message)
    message += f"; the definitions differ from it: {len(changes.changes)} changes"
    return CheckResult("warn", "registry", message, "see `featurekit plan`")


_LEVELS: dict[ViewState, Level] = {"on time": "ok", "late": "warn", "never": "warn"}
"""The level of a view's state; any other state fails."""


def _check_view(status: ViewStatus, view: ViewPlan) -> CheckResult:
    level = _LEVELS.get(status.state, "fail")
    if level == "ok":
        return CheckResult(level, f"view {view.name}", _on_time_text(status))
    if view.kind == "stream":
        hint = f"featurekit stream run {view.name}" if view.stream else "check what writes it"
    else:
        hint = f"featurekit materialize {view.name}" if view.source else "write it again"
    return CheckResult(level, f"view {view.name}", f"{status.state}: {status.reason}", hint)


def _on_time_text(status: ViewStatus) -> str:
    if status.stream is not None:
        age_ms = status.stream.newest_age_ms or 0
        return f"on time: the newest event is {age_ms // 1000} s old"
    return f"on time: loaded {(status.age_ms or 0) // 1000} s ago, rows: {status.rows}"


def _check_retired_fields(plan: RepoPlan) -> Iterator[CheckResult]:
    for entity in plan.entities:
        if entity.retired:
            names = ", ".join(entity.retired)
            message = (
                f"{names}: no view declares them any more; each load deletes them from its rows"
            )
            yield CheckResult("ok", f"retired fields of {entity.name}", message)


def _check_hashes(store: OnlineStore, plan: RepoPlan, entity: EntityPlan) -> Iterator[CheckResult]:
    """Report the encodings of a sample of an entity's hashes, and keys that do not expire."""
    subject = f"hashes of {entity.name}"
    keys = sample_keys(store, entity.key.scan_pattern(), _SAMPLED_KEYS).keys
    if not keys:
        yield CheckResult("ok", subject, "nothing is stored")
        return
    encodings = store.run(keys, [command(b"OBJECT", b"ENCODING", key) for key in keys])
    counts = Counter(
        e.decode(errors="replace") if isinstance(e, bytes) else "unknown" for e in encodings
    )
    shares = ", ".join(f"{count} {encoding}" for encoding, count in counts.most_common())
    yield CheckResult("ok", subject, f"of {len(keys)} sampled: {shares}")
    keys_expire = any(
        v.expires == "key" and v.kind == "batch" and v.key == entity.key for v in plan.views
    )
    ttls = store.run(keys, [command(b"PTTL", key) for key in keys]) if keys_expire else []
    if immortal := [key for key, ttl in zip(keys, ttls, strict=False) if ttl == -1]:
        examples = ", ".join(key.decode(errors="replace") for key in immortal[:3])
        yield CheckResult(
            "warn",
            subject,
            f"{len(immortal)} of {len(keys)} keys have no TTL, for example {examples}",
            "their stream fields still expire; another program wrote the other fields",
        )
