"""A Kafka topic of JSON objects, read by a consumer group and committed after the write.

Automatic commits are off. `acknowledge` commits, per partition, the offset after the last event
of the batch, synchronously.

- *Assigned*: only events of partitions in `_partitions` are returned and committed.
- *Revoked or lost*: the partition leaves `_partitions` in the rebalance callback. Events of it that
  are in progress are still written, but not committed: the new owner reads them again from the
  last commit. A commit that loses this race fails with one of `REASSIGNED_CODES`, which is ignored.
- *Not a JSON object* (also tombstones): the event has a `fault`; the worker sends it to the topic
  of dead letters unchanged and commits past it.

Invariant: an offset is committed only after the events below it are in the store or among the
dead letters. A crash or rebalance repeats writes and loses none.

Rejected: automatic commits (they run on a timer, so they may precede the write); transactions
(the store is not part of them); waiting in the rebalance callback until a batch is written (a
store that is away would block the whole group).

Dead letters are read without a group: directly from the ends of the topic's partitions.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from typing_extensions import override

from featurekit.errors import (
    MissingExtraError,
    StreamError,
    StreamUnavailableError,
    ValueRefusedError,
)
from featurekit.lower.rows import JsonObjectDecoder
from featurekit.plan import KafkaTopicPlan
from featurekit.ports import DeadLetter, EventSource, Progress, StreamEvent

try:
    from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
except ImportError as error:
    raise MissingExtraError.of("kafka", "a Kafka topic") from error

REQUEST_TIMEOUT_S = 5.0
"""The timeout of requests to a broker, other than fetches."""

REASSIGNED_CODES = {
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError._ASSIGNMENT_LOST,  # noqa: SLF001 - the constant's public name
    KafkaError._NO_OFFSET,  # noqa: SLF001 - the constant's public name
}
"""The commit was too late: another consumer owns the partition and reads the messages again."""

FORBIDDEN_CODES = {
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError._AUTHENTICATION,  # noqa: SLF001 - the constant's public name
}


class KafkaTopic(EventSource):
    """The messages of one topic, for one consumer of a group.

    Args:
        plan: The topic and group.
        client_id: The consumer's name.
        decode_json: Decodes a message's value.
        settings: More settings of librdkafka, for the consumer and the producer.
    """

    def __init__(
        self,
        plan: KafkaTopicPlan,
        client_id: str,
        decode_json: JsonObjectDecoder,
        settings: Mapping[str, str],
    ) -> None:
        self._plan = plan
        self._decode_json = decode_json
        self._settings: dict[str, Any] = {"client.id": client_id, "log_level": "0", **settings}
        self._settings |= {
            "bootstrap.servers": plan.bootstrap_servers,
            "error_cb": self._on_error,
        }
        self._consumer: Any = None
        self._producer: Any = None
        self._is_assigned = False
        self._partitions: set[int] = set()
        self._next_offsets: dict[int, int] = {}
        self._ends: dict[int, int] = {}
        self._newest_ms: dict[int, int] = {}
        self._lost = 0
        self._last_error: Any = None

    @override
    def read(self, max_events: int, wait_s: float) -> Sequence[StreamEvent]:
        consumer = self._open_consumer()
        try:
            messages = consumer.consume(1, wait_s)
            if messages and max_events > 1:
                messages += consumer.consume(max_events - 1, 0)
        except KafkaException as error:
            raise self._error_of("reading", error.args[0]) from error
        good = [m for m in messages if not m.error() and m.partition() in self._partitions]
        self._count_lost(good)
        events = [self._event(m) for m in good]
        self._newest_ms.update(
            (m.partition(), event.arrived_ms) for m, event in zip(good, events, strict=True)
        )
        self._ends.update((m.partition(), m.offset()) for m in messages if _is_end(m))
        errors = (m.error() for m in messages if m.error() and not _is_end(m))
        if not events and (failure := next(errors, self._last_error)) is not None:
            if self._is_assigned:
                self._last_error = None
            raise self._error_of("reading", failure)
        if not self._is_assigned:
            raise self._error_of("joining the group", None)
        return events

    @override
    def acknowledge(self, events: Sequence[StreamEvent]) -> None:
        ends: dict[int, int] = {}
        for event in events:
            _, partition, offset = event.id.rsplit("/", 2)
            ends[int(partition)] = max(ends.get(int(partition), 0), int(offset) + 1)
        offsets = [
            TopicPartition(self._plan.topic, partition, end)
            for partition, end in ends.items()
            if partition in self._partitions
        ]
        if not offsets:
            return
        try:
            self._open_consumer().commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            if error.args[0].code() not in REASSIGNED_CODES:
                raise self._error_of("committing", error.args[0]) from error

    @override
    def dead_letter(self, event: StreamEvent, reason: str) -> None:
        results: list[Any] = []
        if self._producer is None:
            self._producer = Producer({**self._settings, "linger.ms": "0"})
        producer = self._producer
        raw = dict(zip(event.raw[::2], event.raw[1::2], strict=True))
        producer.produce(
            self._plan.dead_letter_name,
            value=raw.get(b"value"),
            key=raw.get(b"key"),
            headers={"reason": reason.encode(), "position": event.id.encode()},
            on_delivery=lambda error, _message: results.append(error),
        )
        if producer.flush(REQUEST_TIMEOUT_S):
            producer.purge()
            producer.flush(0)
        if not results or results[0] is not None:
            raise self._error_of("writing a dead letter", next(iter(results), None))

    @override
    def dead_letters(self, count: int) -> Sequence[DeadLetter]:
        topic = self._plan.dead_letter_name
        group = {"group.id": f"{topic}.look", "enable.auto.commit": "false"}
        consumer = Consumer({**self._settings, **group})
        try:
            offsets = _newest_offsets(consumer, topic, count)
            consumer.assign([TopicPartition(topic, n, start) for n, (start, _) in offsets.items()])
            letters = _read_until(consumer, {n: end for n, (_, end) in offsets.items()})
        except KafkaException as error:
            raise StreamUnavailableError(
                f"the dead letters cannot be read: {error.args[0].str()}", where=f"topic {topic}"
            ) from error
        finally:
            consumer.close()
        return sorted(letters, key=lambda letter: letter.at_ms, reverse=True)[:count]

    @override
    def lag(self) -> int | None:
        if not self._is_assigned:
            return None
        try:
            return sum(map(self._unread, self._committed_offsets()))
        except KafkaException as error:
            raise self._error_of("reading the lag", error.args[0]) from error

    @override
    def done_events(self) -> Callable[[str], bool]:
        """See `EventSource.done_events`: those before the committed offsets, or the first ones read."""
        consumer = Consumer({**self._settings, "group.id": self._plan.group})
        try:
            topic = consumer.list_topics(self._plan.topic, timeout=REQUEST_TIMEOUT_S)
            numbers = sorted(topic.topics[self._plan.topic].partitions)
            places = [TopicPartition(self._plan.topic, number) for number in numbers]
            ends = {}
            for place in consumer.committed(places, timeout=REQUEST_TIMEOUT_S) if places else ():
                low, high = consumer.get_watermark_offsets(place, timeout=REQUEST_TIMEOUT_S)
                begin = low if self._plan.start == "earliest" else high
                ends[place.partition] = max(place.offset, low) if place.offset >= 0 else begin
        except KafkaException as error:
            raise self._error_of("reading the offsets of the group", error.args[0]) from error
        finally:
            consumer.close()

        def is_done(event_id: str) -> bool:
            _, partition, offset = event_id.rsplit("/", 2)
            return bool(int(offset) < ends.get(int(partition), math.inf))

        return is_done

    @override
    def progress(self, now_ms: int) -> Progress | None:
        """See `EventSource.progress`. At its end, a partition is done up to now.

        The end is where the client saw it, or where the broker says now: markers of
        transactions come after the last message.
        """
        if not self._is_assigned:
            return None
        consumer, times = self._open_consumer(), {}
        try:
            topic = consumer.list_topics(self._plan.topic, timeout=REQUEST_TIMEOUT_S)
            parts = frozenset(map(str, topic.topics[self._plan.topic].partitions))
            for number in sorted(self._partitions):
                place = TopicPartition(self._plan.topic, number)
                _, end = consumer.get_watermark_offsets(place, timeout=REQUEST_TIMEOUT_S)
                done = max(self._next_offsets.get(number, -1), self._ends.get(number, -1))
                if done >= end:
                    times[str(number)] = now_ms
                elif number in self._newest_ms:
                    times[str(number)] = min(now_ms, self._newest_ms[number])
        except KafkaException as error:
            raise self._error_of("reading the ends of the partitions", error.args[0]) from error
        return Progress(times, parts | times.keys())

    @override
    def take_lost(self) -> int:
        lost, self._lost = self._lost, 0
        return lost

    @override
    def close(self) -> None:
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None
        self._producer = None

    def _open_consumer(self) -> Any:
        if self._consumer is None:
            settings = {
                **self._settings,
                "group.id": self._plan.group,
                "auto.offset.reset": self._plan.start,
                "enable.auto.commit": "false",
                "enable.auto.offset.store": "false",
                "enable.partition.eof": "true",
            }
            try:
                self._consumer = Consumer(settings)
            except KafkaException as error:
                raise StreamError(
                    f"the settings of the Kafka client are wrong: {error}"
                ) from error
            self._consumer.subscribe(
                [self._plan.topic],
                on_assign=self._on_assign,
                on_revoke=self._on_revoke,
                on_lost=self._on_revoke,
            )
        return self._consumer

    def _on_assign(self, _consumer: Any, partitions: Sequence[Any]) -> None:
        self._is_assigned, self._last_error = True, None
        self._partitions |= {each.partition for each in partitions}

    def _on_revoke(self, _consumer: Any, partitions: Sequence[Any]) -> None:
        self._partitions -= {each.partition for each in partitions}
        for each in partitions:
            for known in (self._next_offsets, self._ends, self._newest_ms):
                known.pop(each.partition, None)

    def _on_error(self, error: Any) -> None:
        """Keep an error that belongs to no call; `read` raises it when there are no events."""
        if error.fatal() or error.code() in {KafkaError._ALL_BROKERS_DOWN, *FORBIDDEN_CODES}:  # noqa: SLF001
            self._last_error = error

    def _count_lost(self, messages: Sequence[Any]) -> None:
        """Count the messages that retention deleted between the last position and these messages.

        A gap alone proves nothing: compaction and transactions leave gaps, too.
        """
        for message in messages:
            number, offset = message.partition(), message.offset()
            try:
                if number not in self._next_offsets:
                    place = TopicPartition(self._plan.topic, number)
                    [place] = self._open_consumer().committed([place], timeout=REQUEST_TIMEOUT_S)
                    self._next_offsets[number] = place.offset if place.offset >= 0 else offset
                expected = self._next_offsets[number]
                if offset > expected and self._first_offset(number) > expected:
                    self._lost += offset - expected
            except KafkaException:
                pass  # it is unknown whether anything was lost
            self._next_offsets[number] = offset + 1

    def _first_offset(self, number: int) -> int:
        """Return the offset of the first message that a partition still has."""
        place = TopicPartition(self._plan.topic, number)
        first, _ = self._open_consumer().get_watermark_offsets(place, timeout=REQUEST_TIMEOUT_S)
        return int(first)

    def _committed_offsets(self) -> list[Any]:
        places = [TopicPartition(self._plan.topic, number) for number in self._partitions]
        if not places:
            return []
        return list(self._open_consumer().committed(places, timeout=REQUEST_TIMEOUT_S))

    def _unread(self, committed: Any) -> int:
        """Return how many messages follow a committed offset, as of the last fetch."""
        consumer = self._open_consumer()
        ends = consumer.get_watermark_offsets(committed, cached=True)
        if ends is None or ends[1] < 0:
            ends = consumer.get_watermark_offsets(committed, timeout=REQUEST_TIMEOUT_S)
        low: int = max(0, ends[0])
        high: int = max(0, ends[1])
        offset: int = committed.offset
        if offset >= 0:
            return max(0, high - max(low, offset))
        return high - low if self._plan.start == "earliest" else 0

    def _event(self, message: Any) -> StreamEvent:
        parts = {b"key": message.key(), b"value": message.value()}
        raw = [part for pair in parts.items() if pair[1] is not None for part in pair]
        columns: dict[str, object] = {}
        fault = "a tombstone has no values" if parts[b"value"] is None else None
        try:
            if fault is None:
                columns = self._decode_json(parts[b"value"])
        except ValueRefusedError as error:
            fault = error.message
        return StreamEvent(_position(message), columns, "json", _time_ms(message), raw, fault)

    def _error_of(self, action: str, error: Any) -> StreamError:
        where = f"topic {self._plan.topic}"
        if error is None:
            return StreamUnavailableError(f"no broker answered while {action}", where=where)
        is_refused = error.fatal() or error.code() in FORBIDDEN_CODES
        kind = StreamError if is_refused else StreamUnavailableError
        return kind(f"{error.str()} while {action}", where=where)


def _is_end(message: Any) -> bool:
    """Return whether a message only says that the end of a partition was reached."""
    error = message.error()
    return error is not None and error.code() == KafkaError._PARTITION_EOF  # noqa: SLF001 - its public name


def _position(message: Any) -> str:
    return f"{message.topic()}/{message.partition()}/{message.offset()}"


def _time_ms(message: Any) -> int:
    kind, time_ms = message.timestamp()
    return time_ms if kind else 0


def _newest_offsets(consumer: Any, topic: str, count: int) -> dict[int, tuple[int, int]]:
    """Return, by partition, the offsets between which its newest `count` messages lie."""
    metadata = consumer.list_topics(topic, timeout=REQUEST_TIMEOUT_S).topics[topic]
    if metadata.error is not None:
        if metadata.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            return {}
        raise KafkaException(metadata.error)
    offsets = {}
    for number in metadata.partitions:
        place = TopicPartition(topic, number)
        low, high = consumer.get_watermark_offsets(place, timeout=REQUEST_TIMEOUT_S)
        if high > low:
            offsets[number] = max(low, high - count), high
    return offsets


def _read_until(consumer: Any, ends: dict[int, int]) -> list[DeadLetter]:
    letters = []
    unfinished = dict(ends)
    deadline = time.monotonic() + REQUEST_TIMEOUT_S
    while unfinished:
        if time.monotonic() > deadline:
            raise StreamUnavailableError("no broker answered while reading the dead letters")
        for message in consumer.consume(100, 0.2):
            if message.error():
                continue
            letters.append(_dead_letter(message))
            if message.offset() + 1 >= unfinished.get(message.partition(), 0):
                unfinished.pop(message.partition(), None)
    return letters


def _dead_letter(message: Any) -> DeadLetter:
    headers = {name: _decode_loosely(data) for name, data in message.headers() or ()}
    parts = {"key": message.key(), "value": message.value()}
    return DeadLetter(
        id=_position(message),
        at_ms=_time_ms(message),
        reason=headers.get("reason", ""),
        event_id=headers.get("position", ""),
        fields={name: _decode_loosely(data) for name, data in parts.items() if data is not None},
    )


def _decode_loosely(data: bytes | None) -> str:
    return (data or b"").decode(errors="backslashreplace")
