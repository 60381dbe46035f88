"""The length, lag and dead letters of the streams behind stream views."""

from __future__ import annotations

from dataclasses import dataclass

from featurekit.plan import RedisStreamPlan, RepoPlan, ViewPlan
from featurekit.ports import OnlineStore
from featurekit.wire import Reply


@dataclass(frozen=True, slots=True)
class StreamLag:
    """How far the consumer group of one stream view has read. `None` means unknown.

    Attributes:
        view: The view's name.
        source: The source, as `redis_stream user-activity`; empty if a program writes the events.
        events: Events that the group has read since it was created.
        length: Events in the stream.
        lag: Events that the group has not read yet.
        dead: Number of dead letters.
    """

    view: str
    source: str
    events: int | None = None
    length: int | None = None
    lag: int | None = None
    dead: int | None = None


def stream_lag(repo: RepoPlan, store: OnlineStore) -> list[StreamLag]:
    """Return one result for each stream view. Kafka topics are named, but not queried."""
    return [_view_lag(store, view) for view in repo.views if view.kind == "stream"]


def _view_lag(store: OnlineStore, view: ViewPlan) -> StreamLag:
    stream = view.stream
    if stream is None:
        return StreamLag(view.name, "")
    if not isinstance(stream, RedisStreamPlan):
        return StreamLag(view.name, f"kafka {stream.topic}")
    group = _group_info(store, stream)
    dead_letters = stream.dead_letter_name
    return StreamLag(
        view=view.name,
        source=f"redis_stream {stream.stream}",
        events=_int_or_none(group.get(b"entries-read")),
        length=_int_or_none(store.call("XLEN", stream.stream, key=stream.stream)),
        lag=_int_or_none(group.get(b"lag")),
        dead=_int_or_none(store.call("XLEN", dead_letters, key=dead_letters)),
    )


def _group_info(store: OnlineStore, stream: RedisStreamPlan) -> dict[Reply, Reply]:
    """Return what `XINFO GROUPS` reports about the stream's group; empty if there is none."""
    groups = store.call("XINFO", "GROUPS", stream.stream, key=stream.stream)
    for pairs in groups if isinstance(groups, list) else []:
        info = dict(zip(pairs[::2], pairs[1::2], strict=True)) if isinstance(pairs, list) else {}
        if info.get(b"name") == stream.group.encode():
            return info
    return {}


def _int_or_none(reply: Reply) -> int | None:
    return reply if isinstance(reply, int) else None
