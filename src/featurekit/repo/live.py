"""Live: how fresh the stream views are, by looking at some of their entities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from featurekit.errors import StoreUnavailableError
from featurekit.plan import RepoPlan, ViewPlan
from featurekit.ports import OnlineStore
from featurekit.repo.inspection import StreamFreshness, ViewStatus
from featurekit.repo.sample import sample
from featurekit.wire import Reply, text_command


def with_streams(
    states: Sequence[ViewStatus],
    repo: RepoPlan,
    store: OnlineStore,
    lag: Callable[[ViewPlan], int | None],
) -> list[ViewStatus]:
    """The states, those of stream views with how fresh they are; without, if the store is away."""
    views = {view.name: view for view in repo.views if view.kind == "stream"}
    try:
        keys = {
            view.key.entity: sample(store, view.key.scan_pattern()).keys for view in views.values()
        }
        fresh = {
            name: _freshness(store, view, keys[view.key.entity], lag(view))
            for name, view in views.items()
        }
    except StoreUnavailableError:
        return list(states)
    return [replace(state, stream=fresh.get(state.view)) for state in states]


def _freshness(
    store: OnlineStore, view: ViewPlan, keys: Sequence[bytes], lag: int | None
) -> StreamFreshness:
    names = [field.name for field in view.fields]
    requests = [text_command("HPTTL", key, "FIELDS", len(names), *names) for key in keys]
    lives = [_lives(reply) for reply in store.run(keys, requests)]
    left = [ttl_ms for life in lives for ttl_ms in life]
    return StreamFreshness(
        sampled=len(keys),
        live_share=sum(map(bool, lives)) / len(keys) if keys else None,
        newest_ttl_ms=max(left, default=None),
        oldest_ttl_ms=min(left, default=None),
        lag=lag,
    )


def _lives(reply: Reply) -> list[int]:
    """What is left of the fields that live, in milliseconds."""
    codes = reply if isinstance(reply, list) else []
    return [code for code in codes if isinstance(code, int) and code >= 0]
