"""Opening: from the plan of a stream to the adapter that reads it, importing only that one."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from featurekit.errors import UnknownNameError
from featurekit.plan import StreamPlan, ViewPlan
from featurekit.ports import EventSource, OnlineStore
from featurekit.streams.consumer import Consumer
from featurekit.streams.objects import object_reader


def open_stream(
    view: ViewPlan,
    plan: StreamPlan,
    consumer: Consumer,
    open_store: Callable[[], OnlineStore],
    settings: Mapping[str, str],
) -> EventSource:
    """The source of a view's events; nothing is connected before it is first asked.

    Args:
        view: The view.
        plan: Its stream.
        consumer: Who reads.
        open_store: Opens the online store's server anew, for the stream that is on it. The source
            has it to itself and closes it.
        settings: Further settings of the client library, as `{"security.protocol": "ssl"}`.

    Raises:
        UnknownNameError: There is no such type of stream.
        MissingExtraError: It needs an extra that is not installed.
    """
    options = dict(plan.options)
    read = object_reader(view, lambda name: options.get(f"columns.{name}", name))
    if plan.type == "redis_stream":
        from featurekit.streams.redis_stream import RedisStream, Stream

        return RedisStream(open_store(), Stream.of(options), consumer, read)
    if plan.type == "kafka":
        from featurekit.streams.kafka import KafkaTopic, Topic

        return KafkaTopic(Topic.of(options), consumer.name, read, settings)
    raise UnknownNameError.among("type of stream", plan.type, ["redis_stream", "kafka"])
