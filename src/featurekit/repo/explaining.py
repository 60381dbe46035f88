"""Explanations: why a value is what it is, and above all why it is missing, in plain words.

The store tells what is there; the plan tells what should be, and for how long. What is known for
certain is said as such, and what is not is given as the choice it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from featurekit.models import format_duration
from featurekit.plan import RepoPlan, ViewPlan
from featurekit.repo.inspection import UNKNOWN, InspectedField, Inspection


@dataclass(frozen=True, slots=True)
class _Case:
    """One field, and what is known around it.

    Attributes:
        ttl: How long a written value lives, in words.
        siblings: The declared fields of its view that are stored.
        others: Whether anything else is stored for the entity.
    """

    field: InspectedField
    view: ViewPlan
    ttl: str
    siblings: Sequence[InspectedField]
    others: bool


def explain(repo: RepoPlan, inspection: Inspection) -> dict[str, str]:
    """For each field that is not simply present, why, in a sentence or two.

    Args:
        repo: The applied repository.
        inspection: What `FeatureStore.inspect` gave.

    Returns:
        Sentences by the names of fields.
    """
    return {
        field.name: said
        for field in inspection.fields
        if (said := _explained(repo, inspection, field))
    }


_SAID = {
    "invalid": "What is stored is no {dtype}, so readers get no value. Something other than "
    "featurekit wrote it, or the type was changed by a breaking apply: load it anew.",
    "retired": "No view declares it any more. The next load of this entity deletes it.",
    "clock": "The time of the newest event of {view}; only newer events are written.",
    UNKNOWN: "No view declares it, and no reader gives it. Something other than featurekit wrote "
    "it, and nothing here will delete it but the key's expiry or a reset.",
}
"""What is said of a status whatever the view."""


def _explained(repo: RepoPlan, inspection: Inspection, field: InspectedField) -> str:
    if field.status in ("missing", "default"):
        case = _case(repo, inspection, field)
        return _stream(case) if case.view.kind == "stream" else _batch(case)
    return _SAID.get(field.status, "").format(dtype=field.dtype, view=field.view)


def _case(repo: RepoPlan, inspection: Inspection, field: InspectedField) -> _Case:
    view = repo.view(field.view)
    ttl_ms = view.field(field.name).ttl_ms or view.ttl_ms
    stored = [other for other in inspection.fields if other.raw is not None]
    siblings = [other for other in stored if other.view == field.view and other.dtype]
    return _Case(field, view, format_duration(ttl_ms), siblings, bool(stored))


def _stream(case: _Case) -> str:
    view, ttl = case.view.name, case.ttl
    done = "had an event with it" if case.view.ordering == "event_time" else "written it"
    said = (
        f"Never written, or its TTL of {ttl} ran out: {view} has not {done} for this entity for at "
        f"least {ttl}, unless it was deleted since, by an event with null or by a reset."
    )
    lives = {field.name: field.ttl_ms for field in case.siblings if field.ttl_ms is not None}
    if not lives:
        return (
            f"{said} Nothing else of {view} is left for it: no event about it came, or the stream "
            "has stopped."
        )
    newest = max(lives, key=lives.__getitem__)
    ago_ms = case.view.field(newest).ttl_ms - lives[newest]
    if ago_ms < 0:  # written with a TTL of its own
        return f"{said} {view} does write other fields of this entity."
    shown = format_duration(max(1000, ago_ms // 1000 * 1000))
    return f"{said} {view} wrote {newest} about {shown} ago, without this field or with null."


def _batch(case: _Case) -> str:
    view, ttl = case.view.name, case.ttl
    refill = f"`featurekit materialize {view}`" if case.view.source else f"a write to {view}"
    if case.siblings:
        return (
            f"The last row that {view} loaded for this entity had no value here: null deletes, so "
            "that no older value lives on."
        )
    if not case.others:
        return (
            f"Nothing is stored for this entity: {view} never loaded it, or its TTL of {ttl} ran "
            f"out without another load. {refill} brings it back, if its source has a row for it."
        )
    if case.view.expires == "field":
        return (
            f"Never loaded, or its TTL of {ttl} ran out: {view} has not loaded this entity for "
            f"at least {ttl}. {refill} brings it back."
        )
    return (
        f"{view} has not loaded this entity, or not within {ttl}: what is stored comes from other "
        f"views. {refill} brings it back, if its source has a row for it."
    )
