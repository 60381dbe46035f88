"""Check what views declare of aggregates over sliding windows of events."""

from __future__ import annotations

from collections.abc import Iterator

from featurekit.errors import name_hint
from featurekit.expressions import ExpressionError
from featurekit.loader.declarations import Declaration
from featurekit.loader.problems import LocatedProblem
from featurekit.models.definitions import FeatureView
from featurekit.models.fields import ALLOWED_TILES, FieldSpec, InputSpec
from featurekit.models.scalars import format_duration, format_raw
from featurekit.types import codec_of

MAX_AGGREGATES = 30
"""The most aggregates of a view: one script computes them, and Lua allows 200 local variables."""

_MAX_WINDOW_MS = 90 * 86_400_000
_WINDOW_KEYS = ("of", "window", "tile", "where")
_REFUSED_KEYS = ("ttl", "min", "max", "one_of", "pattern", "max_length", "required", "allow_nan")


def window_problems(item: Declaration[FeatureView]) -> Iterator[LocatedProblem]:
    """Yield the problems of a view's inputs and aggregates."""
    view = item.model
    inputs = item.names("inputs") or []
    if not (inputs or any("aggregate" in _keys(item, name) for name in view.fields_)):
        yield from _without_aggregates(item)
        return
    if "batch" in item.data:
        key = "inputs" if inputs else "batch"
        yield LocatedProblem(
            item.key_at(key),
            f"{item.label}: only events have windows, and this is a batch view",
            "declare the view with `stream:`",
        )
        return
    yield from _check_inputs(item)
    yield from _check_stream(item)
    for index, (name, spec) in enumerate(view.fields_.items()):
        if "aggregate" not in _keys(item, name):
            yield LocatedProblem(
                item.key_at("fields", name),
                f"{item.field(name)} has no aggregate, and a view with windows has no other fields",
                "add `aggregate:`, or move the field to another view of the entity",
            )
        elif index == MAX_AGGREGATES:
            yield LocatedProblem(
                item.key_at("fields", name),
                f"{item.label}: found {len(view.fields_)} aggregates, expected at most "
                f"{MAX_AGGREGATES}",
                "move some of them to another view with the same source",
            )
        elif spec.aggregate:  # else it is invalid, which is reported
            yield from _check_aggregate(item, name, spec)


def _keys(item: Declaration[FeatureView], name: str) -> list[str]:
    """Return the keys of a field, valid or not."""
    raw = item.raw("fields", name)
    return list(raw) if isinstance(raw, dict) else []


def _without_aggregates(item: Declaration[FeatureView]) -> Iterator[LocatedProblem]:
    for name in item.model.fields_:
        for key in _WINDOW_KEYS:
            if key in _keys(item, name):
                yield LocatedProblem(
                    item.key_at("fields", name, key),
                    f"{item.field(name)}: {key} has no effect without an aggregate",
                    "add `aggregate:`, for example `aggregate: count`",
                )
    if item.model.stream and item.model.stream.once is not None:
        yield LocatedProblem(
            item.key_at("stream", "once"),
            f"{item.label}: once has no effect, because no field is an aggregate",
            "remove it; a repeated event writes the same values again",
        )


def _check_inputs(item: Declaration[FeatureView]) -> Iterator[LocatedProblem]:
    for name, spec in item.model.inputs.items():
        if not codec_of(spec.dtype).is_scalar:
            yield LocatedProblem(
                item.at("inputs", name),
                f"{item.label}: inputs.{name} is {codec_of(spec.dtype).noun}, expected a scalar",
                "aggregates are computed of numbers, text, times and the like",
            )
        for key in ("default", "allow_nan"):
            if getattr(spec, key) not in (None, False):
                yield LocatedProblem(
                    item.key_at("inputs", name, key),
                    f"{item.label}: inputs.{name}: {key} has no effect on an input",
                    "remove it; an aggregate skips events that do not have the input",
                )
        if name in item.model.fields_:
            yield LocatedProblem(
                item.key_at("inputs", name),
                f"{item.label}: '{name}' is both an input and a field",
                "rename one of the two",
            )


def _check_stream(item: Declaration[FeatureView]) -> Iterator[LocatedProblem]:
    view, stream, keys = item.model, item.model.stream, item.names("stream") or []
    if stream is None:
        return
    if "ordering" in keys:
        yield LocatedProblem(
            item.key_at("stream", "ordering"),
            f"{item.label}: ordering has no effect, because every event is in the windows of its time",
            "remove it",
        )
    tiles = [spec.tile_ms for spec in view.fields_.values() if spec.window and spec.tile_ms]
    if "max_ahead" in keys and tiles and stream.max_ahead > min(tiles):
        shortest = format_duration(min(tiles))
        yield LocatedProblem(
            item.at("stream", "max_ahead"),
            f"{item.label}: found max_ahead {format_duration(stream.max_ahead)}, expected at most "
            f"{shortest}, the shortest tile: later events would displace earlier ones",
            f"remove it, or set `max_ahead: {shortest}` or less",
        )
    if stream.source is None and "source" not in keys:
        if stream.once == "source":
            yield LocatedProblem(
                item.at("stream", "once"),
                f"{item.label}: once: source needs a source, and programs push these events",
                "name the key with an event's id, for example `once: {event_id: transaction_id}`",
            )
        if "ttl" in keys:
            yield LocatedProblem(
                item.key_at("stream", "ttl"),
                f"{item.label}: ttl has no effect: it says how long a worker may be silent, and "
                "programs push these events",
                "remove it; values live as long as their windows",
            )


def _check_aggregate(
    item: Declaration[FeatureView], name: str, spec: FieldSpec
) -> Iterator[LocatedProblem]:
    for key in _REFUSED_KEYS:
        if key in _keys(item, name):
            what = "expires with its window" if key == "ttl" else "is computed, not written"
            hint = "remove it" if key == "ttl" else "remove it, or move it to the input"
            yield LocatedProblem(
                item.key_at("fields", name, key),
                f"{item.field(name)}: {key} has no effect, because the field {what}",
                hint,
            )
    yield from _check_window(item, name, spec)
    yield from _check_type(item, name, spec)
    yield from _check_where(item, name)


def _check_where(item: Declaration[FeatureView], name: str) -> Iterator[LocatedProblem]:
    invalid = {*(item.names("inputs") or ())} - {*item.model.inputs}
    try:
        item.model.condition(name)
    except ExpressionError as error:
        if not invalid:  # else the condition may use one of these inputs
            message = f"{item.field(name)}: where: {error.message}"
            location = item.at_character(error.span[0], "fields", name, "where")
            yield LocatedProblem(location, message, error.hint)


def _check_window(
    item: Declaration[FeatureView], name: str, spec: FieldSpec
) -> Iterator[LocatedProblem]:
    keys = _keys(item, name)
    if spec.window is None:
        if "window" not in keys:
            message = f"{item.field(name)}: key 'window' is missing"
            hint = "say how long the window is, for example `window: 1h`"
            yield LocatedProblem(item.at("fields", name), message, hint)
        return
    window = format_duration(spec.window)
    if spec.window > _MAX_WINDOW_MS:
        yield LocatedProblem(
            item.at("fields", name, "window"),
            f"{item.field(name)}: window: found {window}, expected at most 90d",
        )
    elif "tile" in keys and spec.tile is not None:
        yield from _check_tile(item, name, spec.window, spec.tile)
    elif "tile" not in keys and spec.tile_ms is None:
        yield LocatedProblem(
            item.at("fields", name, "window"),
            f"{item.field(name)}: no tile of whole seconds divides a window of {window} into 2 to 60",
            "choose another window, or set `tile:`",
        )


def _check_tile(
    item: Declaration[FeatureView], name: str, window_ms: int, tile_ms: int
) -> Iterator[LocatedProblem]:
    tile, window = format_duration(tile_ms), format_duration(window_ms)
    hint = ""
    if tile_ms % 1000:
        problem = f"found {tile}, expected whole seconds"
    elif window_ms % tile_ms:
        problem = f"found {tile}, which does not divide the window of {window}"
    elif window_ms // tile_ms not in ALLOWED_TILES:
        count = window_ms // tile_ms
        problem = f"found {tile}, of which {count} make a window of {window}, expected 2 to 60"
        shortest = -(-window_ms // ALLOWED_TILES[-1])
        hint = (
            f"choose a tile from {format_duration(shortest)} to {format_duration(window_ms // 2)}"
        )
    else:
        return
    yield LocatedProblem(
        item.at("fields", name, "tile"), f"{item.field(name)}: tile: {problem}", hint
    )


def _check_type(
    item: Declaration[FeatureView], name: str, spec: FieldSpec
) -> Iterator[LocatedProblem]:
    keys, function = _keys(item, name), spec.aggregate
    is_count = function in ("count", "count_distinct")
    if "of" not in keys and function != "count":
        yield LocatedProblem(
            item.at("fields", name),
            f"{item.field(name)}: key 'of' is missing",
            f"name the input that the {function} is computed of, for example `of: amount`",
        )
        return
    known = item.names("inputs") or []
    if spec.of is not None and spec.of not in known:
        hint = name_hint(spec.of, known) if known else "declare it under `inputs:` of the view"
        message = f"{item.field(name)}: of: unknown input {format_raw(spec.of)}"
        yield LocatedProblem(item.at("fields", name, "of"), message, hint)
        return
    given = item.model.inputs.get(spec.of or "")
    if not is_count and given is None:
        return  # the input or `of` is invalid, which is reported
    if not is_count and given is not None and not _is_number(given):
        yield LocatedProblem(
            item.at("fields", name, "of"),
            f"{item.field(name)}: of: '{spec.of}' is {codec_of(given.dtype).noun}, and a {function} "
            "needs an int or a float",
            "count and count_distinct take any input",
        )
        return
    expected = _types(spec, given)
    if str(spec.dtype) not in expected:
        of = f" of {codec_of(given.dtype).noun}" if given and not is_count else ""
        yield LocatedProblem(
            item.at("fields", name, "type"),
            f"{item.field(name)}: found type {spec.dtype}, expected {' or '.join(expected)}: the "
            f"type of a {function}{of}",
        )


def _is_number(spec: InputSpec) -> bool:
    codec = codec_of(spec.dtype)
    return codec.is_integer or codec.has_nan


def _types(spec: FieldSpec, given: InputSpec | None) -> tuple[str, ...]:
    """Return the types that an aggregate may have."""
    match spec.aggregate:
        case "count" | "count_distinct":
            return ("int64",)
        case "sum" if given and codec_of(given.dtype).is_integer:
            return ("int64", "float64")
        case "min" | "max" if given:
            return (str(given.dtype),)
        case _:
            return ("float64",)


def window_warnings(item: Declaration[FeatureView]) -> Iterator[LocatedProblem]:
    """Yield a warning if events may be counted twice."""
    view = item.model
    if not view.is_windowed or view.stream is None:
        return
    if view.once == "none" and view.stream.once is None:
        yield LocatedProblem(
            item.at("stream"),
            f"{item.label}: an event that is pushed twice is counted twice",
            "set `once: {event_id: KEY}` under `stream`, or `once: none` if that is meant",
        )
