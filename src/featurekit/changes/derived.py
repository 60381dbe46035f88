"""The differences of what is computed when it is read: derived views and request data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from featurekit.changes.change import Change, changed, pair_by_name, value_text
from featurekit.constraints import Constraints
from featurekit.plan import (
    DerivedFeature,
    DerivedViewPlan,
    FieldPlan,
    FunctionPlan,
    RepoPlan,
)
from featurekit.types import codec_of


def diff_requests(old: RepoPlan, new: RepoPlan) -> Iterator[Change]:
    """Yield the changes of request data; each changed value is an attribute of its request."""
    for name, before, after in pair_by_name(old.requests, new.requests):
        subject = f"request {name}"
        if after is None:
            yield Change("remove", subject)
        elif before is None:
            yield Change("add", subject)
        else:
            for field, was, now in pair_by_name(before.fields, after.fields):
                texts = [None if each is None else _request_text(each) for each in (was, now)]
                if texts[0] != texts[1]:
                    effect = _effect_on_callers(was, now)
                    yield changed("compatible", subject, field, texts, effect)


def _effect_on_callers(was: FieldPlan | None, now: FieldPlan | None) -> str:
    if now is None:
        return "callers must not send it"
    if was is not None and was.dtype != now.dtype:
        return f"callers must send {codec_of(now.dtype).noun}"
    was_optional = was is None or was.default is not None
    return "callers must send it" if was_optional and now.default is None else ""


def _request_text(field: FieldPlan) -> str:
    """Return the type of a request value, its default and its rules."""
    rules = [("default", field.default)]
    rules += [
        (rule.name, getattr(field.constraints, rule.name))
        for rule in fields(Constraints)
        if rule.compare
    ]
    texts = [f"{name} {value_text(value)}" for name, value in rules if value_text(value)]
    return ", ".join([str(field.dtype), *(text for text in texts if not text.endswith(" false"))])


def diff_derived_views(old: RepoPlan, new: RepoPlan) -> Iterator[Change]:
    """Yield the changes of derived views, none of which concerns stored bytes."""
    for name, before, after in pair_by_name(old.derived_views, new.derived_views):
        subject = f"feature view {name}"
        if after is None:
            yield Change("remove", subject, "derived: nothing of it is stored")
        elif before is None:
            yield Change("add", subject, "derived: computed when it is read")
        else:
            yield from _diff_derived(before, after)


def _diff_derived(old: DerivedViewPlan, new: DerivedViewPlan) -> Iterator[Change]:
    for name, was, now in pair_by_name(old.features, new.features):
        subject = f"field {new.name}:{name}"
        if now is None:
            yield Change("remove", subject)
        elif was is None:
            yield Change("add", subject)
        else:
            yield from _diff_derived_feature(subject, was, now)
    names = [[feature.name for feature in view.features] for view in (old, new)]
    if names[0] != names[1] and sorted(names[0]) == sorted(names[1]):
        yield Change("compatible", f"feature view {new.name}", "another order of fields")


def _diff_derived_feature(
    subject: str, old: DerivedFeature, new: DerivedFeature
) -> Iterator[Change]:
    effect = "holds from the next read; nothing is loaded again"
    if old.field.dtype != new.field.dtype:
        types = (str(old.field.dtype), str(new.field.dtype))
        yield changed("compatible", subject, "type", types, effect)
    if old.field.default != new.field.default:
        defaults = (value_text(old.field.default), value_text(new.field.default))
        yield changed("compatible", subject, "default", defaults, effect)
    if old.text != new.text and old.compute != new.compute:
        names = [
            "callable" if isinstance(each.compute, FunctionPlan) else "expr" for each in (old, new)
        ]
        attribute = names[1] if names[0] == names[1] else "expr or callable"
        yield changed("compatible", subject, attribute, (old.text, new.text), effect)
    elif old.compute != new.compute and old.field.dtype == new.field.dtype:
        what = "source of the function" if isinstance(new.compute, FunctionPlan) else "input"
        yield Change("compatible", subject, f"another {what}: {effect}")
