"""Feeds: the streams behind stream views, how long they are, and how far their readers."""

from __future__ import annotations

from dataclasses import dataclass

from featurekit.plan import RedisStreamPlan, RepoPlan, ViewPlan
from featurekit.ports import OnlineStore
from featurekit.wire import Reply


@dataclass(frozen=True, slots=True)
class Feed:
    """The stream behind a stream view. What is `None` is not known.

    Attributes:
        view: The view.
        source: Where its events come from: `redis_stream user-activity`; empty if a program
            pushes them.
        events: Events that its group has read since it was made.
        length: Events that the stream holds.
        lag: Events that the group has yet to read.
        dead: How many dead letters there are.
    """

    view: str
    source: str
    events: int | None = None
    length: int | None = None
    lag: int | None = None
    dead: int | None = None


def feeds(repo: RepoPlan, store: OnlineStore) -> list[Feed]:
    """The feed of each stream view. A Kafka topic is named and not asked."""
    return [_feed(store, view) for view in repo.views if view.kind == "stream"]


def _feed(store: OnlineStore, view: ViewPlan) -> Feed:
    if view.stream is None:
        return Feed(view.name, "")
    stream = view.stream
    if not isinstance(stream, RedisStreamPlan):
        return Feed(view.name, f"kafka {stream.topic}")
    group = _group(store, stream)
    return Feed(
        view=view.name,
        source=f"redis_stream {stream.stream}",
        events=_int(group.get(b"entries-read")),
        length=_int(store.call("XLEN", stream.stream, key=stream.stream)),
        lag=_int(group.get(b"lag")),
        dead=_int(store.call("XLEN", stream.dead_letter_name, key=stream.dead_letter_name)),
    )


def _group(store: OnlineStore, stream: RedisStreamPlan) -> dict[object, Reply]:
    groups = _listed(store.call("XINFO", "GROUPS", stream.stream, key=stream.stream))
    for flat in map(_listed, groups):
        told: dict[object, Reply] = dict(zip(map(_hashed, flat[::2]), flat[1::2], strict=True))
        if told.get(b"name") == stream.group.encode():
            return told
    return {}


def _hashed(reply: Reply) -> object:
    return reply if isinstance(reply, bytes | str) else b""


def _listed(reply: Reply) -> list[Reply]:
    return reply if isinstance(reply, list) else []


def _int(reply: Reply) -> int | None:
    return reply if isinstance(reply, int) else None
