"""Aggregates over windows of events: what may be declared, what it compiles to, what a change empties."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from featurekit.changes import diff
from featurekit.compiler import compile_repo
from featurekit.errors import RegistryError
from featurekit.models.fields import default_tile_ms
from featurekit.models.scalars import format_duration, parse_duration
from featurekit.plan import AggregatePlan, RepoPlan
from featurekit.registry import Registry
from tests.declare.conftest import Load, Problems

KAFKA = "source: {type: kafka, topic: tx, bootstrap_servers: 'broker:1'}"
VIEW = """
entities:
  - {name: user, join_keys: {user_id: string}}
feature_views:
  - name: user_tx
    entity: user
    stream: {refresh: 1m, SOURCE}
    inputs: {amount: float64, cents: int32, merchant: string, ok: bool}
    fields:
      FIELDS
"""
COUNT = "n: {type: int64, aggregate: count, window: 5m}"


def view(*fields: str, source: str = KAFKA) -> str:
    return VIEW.replace("SOURCE", source).replace("FIELDS", "\n      ".join(fields or (COUNT,)))


def compiled(load: Load, text: str) -> RepoPlan:
    return compile_repo(Registry.from_loaded(load(text), None))


def aggregate(load: Load, field: str) -> AggregatePlan:
    [plan] = compiled(load, view(field)).view("user_tx").fields
    assert plan.aggregate is not None
    return plan.aggregate


def test_an_aggregate_compiles_to_its_window(load: Load) -> None:
    plan = compiled(load, view("s: {type: float64, aggregate: sum, of: amount, window: 1h}"))
    [field] = plan.view("user_tx").fields
    assert field.aggregate is not None
    assert (field.aggregate.function, field.aggregate.of) == ("sum", "amount")
    assert (field.aggregate.window_ms, field.aggregate.tile_ms) == (3_600_000, 300_000)
    assert field.ttl_ms == 3_900_000
    windows = plan.view("user_tx").windows
    assert windows is not None
    assert [str(each.dtype) for each in windows.inputs] == ["float64", "int32", "string", "bool"]
    assert windows.max_mark_age_ms == 300_000


@pytest.mark.parametrize(
    ("source", "once", "guard", "mark"),
    [
        (KAFKA, "offset", "@user_tx", b"fs:@mark:user_tx"),
        (f"{KAFKA}, once: source", "offset", "@user_tx", b"fs:@mark:user_tx"),
        (f"{KAFKA}, once: none", "none", None, b"fs:@mark:user_tx"),
        ("source: {type: redis_stream, stream: tx}", "group", None, b"fs:@mark:user_tx"),
        (f"{KAFKA}, once: {{event_id: id}}", "event_id", "@user_tx", b"fs:@mark:user_tx"),
        ("once: {event_id: id}", "event_id", "@user_tx", None),
        ("once: none", "none", None, None),
    ],
)
def test_repeated_events_are_told_by_the_source_unless_they_have_an_id(
    load: Load, source: str, once: str, guard: str | None, mark: bytes | None
) -> None:
    loaded = load(view(source=source))
    registry = Registry.from_loaded(loaded, None)
    plan = compile_repo(registry).view("user_tx")
    assert plan.windows is not None
    assert (plan.windows.once, plan.guard_field, plan.mark_key) == (once, guard, mark)
    assert registry.hash_fields("user") == {"n", guard} - {None}


def test_a_count_that_programs_push_is_0_by_default(load: Load) -> None:
    """Without a worker, silence cannot be told from no events; see docs/windows.md."""
    [pushed] = compiled(load, view(source="once: none")).view("user_tx").fields
    [streamed] = compiled(load, view()).view("user_tx").fields
    assert (pushed.default, streamed.default) == (b"0", None)


@pytest.mark.parametrize(
    ("window", "tile"),
    [
        *(("2s", "1s"), ("10s", "1s"), ("1m", "5s"), ("5m", "15s"), ("10m", "30s"), ("15m", "1m")),
        *(("45m", "1m"), ("1h", "5m"), ("2h", "10m"), ("24h", "1h"), ("7d", "6h"), ("30d", "1d")),
        *(("90d", "3d"), ("1s", None), ("61s", None), ("1500ms", None)),
    ],
)
def test_the_default_tile_divides_the_window_into_12_to_30_if_it_can(
    window: str, tile: str | None
) -> None:
    found = default_tile_ms(parse_duration(window))
    assert (found and format_duration(found)) == tile


def test_events_are_at_most_one_tile_ahead(load: Load) -> None:
    long = "l: {type: int64, aggregate: count, window: 24h}"
    assert compiled(load, view(long)).view("user_tx").max_ahead_ms == 300_000
    assert compiled(load, view(COUNT, long)).view("user_tx").max_ahead_ms == 15_000


def field(text: str) -> str:
    return view(f"a: {text}")


WRONG = {
    "field without aggregate": (
        view("a: int64", COUNT),
        "f.yaml:10:7: field 'user_tx:a' has no aggregate, and a view with windows has no other fields"
        " | add `aggregate:`, or move the field to another view of the entity",
    ),
    "no window": (
        field("{type: int64, aggregate: count}"),
        "f.yaml:10:10: field 'user_tx:a': key 'window' is missing"
        " | say how long the window is, for example `window: 1h`",
    ),
    "unknown function": (
        field("{type: int64, aggregate: median, of: amount, window: 1h}"),
        "f.yaml:10:35: field 'user_tx:a': aggregate: found 'median', expected count or sum or min or max or "
        "mean or stddev or count_distinct | did you mean 'mean'? known: count, count_distinct, max, mean, min, "
        "stddev, sum",
    ),
    "tile does not divide": (
        field("{type: int64, aggregate: count, window: 1h, tile: 7m}"),
        "f.yaml:10:60: field 'user_tx:a': tile: found 7m, which does not divide the window of 1h",
    ),
    "too many tiles": (
        field("{type: int64, aggregate: count, window: 1h, tile: 30s}"),
        "f.yaml:10:60: field 'user_tx:a': tile: found 30s, of which 120 make a window of 1h, expected 2 to "
        "60 | choose a tile from 1m to 30m",
    ),
    "one tile": (
        field("{type: int64, aggregate: count, window: 1h, tile: 1h}"),
        "f.yaml:10:60: field 'user_tx:a': tile: found 1h, of which 1 make a window of 1h, expected 2 to 60"
        " | choose a tile from 1m to 30m",
    ),
    "parts of seconds": (
        field("{type: int64, aggregate: count, window: 3s, tile: 500ms}"),
        "f.yaml:10:60: field 'user_tx:a': tile: found 500ms, expected whole seconds",
    ),
    "no default tile": (
        field("{type: int64, aggregate: count, window: 61s}"),
        "f.yaml:10:50: field 'user_tx:a': no tile of whole seconds divides a window of 1m1s into 2 to 60"
        " | choose another window, or set `tile:`",
    ),
    "long window": (
        field("{type: int64, aggregate: count, window: 91d}"),
        "f.yaml:10:50: field 'user_tx:a': window: found 91d, expected at most 90d",
    ),
    "ttl": (
        field("{type: int64, aggregate: count, window: 1h, ttl: 2h}"),
        "f.yaml:10:54: field 'user_tx:a': ttl has no effect, because the field expires with its window"
        " | remove it",
    ),
    "constraint": (
        field("{type: int64, aggregate: count, window: 1h, min: 0}"),
        "f.yaml:10:54: field 'user_tx:a': min has no effect, because the field is computed, not written"
        " | remove it, or move it to the input",
    ),
    "sum of nothing": (
        field("{type: float64, aggregate: sum, window: 1h}"),
        "f.yaml:10:10: field 'user_tx:a': key 'of' is missing"
        " | name the input that the sum is computed of, for example `of: amount`",
    ),
    "unknown input": (
        field("{type: float64, aggregate: sum, of: amounts, window: 1h}"),
        "f.yaml:10:46: field 'user_tx:a': of: unknown input 'amounts'"
        " | did you mean 'amount'? known: amount, cents, merchant, ok",
    ),
    "sum of text": (
        field("{type: float64, aggregate: sum, of: merchant, window: 1h}"),
        "f.yaml:10:46: field 'user_tx:a': of: 'merchant' is a string, and a sum needs an int or a float"
        " | count and count_distinct take any input",
    ),
    "type of a count": (
        field("{type: float64, aggregate: count, window: 1h}"),
        "f.yaml:10:17: field 'user_tx:a': found type float64, expected int64: the type of a count",
    ),
    "type of a mean": (
        field("{type: int64, aggregate: mean, of: cents, window: 1h}"),
        "f.yaml:10:17: field 'user_tx:a': found type int64, expected float64: the type of a mean of an int32",
    ),
    "type of a max": (
        field("{type: int64, aggregate: max, of: cents, window: 1h}"),
        "f.yaml:10:17: field 'user_tx:a': found type int64, expected int32: the type of a max of an int32",
    ),
    "type of a sum of ints": (
        field("{type: int32, aggregate: sum, of: cents, window: 1h}"),
        "f.yaml:10:17: field 'user_tx:a': found type int32, expected int64 or float64: the type of a sum of an "
        "int32",
    ),
    "default of another type": (
        field("{type: int64, aggregate: count, window: 1h, default: none}"),
        "f.yaml:10:63: field 'user_tx:a': default: 'none' is not an int64",
    ),
    "condition of unknown names": (
        field("{type: int64, aggregate: count, window: 1h, where: ok and amout > 1}"),
        "f.yaml:10:68: field 'user_tx:a': where: unknown name 'amout' | did you mean 'amount'? known: amount, "
        "cents, merchant, ok",
    ),
    "condition that is a number": (
        field("{type: int64, aggregate: count, window: 1h, where: amount + 1}"),
        "f.yaml:10:61: field 'user_tx:a': where: found a condition of type float64, expected bool",
    ),
    "condition on the time of a read": (
        field("{type: int64, aggregate: count, window: 1h, where: epoch(now) > 1}"),
        "f.yaml:10:61: field 'user_tx:a': where: an event is in a window by its own time, not by 'now'"
        " | use inputs alone",
    ),
    "31 aggregates": (
        view(*(f"n{i}: {{type: int64, aggregate: count, window: 5m}}" for i in range(31))),
        "f.yaml:40:7: feature view 'user_tx': found 31 aggregates, expected at most 30"
        " | move some of them to another view with the same source",
    ),
    "array as input": (
        view().replace("ok: bool", "tags: array<string>"),
        "f.yaml:8:69: feature view 'user_tx': inputs.tags is an array<string>, expected a scalar"
        " | aggregates are computed of numbers, text, times and the like",
    ),
    "default of an input": (
        view().replace("ok: bool", "ok: {type: bool, default: true}"),
        "f.yaml:8:80: feature view 'user_tx': inputs.ok: default has no effect on an input"
        " | remove it; an aggregate skips events that do not have the input",
    ),
    "input with the name of a field": (
        view().replace("ok: bool", "n: bool"),
        "f.yaml:8:63: feature view 'user_tx': 'n' is both an input and a field | rename one of the two",
    ),
    "input with the name of a join key": (
        view().replace("ok: bool", "user_id: string"),
        "f.yaml:8:63: feature view 'user_tx': inputs.user_id has the name of a join key of entity 'user'"
        " | rename the input; a join key is one value in each window of an entity",
    ),
    "batch view": (
        view().replace(f"stream: {{refresh: 1m, {KAFKA}}}", "batch: {refresh: 1h}"),
        "f.yaml:8:5: feature view 'user_tx': only events have windows, and this is a batch view"
        " | declare the view with `stream:`",
    ),
    "ordering": (
        view(source=f"{KAFKA}, ordering: event_time"),
        "f.yaml:7:92: feature view 'user_tx': ordering has no effect, because every event is in the windows "
        "of its time | remove it",
    ),
    "max_ahead": (
        view(source=f"{KAFKA}, max_ahead: 1m"),
        "f.yaml:7:103: feature view 'user_tx': found max_ahead 1m, expected at most 15s, the shortest tile: "
        "later events would displace earlier ones | remove it, or set `max_ahead: 15s` or less",
    ),
    "once without a source": (
        view(source="once: source"),
        "f.yaml:7:33: feature view 'user_tx': once: source needs a source, and programs push these events"
        " | name the key with an event's id, for example `once: {event_id: transaction_id}`",
    ),
    "ttl without a source": (
        view(source="ttl: 5m, once: none"),
        "f.yaml:7:27: feature view 'user_tx': ttl has no effect: it says how long a worker may be silent, "
        "and programs push these events | remove it; values live as long as their windows",
    ),
    "another once": (
        view(source=f"{KAFKA}, once: always"),
        "f.yaml:7:98: feature view 'user_tx': stream.once: found 'always', expected source, none or a mapping "
        "with event_id | for example `once: {event_id: transaction_id}`",
    ),
    "once without aggregates": (
        view("a: int64", source=f"{KAFKA}, once: none").replace("    inputs:", "    #"),
        "f.yaml:7:92: feature view 'user_tx': once has no effect, because no field is an aggregate"
        " | remove it; a repeated event writes the same values again",
    ),
    "window without aggregate": (
        view("a: {type: int64, window: 1h}").replace("    inputs:", "    #"),
        "f.yaml:10:24: field 'user_tx:a': window has no effect without an aggregate"
        " | add `aggregate:`, for example `aggregate: count`",
    ),
    "column of no input": (
        view(source=KAFKA.replace("topic: tx", "topic: tx, columns: {n: count}")),
        "f.yaml:7:70: feature view 'user_tx': columns: unknown input or join key 'n'"
        " | known: amount, cents, merchant, ok, user_id",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_window_is_reported_where_it_is(problems: Problems, name: str) -> None:
    text, expected = WRONG[name]
    assert problems(text) == [expected]


@pytest.mark.parametrize(
    "form",
    [
        "{type: int64, aggregate: count, of: ok, window: 1h}",
        "{type: int64, aggregate: count_distinct, of: merchant, window: 1h}",
        "{type: int64, aggregate: sum, of: cents, window: 1h, default: 0}",
        "{type: int64, aggregate: count, window: 1h, where: \"merchant = 'a' and ok\"}",
        "{type: float64, aggregate: sum, of: cents, window: 1h}",
        "{type: int32, aggregate: min, of: cents, window: 1h}",
        "{type: float64, aggregate: stddev, of: cents, window: 90d, tile: 36h}",
    ],
)
def test_what_a_window_may_be(load: Load, form: str) -> None:
    assert load(field(form)).warnings == ()


def test_a_view_of_counts_needs_no_inputs(load: Load) -> None:
    text = view().replace("    inputs:", "    #")
    [plan] = compiled(load, text).views
    assert plan.windows is not None
    assert plan.windows.inputs == ()


def test_events_that_nothing_tells_apart_are_warned_of(load: Load) -> None:
    [warning] = load(view(source="max_ahead: 5s")).warnings
    assert "an event that is pushed twice is counted twice" in str(warning)
    assert load(view(source="once: none")).warnings == ()


def test_a_window_that_outlives_its_key_is_warned_of(load: Load) -> None:
    owner = """
  - name: profile
    entity: user
    batch: {refresh: 24h}
    fields: {age: int64}
"""
    [warning] = load(view("n: {type: int64, aggregate: count, window: 7d}") + owner).warnings
    assert "window 7d is longer than the ttl of the key, 2d" in str(warning)


def test_the_registry_keeps_windows_as_they_are_written(load: Load) -> None:
    registry = Registry.from_loaded(load(view(COUNT)), None)
    [data] = json.loads(registry.to_json())["feature_views"]
    assert data["fields"] == [["n", {"aggregate": "count", "type": "int64", "window": "5m"}]]
    assert [name for name, _ in data["inputs"]] == ["amount", "cents", "merchant", "ok"]
    again = Registry.from_json(registry.to_json())
    assert again == registry
    assert compile_repo(again) == compile_repo(registry)


@pytest.mark.parametrize(
    ("key", "value"),
    [("of", "gone"), ("window", None), ("tile", "1500ms"), ("tile", "4m"), ("where", "gone > 1")],
)
def test_a_registry_with_an_impossible_window_is_damaged(
    load: Load, key: str, value: str | None
) -> None:
    text = Registry.from_loaded(load(view(COUNT)), None).to_json()
    data = json.loads(text)
    data["feature_views"][0]["fields"][0][1][key] = value
    with pytest.raises(RegistryError, match="the registry is damaged: 'user_tx'"):
        Registry.from_json(json.dumps(data))


SUM = "s: {type: float64, aggregate: sum, of: amount, window: 1h}"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("", ", tile: 4m", "breaking field user_tx:s: tile 5m -> 4m: its window starts empty"),
        (
            "sum",
            "mean",
            "breaking field user_tx:s: aggregate sum -> mean: its window starts empty",
        ),
        (
            "amount",
            "cents",
            "breaking field user_tx:s: of amount (float64) -> cents (int32): its window starts empty",
        ),
        (
            "1h",
            "2h, tile: 5m",
            "compatible field user_tx:s: window 1h -> 2h: the tiles that are stored are kept",
        ),
        (
            "}",
            ", where: ok}",
            "breaking field user_tx:s: where none -> ok: its window starts empty",
        ),
        ("}", ", default: 0.0}", "compatible field user_tx:s: default none -> 0"),
    ],
)
def test_a_plan_says_what_a_change_of_a_window_empties(
    load: Load, old: str, new: str, expected: str
) -> None:
    after = SUM.replace("}", f"{new}}}") if not old else SUM.replace(old, new)
    changes = diff(compiled(load, view(SUM)), compiled(load, view(after))).changes
    assert expected in [str(change) for change in changes if "max_ahead" not in str(change)]
    assert len([change for change in changes if change.kind == "breaking"]) == (
        "empty" in expected
    )


def test_tiles_of_another_definition_have_another_head(load: Load) -> None:
    forms = [SUM, SUM.replace("sum", "max"), SUM.replace("amount", "cents")]
    heads = [aggregate(load, form).head for form in forms]
    assert len({*heads}) == len(forms)
    assert aggregate(load, SUM.replace("1h", "2h, tile: 5m")).head == heads[0]


def test_a_plan_says_that_the_type_of_an_input_changes(load: Load) -> None:
    changed = view(SUM).replace("amount: float64", "amount: float32")
    changes = diff(compiled(load, view(SUM)), compiled(load, changed)).changes
    assert [str(change) for change in changes] == [
        "compatible feature view user_tx: another input amount",
        "breaking field user_tx:s: of amount (float64) -> amount (float32): its window starts empty",
    ]


def test_a_plan_says_that_a_guard_changes(load: Load) -> None:
    changed = view(SUM, source=f"{KAFKA}, once: {{event_id: id}}")
    changes = diff(compiled(load, view(SUM)), compiled(load, changed)).changes
    assert [str(change) for change in changes] == [
        "compatible feature view user_tx: once offset -> id: events applied before are counted again if "
        "they are sent again",
    ]


def test_a_repository_without_windows_has_the_fingerprint_that_it_had(
    load: Load, fraud: str
) -> None:
    text = Registry.from_loaded(load(fraud), None).to_json()
    assert not any(key in text for key in ("inputs", "aggregate", "window", "once"))
    assert replace(compile_repo(Registry.from_json(text)), fingerprint="").views
