"""Generate the subclass of `FeatureStore` that knows the services of a project."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from featurekit.codegen.python.names import Names
from featurekit.codegen.python.parts import Part, key_type, method
from featurekit.codegen.python.services import plan_join_keys
from featurekit.codegen.python.text import docstring, quoted
from featurekit.plan import ReadPlan, RepoPlan

_NAMES = (
    *("TYPE_CHECKING", "Any", "Column", "DataFrame", "EntityRows", "FeatureService", "Literal"),
    *("Mapping", "MaxAge", "OnlineReader", "OnlineResponse", "Request", "Sequence", "Timeout"),
    *("overload", "override"),
)
_READER_OPTIONS = ("freshness: bool = False", "max_age: MaxAge = None")
_GET_OPTIONS = (
    "freshness: bool = False",
    "timeout: Timeout = None",
    "partial: bool = False",
    "max_age: MaxAge = None",
)


def store_part(names: Names, repo: RepoPlan, plans: Mapping[str, ReadPlan]) -> Part:
    """Return the store's class, and the names of services and features."""
    part = Part()
    fields = [(view.name, [field.name for field in view.fields]) for view in repo.views]
    fields += [(view.name, [f.field.name for f in view.features]) for view in repo.derived_views]
    features = [
        name for view, own in fields for name in (view, *(f"{view}:{each}" for each in own))
    ]
    if features:
        about = "What a list of features may contain."
        part.add("FeatureName", _literal(part, "FeatureName", features, about))
    if plans:
        part.add(
            "ServiceName", _literal(part, "ServiceName", sorted(plans), "The feature services.")
        )
    name = f"{names.store}FeatureStore"
    about = f"The feature store of project {repo.project}; see `featurekit.FeatureStore`."
    lines = [f"class {name}({part.use('FeatureStore')}):", *docstring([about])]
    if plans:
        mapping = f"{part.use('Mapping')}[{part.use('str')}, type[{part.use('Row')}]]"
        lines += ["", f"    _row_classes: {part.use('ClassVar')}[{mapping}] = {{"]
        lines += [f"        {quoted(each)}: {names.services[each]}Row," for each in sorted(plans)]
        lines += ["    }", *_overloads(part, names, plans)]
    part.add(name, lines)
    return part


def _literal(part: Part, name: str, values: Sequence[str], about: str) -> Iterator[str]:
    head = f"{name}: {part.use('TypeAlias')} = {part.use('Literal')}["
    if len(values) == 1:
        yield f"{head}{quoted(values[0])}]"
    else:
        yield head
        yield from (f"    {quoted(value)}," for value in values)
        yield "]"
    yield from docstring([about], "")


def _overloads(part: Part, names: Names, plans: Mapping[str, ReadPlan]) -> Iterator[str]:
    for name in _NAMES:
        part.use(name)
    yield ""
    yield "    if TYPE_CHECKING:"
    yield from _readers(part, names, plans)
    yield from _responses("def get_online_features", names, plans)
    yield from _responses("async def get_online_features_async", names, plans)


def _readers(part: Part, names: Names, plans: Mapping[str, ReadPlan]) -> Iterator[str]:
    heads = []
    for name in sorted(plans):
        entity = key_type(part, plan_join_keys(plans[name]))
        types = f"{names.services[name]}Row, {entity}"
        heads.append(
            ([f"features: Literal[{quoted(name)}]", "*", _SHORT], f"OnlineReader[{types}]")
        )
    heads += [(head, "OnlineReader") for head in _untyped(())]
    yield from _method("def online_reader", heads, _READER_OPTIONS)


def _responses(head: str, names: Names, plans: Mapping[str, ReadPlan]) -> Iterator[str]:
    heads = []
    for name in sorted(plans):
        stem = names.services[name]
        rows = f"entity_rows: Sequence[{stem}Keys] | {stem}KeyColumns | DataFrame"
        result = f"OnlineResponse[{stem}Columns, {stem}Dict]"
        parameters = [f"features: Literal[{quoted(name)}]", rows, "*", _SHORT]
        if requests := plans[name].requests:
            optional = all(column.field.default is not None for column in requests)
            sent = f"request: {stem}Request | Sequence[{stem}Request]"
            parameters.append(f"{sent} | None = None" if optional else sent)
        heads.append((parameters, result))
    heads += [
        ([*each, "request: Request = None"], "OnlineResponse")
        for each in _untyped(["entity_rows: EntityRows"])
    ]
    yield from _method(head, heads, _GET_OPTIONS)


_SHORT = "full_feature_names: Literal[False] = False"
_LISTS = "features: Column[FeatureName | Mapping[str, object]] | FeatureService"


def _untyped(rows: Sequence[str]) -> Iterator[list[str]]:
    """Yield the parameters of calls whose result has no types of its own."""
    yield ["features: ServiceName", *rows, "*", "full_feature_names: Literal[True]"]
    yield [_LISTS, *rows, "*", "full_feature_names: bool = False"]


def _method(
    head: str, heads: Sequence[tuple[Sequence[str], str]], options: Sequence[str]
) -> Iterator[str]:
    """Yield the overloads of a method for type checkers; it is that of `FeatureStore`."""
    for index, (parameters, result) in enumerate(heads):
        yield ""
        yield "        @overload" + ("" if index else "  # type: ignore[override]")
        *lines, last = method(head, ["self", *parameters, *options], result)
        yield from (f"    {line}" for line in lines)
        yield f"    {last} ..."
    yield ""
    yield "        @override"
    yield (
        f"        {head}(self, features: Any, *args: Any, **options: Any) -> Any: ..."
        "  # pyright: ignore[reportIncompatibleMethodOverride]"
    )
