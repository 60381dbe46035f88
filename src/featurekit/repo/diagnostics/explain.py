"""Why a field of an entity is not `present`: one cause, and a sentence or two.

The store does not distinguish a value that was never written from one that expired or was deleted. An
explanation states what the history of loads and applies, the recorded keys of rejected rows, the dead
letters and the other fields of the entity prove, and names what remains possible.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from featurekit.lower.marks import window_start_ms
from featurekit.models import format_duration
from featurekit.plan import RepoPlan, ViewPlan
from featurekit.repo.diagnostics.evidence import Evidence, Rejection
from featurekit.repo.diagnostics.inspect import UNKNOWN, InspectedField, Inspection
from featurekit.repo.diagnostics.view_status import StreamFreshness
from featurekit.repo.history import LoadRecord
from featurekit.repo.time_arguments import format_time_ms

Cause = Literal[
    "present",
    "null",
    "added",
    "rejected",
    "maybe rejected",
    "load failed",
    "never loaded",
    "not in load",
    "expired",
    "store lost",
    "dead letter",
    "no event",
    "invalid",
    "retired",
    "event time",
    "guard",
    "no live mark",
    "unknown",
]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a field is not `present`.

    Attributes:
        field: The field.
        view: The view that declares it; empty if none does.
        status: Its status, as in an `InspectedField`.
        cause: The cause in a word or two; `present` if the field is stored.
        text: The cause in one or more sentences.
    """

    field: str
    view: str
    status: str
    cause: Cause
    text: str


@dataclass(frozen=True, slots=True)
class _MissingField:
    """A declared field that is not stored, and what surrounds it.

    Attributes:
        ttl: The TTL of a written value, as text.
        key: The entity's key.
        siblings: Declared fields of the same view that are stored.
        written_ms: When the newest of these was written; `None` if there is none or it is not known.
        has_others: Whether anything at all is stored for the entity.
    """

    field: InspectedField
    view: ViewPlan
    ttl: str
    key: bytes
    siblings: Sequence[InspectedField]
    written_ms: int | None
    has_others: bool


def explain(repo: RepoPlan, inspection: Inspection, evidence: Evidence) -> list[Explanation]:
    """Return an explanation for each field that is not `present`.

    Args:
        repo: The applied registry, compiled.
        inspection: A result of `inspect_entity`.
        evidence: What is known about loads, applies and dead letters.
    """
    return [
        explain_field(repo, inspection, field, evidence)
        for field in inspection.fields
        if field.status != "present" or _stale_text(repo, field, evidence)
    ]


_BY_STATUS: dict[str, tuple[Cause, str]] = {
    "present": ("present", "The field is stored."),
    "invalid": (
        "invalid",
        "The stored bytes are not a valid {dtype}, so readers return no value. Another program "
        "wrote them, or a breaking apply changed the type: load the view again.",
    ),
    "retired": (
        "retired",
        "No view declares this field any more. The next load of this entity deletes it.",
    ),
    "clock": (
        "event time",
        "The time of the newest event or row of {view}; older ones are dropped.",
    ),
    "guard": (
        "guard",
        "What identifies repeated events of {view}: the offsets applied, or the last ids.",
    ),
    UNKNOWN: (
        "unknown",
        "No view declares this field and no reader returns it. Another program wrote it; "
        "featurekit deletes it only when the key expires or is reset.",
    ),
}
"""Explanations that depend on the status alone."""


def explain_field(
    repo: RepoPlan, inspection: Inspection, field: InspectedField, evidence: Evidence
) -> Explanation:
    """Return the explanation of one field of an inspection."""
    if field.status in ("present", "default", "missing") and (
        stale := _stale_text(repo, field, evidence)
    ):
        return Explanation(field.name, field.view, field.status, "no live mark", stale)
    if field.status in _BY_STATUS:
        cause, text = _BY_STATUS[field.status]
        text = text.format(dtype=field.dtype, view=field.view)
        return Explanation(field.name, field.view, field.status, cause, text)
    missing = _missing_field(repo, inspection, field, evidence.now_ms)
    causes = _stream_causes if missing.view.kind == "stream" else _batch_causes
    cause, text = next(causes(missing, evidence))
    return Explanation(field.name, field.view, field.status, cause, text)


def _stale_text(repo: RepoPlan, field: InspectedField, evidence: Evidence) -> str:
    """Return why readers take a window as stale; empty if they do not."""
    view = next((view for view in repo.views if view.name == field.view), None)
    if view is None or view.windows is None or view.mark_key is None:
        return ""
    status = evidence.status(view.name)
    freshness = status.stream if status and status.stream else StreamFreshness()
    age_ms, emptied_ms = freshness.mark_age_ms, freshness.emptied_ms or 0
    aggregate = view.field(field.name).aggregate
    if (
        aggregate
        and age_ms is not None
        and window_start_ms(aggregate, evidence.now_ms) < emptied_ms
    ):
        return (
            f"A reset at {format_time_ms(emptied_ms)} emptied the windows of {view.name}, so readers take "
            f"this one as stale until {format_time_ms(emptied_ms + aggregate.window_ms)}, and return the "
            "default, else null. `featurekit stream replay` fills it from a log."
        )
    if status is None or (age_ms is not None and 0 <= age_ms <= view.windows.max_mark_age_ms):
        return ""
    return (
        f"Readers take the windows of {view.name} as stale and return the default, else null: "
        f"{status.reason.removesuffix(': its windows are stale')}. Start its worker with "
        f"`featurekit stream run {view.name}`, or end its replay."
    )


def _missing_field(
    repo: RepoPlan, inspection: Inspection, field: InspectedField, now_ms: int
) -> _MissingField:
    view = repo.view(field.view)
    stored = [other for other in inspection.fields if other.raw is not None]
    siblings = [other for other in stored if other.view == field.view and other.dtype]
    ages = [_age_ms(view, other, inspection.key_ttl_ms) for other in siblings]
    known = [age for age in ages if age is not None and age >= 0]  # negative: a write passed a TTL
    return _MissingField(
        field=field,
        view=view,
        ttl=format_duration(view.field(field.name).ttl_ms or view.ttl_ms),
        key=inspection.key.encode(),
        siblings=siblings,
        written_ms=now_ms - min(known) if known else None,
        has_others=bool(stored),
    )


def _age_ms(view: ViewPlan, field: InspectedField, key_ttl_ms: int | None) -> int | None:
    """Return how long ago a stored field was written, by its declared and its remaining TTL."""
    own_ttl_ms = view.field(field.name).ttl_ms
    left_ms = field.ttl_ms if own_ttl_ms else key_ttl_ms
    return None if left_ms is None else (own_ttl_ms or view.ttl_ms) - left_ms


def _batch_causes(missing: _MissingField, evidence: Evidence) -> Iterator[tuple[Cause, str]]:
    """Yield what explains a missing field of a batch view, the most certain first."""
    view, name = missing.view.name, missing.field.name
    loads = evidence.loads(view)
    rejection = evidence.rejection(view, missing.key)
    good = next((load for load in loads or () if load.good_ms == load.ended_ms), None)
    added_ms = evidence.added_ms(view, name)
    if added_ms is not None:
        before_ms = missing.written_ms if missing.siblings else good.started_ms if good else None
        if before_ms is not None and before_ms < added_ms:
            yield (
                "added",
                (
                    f"{name} was added at {format_time_ms(added_ms)}, after {view} was last "
                    f"{'written for this entity' if missing.siblings else 'loaded'}. {_reload(missing)} writes it."
                ),
            )
    if rejection is not None and rejection.is_certain and rejection.is_last:
        yield "rejected", _rejected_text(missing, rejection)
    if missing.siblings:
        yield "null", _null_text(missing, rejection)
    if evidence.lost_text:
        yield (
            "store lost",
            f"{evidence.lost_text} {_reload(missing)} writes it after `featurekit apply`.",
        )
    if loads is None:
        yield "not in load", _without_history_text(missing)
    yield from _batch_absence(missing, loads or (), rejection, evidence.now_ms)


def _batch_absence(
    missing: _MissingField,
    loads: Sequence[LoadRecord],
    rejection: Rejection | None,
    now_ms: int,
) -> Iterator[tuple[Cause, str]]:
    """Yield why nothing of a batch view is stored for an entity, according to the history of loads."""
    view, reload = missing.view.name, _reload(missing)
    good_ms = loads[0].good_ms if loads else 0
    if not good_ms:
        failed = f": the last load failed, {loads[0].error}" if loads and loads[0].error else ""
        yield (
            "never loaded",
            f"No load of {view} is recorded that succeeded{failed}. {reload} loads it.",
        )
        return
    last_load = loads[0]
    loaded = f"the last successful load of {view}, at {format_time_ms(good_ms)},"
    expires_ms = last_load.expires_ms or good_ms + missing.view.longest_ttl_ms
    others = " What is stored comes from other views." if missing.has_others else ""
    if expires_ms < now_ms:
        yield (
            "expired",
            (
                f"All values of {view} expired at {format_time_ms(expires_ms)}, their TTL after {loaded} "
                f"and no load has succeeded since.{others} {reload} brings them back."
            ),
        )
    if last_load.error:
        yield (
            "load failed",
            (
                f"The last load of {view} failed at {format_time_ms(last_load.ended_ms)}: {last_load.error}. "
                f"It may not have reached this entity, and {loaded} did not write it either, or its TTL of "
                f"{missing.ttl} ran out.{others}"
            ),
        )
    if rejection is not None and not rejection.is_certain and rejection.is_last:
        count = f"{rejection.load.rows_rejected:,}"
        yield (
            "maybe rejected",
            (
                f"Maybe the row of this entity was among the {count} rows that the last load of {view} "
                f"rejected at {format_time_ms(rejection.load.ended_ms)}: it recorded the keys of some of them "
                f"only.{_rejects_file(rejection)} Otherwise its source had no row for the entity.{others}"
            ),
        )
    yield (
        "not in load",
        (
            f"{loaded[:1].upper()}{loaded[1:]} did not write this entity: its source had no row for it"
            f"{_left_out(last_load)}, or the entity was deleted since.{_earlier_rejection(rejection)}{others}"
        ),
    )


def _rejected_text(missing: _MissingField, rejection: Rejection) -> str:
    load, view = rejection.load, missing.view.name
    text = f"The last load of {view} rejected the row of this entity at {format_time_ms(load.ended_ms)}"
    text += f", and failed: {load.error}." if load.error else "."
    text += _rejects_file(rejection)
    if missing.siblings:
        text += " What is stored is of an earlier load, whose row had no value here."
    return text


def _rejects_file(rejection: Rejection) -> str:
    path = rejection.load.rejects_path
    return f" The rejected rows and the reasons are in {path}." if path else ""


def _earlier_rejection(rejection: Rejection | None) -> str:
    if rejection is None or not rejection.is_certain or rejection.is_last:
        return ""
    ended = format_time_ms(rejection.load.ended_ms)
    return f" An earlier load, at {ended}, rejected the row of this entity."


def _left_out(load: LoadRecord) -> str:
    """Return what else a load left out, to follow `no row for it`."""
    parts = []
    if load.window_start_ms is not None or load.window_end_ms is not None:
        parts.append(" within the times that were loaded")
    if load.rows_future:
        parts.append(f", or its row is one of {load.rows_future:,} of the future")
    return "".join(parts)


def _null_text(missing: _MissingField, rejection: Rejection | None) -> str:
    view = missing.view.name
    text = (
        f"The last row that {view} loaded for this entity had no value here: null deletes, so that no "
        "older value remains."
    )
    if rejection is not None and not rejection.is_certain and rejection.is_last:
        text += (
            f" Maybe that row is of an earlier load: the last one rejected "
            f"{rejection.load.rows_rejected:,} rows and recorded the keys of some of them only."
        )
    return text


def _without_history_text(missing: _MissingField) -> str:
    return (
        f"{missing.view.name} never loaded this entity, or its TTL of {missing.ttl} ran out without "
        f"another load: the history of loads cannot be read. {_reload(missing)} brings it back, if its "
        "source has a row for it."
    )


def _window_text(missing: _MissingField, evidence: Evidence) -> str:
    view, field = missing.view, missing.view.field(missing.field.name)
    window_ms = field.aggregate.window_ms if field.aggregate else 0
    status = evidence.status(view.name)
    warming_ms = status.stream.warming_until_ms if status and status.stream else None
    warming = (
        f" The windows of {view.name} fill up until {format_time_ms(warming_ms)}, since an apply added "
        "or emptied some of them."
        if warming_ms
        else ""
    )
    return (
        f"No event about this entity that {field.name} counts has its time in the last "
        f"{format_duration(window_ms)}.{warming}"
    )


def _reload(missing: _MissingField) -> str:
    view = missing.view
    return f"`featurekit materialize {view.name}`" if view.source else f"A write to {view.name}"


def _stream_causes(missing: _MissingField, evidence: Evidence) -> Iterator[tuple[Cause, str]]:
    """Yield what explains a missing field of a stream view, the most certain first."""
    view, ttl, name = missing.view.name, missing.ttl, missing.field.name
    letter = evidence.dead_letter(missing.view, missing.key)
    if letter is not None and (missing.written_ms is None or letter.at_ms >= missing.written_ms):
        yield (
            "dead letter",
            (
                f"An event about this entity became a dead letter at {format_time_ms(letter.at_ms)}: "
                f"{letter.reason or 'no reason is recorded'}. No later event wrote {name}, or its TTL of {ttl} "
                f"ran out. `featurekit stream dead {view} --entity` shows it."
            ),
        )
    added_ms = evidence.added_ms(view, name)
    if added_ms is not None and missing.written_ms is not None and missing.written_ms < added_ms:
        yield (
            "added",
            (
                f"{name} was added at {format_time_ms(added_ms)}, after {view} was last written for this "
                "entity. The next event with it writes it."
            ),
        )
    if missing.view.windows is not None:
        yield "no event", _window_text(missing, evidence)
        return
    event_time = missing.view.ordering == "event_time"
    last = "received an event with it" if event_time else "written it"
    text = (
        f"Never written, or its TTL of {ttl} ran out: {view} has not {last} for this entity for at "
        f"least {ttl}. An event with null, a deletion or a reset may also have removed it."
    )
    if not missing.siblings and evidence.lost_text:
        yield (
            "store lost",
            f"{evidence.lost_text} Run `featurekit apply`: until then, writes are refused.",
        )
    if not missing.siblings:
        status = evidence.status(view)
        state = (
            f" The view is {status.state}: {status.reason}." if status and status.reason else ""
        )
        yield (
            "no event",
            (
                f"{text} No other field of {view} is stored for this entity: no event about it came, or "
                f"the stream has stopped.{state}"
            ),
        )
    if missing.written_ms is None:  # a write passed a TTL
        yield "no event", f"{text} {view} does write other fields of this entity."
        return
    age_ms = evidence.now_ms - missing.written_ms
    age = format_duration(max(1000, age_ms // 1000 * 1000))
    yield (
        "no event",
        (
            f"{text} {view} wrote {_newest(missing)} about {age} ago, without this field or with null."
        ),
    )


def _newest(missing: _MissingField) -> str:
    """Return the name of the stored field of the same view that was written last."""
    ages = {f.name: _age_ms(missing.view, f, None) for f in missing.siblings}
    return min((age, name) for name, age in ages.items() if age is not None and age >= 0)[1]
