"""Generate the classes of a feature service."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from featurekit.codegen.python.annotations import Annotations
from featurekit.codegen.python.parts import (
    Column,
    Part,
    reader_class,
    row_class,
    signature_lines,
    typed_dict,
)
from featurekit.keys import JoinKey
from featurekit.models.definitions import FeatureService
from featurekit.plan import FieldPlan, ReadPlan
from featurekit.signatures import Signature


def service_part(
    stem: str,
    service: FeatureService,
    plan: ReadPlan,
    columns: Sequence[Column],
) -> Part:
    """Return the classes of a service.

    Args:
        stem: The first part of their names.
        service: The declared service.
        plan: The compiled service.
        columns: Its features.
    """
    part, constant = Part(), f"_{service.name.upper()}_SERVICE"
    signature = replace(Signature.of_service(plan), fingerprint=plan.fingerprint)
    part.lines += [*signature_lines(part, constant, signature), "", ""]
    row = [f"A row of the feature service {service.name}.", service.description]
    row_class(part, stem, columns, constant, row)
    join_keys = plan_join_keys(plan)
    reader = [f"Reads the feature service {service.name}. Create it once and reuse it."]
    if plan.requests:
        _request(part, stem, plan)
    about = [*reader, service.description]
    reader_class(part, stem, join_keys, constant, about, plan.requests)
    _dicts(part, stem, service.name, join_keys, columns)
    return part


def _request(part: Part, stem: str, plan: ReadPlan) -> None:
    """Add the type of the values of the request, and of those that the read ignores."""
    members: dict[str, Callable[[Annotations], str]] = {
        column.name: partial(_sent, field=column.field) for column in plan.requests
    }
    ignored = plan.ignored_request_values
    members |= dict.fromkeys(ignored, _ignored)
    about = [f"The request data of {plan.name}."]
    if ignored:
        about.append(f"Not needed, and ignored: {', '.join(ignored)}.")
    typed_dict(part, f"{stem}Request", members, about)


def _ignored(annotations: Annotations) -> str:
    """Return the annotation of a value of any type; read-only, a dict that requires it is accepted."""
    any_value = f"{annotations.use('ReadOnly')}[{annotations.use('object')}]"
    return f"{annotations.use('NotRequired')}[{any_value}]"


def _sent(annotations: Annotations, field: FieldPlan) -> str:
    annotation = annotations.write(field)
    is_needed = field.default is None
    return annotation if is_needed else f"{annotations.use('NotRequired')}[{annotation}]"


def plan_join_keys(plan: ReadPlan) -> list[JoinKey]:
    """Return the join keys of a read, each once."""
    keys = {key.name: key for group in plan.groups for key in group.key.join_keys}
    return [*keys.values()]


def _dicts(
    part: Part, stem: str, name: str, join_keys: Sequence[JoinKey], columns: Sequence[Column]
) -> None:
    """Add the types of the arguments and results of `get_online_features`."""
    keys = {key.name: partial(Annotations.key, dtype=key.dtype) for key in join_keys}
    key_columns = {key.name: partial(_key_column, key=key) for key in join_keys}
    features = {column.name: partial(Annotations.read, field=column.field) for column in columns}
    feature_columns = {column.name: partial(_column, column=column) for column in columns}
    lists = {key.name: partial(_key_list, key=key) for key in join_keys}
    typed_dict(part, f"{stem}Keys", keys, [f"The join keys of one row of {name}."])
    typed_dict(
        part, f"{stem}KeyColumns", key_columns, [f"The join keys of rows of {name}, by column."]
    )
    typed_dict(part, f"{stem}Dict", {**keys, **features}, [f"A row of {name} as a dict."])
    about = [f"The join keys and features of rows of {name}, by column."]
    typed_dict(part, f"{stem}Columns", {**lists, **feature_columns}, about)


def _key_column(annotations: Annotations, key: JoinKey) -> str:
    return f"{annotations.use('Column')}[{annotations.key(key.dtype)}]"


def _key_list(annotations: Annotations, key: JoinKey) -> str:
    return f"{annotations.use('list')}[{annotations.key(key.dtype)}]"


def _column(annotations: Annotations, column: Column) -> str:
    return f"{annotations.use('list')}[{annotations.read(column.field)}]"
