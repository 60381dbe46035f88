"""Names, types and durations of Feast in the form that definitions here accept."""

from __future__ import annotations

import re
import unicodedata
from keyword import iskeyword
from typing import Any

from featurekit.loader.cross_checks import RESERVED_NAMES
from featurekit.models import format_duration
from featurekit.types import KEY_TYPES

DAY_MS = 86_400_000
LONGEST_MS = 3649 * DAY_MS
"""Durations are below ten years."""

_SCALARS = {
    "STRING": "string",
    "INT64": "int64",
    "INT32": "int32",
    "DOUBLE": "float64",
    "FLOAT": "float32",
    "BOOL": "bool",
    "BYTES": "bytes",
    "UNIX_TIMESTAMP": "timestamp",
    "DECIMAL": "decimal",
    "UUID": "string",
    "TIME_UUID": "string",
    "PDF_BYTES": "bytes",
    "IMAGE_BYTES": "bytes",
}
_COLLECTION = re.compile(r"(.+)_(LIST|SET)")
_RESERVED = {"event_timestamp"}


def field_type(feature: dict[str, Any]) -> tuple[str, str]:
    """Return the type of a feature, and what differs from Feast's; empty if nothing does."""
    name = str(feature.get("valueType", "STRING"))
    size = int(feature.get("vectorLength", 0))
    if feature.get("vectorIndex") and name == "FLOAT_LIST" and size:
        return (
            f"vector<float32, {size}>",
            "the vector has no index here; vector search is not supported",
        )
    if name in _SCALARS:
        return _SCALARS[name], "UUIDs are text" if name.endswith("UUID") else ""
    if (found := _COLLECTION.fullmatch(name)) and found[1] in _SCALARS:
        note = "a set is an array" if found[2] == "SET" else ""
        return f"array<{_SCALARS[found[1]]}>", note
    note = "" if name == "JSON" else f"{name.lower().replace('_', ' ')} is stored as JSON"
    return "json", note


def key_type(value_type: str) -> str | None:
    """Return the type of a join key; `None` if keys have no such type."""
    name = _SCALARS.get(value_type, "")
    return name if name in KEY_TYPES else None


def definition_name(name: str, taken: set[str]) -> str:
    """Return a name of lower-case letters, digits and `_` that is not taken, and take it."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    plain = re.sub(r"[^a-z0-9]+", "_", plain).strip("_") if not _is_name(name) else name
    return _untaken(plain if re.match("[a-z]", plain) else f"x_{plain}".rstrip("_"), taken)


def field_name(name: str, taken: set[str]) -> str:
    """Return a name of a field or join key that is not taken, and take it."""
    plain = unicodedata.normalize("NFKC", name)
    plain = re.sub(r"\W", "_", plain).lstrip("_") or "field"
    if not plain.isidentifier():
        plain = f"f_{plain}"
    if iskeyword(plain) or plain in _RESERVED:
        plain = f"{plain}_"
    return _untaken(plain, taken)


def feature_name(name: str, taken: set[str]) -> str:
    """Return a name of a feature that is neither taken nor reserved, and take it."""
    return field_name(f"{name}_" if name in RESERVED_NAMES else name, taken)


def service_name(name: str, views: set[str], taken: set[str]) -> str:
    """Return a name of a service that neither a view nor another service has, and take it."""
    found = definition_name(name, set())
    return definition_name(f"{found}_service" if found in views else found, taken)


def _is_name(name: str) -> bool:
    return re.fullmatch("[a-z][a-z0-9_]*", name) is not None


def _untaken(name: str, taken: set[str]) -> str:
    found, number = name, 2
    while found in taken:
        found, number = f"{name}_{number}", number + 1
    taken.add(found)
    return found


def duration_ms(text: object) -> int:
    """Return a duration such as `86400s` or `1.500s` in milliseconds; 0 if there is none."""
    seconds = str(text or "0s").removesuffix("s")
    return round(float(seconds) * 1000)


def ttl_and_refresh(ttl_ms: int) -> tuple[str, str]:
    """Return `ttl` and a `refresh` that suits it: half of it, and at most a day."""
    kept_ms = min(ttl_ms or LONGEST_MS, LONGEST_MS)
    return format_duration(kept_ms), format_duration(max(min(kept_ms // 2, DAY_MS), 1))
