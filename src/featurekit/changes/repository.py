"""Compare two compiled repositories."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields

from featurekit.changes.change import (
    STARTS_EMPTY,
    Change,
    Changes,
    changed,
    duration_or_none,
    duration_text,
    pair_by_name,
    time_text,
    value_text,
)
from featurekit.changes.derived import diff_derived_views, diff_requests
from featurekit.constraints import Constraints
from featurekit.keys import KeyPlan
from featurekit.plan import (
    EntityPlan,
    FieldPlan,
    LoadLimits,
    LogPlan,
    RepoPlan,
    SchedulePlan,
    ServicePlan,
    ViewPlan,
    WindowsPlan,
)
from featurekit.plan.fields import find_plan
from featurekit.types import DType, codec_of

_Field = tuple[ViewPlan, FieldPlan]
_HashField = tuple[str, str]
"""An entity and the name of a field in its hash."""


def diff(
    old: RepoPlan | None, new: RepoPlan, loaded_ms: Mapping[str, int] | None = None
) -> Changes:
    """Return what changes when `new` is applied over `old`; over `None`, everything is added.

    Args:
        old: The applied repository.
        new: The declared repository.
        loaded_ms: When the last load of each view ended, where it is known. Keys of a view that
            no longer renews them live until the view's TTL after that.
    """
    old = old or RepoPlan(new.project, new.prefix, "")
    return Changes(tuple(_diff_repos(old, new, loaded_ms or {})), _views_to_load(old, new))


def _views_to_load(old: RepoPlan, new: RepoPlan) -> tuple[str, ...]:
    """Return the batch views with fields that no load has written yet under their key and type."""
    stored = {
        (view.name, view.key, field.name, field.dtype)
        for view in old.views
        if view.kind == "batch"
        for field in view.fields
    }
    return tuple(
        view.name
        for view in new.views
        if view.kind == "batch"
        and any((view.name, view.key, f.name, f.dtype) not in stored for f in view.fields)
    )


def _diff_repos(old: RepoPlan, new: RepoPlan, loaded_ms: Mapping[str, int]) -> Iterator[Change]:
    if old.project != new.project:
        yield Change(
            "compatible",
            f"project {new.project}",
            f"was {old.project}",
            "name",
            old.project,
            new.project,
        )
    if old.prefix != new.prefix:
        detail = f"{old.prefix} -> {new.prefix}: nothing stored would be found"
        yield Change("breaking", "key prefix", detail, "key_prefix", old.prefix, new.prefix)
    yield from _diff_entities(old, new)
    yield from _ViewDiff(old, new, loaded_ms).changes()
    yield from diff_requests(old, new)
    yield from diff_derived_views(old, new)
    yield from _diff_services(old, new)


def _diff_entities(old: RepoPlan, new: RepoPlan) -> Iterator[Change]:
    declared = [tuple(e for e in repo.entities if e.key.join_keys) for repo in (old, new)]
    for name, before, after in pair_by_name(*declared):
        subject = f"entity {name}"
        if after is None:
            yield Change("remove", subject, "its keys stay until their last field expires")
        elif before is None:
            yield Change("add", subject)
            yield from _diff_removed(subject, old, after)
        else:
            yield from _diff_keys(subject, before.key, after.key)


def _diff_removed(subject: str, old: RepoPlan, new: EntityPlan) -> Iterator[Change]:
    """Compare the keys of an entity that comes back: its old keys may be found under other ids."""
    for removed in old.removed:
        if removed.key.entity == new.name:
            yield from _diff_keys(f"{subject}, which was declared before", removed.key, new.key)


def _diff_keys(subject: str, old: KeyPlan, new: KeyPlan) -> Iterator[Change]:
    not_found = "nothing stored would be found"
    if old.join_keys != new.join_keys:
        types = [[part.dtype for part in key.join_keys] for key in (old, new)]
        names = [
            ", ".join(f"{part.name}: {part.dtype}" for part in key.join_keys) for key in (old, new)
        ]
        effect = "requests would have to use the new names" if types[0] == types[1] else not_found
        yield changed("breaking", subject, "join keys", names, effect)
    tags = [_hash_tag_text(key) for key in (old, new)]
    if tags[0] != tags[1]:
        yield changed("breaking", subject, "hash tag", tags, not_found)


def _hash_tag_text(key: KeyPlan) -> str | None:
    if key.hash_tag_index is not None:
        return key.join_keys[key.hash_tag_index].name
    return f"{{{key.hash_tag}}}" if key.hash_tag else None


class _ViewDiff:
    """Compares views and their fields.

    Fields are compared by their place in the hash of an entity, which outlives the view that
    declared them: a field may move to another view, or come back after it was retired.
    """

    def __init__(self, old: RepoPlan, new: RepoPlan, loaded_ms: Mapping[str, int]) -> None:
        self._old = old
        self._new = new
        self._loaded_ms = loaded_ms
        self._key_owners = {v.key.entity for v in new.views if v.expires == "key"}
        self._old_fields: dict[_HashField, _Field] = {
            (view.key.entity, field.name): (view, field)
            for view in old.views
            for field in view.fields
        }
        self._removed: dict[_HashField, DType | None] = {
            (each.key.entity, name): dtype for each in old.removed for name, dtype in each.types
        }
        self._kept = {(v.key.entity, f.name) for v in new.views for f in v.fields}
        self._retired = {(e.name, name) for e in old.entities for name in e.retired}
        self._batch_entities = {v.key.entity for v in new.views if v.kind == "batch"}

    def changes(self) -> Iterator[Change]:
        for name, before, after in pair_by_name(self._old.views, self._new.views):
            subject = f"feature view {name}"
            if before is not None and after is not None:
                yield from _diff_views(subject, before, after)
                yield from self._left_keys(subject, before)
                yield from self._removed_fields(before, after)
            elif before is not None:
                entity = before.key.entity
                removes_fields = any((entity, f.name) not in self._kept for f in before.fields)
                yield Change("remove", subject, self._removal(before) if removes_fields else "")
                yield from self._left_keys(subject, before)
            else:
                is_global = after is not None and not after.key.join_keys
                yield Change("add", subject, "without an entity: one row" if is_global else "")
            if after is not None:
                yield from self._fields(before, after)

    def _left_keys(self, subject: str, before: ViewPlan) -> Iterator[Change]:
        """Report until when keys may live that no view renews from now on."""
        entity = before.key.entity
        if before.expires != "key" or entity in self._key_owners:
            return
        ttl = duration_text(before.ttl_ms)
        loaded_ms = self._loaded_ms.get(before.name)
        until = f"for {ttl} after the last write"
        if loaded_ms is not None:
            until = (
                f"until {time_text(loaded_ms + before.ttl_ms)}, {ttl} after the last recorded load"
            )
        detail = (
            f"no view renews the keys of entity {entity} any more: keys with a TTL live {until}"
        )
        if any(view.key.entity == entity for view in self._new.views):
            detail += ", and take the values of other views with them, also those written since"
        yield Change("ttl", subject, detail)

    def _removal(self, view: ViewPlan) -> str:
        """Return what happens to the stored values of a view or field that is removed."""
        if view.key.entity in self._batch_entities:
            return "the next load deletes its values from each row it writes"
        return "its values stay until they expire"

    def _removed_fields(self, before: ViewPlan, after: ViewPlan) -> Iterator[Change]:
        names = {field.name for field in after.fields}
        for field in before.fields:
            if field.name not in names and (before.key.entity, field.name) not in self._kept:
                yield Change("remove", f"field {before.name}:{field.name}", self._removal(before))

    def _fields(self, before: ViewPlan | None, view: ViewPlan) -> Iterator[Change]:
        for field in view.fields:
            subject = f"field {view.name}:{field.name}"
            hash_field = (view.key.entity, field.name)
            if hash_field in self._old_fields:
                old_view, old_field = self._old_fields[hash_field]
                if old_view.name != view.name:
                    yield _moved_field(subject, old_view, view)
                yield from _diff_fields(subject, (old_view, old_field), (view, field))
            elif hash_field in self._retired:
                detail = "was declared before: rows not written since may hold its old values"
                yield Change("breaking", subject, detail)
            elif hash_field in self._removed:
                yield _returning_field(subject, self._removed[hash_field], field.dtype)
            elif before is not None and before.key.entity == view.key.entity:
                yield Change("add", subject)


def _diff_views(subject: str, old: ViewPlan, new: ViewPlan) -> Iterator[Change]:
    if old.key.entity != new.key.entity:
        entities = [view.key.entity if view.key.join_keys else None for view in (old, new)]
        yield changed("breaking", subject, "entity", entities, "what is stored stays behind")
    if old.kind != new.kind:
        detail = f"{old.kind} -> {new.kind}: stored values would keep the expiry they have"
        yield Change("breaking", subject, detail, "kind", old.kind, new.kind)
    elif old.expires != new.expires:
        effect = "stored values would keep the old one"
        yield changed("breaking", subject, "expires", (old.expires, new.expires), effect)
    yield from _diff_duration(subject, "ttl", old.ttl_ms, new.ttl_ms)
    yield from _diff_duration(subject, "refresh", old.refresh_ms, new.refresh_ms)
    yield from _diff_settings(subject, old, new)
    yield from _diff_limits(subject, old.limits, new.limits)
    if (old.source, old.stream) != (new.source, new.stream):
        yield Change("compatible", subject, "another source")
    yield from _diff_history(subject, old, new)
    yield from _diff_windows(subject, old.windows, new.windows)
    names = [[field.name for field in view.fields] for view in (old, new)]
    if names[0] != names[1] and sorted(names[0]) == sorted(names[1]):
        yield Change("compatible", subject, "another order of fields")


def _diff_settings(subject: str, old: ViewPlan, new: ViewPlan) -> Iterator[Change]:
    """Compare what decides which rows and events count."""
    if old.kind == new.kind and old.max_ahead_ms != new.max_ahead_ms:
        ahead = [duration_text(view.max_ahead_ms) for view in (old, new)]
        yield changed("compatible", subject, "max_ahead", ahead)
    if old.ordering != new.ordering:
        yield changed("compatible", subject, "ordering", (old.ordering, new.ordering))
    if old.future_rows != new.future_rows:
        rows = (old.future_rows, new.future_rows)
        yield changed("compatible", subject, "future rows", rows)


def _diff_history(subject: str, old: ViewPlan, new: ViewPlan) -> Iterator[Change]:
    """Compare which rows a load takes, and what training sets read."""
    for name, was, now in (
        ("lookback", duration_or_none(old.lookback_ms), duration_or_none(new.lookback_ms)),
        ("schedule", _schedule_text(old.schedule), _schedule_text(new.schedule)),
        ("log", _log_text(old.log), _log_text(new.log)),
    ):
        if was != now:
            yield changed("compatible", subject, name, (was, now))
    if old.history != new.history:
        which = "another" if old.history and new.history else "a" if new.history else "no"
        yield Change("compatible", subject, f"{which} batch_source")


def _diff_windows(
    subject: str, old: WindowsPlan | None, new: WindowsPlan | None
) -> Iterator[Change]:
    """Compare the inputs of windows, and what identifies repeated events."""
    if old is None or new is None:
        return
    for name, was, now in pair_by_name(old.inputs, new.inputs):
        if was != now:
            effect = "another" if was and now else "no" if was else "new"
            yield Change("compatible", subject, f"{effect} input {name}", f"inputs.{name}")
    guards = [each.event_id or each.once for each in (old, new)]
    if guards[0] != guards[1]:
        effect = "events applied before are counted again if they are sent again"
        yield changed("compatible", subject, "once", guards, effect)


def _diff_aggregates(subject: str, old: _Field, new: _Field) -> Iterator[Change]:
    """Compare what is stored of events: tiles of another definition read as empty."""
    pairs = [(_aggregate_texts(view, field), field.aggregate) for view, field in (old, new)]
    (before, was), (after, now) = pairs
    if was is None or now is None:
        effect = "stored bytes would mean something else"
        yield changed(
            "breaking", subject, "aggregate", (before["aggregate"], after["aggregate"]), effect
        )
        return
    is_read = was.head == now.head
    effect = "stored bytes would mean something else" if is_read else STARTS_EMPTY
    for name in after:
        if before[name] != after[name]:
            yield changed("breaking", subject, name, (before[name], after[name]), effect)
    if was.window_ms != now.window_ms:
        windows = [duration_text(each.window_ms) for each in (was, now)]
        kept = "" if not is_read else "the tiles that are stored are kept"
        yield changed("compatible", subject, "window", windows, kept)


def _aggregate_texts(view: ViewPlan, field: FieldPlan) -> dict[str, str | None]:
    """Return what decides the meaning of stored tiles."""
    aggregate, of = field.aggregate, None
    if aggregate is None:
        return {"aggregate": None}
    if aggregate.of is not None and view.windows is not None:
        of = f"{aggregate.of} ({find_plan('input', view.windows.inputs, aggregate.of).dtype})"
    return {
        "type": str(field.dtype),
        "aggregate": aggregate.function,
        "of": of,
        "where": aggregate.where_text,
        "tile": duration_text(aggregate.tile_ms),
    }


def _schedule_text(schedule: SchedulePlan | None) -> str | None:
    if schedule is None:
        return None
    every, at = duration_text(schedule.every_ms), time_text(schedule.at_ms)[11:]
    takes = f", takes {duration_text(schedule.takes_ms)}" if schedule.takes_ms else ""
    return f"every {every} at {at}{takes}"


def _log_text(log: LogPlan | None) -> str | None:
    if log is None:
        return None
    return log.path if log.sample_rate == 1 else f"{log.path}, sample_rate {log.sample_rate:g}"


def _diff_limits(subject: str, old: LoadLimits, new: LoadLimits) -> Iterator[Change]:
    for name, attribute, text in (
        ("min_rows", "min_rows", value_text),
        ("max_source_age", "max_source_age_ms", duration_or_none),
        ("max_rejected", "max_rejected", value_text),
    ):
        was, now = getattr(old, attribute), getattr(new, attribute)
        if was != now:
            yield changed("compatible", subject, name, (text(was), text(now)))


def _diff_duration(subject: str, name: str, old_ms: int, new_ms: int) -> Iterator[Change]:
    if old_ms != new_ms:
        yield changed("ttl", subject, name, [duration_text(ms) for ms in (old_ms, new_ms)])


def _moved_field(subject: str, old: ViewPlan, new: ViewPlan) -> Change:
    detail = f"moves here from feature view {old.name}"
    if old.expires != new.expires:
        return Change("breaking", subject, f"{detail}: stored values would keep their expiry")
    return Change("compatible", subject, detail)


def _returning_field(subject: str, old: DType | None, new: DType) -> Change:
    """Return the change of a field whose entity was removed and is declared again."""
    detail = "was declared before the entity was removed"
    if old is None:
        return Change("breaking", subject, f"{detail}: its old values may have another type")
    if not (old == new or codec_of(new).decodes(old)):
        detail = f"{detail}, as {old}: stored bytes would mean something else"
        return Change("breaking", subject, detail)
    return Change("compatible", subject, f"{detail}: old values are read until they expire")


def _diff_fields(subject: str, old: _Field, new: _Field) -> Iterator[Change]:
    (old_view, before), (new_view, after) = old, new
    is_aggregate = before.aggregate is not None or after.aggregate is not None
    if is_aggregate:
        yield from _diff_aggregates(subject, old, new)
    elif before.dtype != after.dtype:
        types = (str(before.dtype), str(after.dtype))
        if codec_of(after.dtype).decodes(before.dtype):
            yield changed("compatible", subject, "type", types)
        else:
            effect = "stored bytes would mean something else"
            yield changed("breaking", subject, "type", types, effect)
    inherits = before.ttl_ms == old_view.ttl_ms and after.ttl_ms == new_view.ttl_ms
    if before.ttl_ms and after.ttl_ms and not (inherits or is_aggregate):
        yield from _diff_duration(subject, "ttl", before.ttl_ms, after.ttl_ms)
    values = [("default", before.default, after.default)]
    values += [
        (rule.name, getattr(before.constraints, rule.name), getattr(after.constraints, rule.name))
        for rule in fields(Constraints)
        if rule.compare
    ]
    for name, was, now in values:
        if was != now:
            yield changed("compatible", subject, name, (value_text(was), value_text(now)))


def _diff_services(old: RepoPlan, new: RepoPlan) -> Iterator[Change]:
    for name, before, after in pair_by_name(old.services, new.services):
        subject = f"feature service {name}"
        if after is None:
            yield Change("remove", subject)
        elif before is None:
            yield Change("add", subject)
        else:
            yield from _diff_service(subject, before, after)


def _diff_service(subject: str, before: ServicePlan, after: ServicePlan) -> Iterator[Change]:
    if before.features != after.features:
        added = [f"+{each}" for each in after.features if each not in before.features]
        removed = [f"-{each}" for each in before.features if each not in after.features]
        detail = ", ".join([*added, *removed]) or "another order of features"
        texts = [", ".join(map(str, each.features)) for each in (before, after)]
        yield Change("compatible", subject, detail, "features", *texts)
    logs = [_log_text(each.logging) for each in (before, after)]
    if logs[0] != logs[1]:
        yield changed("compatible", subject, "logging", logs)
