"""The servers behind `memory://`, for the test kit: their clocks, and their end."""

from __future__ import annotations

from featurekit.stores.memory import delete_expired, delete_memory_server, set_memory_clock

__all__ = ["delete_expired", "delete_memory_server", "set_memory_clock"]
