"""Find dead letters that return to the stream they came from.

A worker that reads its own dead letters rejects the same event without end. So do several workers, if
each one's dead letters are the source of the next.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from featurekit.keys import default_dead_letter
from featurekit.loader.declarations import Declaration
from featurekit.loader.problems import LocatedProblem
from featurekit.models.definitions import FeatureView
from featurekit.models.sources import KafkaSource, RedisStreamSource

_Place = tuple[str, str]
"""Brokers, or an empty text for the online store's server; and a topic or stream there."""


def dead_letter_problems(views: Sequence[Declaration[FeatureView]]) -> Iterator[LocatedProblem]:
    """Yield a problem for each `dead_letter` from which events return to the view's own source."""
    routes = [(item, *places) for item in views if (places := _places(item.model)) is not None]
    targets: dict[_Place, set[_Place]] = {}
    for _, source, dead in routes:
        targets.setdefault(source, set()).add(dead)
    for item, source, dead in routes:
        stream = item.model.stream
        if stream is None or stream.source is None or stream.source.dead_letter is None:
            continue
        if source in _reachable(dead, targets):
            name = stream.source.dead_letter
            reason = (
                "is the source of the view itself"
                if dead == source
                else "leads back to the view's source through the dead letters of other views"
            )
            yield LocatedProblem(
                item.at("stream", "source", "dead_letter"),
                f"{item.label}: dead_letter '{name}' {reason}, so that a rejected event would be "
                "read again without end",
                "name another one, or remove the key",
            )


def _places(view: FeatureView) -> tuple[_Place, _Place] | None:
    """Return the source of a view's events and the place of its dead letters."""
    source = view.stream.source if view.stream else None
    if isinstance(source, KafkaSource):
        servers, name = source.bootstrap_servers, source.topic
    elif isinstance(source, RedisStreamSource):
        servers, name = "", source.stream
    else:
        return None
    dead_letter = source.dead_letter or default_dead_letter(source.type, name)
    return (servers, name), (servers, dead_letter)


def _reachable(start: _Place, targets: dict[_Place, set[_Place]]) -> set[_Place]:
    """Return all places that an event at `start` may get to, `start` included."""
    found: set[_Place] = set()
    remaining = {start}
    while remaining:
        found |= remaining
        remaining = {t for place in remaining for t in targets.get(place, ())} - found
    return found
