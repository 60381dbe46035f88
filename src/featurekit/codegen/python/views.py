"""Generate the classes of a feature view."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from featurekit.codegen.python.annotations import Annotations
from featurekit.codegen.python.parts import (
    Column,
    Part,
    call_methods,
    free_name,
    key_type,
    reader_class,
    row_class,
    signature_lines,
    typed_dict,
)
from featurekit.codegen.python.text import WIDTH, docstring
from featurekit.models.definitions import FeatureView
from featurekit.plan import EVENT_TIMESTAMP, FieldPlan, ViewPlan
from featurekit.signatures import Signature


def view_part(
    stem: str, view: FeatureView, plan: ViewPlan, columns: Sequence[Column], fingerprint: str
) -> Part:
    """Return the classes of a view.

    Args:
        stem: The first part of their names.
        view: The declared view.
        plan: The compiled view.
        columns: Its features.
        fingerprint: The fingerprint of the registry.
    """
    part, constant = Part(), f"_{view.name.upper()}_VIEW"
    signature = replace(Signature.of_view(plan), fingerprint=fingerprint)
    part.lines += [*signature_lines(part, constant, signature), "", ""]
    row_class(
        part,
        stem,
        columns,
        constant,
        [f"A row of the feature view {view.name}.", view.description],
    )
    about = [f"Reads the feature view {view.name}. Create it once and reuse it.", view.description]
    reader_class(part, stem, plan.key.join_keys, constant, about)
    if plan.kind == "stream":
        _stream_writer(part, stem, plan, constant)
    else:
        _batch_writer(part, stem, plan, constant)
    return part


def _batch_writer(part: Part, stem: str, plan: ViewPlan, signature: str) -> None:
    members: dict[str, Callable[[Annotations], str]] = {
        key.name: partial(Annotations.key, dtype=key.dtype) for key in plan.key.join_keys
    }
    if plan.event_time_field:
        members[EVENT_TIMESTAMP] = _time
    members |= {field.name: partial(_optional, field=field) for field in plan.fields}
    about = [f"A row to write into {plan.name}.", "A field that is left out is deleted."]
    typed_dict(part, f"{stem}BatchRow", members, about)
    base = f"{part.use('TypedBatchWriter')}[{stem}BatchRow]"
    lines = [
        f"class {stem}Writer({base}):",
        *docstring([f"Writes rows into the batch view {plan.name}."]),
    ]
    part.add(f"{stem}Writer", [*lines, "", f"    signature = {signature}"])


def _time(annotations: Annotations) -> str:
    names = map(annotations.use, ("datetime", "int", "str"))
    return f"{annotations.use('Required')}[{' | '.join(names)}]"


def _optional(annotations: Annotations, field: FieldPlan) -> str:
    annotation = annotations.write(field)
    is_needed = field.constraints.required
    return annotation if is_needed else f"{annotations.use('NotRequired')}[{annotation}]"


def event_fields(plan: ViewPlan) -> tuple[FieldPlan, ...]:
    """Return the fields of an event: of windows their inputs, which are not fields of a row."""
    return plan.windows.event_fields if plan.windows else plan.fields


def _input(annotations: Annotations, field: FieldPlan) -> str:
    annotation = annotations.write(field)
    is_needed = field.constraints.required
    return f"{annotations.use('Required')}[{annotation}]" if is_needed else annotation


def _stream_writer(part: Part, stem: str, plan: ViewPlan, signature: str) -> None:
    fields = event_fields(plan)
    value = _input if plan.windows else Annotations.write
    members = {field.name: partial(value, field=field) for field in fields}
    about = f"Fields of an event of {plan.name}."
    more = "A field that is left out keeps its value; None deletes it."
    if plan.windows:
        more = "A field that is left out is null."
    typed_dict(part, f"{stem}Values", members, [about, more], total=False)
    entity = key_type(part, plan.key.join_keys)
    if plan.event_time_field:
        base = part.use("TypedTimedStreamWriter")
        time = " | ".join(map(part.use, ("datetime", "int", "str")))
        forms = [f"tuple[{entity}, {stem}Values, {time}]"]
    else:
        base, time = part.use("TypedStreamWriter"), part.use("Timestamp")
        forms = [f"tuple[{entity}, {stem}Values]", f"tuple[{entity}, {stem}Values, {time}]"]
    head, types = f"{stem}Event: {part.use('TypeAlias')} = ", " | ".join(forms)
    alias = f"{head}{types}" if len(head + types) <= WIDTH else f"{head}(\n    {types}\n)"
    part.add(
        f"{stem}Event", [alias, *docstring([f"An event of {plan.name} for `write_many`."], "")]
    )
    base = f"{base}[{entity}, {stem}Values]"
    text = f"Writes events into the stream view {plan.name}. Create it once and reuse it."
    lines = [
        f"class {stem}Writer({base}):",
        *docstring([text]),
        "",
        f"    signature = {signature}",
    ]
    part.add(f"{stem}Writer", [*lines, *_write_methods(part, stem, plan)])


def _write_methods(part: Part, stem: str, plan: ViewPlan) -> Iterator[str]:
    keys = [key.name for key in plan.key.join_keys]
    names = [*keys, *(field.name for field in event_fields(plan))]
    me, options, values = (free_name(name, names) for name in ("self", "options", "values"))
    if plan.event_time_field:
        option = f"{options}: {part.use('TimedEventOptions')}"
    else:
        option = f"{options}: {part.use('EventOptions')} | None = None"
    annotations = part.annotations()
    parameters = [
        *(me, "*"),
        *(f"{key.name}: {annotations.key(key.dtype)}" for key in plan.key.join_keys),
        option,
        f"**{values}: {part.use('Unpack')}[{stem}Values]",
    ]
    entity = keys[0] if len(keys) == 1 else f"({', '.join(keys)})"
    about = "Write one event of the fields given; return whether it was written."
    yield from call_methods("write", parameters, "bool", [entity, values, options], about)
