"""Values as people are shown them."""

from __future__ import annotations

from featurekit.types.dtype import DType
from featurekit.types.table import codec_of

_SHOWN = 4
"""Numbers of a vector that people are shown."""


def value_text(dtype: DType, value: object) -> str:
    """A value as people are shown it: its bytes in the hash, where those are text."""
    codec = codec_of(dtype)
    if dtype.kind == "vector":
        numbers = codec.to_json(value)
        head = ", ".join(f"{number:g}" for number in numbers[:_SHOWN])  # type: ignore[index]
        return f"[{head}, … {dtype.size} numbers]" if dtype.size > _SHOWN else f"[{head}]"
    if dtype.kind == "bytes":
        return repr(value)
    return codec.encode(value).decode()
