"""Check request data and derived feature views: names, types, expressions and functions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path

from featurekit.derivations import (
    CycleError,
    Derivations,
    Input,
    Scope,
    Sources,
    names_in,
)
from featurekit.errors import ValueRefusedError, name_hint
from featurekit.expressions import NOW, ExpressionError, parse
from featurekit.loader.declarations import Declaration, Declarations
from featurekit.loader.functions import FunctionError, function_source
from featurekit.loader.problems import LocatedProblem
from featurekit.loader.values import value_problems
from featurekit.models.definitions import FeatureView
from featurekit.models.derived import Computation, DerivedField, DerivedView, Request
from featurekit.models.scalars import format_raw
from featurekit.types import expression_type

AnyView = Declaration[FeatureView] | Declaration[DerivedView]
_SOURCE = "feature view or request"


def request_problems(declarations: Declarations) -> Iterator[LocatedProblem]:
    """Yield the problems of request data."""
    views = {item.model.name: item for item in _views(declarations)}
    join_keys = {
        name: item.label
        for item in declarations.entities
        for name in item.names("join_keys") or ()
    }
    first: dict[str, Declaration[Request]] = {}
    for item in declarations.requests:
        yield from value_problems(item)
        if item.model.name and item.model.name in views:
            other = views[item.model.name]
            message = f"{item.label} has the name of a feature view ({other.at('name')})"
            yield LocatedProblem(item.at("name"), message, "rename one of the two")
        for name in item.names("fields") or ():
            location = item.key_at("fields", name)
            if name == NOW:
                message = f"{item.field(name)} has the name of the time of a read"
                yield LocatedProblem(location, message, "rename the field")
            if name in join_keys:
                message = f"{item.field(name)} has the name of a join key of {join_keys[name]}"
                hint = "rename the field; a request would have one value for both"
                yield LocatedProblem(location, message, hint)
            other_request = first.setdefault(name, item)
            if other_request.label != item.label:
                message = (
                    f"{item.field(name)}: {other_request.label} "
                    f"({other_request.key_at('fields', name)}) already declares '{name}'"
                )
                hint = "rename one of the fields; a caller sends one value under each name"
                yield LocatedProblem(location, message, hint)


def _views(declarations: Declarations) -> Iterator[AnyView]:
    yield from declarations.feature_views
    yield from declarations.derived_views


class DerivedChecks:
    """Checks the derived views, and computes what their features are computed by.

    Attributes:
        computations: How each valid feature is computed, by `view:field`.
        derivations: The same, inlined.
    """

    def __init__(self, declarations: Declarations, root: Path) -> None:
        self._declarations = declarations
        self._root = root
        items = (*_views(declarations), *declarations.requests)
        self._names = [item.model.name for item in items if item.model.name]
        self._views = [
            (item, _with_likely_sources(item.model, self._names))
            for item in declarations.derived_views
        ]
        self._sources = Sources(
            (item.model for item in declarations.feature_views),
            (view for _, view in self._views),
            (item.model for item in declarations.requests),
        )
        self.computations: dict[str, Computation] = {}
        self.derivations = Derivations(self._sources, self.computations)
        self._partial_fields = {
            item.model.name: {*(item.names("fields") or ())} - {*item.model.fields_}
            for item in items
        }

    def problems(self) -> Iterator[LocatedProblem]:
        """Yield the problems; `computations` is complete after the last one."""
        for item, view in self._views:
            yield from value_problems(item)
            yield from self._check_sources(item)
            yield from self._check_join_keys(item, view)
            for name, spec in view.fields_.items():
                scope = self._sources.scope(view, name)
                if spec.expr is not None:
                    yield from self._check_expression(item, view, name, scope)
                else:
                    yield from self._check_function(item, view, name, scope)
        yield from self._check_inlined()

    def _is_open(self, view: DerivedView) -> bool:
        """Return whether a source of the view is unknown, and with it names of its fields."""
        sources = view.derived.from_
        return not sources or any(name not in self._sources for name in sources)

    def _check_sources(self, item: Declaration[DerivedView]) -> Iterator[LocatedProblem]:
        view, declarations = item.model, self._declarations
        unnamed = {"feature view", "request"} & declarations.unnamed
        known = [name for name in self._names if name != view.name]
        seen: set[str] = set()
        for index, name in enumerate(view.derived.from_):
            location = item.at("derived", "from", index)
            if name == view.name:
                hint = "remove it; the other fields of the view are inputs anyway"
                yield LocatedProblem(location, f"{item.label} is listed in its own `from`", hint)
            elif name in seen:
                yield LocatedProblem(location, f"{item.label}: '{name}' is listed twice")
            elif name not in known and not (declarations.is_partial or unnamed):
                message = f"{item.label}: unknown {_SOURCE} {format_raw(name)}"
                yield LocatedProblem(location, message, name_hint(name, known))
            seen.add(name)

    def _check_join_keys(
        self, item: Declaration[DerivedView], view: DerivedView
    ) -> Iterator[LocatedProblem]:
        entities = {each.model.name: each for each in self._declarations.entities}
        for stored in self._declarations.feature_views:
            entity = entities.get(stored.model.entity or "")
            if entity is None or stored.model.name not in view.derived.from_:
                continue
            for name in entity.names("join_keys") or ():
                if name in (item.names("fields") or ()):
                    message = f"{item.field(name)} has the name of a join key of {entity.label}"
                    yield LocatedProblem(item.key_at("fields", name), message, "rename the field")

    def _check_expression(
        self, item: Declaration[DerivedView], view: DerivedView, name: str, scope: Scope
    ) -> Iterator[LocatedProblem]:
        spec = view.fields_[name]
        text = str(spec.expr)
        if spec.inputs is not None:
            message = f"{item.field(name)}: inputs has no effect, because the field has an expr"
            hint = "remove it; an expression names its inputs"
            yield LocatedProblem(item.key_at("fields", name, "inputs"), message, hint)
        wanted = expression_type(spec.dtype)
        if wanted is None:
            message = f"{item.field(name)}: no expression has the type {spec.dtype}"
            hint = "declare another type, or compute the value with `callable`"
            yield LocatedProblem(item.at("fields", name, "type"), message, hint)
        try:
            expression = parse(text, scope.types())
            if wanted is not None:
                expression.converted(wanted)
                self.computations[f"{item.model.name}:{name}"] = expression
        except ExpressionError as error:
            yield from self._expression_problem(item, view, name, (scope, error))

    def _expression_problem(
        self,
        item: Declaration[DerivedView],
        view: DerivedView,
        name: str,
        failure: tuple[Scope, ExpressionError],
    ) -> Iterator[LocatedProblem]:
        scope, error = failure
        text = str(view.fields_[name].expr)
        start, message, hint = error.span[0], error.message, error.hint
        used = {offset: used for used, offset in names_in(text)}.get(start, "")
        if used and message.startswith("unknown name"):
            if self._is_open(view) or self._is_partial(view, used):
                return
            message, hint = _unknown_input(used, scope, self._declared_inputs(scope))
            if used in (name, f"{view.name}.{name}"):
                message = f"'{used}' is the feature itself"
        location = item.at_character(start, "fields", name, "expr")
        yield LocatedProblem(location, f"{item.field(name)}: expr: {message}", hint)

    def _is_partial(self, view: DerivedView, used: str) -> bool:
        """Return whether a name may be that of a field whose declaration is invalid."""
        source, point, field = used.rpartition(".")
        sources = [source] if point else [*view.derived.from_, view.name]
        return any(field in self._partial_fields.get(each, ()) for each in sources)

    def _declared_inputs(self, scope: Scope) -> list[str]:
        """Return the usable inputs, each under its shortest name."""
        short = {each.full_name: name for name, each in scope.inputs.items() if "." not in name}
        full = dict.fromkeys(each.full_name for each in scope.inputs.values())
        return [NOW, *(short.get(name, name) for name in full)]

    def _check_function(
        self, item: Declaration[DerivedView], view: DerivedView, name: str, scope: Scope
    ) -> Iterator[LocatedProblem]:
        spec = view.fields_[name]
        if spec.callable is None:
            return  # neither `expr` nor `callable`, which is reported already
        if spec.inputs is None:
            message = f"{item.field(name)}: the function has no inputs"
            hint = "add `inputs:`, for example `inputs: [amount, country_iso]`"
            yield LocatedProblem(item.key_at("fields", name, "callable"), message, hint)
            return
        problems = list(self._check_inputs(item, view, name, scope))
        yield from problems
        try:
            source = function_source(self._root, spec.callable, len(spec.inputs))
        except FunctionError as error:
            location = item.at("fields", name, "callable")
            yield LocatedProblem(location, f"{item.field(name)}: {error.message}", error.hint)
            return
        if not problems and all(used == NOW or used in scope.inputs for used in spec.inputs):
            self.computations[f"{item.model.name}:{name}"] = source

    def _check_inputs(
        self, item: Declaration[DerivedView], view: DerivedView, name: str, scope: Scope
    ) -> Iterator[LocatedProblem]:
        inputs = view.fields_[name].inputs or ()
        for index, used in enumerate(inputs):
            location = item.at("fields", name, "inputs", index)
            found: Input | None = scope.inputs.get(used)
            message = hint = ""
            if used in inputs[:index]:
                message = f"'{used}' is listed twice"
            elif found is None and used != NOW:
                if self._is_open(view) or self._is_partial(view, used):
                    continue
                taken = {
                    name: each for name, each in scope.inputs.items() if each.kind != "derived"
                }
                known = self._declared_inputs(Scope(taken, scope.ambiguous))
                message, hint = _unknown_input(used, scope, known)
            elif found is not None and found.kind == "derived":
                message = f"'{used}' is derived, and a function takes stored features and requests"
                hint = "compute it in the function too"
            if message:
                yield LocatedProblem(location, f"{item.field(name)}: inputs: {message}", hint)

    def _check_inlined(self) -> Iterator[LocatedProblem]:
        """Inline each feature: report cycles once, and expressions that become too large."""
        cyclic: set[str] = set()
        for item, view in self._views:
            for name in view.fields_:
                key = f"{view.name}:{name}"
                if key not in self.computations or key in cyclic:
                    continue
                try:
                    with suppress(ValueRefusedError):  # a default, which is reported
                        self.derivations.inlined(view.name, name)
                except CycleError as error:
                    if key in error.path:
                        cyclic.update(error.path)
                        yield self._cycle_problem(item, view, name, error)
                except ExpressionError as error:
                    hint = error.hint or "compute parts of it in features that are stored"
                    message = f"{item.field(name)}: expr, with its derived inputs: {error.message}"
                    yield LocatedProblem(item.at("fields", name, "expr"), message, hint)
                except KeyError:
                    yield from self._function_inputs(item, view, name)

    def _cycle_problem(
        self, item: Declaration[DerivedView], view: DerivedView, name: str, error: CycleError
    ) -> LocatedProblem:
        text = str(view.fields_[name].expr)
        scope = self._sources.scope(view, name)
        following = error.path[error.path.index(f"{view.name}:{name}") + 1]
        at = 0
        for used, offset in names_in(text):
            found = scope.inputs.get(used)
            if found is not None and f"{found.source}:{found.field}" == following:
                at = offset
                break
        location = item.at_character(at, "fields", name, "expr")
        hint = "name the inputs of one of these features instead of the feature"
        return LocatedProblem(location, f"{item.field(name)}: expr: {error.message}", hint)

    def _function_inputs(
        self, item: Declaration[DerivedView], view: DerivedView, name: str
    ) -> Iterator[LocatedProblem]:
        """Yield a problem for each derived input that a function computes."""
        text, scope = str(view.fields_[name].expr), self._sources.scope(view, name)
        for used, offset in names_in(text):
            found = scope.inputs.get(used)
            if (
                found is None
                or not isinstance(found.spec, DerivedField)
                or not found.spec.callable
            ):
                continue
            location = item.at_character(offset, "fields", name, "expr")
            message = f"{item.field(name)}: expr: '{used}' is computed by a function"
            hint = "use expressions for features that other features are computed from"
            yield LocatedProblem(location, message, hint)


def _with_likely_sources(view: DerivedView, names: list[str]) -> DerivedView:
    """Return the view with each misspelled source as the one that it probably means."""
    likely = [
        name if name in names else next(iter(get_close_matches(name, names, n=1)), name)
        for name in view.derived.from_
    ]
    derived = view.derived.model_copy(update={"from_": tuple(likely)})
    return view.model_copy(update={"derived": derived})


def _unknown_input(used: str, scope: Scope, known: list[str]) -> tuple[str, str]:
    if used in scope.ambiguous:
        names = " or ".join(scope.ambiguous[used])
        return f"'{used}' is a field of several inputs", f"write {names}"
    if used in scope.inputs:
        dtype = scope.inputs[used].spec.dtype
        hint = "store it as another type, or compute the value with `callable`"
        return f"'{used}' is of type {dtype}, which expressions do not have", hint
    return f"unknown name '{used}'", name_hint(used, known)
