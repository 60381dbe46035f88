"""Kafka's dead letters: the newest messages of a topic, read from its ends, in no group."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from featurekit.errors import StreamUnavailableError
from featurekit.ports import DeadLetter


def newest(
    topic: str, settings: Mapping[str, Any], most: int, patience_s: float
) -> Sequence[DeadLetter]:
    """Up to `most` messages of a topic of dead letters, newest first; none if it is not there.

    Raises:
        StreamUnavailableError: The brokers did not answer in time.
    """
    consumer = Consumer({**settings, "group.id": f"{topic}.look", "enable.auto.commit": "false"})
    try:
        ends = _ends(consumer, topic, most, patience_s)
        consumer.assign([TopicPartition(topic, n, start) for n, (start, _) in ends.items()])
        letters = _read(consumer, {n: end for n, (_, end) in ends.items()}, patience_s)
    except KafkaException as error:
        raise StreamUnavailableError(
            f"the dead letters cannot be read: {error.args[0].str()}", where=f"topic {topic}"
        ) from error
    finally:
        consumer.close()
    return sorted(letters, key=lambda letter: letter.at_ms, reverse=True)[:most]


def _ends(consumer: Any, topic: str, most: int, patience_s: float) -> dict[int, tuple[int, int]]:
    """For each partition that has any, from where to where its newest messages are."""
    told = consumer.list_topics(topic, timeout=patience_s).topics[topic]
    if told.error is not None:
        if told.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            return {}
        raise KafkaException(told.error)
    ends = {}
    for number in told.partitions:
        place = TopicPartition(topic, number)
        low, high = consumer.get_watermark_offsets(place, timeout=patience_s)
        if high > low:
            ends[number] = max(low, high - most), high
    return ends


def _read(consumer: Any, ends: dict[int, int], patience_s: float) -> list[DeadLetter]:
    letters = []
    left = dict(ends)
    late = time.monotonic() + patience_s
    while left:
        if time.monotonic() > late:
            raise StreamUnavailableError("no broker answered while reading the dead letters")
        for message in consumer.consume(100, 0.2):
            if message.error():
                continue
            letters.append(_letter(message))
            if message.offset() + 1 >= left.get(message.partition(), 0):
                left.pop(message.partition(), None)
    return letters


def _letter(message: Any) -> DeadLetter:
    marks = {name: _text(data) for name, data in message.headers() or ()}
    parts = {"key": message.key(), "value": message.value()}
    kind, at_ms = message.timestamp()
    return DeadLetter(
        id=f"{message.topic()}/{message.partition()}/{message.offset()}",
        at_ms=at_ms if kind else 0,
        reason=marks.get("reason", ""),
        event_id=marks.get("position", ""),
        fields={name: _text(data) for name, data in parts.items() if data is not None},
    )


def _text(data: bytes | None) -> str:
    return (data or b"").decode(errors="backslashreplace")
