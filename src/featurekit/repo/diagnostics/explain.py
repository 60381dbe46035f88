"""Sentences that explain why a field of an inspected entity is not `present`.

The store does not distinguish a value that was never written from an expired one. A sentence states
what is certain, and names both possibilities otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from featurekit.models import format_duration
from featurekit.plan import RepoPlan, ViewPlan
from featurekit.repo.diagnostics.inspect import UNKNOWN, InspectedField, Inspection


@dataclass(frozen=True, slots=True)
class _MissingField:
    """A declared field that is not stored, and what surrounds it.

    Attributes:
        ttl: The TTL of a written value, as text.
        siblings: Declared fields of the same view that are stored.
        has_others: Whether anything at all is stored for the entity.
    """

    field: InspectedField
    view: ViewPlan
    ttl: str
    siblings: Sequence[InspectedField]
    has_others: bool


def explain(repo: RepoPlan, inspection: Inspection) -> dict[str, str]:
    """Return one or two sentences for each field that is not `present`, by field name.

    Args:
        repo: The applied registry, compiled.
        inspection: A result of `inspect_entity`.
    """
    sentences = {
        field.name: _explain_field(repo, inspection, field) for field in inspection.fields
    }
    return {name: text for name, text in sentences.items() if text}


_BY_STATUS = {
    "invalid": "The stored bytes are not a valid {dtype}, so readers return no value. Another program "
    "wrote them, or a breaking apply changed the type: load the view again.",
    "retired": "No view declares this field any more. The next load of this entity deletes it.",
    "clock": "The time of the newest event of {view}; older events are dropped.",
    UNKNOWN: "No view declares this field and no reader returns it. Another program wrote it; "
    "featurekit deletes it only when the key expires or is reset.",
}
"""Explanations that depend on the status alone."""


def _explain_field(repo: RepoPlan, inspection: Inspection, field: InspectedField) -> str:
    if field.status in ("missing", "default"):
        missing = _missing_field(repo, inspection, field)
        is_stream = missing.view.kind == "stream"
        return _explain_stream_field(missing) if is_stream else _explain_batch_field(missing)
    return _BY_STATUS.get(field.status, "").format(dtype=field.dtype, view=field.view)


def _missing_field(repo: RepoPlan, inspection: Inspection, field: InspectedField) -> _MissingField:
    view = repo.view(field.view)
    ttl_ms = view.field(field.name).ttl_ms or view.ttl_ms
    stored = [other for other in inspection.fields if other.raw is not None]
    siblings = [other for other in stored if other.view == field.view and other.dtype]
    return _MissingField(field, view, format_duration(ttl_ms), siblings, bool(stored))


def _explain_stream_field(missing: _MissingField) -> str:
    view, ttl = missing.view.name, missing.ttl
    event_time = missing.view.ordering == "event_time"
    last = "received an event with it" if event_time else "written it"
    text = (
        f"Never written, or its TTL of {ttl} ran out: {view} has not {last} for this entity for at "
        f"least {ttl}. An event with null or a reset may also have deleted it."
    )
    ttls = {field.name: field.ttl_ms for field in missing.siblings if field.ttl_ms is not None}
    if not ttls:
        return (
            f"{text} No other field of {view} is stored for this entity: no event about it came, or "
            "the stream has stopped."
        )
    newest = max(ttls, key=ttls.__getitem__)
    age_ms = missing.view.field(newest).ttl_ms - ttls[newest]
    if age_ms < 0:  # the writer passed a TTL
        return f"{text} {view} does write other fields of this entity."
    age = format_duration(max(1000, age_ms // 1000 * 1000))
    return f"{text} {view} wrote {newest} about {age} ago, without this field or with null."


def _explain_batch_field(missing: _MissingField) -> str:
    view, ttl = missing.view.name, missing.ttl
    reload = f"`featurekit materialize {view}`" if missing.view.source else f"a write to {view}"
    if missing.siblings:
        return (
            f"The last row that {view} loaded for this entity had no value here: null deletes, so "
            "that no older value remains."
        )
    if not missing.has_others:
        return (
            f"Nothing is stored for this entity: {view} never loaded it, or its TTL of {ttl} ran "
            f"out without another load. {reload} brings it back, if its source has a row for it."
        )
    if missing.view.expires == "field":
        return (
            f"Never loaded, or its TTL of {ttl} ran out: {view} has not loaded this entity for "
            f"at least {ttl}. {reload} brings it back."
        )
    return (
        f"{view} has not loaded this entity within {ttl}: what is stored comes from other views. "
        f"{reload} brings it back, if its source has a row for it."
    )
