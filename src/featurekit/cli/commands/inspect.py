"""`featurekit inspect`."""

from __future__ import annotations

import click

from featurekit.cli.context import Session, session_command
from featurekit.cli.formatting import span
from featurekit.cli.output import (
    BAD,
    DIM,
    ODD,
    Piece,
    Styled,
    show_json,
    show_line,
    show_pairs,
    show_table,
)
from featurekit.cli.values import value_json
from featurekit.repo import FeatureStore
from featurekit.repo.diagnostics import InspectedField, Inspection
from featurekit.types import codec_of, parse_dtype

STYLES = {"present": "", "default": DIM, "missing": DIM, "invalid": BAD, "clock": DIM}


@session_command("inspect")
@click.argument("entity")
@click.argument("id_", metavar="ID")
def command(session: Session, entity: str, id_: str) -> None:
    """Show all that is stored for one entity.

    Each field with its value, type and time to live, and what is in the hash but in no view. ID is
    what stands in the key: the parts of a composite id are joined by `:`.

    \b
    featurekit inspect user u0001
    featurekit inspect route JFK:LAX
    """  # noqa: D301 - click reads the backspace
    with FeatureStore(session.repo) as store:
        inspection = store.inspect(entity, id_)
    if session.json:
        show_json(_document(inspection))
    else:
        _show(inspection)


def _document(inspection: Inspection) -> dict[str, object]:
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
                "value": _json(field),
                "ttl_ms": field.ttl_ms,
                "status": field.status,
            }
            for field in inspection.fields
        ],
    }


def _json(field: InspectedField) -> object:
    return value_json(parse_dtype(field.dtype), field.value) if field.dtype else field.value


def _show(inspection: Inspection) -> None:
    expiry = inspection.key_ttl_ms
    key_life = "when its last field is gone" if expiry is None else f"in {span(expiry)}"
    show_line(Styled(inspection.key, "bold"), "" if inspection.found else ": nothing is stored")
    if inspection.found:
        show_pairs([("expires", key_life), ("encoding", inspection.encoding)])
    show_line()
    rows = [_row(inspection, field) for field in inspection.fields]
    show_table(("field", "value", "type", "view", "left", "status"), rows, right=("left",))


def _row(inspection: Inspection, field: InspectedField) -> list[Piece]:
    style = STYLES.get(field.status, ODD)
    stored = field.raw is not None
    life = field.ttl_ms if field.ttl_ms is not None else inspection.key_ttl_ms
    left = "-" if not stored else "ever" if life is None else span(life)
    cells = [field.name, _text(field), field.dtype, field.view, left, field.status]
    return [Styled(cell, style) for cell in cells]


def _text(field: InspectedField) -> str:
    if field.value is None:
        return repr(field.raw) if field.raw is not None else "-"
    return (
        codec_of(parse_dtype(field.dtype)).display_text(field.value)
        if field.dtype
        else str(field.value)
    )
