"""Stream sources: the events of stream views, read from Redis streams and Kafka topics."""

from __future__ import annotations

from featurekit.streams.open import open_stream

__all__ = ["open_stream"]
