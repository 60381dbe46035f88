"""Objects: events that come as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal

from featurekit.errors import ValueRefusedError
from featurekit.plan import ViewPlan
from featurekit.types import codec_of

_SHOWN = 40

ObjectReader = Callable[[bytes], dict[str, object]]
"""From the bytes of a JSON object to its members."""


def object_reader(view: ViewPlan, column: Callable[[str], str] = str) -> ObjectReader:
    """The function that reads a view's events from JSON.

    Args:
        view: The view; its decimals are read exactly, and not by way of a float.
        column: The member that a field comes from.

    Raises (the function):
        ValueRefusedError: The bytes are no JSON object.
    """
    exact = [column(f.name) for f in view.fields if codec_of(f.dtype).needs_exact_json]

    def read(data: bytes) -> dict[str, object]:
        try:
            text = data.decode()
            found = json.loads(text)
            exactly = json.loads(text, parse_float=Decimal) if exact else {}
        except (ValueError, ArithmeticError, RecursionError) as error:
            raise ValueRefusedError(f"not JSON: {error}") from error
        if not isinstance(found, dict):
            raise ValueRefusedError(f"a JSON object is expected, not {text[:_SHOWN]}")
        for name in exact:
            if name in found:
                found[name] = exactly[name]
        return found

    return read
