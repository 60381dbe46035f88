"""The mark of a view with windows: up to when all events are applied.

A count of 0 is true only if no event is on its way, so a reader takes the windows of a view whose mark
is old as stale. The mark is a hash with one field for each partition of a topic, or one for the
consumer group of a Redis stream; the least of its times counts. A partition without a report has
the time 0. Partitions that a topic no longer has are deleted. The key expires a week after
the last report. A reset leaves its time in a field of its own, until all windows begin after it:
a worker that runs on would mark windows that lack the events before.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from featurekit.errors import StoreError
from featurekit.lower.marks import EMPTIED, mark_times_ms
from featurekit.plan import ViewPlan
from featurekit.ports import OnlineStore, Progress
from featurekit.wire import first_error, text_command

REPLAY = "@replay"
"""The field whose time is 0 from the start of a replay to its end."""

RESET = "@reset"
"""The field with the time of a reset: 0 from its start to its end."""

TTL_MS = 7 * 24 * 3600 * 1000

INTERVALS = 10
"""How often a mark is written before it would be too old."""

MIN_INTERVAL_S, MAX_INTERVAL_S = 0.2, 5.0


def mark_interval_s(max_mark_age_ms: int) -> float:
    """Return how often the mark of a view is written."""
    return min(MAX_INTERVAL_S, max(MIN_INTERVAL_S, max_mark_age_ms / 1000 / INTERVALS))


def write_mark(store: OnlineStore, key: bytes, progress: Progress) -> None:
    """Write up to when the events of a source are applied.

    Raises:
        StoreError: The server refuses it.
    """
    commands = [text_command("PEXPIRE", key, TTL_MS), text_command("HKEYS", key)]
    unknown = progress.parts - progress.times.keys()
    commands[:0] = [text_command("HSETNX", key, part, 0) for part in sorted(unknown)]
    if progress.times:
        pairs = [item for pair in progress.times.items() for item in pair]
        commands.insert(0, text_command("HSET", key, *pairs))
    replies = store.run((key,), (b"".join(commands),), len(commands))
    _raise_refusal(key, replies)
    present = replies[-1] if isinstance(replies[-1], list) else []
    known = {part.encode() for part in (*progress.parts, REPLAY, RESET)}
    gone = [name for name in present if isinstance(name, bytes) and name not in known]
    if gone:
        _raise_refusal(key, store.run((key,), (text_command("HDEL", key, *gone),)))


@dataclass(frozen=True, slots=True)
class Mark:
    """The mark of a view.

    Attributes:
        time_ms: Up to when all events are applied; `None` if that is unknown.
        latest_ms: The latest time of a part: ahead of the clock if the clock of its worker is.
        emptied_ms: When a reset emptied the windows that still begin before it; 0 if none did.
    """

    time_ms: int | None = None
    latest_ms: int = 0
    emptied_ms: int = 0


def read_marks(store: OnlineStore, views: Iterable[ViewPlan]) -> dict[str, Mark]:
    """Return the mark of each view that has one; an empty one if it is missing, or may not be read.

    Raises:
        StoreUnavailableError: The store does not answer.
    """
    keys = {view.name: view.mark_key for view in views if view.mark_key is not None}
    places = list(keys.values())
    replies = store.run(places, [text_command("HVALS", key) for key in places]) if keys else []
    marks = {}
    for name, reply in zip(keys, replies, strict=True):
        times, emptied_ms = mark_times_ms(reply)
        marks[name] = Mark(min(times, default=None), max(times, default=0), emptied_ms)
    return marks


def start_reset(store: OnlineStore, view: ViewPlan) -> bool:
    """Make the windows of a view stale until `end_reset`; return whether they have a mark.

    Raises:
        StoreError: The server refuses it.
    """
    key = view.mark_key
    if key is None:
        return False
    replies = store.run((key,), (text_command("UNLINK", key),))
    _raise_refusal(key, replies)
    if replies == [0]:  # no worker has marked them
        return False
    set_mark_field(store, view, RESET, 0)
    return True


def end_reset(store: OnlineStore, view: ViewPlan, now_ms: int) -> None:
    """Leave the windows stale that begin before a reset, which ends now.

    Raises:
        StoreError: The server refuses it.
    """
    key, aggregates = view.mark_key, [f.aggregate for f in view.fields if f.aggregate is not None]
    if key is None:
        return
    till = now_ms + max(each.window_ms + 2 * each.tile_ms for each in aggregates)
    data = text_command("HSET", key, RESET, EMPTIED + b"%d" % now_ms)
    data += text_command("HPEXPIREAT", key, till, "FIELDS", 1, RESET)
    _raise_refusal(key, store.run((key,), (data,), 2))


def set_mark_field(store: OnlineStore, view: ViewPlan, name: str, time_ms: int | None) -> None:
    """Set a field of a view's mark, if it has one; `None` deletes it.

    Raises:
        StoreError: The server refuses it.
    """
    key = view.mark_key
    if key is None:
        return
    if time_ms is None:
        data = text_command("HDEL", key, name)
    else:
        data = text_command("HSET", key, name, time_ms)
    _raise_refusal(key, store.run((key,), (data,)))


def _raise_refusal(key: bytes, replies: object) -> None:
    error = first_error(replies) if isinstance(replies, list) else None
    if error is not None:
        raise StoreError(f"the mark cannot be written: {error}", where=key.decode())
