"""What modules of `featurekit generate python` build on."""

from __future__ import annotations

from featurekit.lower.records import Record as Row

__all__ = ["Row"]
