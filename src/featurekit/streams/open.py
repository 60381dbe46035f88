"""Open the event source that a plan describes; only its own client library is imported."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from featurekit.lower.rows import json_object_decoder
from featurekit.plan import KafkaTopicPlan, StreamPlan, ViewPlan
from featurekit.ports import Consumer, EventSource, OnlineStore


def open_stream(
    view: ViewPlan,
    plan: StreamPlan,
    consumer: Consumer,
    open_store: Callable[[], OnlineStore],
    settings: Mapping[str, str],
) -> EventSource:
    """Return the source of a view's events; it connects on first use.

    Args:
        view: The view.
        plan: The view's stream.
        consumer: The consumer that reads.
        open_store: Opens a store on the online store's server, for a Redis stream. The source
            owns that store and closes it.
        settings: More settings of the client library, such as `{"security.protocol": "ssl"}`.

    Raises:
        MissingExtraError: The stream needs an extra that is not installed.
    """
    decode = json_object_decoder(view)
    if isinstance(plan, KafkaTopicPlan):
        from featurekit.streams.kafka import KafkaTopic

        return KafkaTopic(plan, consumer.name, decode, settings)
    from featurekit.streams.redis_stream import RedisStream

    return RedisStream(open_store(), plan, consumer, decode)
