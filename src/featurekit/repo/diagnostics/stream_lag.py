"""The length, lag and dead letters of the streams behind stream views."""

from __future__ import annotations

from dataclasses import dataclass

from featurekit.plan import RedisStreamPlan, RepoPlan
from featurekit.ports import OnlineStore
from featurekit.wire import Reply, text_command


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
    found = {view.name: StreamLag(view.name, "") for view in repo.views if view.kind == "stream"}
    queried: list[tuple[str, RedisStreamPlan]] = []
    for view in repo.views:
        if isinstance(view.stream, RedisStreamPlan):
            queried.append((view.name, view.stream))
        elif view.stream is not None:
            found[view.name] = StreamLag(view.name, f"kafka {view.stream.topic}")
    keys, requests = [], []
    for _, stream in queried:
        name, dead = stream.stream, stream.dead_letter_name
        keys += [name.encode(), name.encode(), dead.encode()]
        requests += [
            text_command("XINFO", "GROUPS", name),
            text_command("XLEN", name),
            text_command("XLEN", dead),
        ]
    replies = store.run(keys, requests) if keys else []
    for index, (view_name, stream) in enumerate(queried):
        groups, length, dead_count = replies[3 * index : 3 * index + 3]
        group = _group_info(groups, stream.group)
        found[view_name] = StreamLag(
            view=view_name,
            source=f"redis_stream {stream.stream}",
            events=_int_or_none(group.get(b"entries-read")),
            length=_int_or_none(length),
            # Without a group nothing is read yet, and the group that a worker creates reads all.
            lag=_int_or_none(group.get(b"lag")) if group else _unread(groups, length),
            dead=_int_or_none(dead_count),
        )
    return list(found.values())


def _group_info(groups: Reply, name: str) -> dict[bytes, Reply]:
    """Return what `XINFO GROUPS` reports about a group; empty if there is none."""
    for pairs in groups if isinstance(groups, list) else []:
        if not isinstance(pairs, list):
            continue
        named = zip(pairs[::2], pairs[1::2], strict=False)
        info = {key: value for key, value in named if isinstance(key, bytes)}
        if info.get(b"name") == name.encode():
            return info
    return {}


def _unread(groups: Reply, length: Reply) -> int | None:
    return _int_or_none(length) if isinstance(groups, list) else None


def _int_or_none(reply: Reply) -> int | None:
    return reply if isinstance(reply, int) else None
