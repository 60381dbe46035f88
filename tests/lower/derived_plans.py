"""Plans of reads with derived features, written by hand or at random, and what they give by one plain rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from featurekit.expressions import ExpressionError, parse
from featurekit.keys import JoinKey, KeyPlan
from featurekit.lower.expressions import compile_row_function
from featurekit.lower.read import Cell, Stale
from featurekit.plan import (
    DerivedColumn,
    DerivedFeature,
    DerivedInput,
    FieldPlan,
    ReadColumn,
    ReadGroup,
    ReadPlan,
    RequestColumn,
)
from featurekit.types import DType, codec_of, expression_type
from featurekit.wire import ErrorReply
from tests.expressions.random_expressions import NAMES, Expressions, Values

KEY = KeyPlan("fs", "user", (JoinKey("user_id", DType("string")),))

UNAVAILABLE = ErrorReply("UNAVAILABLE no answer")
WRONG = ErrorReply("WRONGTYPE not a hash")


def dtype_of(name: str) -> DType:
    """Return the stored type of an input of random expressions."""
    type_ = NAMES[name]
    return DType("array", element=str(type_.element)) if type_.element else DType(str(type_))


def read_plan(
    stored: Mapping[str, str],
    derived: Mapping[str, tuple[str, str]],
    *,
    requests: Mapping[str, str] | None = None,
    defaults: Mapping[str, bytes] | None = None,
    inputs: Sequence[str] = (),
) -> ReadPlan:
    """Return a plan of one entity.

    Args:
        stored: The types of stored features.
        derived: The types and expressions of derived ones.
        requests: The types of values of the request.
        defaults: The defaults of any of them.
        inputs: The stored features that are not in the response.
    """
    requests, defaults = requests or {}, defaults or {}

    def field(name: str, kind: str) -> FieldPlan:
        element = kind.removeprefix("array<").removesuffix(">")
        dtype = DType("array", element=element) if element != kind else DType(kind)
        return FieldPlan(name, dtype, default=defaults.get(name))

    columns = {n: ReadColumn(n, "v", field(n, k), 0, i) for i, (n, k) in enumerate(stored.items())}
    shown = [column for name, column in columns.items() if name not in inputs]
    hidden = [columns[name] for name in inputs]
    places = {column.name: i for i, column in enumerate([*shown, *hidden])}
    sent = {name: field(name, kind) for name, kind in requests.items()}
    made: list[Any] = list(shown)
    for name, (kind, text) in derived.items():
        made.append(_derived(field(name, kind), text, columns, places, sent))
    return ReadPlan(
        "s",
        (ReadGroup(KEY, tuple(stored)),),
        tuple(made),
        inputs=tuple(hidden),
        requests=tuple(RequestColumn(n, f) for n, f in sent.items()),
    )


def _derived(
    field: FieldPlan,
    text: str,
    columns: Mapping[str, ReadColumn],
    places: Mapping[str, int],
    sent: Mapping[str, FieldPlan],
) -> DerivedColumn:
    fields = {name: column.field for name, column in columns.items()} | dict(sent)
    types = {name: expression_type(each.dtype) for name, each in fields.items()}
    names = {name: type_ for name, type_ in types.items() if type_ is not None}
    wanted = expression_type(field.dtype)
    assert wanted is not None
    expression = parse(text, names).converted(wanted)
    used = [name for name in expression.names if name != "now"]
    inputs = [
        DerivedInput(name, "r" if name in sent else "v", fields[name], name in sent)
        for name in used
    ]
    indexes = [list(sent).index(n) if n in sent else places[n] for n in used]
    feature = DerivedFeature(field, tuple(inputs), expression)
    return DerivedColumn(field.name, "d", feature, tuple(indexes))


def random_plan(random: Random) -> ReadPlan:
    """Return a plan with random features, derived ones among them."""
    names = [name for name in NAMES if name != "now"]
    random.shuffle(names)
    sent = names[: random.randint(0, 4)]
    stored = [name for name in names if name not in sent]
    make = Expressions(random)
    derived: dict[str, tuple[str, str]] = {}
    for i in range(random.randint(1, 4)):
        kind = random.choice(["int", "float", "bool", "string", "timestamp", "date"])
        while True:
            text = make.text(kind, random.randint(1, 3))
            try:
                type_ = parse(text, NAMES).type
            except ExpressionError:
                continue
            if str(type_) in {"int64", "float64", "bool", "string", "timestamp", "date"}:
                break
        derived[f"out{i}"] = (str(type_), text)
    values = Values(random)
    defaults = {
        name: codec_of(dtype_of(name)).encode(value)
        for name in stored
        if random.random() < 0.3 and (value := _value(values, random, name)) is not None
    }
    for name, (kind, _) in derived.items():
        if random.random() < 0.5:
            defaults[name] = _DEFAULTS[kind]
    return read_plan(
        {name: str(dtype_of(name)) for name in stored},
        derived,
        requests={name: str(dtype_of(name)) for name in sent},
        defaults=defaults,
        inputs=[name for name in stored if random.random() < 0.5],
    )


_DEFAULTS = {
    "int64": b"-5",
    "float64": b"0.25",
    "bool": b"true",
    "string": b"none",
    "timestamp": b"2020-01-01T00:00:00Z",
    "date": b"2020-01-01",
}


def _value(values: Values, random: Random, name: str) -> object:
    """Return a value that may be stored, or None."""
    if random.random() < 0.2:
        return None
    value = values.value(NAMES[name])
    if not isinstance(value, list):
        return value
    return [
        item for item in value if item is not None and repr(item) not in ("nan", "inf", "-inf")
    ]


def random_request(random: Random, plan: ReadPlan) -> dict[str, object]:
    """Return values of the request, of which some are null."""
    return {column.name: _value(Values(random), random, column.name) for column in plan.requests}


def random_cells(random: Random, plan: ReadPlan, *, spoilt: bool) -> list[Cell]:
    """Return cells of stored values, of which some are missing or, if asked for, not values."""
    values = Values(random)
    cells: list[Cell] = []
    fields = {column.field.name: column.field for column in plan.stored}
    for name in plan.groups[0].fields:
        value = _value(values, random, name)
        data = None if value is None else codec_of(fields[name].dtype).encode(value)
        cell: Cell = data
        if spoilt and random.random() < 0.15:
            spoilt_cells: list[Cell] = [b"\xff?", UNAVAILABLE, WRONG, Stale(data or b"")]
            cell = random.choice(spoilt_cells)
        cells.append(cell)
    return [None] * len(cells) if random.random() < 0.1 else cells


def expected(
    plan: ReadPlan, cells: Sequence[Cell], request: Mapping[str, object], now: object
) -> list[tuple[object, str]]:
    """Return the values and statuses of the response: what a reader must give."""
    known: dict[str, tuple[object, str]] = {
        name: (value, "present") for name, value in request.items()
    }
    for stored in plan.stored:
        cell = cells[plan.groups[0].fields.index(stored.field.name)]
        known[stored.name] = _stored(stored.field, cell)
    known["now"] = (now, "present")
    found = []
    for column in plan.columns:
        if isinstance(column, ReadColumn):
            found.append(known[column.name])
            continue
        used = [each.name for each in column.feature.inputs]
        bad = {known[name][1] for name in used} & {"unavailable", "invalid", "stale"}
        status: str = next((s for s in ("unavailable", "invalid", "stale") if s in bad), "present")
        value = None
        if status == "present":
            compute: Any = column.feature.compute
            value = compile_row_function(compute)(*[known[name][0] for name in compute.names])
        found.append((value, status) if value is not None else _absent(column.field, status))
    return found


def _stored(field: FieldPlan, cell: Cell) -> tuple[object, str]:
    if isinstance(cell, ErrorReply):
        return _absent(field, "unavailable" if cell is UNAVAILABLE else "invalid")
    if isinstance(cell, Stale):
        return _absent(field, "stale")
    if cell is None:
        return _absent(field, "present")
    try:
        return codec_of(field.dtype).decode(cell), "present"
    except ValueError:
        return _absent(field, "invalid")


def _absent(field: FieldPlan, status: str) -> tuple[object, str]:
    value = None if field.default is None else codec_of(field.dtype).decode(field.default)
    if status == "present":
        status = "missing" if field.default is None else "default"
    return value, status
