"""The commands `get` and `inspect`, which read stored features."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import timedelta

import click

from featurekit.cli.context import (
    CliContext,
    cli_command,
    duration_option,
    feature_argument,
    named_duration_option,
    selected_features,
)
from featurekit.cli.formatting import format_ms
from featurekit.cli.named_values import parse_named_values
from featurekit.cli.output import (
    DIM,
    RED,
    YELLOW,
    Cell,
    Styled,
    fits_width,
    print_line,
    print_note,
    print_pairs,
    print_table,
)
from featurekit.errors import RequestError
from featurekit.plan import ReadPlan
from featurekit.repo.diagnostics import InspectedField, Inspection
from featurekit.runtime.response import OnlineResponse
from featurekit.types import DType, codec_of, json_value, parse_dtype

STATUS_STYLES = {
    "present": "",
    "default": DIM,
    "missing": DIM,
    "clock": DIM,
    "guard": DIM,
    "invalid": RED,
    "unavailable": RED,
    "stale": RED,
}


@cli_command("get")
@click.argument(
    "features",
    metavar="SERVICE|VIEW[:FIELD]...",
    type=feature_argument,
    nargs=-1,
    required=True,
)
@click.option(
    "--entity",
    "entities",
    metavar="NAME=VALUE[,NAME=VALUE]",
    multiple=True,
    help="Join keys of an entity. Repeat for more entities. Views without an entity need none. A text "
    'that has a comma, a name and = is written in double quotes: note="a,b=c".',
)
@click.option(
    "--request",
    "request",
    metavar="NAME=VALUE[,NAME=VALUE]",
    multiple=True,
    help="Request data that derived features need, for all entities. Repeat for more values. Values "
    "of one entity go to its --entity. Texts as for --entity.",
)
@click.option("--freshness", is_flag=True, help="Show the remaining time to live of each value.")
@click.option(
    "--max-age",
    "max_ages",
    type=named_duration_option,
    metavar="VIEW=2m",
    multiple=True,
    help="Maximum age of a view's values; older values are stale. Repeat for more views.",
)
@click.option(
    "--timeout",
    "timeout_ms",
    type=duration_option,
    metavar="50ms",
    help="Time limit of the whole read.",
)
@click.option(
    "--partial",
    is_flag=True,
    help="If a server is unavailable, mark its rows as unavailable and show the others.",
)
@click.option("--full-feature-names", is_flag=True, help="Name features view__field.")
def get_command(
    context: CliContext,
    *,
    features: tuple[str | dict[str, object], ...],
    entities: tuple[str, ...],
    request: tuple[str, ...],
    freshness: bool,
    max_ages: tuple[tuple[str, int], ...],
    timeout_ms: int | None,
    partial: bool,
    full_feature_names: bool,
) -> int:
    """Read features of entities.

    Takes one feature service, or any number of views and fields. A view under an alias is a mapping in
    braces, as in a definition. Exits with 1 if an entity could not be read; a missing value is a valid
    result.

    \b
    featurekit get fraud_v1 --entity user_id=u0001
    featurekit get tx_risk --entity user_id=u0001 --request amount=95.5,ip_country=NO
    featurekit get fraud_v1 --entity user_id=u0001 --max-age user_activity=2m --timeout 50ms
    featurekit get route:delay_avg --entity origin=JFK,dest=LAX --entity origin=JFK,dest=SFO
    featurekit get '{view: weather, as: dest, join_keys: {airport: dest}}' --entity dest=LAX
    """  # noqa: D301 - click reads the backspace
    with context.open_store() as store:
        reader = store.online_reader(
            selected_features(store, features),
            full_feature_names=full_feature_names,
            freshness=freshness,
            max_age={view: timedelta(milliseconds=age_ms) for view, age_ms in max_ages},
        )
        rows = _parse_entities(reader.plan, entities)
        sent = _parse_request(reader.plan, request)
        _check_is_sent(reader.plan, rows, sent or {})
        response = reader.get(
            rows,
            request=sent,
            timeout=None if timeout_ms is None else timeout_ms / 1000,
            partial=partial,
        )
    if context.json:
        context.print_json(_response_document(reader.plan, response))
    else:
        _print_response(reader.plan, response)
    for index, reason in response.errors.items():
        print_note("error", f"{entities[index]}: {reason}" if entities else reason, RED)
    return 1 if response.errors else 0


def _parse_entities(plan: ReadPlan, entities: Sequence[str]) -> list[dict[str, object]]:
    """Return rows of join keys from arguments such as `user_id=u0001` or `origin=JFK,dest=LAX`."""
    if not entities and not plan.join_keys:
        return [{}]
    if not entities:
        example = ",".join(f"{name}=…" for name in plan.join_keys)
        raise click.UsageError(f"Missing option '--entity', for example --entity {example}")
    dtypes = {key.name: key.dtype for group in plan.groups for key in group.key.join_keys}
    dtypes |= _ignored_dtypes(plan) | _request_dtypes(plan)
    return [
        parse_named_values(dtypes, [text], option="--entity", what="join key") for text in entities
    ]


def _parse_request(plan: ReadPlan, texts: Sequence[str]) -> dict[str, object] | None:
    """Return request data from arguments such as `amount=9.5,ip_country=NO`."""
    dtypes = _request_dtypes(plan)
    if texts and not dtypes:
        raise RequestError("these features need no request data", where="--request")
    known = _ignored_dtypes(plan) | dtypes
    sent = parse_named_values(known, texts, option="--request", what="request value")
    return {name: value for name, value in sent.items() if name in dtypes} or None


def _check_is_sent(
    plan: ReadPlan, rows: Sequence[Mapping[str, object]], sent: Mapping[str, object]
) -> None:
    """Raise an error that names the option if a row lacks a value of the request."""
    for column in plan.requests:
        is_sent = column.name in sent or all(column.name in row for row in rows)
        if column.field.default is None and not is_sent:
            noun = codec_of(column.field.dtype).noun
            raise RequestError(
                f"missing request value '{column.name}', {noun}",
                hint=f"add --request {column.name}=…",
            )


def _request_dtypes(plan: ReadPlan) -> dict[str, DType]:
    return {column.name: column.field.dtype for column in plan.requests}


def _ignored_dtypes(plan: ReadPlan) -> dict[str, DType]:
    return dict.fromkeys(plan.ignored_request_values, DType("string"))


def _response_document(plan: ReadPlan, response: OnlineResponse) -> dict[str, object]:
    """Return a response as JSON: columns of `n` values, and their statuses."""
    dtypes = _column_dtypes(plan)
    document: dict[str, object] = {
        "features": {
            name: [json_value(dtypes[name], value) for value in values]
            for name, values in response.to_dict().items()
        },
        "statuses": response.statuses,
        "found": response.found,
        "found_by": response.found_by,
    }
    if response.freshness:
        document |= {"seconds_left": response.freshness, "ages": response.ages}
    return document | ({"errors": response.errors} if response.errors else {})


def _print_response(plan: ReadPlan, response: OnlineResponse) -> None:
    """Print an entity per line, or a feature per line for one entity or a narrow terminal."""
    headings, rows = _entity_rows(plan, response)
    if len(response) > 1 and fits_width(headings, rows):
        print_table(headings, rows)
        return
    for index in range(len(response)):
        if index:
            print_line()
        _print_entity(plan, response, index)


def _column_dtypes(plan: ReadPlan) -> dict[str, DType]:
    keys = {key.name: key.dtype for group in plan.groups for key in group.key.join_keys}
    return keys | {column.name: column.field.dtype for column in plan.columns}


def _print_entity(plan: ReadPlan, response: OnlineResponse, index: int) -> None:
    dtypes, values, seconds_left = _column_dtypes(plan), response.to_dict(), response.freshness
    keys = [
        f"{name} {codec_of(dtypes[name]).display_text(key_values[index])}"
        for name, key_values in response.entities.items()
    ]
    absent = [entity for entity, found in response.found_by.items() if not found[index]]
    suffix = ": nothing is stored" if absent else ""
    if absent and len(response.found_by) > 1:
        suffix += f" for {' and '.join(absent)}"
    if keys:
        print_line(Styled(", ".join(keys), "bold"), suffix)
    has_ages = any(age is not None for ages in response.ages.values() for age in ages)
    headings = ["feature", "value", "status"]
    if seconds_left:
        headings += ["left", "age"] if has_ages else ["left"]
    rows = []
    for name, statuses in response.statuses.items():
        value = values[name][index]
        text = "-" if value is None else codec_of(dtypes[name]).display_text(value)
        cells = [name, text, statuses[index]]
        if seconds_left:
            cells += [_seconds_cell(seconds_left[name][index])]
            cells += [_seconds_cell(response.ages[name][index])]
        style = STATUS_STYLES[statuses[index]]
        rows.append([Styled(cell, style) for cell in cells[: len(headings)]])
    print_table(headings, rows, right=("left", "age"))


def _entity_rows(
    plan: ReadPlan, response: OnlineResponse
) -> tuple[list[str], list[tuple[Cell, ...]]]:
    """Return the headings and rows of a table with an entity per line."""
    dtypes, values = _column_dtypes(plan), response.to_dict()
    columns: list[Sequence[Cell]] = [
        [codec_of(dtypes[name]).display_text(value) for value in key_values]
        for name, key_values in response.entities.items()
    ]
    for name, statuses in response.statuses.items():
        seconds_left = response.freshness.get(name) or [None] * len(response)
        cells = zip(values[name], statuses, seconds_left, strict=True)
        columns.append([_feature_cell(dtypes[name], *cell) for cell in cells])
    return [*response.entities, *response.statuses], list(zip(*columns, strict=True))


def _feature_cell(dtype: DType, value: object, status: str, seconds_left: float | None) -> Cell:
    """Return a value, followed by its status unless it is present."""
    if status != "present":
        text = codec_of(dtype).display_text(value) + " " if status == "default" else ""
        return Styled(f"{text}({status})", STATUS_STYLES[status])
    text = codec_of(dtype).display_text(value)
    return text if seconds_left is None else f"{text} ({_seconds_cell(seconds_left)})"


def _seconds_cell(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return "no expiry" if math.isinf(seconds) else format_ms(seconds * 1000)


@cli_command("inspect")
@click.argument("entity")
@click.argument("id_", metavar="ID")
def inspect_command(context: CliContext, entity: str, id_: str) -> None:
    """Show all stored fields of one entity.

    Shows each field with its value, type and remaining time to live, and hash fields that no view
    declares. ID is the id in the key; the parts of a composite id are joined by `:`.

    \b
    featurekit inspect user u0001
    featurekit inspect route JFK:LAX
    """  # noqa: D301 - click reads the backspace
    with context.open_store() as store:
        inspection = store.inspect(entity, id_)
    if context.json:
        context.print_json(_inspection_document(inspection))
    else:
        _print_inspection(inspection)


@cli_command("why")
@click.argument("entity")
@click.argument("id_", metavar="ID")
@click.argument("field", required=False)
def why_command(context: CliContext, entity: str, id_: str, field: str | None) -> None:
    """Say why values of an entity are missing.

    For each field that is not present, or for FIELD, consults what is stored, the history of loads and
    applies, the recorded keys of rejected rows, and the newest dead letters. ID is as in `inspect`.

    \b
    featurekit why user u0001
    featurekit why user u0001 tx_count_5m
    """  # noqa: D301 - click reads the backspace
    with context.open_store() as store:
        explanations = store.why(entity, id_, field)
    if context.json:
        context.print_json(explanations)
        return
    if not explanations:
        print_line("all fields are present")
    rows = [
        (
            each.field,
            Styled(each.status, STATUS_STYLES.get(each.status, YELLOW)),
            each.cause,
            each.text,
        )
        for each in explanations
    ]
    if rows:
        print_table(("field", "status", "cause", ""), rows)


def _inspection_document(inspection: Inspection) -> dict[str, object]:
    return {
        "key": inspection.key,
        "found": inspection.found,
        "key_ttl_ms": inspection.key_ttl_ms,
        "encoding": inspection.encoding,
        "fields": [
            {
                "name": field.name,
                "view": field.view,
                "type": field.dtype,
                "value": json_value(parse_dtype(field.dtype), field.value)
                if field.dtype
                else field.value,
                "ttl_ms": field.ttl_ms,
                "status": field.status,
            }
            for field in inspection.fields
        ],
    }


def _print_inspection(inspection: Inspection) -> None:
    ttl_ms = inspection.key_ttl_ms
    expiry = "with its last field" if ttl_ms is None else f"in {format_ms(ttl_ms)}"
    print_line(Styled(inspection.key, "bold"), "" if inspection.found else ": nothing is stored")
    if inspection.found:
        print_pairs([("expires", expiry), ("encoding", inspection.encoding)])
    print_line()
    rows = [_inspected_row(inspection, field) for field in inspection.fields]
    print_table(("field", "value", "type", "view", "left", "status"), rows, right=("left",))


def _inspected_row(inspection: Inspection, field: InspectedField) -> list[Cell]:
    ttl_ms = field.ttl_ms if field.ttl_ms is not None else inspection.key_ttl_ms
    left = "-" if field.raw is None else "no expiry" if ttl_ms is None else format_ms(ttl_ms)
    cells = [field.name, _inspected_value(field), field.dtype, field.view, left, field.status]
    return [Styled(cell, STATUS_STYLES.get(field.status, YELLOW)) for cell in cells]


def _inspected_value(field: InspectedField) -> str:
    if field.value is None:
        return repr(field.raw) if field.raw is not None else "-"
    return (
        codec_of(parse_dtype(field.dtype)).display_text(field.value)
        if field.dtype
        else str(field.value)
    )
