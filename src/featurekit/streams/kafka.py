"""Kafka topics: messages read by a consumer group, their offsets committed once they are written.

Each message is a JSON object. What is none, tombstones too, has a fault and goes to the topic of
dead letters as it came. A partition that is taken away while messages of it are under way is not
committed for: whoever has it now reads them again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from typing_extensions import override

from featurekit.errors import (
    MissingExtraError,
    StreamError,
    StreamUnavailableError,
    ValueRefusedError,
)
from featurekit.ports import DeadLetter, EventSource, StreamEvent
from featurekit.streams.objects import ObjectReader

try:
    from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
except ImportError as error:
    raise MissingExtraError.of("kafka", "a Kafka topic") from error

ANSWER_S = 5.0
"""How long a broker may take to answer what is asked of it now and then."""

MOVED = {
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError._ASSIGNMENT_LOST,  # noqa: SLF001 - its public name begins so
    KafkaError._NO_OFFSET,  # noqa: SLF001 - the same
}
"""A commit came too late: the partition is another consumer's, who reads the messages again."""

FORBIDDEN = {
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError._AUTHENTICATION,  # noqa: SLF001 - the same
}


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic, as one group reads it.

    Attributes:
        name: The topic.
        group: The consumer group.
        servers: Brokers to begin with, as `host:port,host:port`.
        start: Where a new group begins: `earliest` or `latest`.
        dead: The topic of dead letters.
    """

    name: str
    group: str
    servers: str
    start: str
    dead: str

    @classmethod
    def of(cls, options: Mapping[str, str]) -> Self:
        """From the options of a compiled stream."""
        name = options["topic"]
        dead = options.get("dead_letter", f"{name}.dead")
        return cls(name, options["group"], options["bootstrap_servers"], options["start"], dead)


class KafkaTopic(EventSource):
    """The messages of one topic, for one consumer of a group.

    Args:
        topic: The topic and group.
        consumer: The consumer's name.
        read: Reads a message's value.
        settings: Further settings of librdkafka, for consumer and producer.
    """

    def __init__(
        self, topic: Topic, consumer: str, read: ObjectReader, settings: Mapping[str, str]
    ) -> None:
        self._topic = topic
        self._read_object = read
        self._client: dict[str, Any] = {"client.id": consumer, "log_level": "0", **settings}
        self._client |= {"bootstrap.servers": topic.servers, "error_cb": self._hear}
        self._joined: Any = None
        self._producer: Any = None
        self._assigned = False
        self._mine: set[int] = set()
        self._trouble: Any = None

    @override
    def read(self, most: int, wait_s: float) -> Sequence[StreamEvent]:
        consumer = self._consumer()
        try:
            messages = consumer.consume(1, wait_s)
            if messages and most > 1:
                messages += consumer.consume(most - 1, 0)
        except KafkaException as error:
            raise self._failure("reading", error.args[0]) from error
        events = [
            self._event(m) for m in messages if not m.error() and m.partition() in self._mine
        ]
        faults = [m.error() for m in messages if m.error()]
        if not events and (trouble := next(iter(faults), self._trouble)) is not None:
            if self._assigned:
                self._trouble = None
            raise self._failure("reading", trouble)
        if not self._assigned:
            raise self._failure("joining the group", None)
        return events

    @override
    def acknowledge(self, events: Sequence[StreamEvent]) -> None:
        ends: dict[int, int] = {}
        for event in events:
            _, partition, offset = event.id.rsplit("/", 2)
            ends[int(partition)] = max(ends.get(int(partition), 0), int(offset) + 1)
        offsets = [
            TopicPartition(self._topic.name, partition, end)
            for partition, end in ends.items()
            if partition in self._mine
        ]
        if not offsets:
            return
        try:
            self._consumer().commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            if error.args[0].code() not in MOVED:
                raise self._failure("committing", error.args[0]) from error

    @override
    def bury(self, event: StreamEvent, reason: str) -> None:
        faults: list[Any] = []
        if self._producer is None:
            self._producer = Producer({**self._client, "linger.ms": "0"})
        producer = self._producer
        raw = dict(zip(event.raw[::2], event.raw[1::2], strict=True))
        producer.produce(
            self._topic.dead,
            value=raw.get(b"value"),
            key=raw.get(b"key"),
            headers={"reason": reason.encode(), "position": event.id.encode()},
            on_delivery=lambda fault, _message: faults.append(fault),
        )
        if producer.flush(ANSWER_S):
            producer.purge()
            producer.flush(0)
        if not faults or faults[0] is not None:
            raise self._failure("burying", next(iter(faults), None))

    @override
    def buried(self, most: int) -> Sequence[DeadLetter]:
        from featurekit.streams.kafka_letters import newest

        return newest(self._topic.dead, self._client, most, ANSWER_S)

    @override
    def lag(self) -> int | None:
        if not self._assigned:
            return None
        try:
            return sum(map(self._left, self._places()))
        except KafkaException as error:
            raise self._failure("asking", error.args[0]) from error

    @override
    def close(self) -> None:
        if self._joined is not None:
            self._joined.close()
            self._joined = None
        self._producer = None

    def _consumer(self) -> Any:
        if self._joined is None:
            settings = {
                **self._client,
                "group.id": self._topic.group,
                "auto.offset.reset": self._topic.start,
                "enable.auto.commit": "false",
                "enable.auto.offset.store": "false",
            }
            try:
                self._joined = Consumer(settings)
            except KafkaException as error:
                raise StreamError(f"the client's settings are wrong: {error}") from error
            self._joined.subscribe(
                [self._topic.name],
                on_assign=self._given,
                on_revoke=self._taken,
                on_lost=self._taken,
            )
        return self._joined

    def _given(self, _consumer: Any, places: Sequence[Any]) -> None:
        self._assigned, self._trouble = True, None
        self._mine |= {place.partition for place in places}

    def _taken(self, _consumer: Any, places: Sequence[Any]) -> None:
        self._mine -= {place.partition for place in places}

    def _hear(self, error: Any) -> None:
        """Take note of an error that belongs to no call; told when there is nothing to read."""
        if error.fatal() or error.code() in {KafkaError._ALL_BROKERS_DOWN, *FORBIDDEN}:  # noqa: SLF001
            self._trouble = error

    def _places(self) -> list[Any]:
        """What was committed for each partition that this consumer has."""
        places = [TopicPartition(self._topic.name, n) for n in self._mine]
        return list(self._consumer().committed(places, timeout=ANSWER_S)) if places else []

    def _left(self, place: Any) -> int:
        """How much a partition holds from there on, by what the last fetch told of its end."""
        ends = self._consumer().get_watermark_offsets(place, cached=True)
        if ends is None or ends[1] < 0:
            ends = self._consumer().get_watermark_offsets(place, timeout=ANSWER_S)
        low: int = max(0, ends[0])
        high: int = max(0, ends[1])
        offset: int = place.offset
        if offset >= 0:
            return max(0, high - max(low, offset))
        return high - low if self._topic.start == "earliest" else 0

    def _event(self, message: Any) -> StreamEvent:
        place = f"{message.topic()}/{message.partition()}/{message.offset()}"
        kind, at_ms = message.timestamp()
        parts = {b"key": message.key(), b"value": message.value()}
        raw = {name: data for name, data in parts.items() if data is not None}
        columns: dict[str, object] = {}
        fault = "" if b"value" in raw else "a tombstone tells nothing"
        try:
            if not fault:
                columns = self._read_object(raw[b"value"])
        except ValueRefusedError as error:
            fault = error.message
        flat = [part for pair in raw.items() for part in pair]
        return StreamEvent(place, columns, "json", at_ms if kind else 0, flat, fault)

    def _failure(self, doing: str, error: Any) -> StreamError:
        where = f"topic {self._topic.name}"
        if error is None:
            return StreamUnavailableError(f"no broker answered while {doing}", where=where)
        refused = error.fatal() or error.code() in FORBIDDEN
        kind = StreamError if refused else StreamUnavailableError
        return kind(f"{error.str()} while {doing}", where=where)
