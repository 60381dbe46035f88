"""Streams: where the events of stream views come from."""

from __future__ import annotations

from featurekit.streams.consumer import Consumer
from featurekit.streams.objects import object_reader
from featurekit.streams.open import open_stream

__all__ = ["Consumer", "object_reader", "open_stream"]
