"""The inputs of derived features: which names an expression may use, and what they stand for.

An expression names fields of the views and requests that its view lists in `from`, and other fields of
its own view. A field that two of them have is named `view.field`. Derived features among the inputs are
inlined, so that what is left are stored features, values of requests, and `now`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from featurekit.errors import FeatureKitError, ValueRefusedError
from featurekit.expressions import (
    NOW,
    Expression,
    ExpressionError,
    ExpressionType,
    parse,
    substitute,
)
from featurekit.models.definitions import FeatureView
from featurekit.models.derived import Computation, DerivedField, DerivedView, Request
from featurekit.models.fields import TypedValue
from featurekit.types import codec_of, expression_type

InputKind = Literal["stored", "request", "derived"]

_STRING_OR_NAME = re.compile(r"'(?:[^']|'')*'|([A-Za-z_]\w*(?:\s*\.\s*[A-Za-z_]\w*)*)")


@dataclass(frozen=True, slots=True)
class Input:
    """A field that a derived feature may name.

    Attributes:
        source: The view or request that declares it.
        field: Its name there.
        spec: Its declaration.
        kind: Whether it is stored, sent along by the caller, or derived itself.
    """

    source: str
    field: str
    spec: TypedValue
    kind: InputKind

    @property
    def full_name(self) -> str:
        """Its name with its source, as expressions have it."""
        return f"{self.source}.{self.field}"

    @property
    def type(self) -> ExpressionType | None:
        """Its type in an expression; `None` if expressions have no such type."""
        return expression_type(self.spec.dtype)


@dataclass(frozen=True, slots=True)
class Scope:
    """The names that one derived field may use.

    Attributes:
        inputs: Each name, short or full, and what it stands for.
        ambiguous: The short names that several inputs have, with their full names.
    """

    inputs: Mapping[str, Input]
    ambiguous: Mapping[str, tuple[str, ...]]

    def types(self) -> dict[str, ExpressionType]:
        """Return the types of the names that an expression may use."""
        types = ((name, each.type) for name, each in self.inputs.items())
        return {name: type_ for name, type_ in types if type_ is not None}


class CycleError(FeatureKitError):
    """A derived feature depends on itself.

    Attributes:
        path: The features of the cycle as `view:field`, the first one also last.
    """

    def __init__(self, path: tuple[str, ...]) -> None:
        super().__init__(f"the feature depends on itself: {' -> '.join(path)}")
        self.path = path


class Sources:
    """The views and requests of a repository, by name."""

    def __init__(
        self,
        stored: Iterable[FeatureView],
        derived: Iterable[DerivedView],
        requests: Iterable[Request],
    ) -> None:
        self._inputs: dict[str, list[Input]] = {}
        self.derived = {view.name: view for view in derived}
        groups: tuple[tuple[InputKind, Iterable[FeatureView | DerivedView | Request]], ...] = (
            ("request", requests),
            ("derived", self.derived.values()),
            ("stored", stored),
        )
        for kind, declared in groups:
            for each in declared:
                specs = each.fields_.items()
                self._inputs[each.name] = [Input(each.name, n, spec, kind) for n, spec in specs]

    def __contains__(self, name: object) -> bool:
        return name in self._inputs

    def names(self) -> list[str]:
        """Return the names of all views and requests."""
        return list(self._inputs)

    def scope(self, view: DerivedView, field: str) -> Scope:
        """Return the names that a field of a derived view may use."""
        sources = dict.fromkeys([*view.derived.from_, view.name])
        found = [each for source in sources for each in self._inputs.get(source, ())]
        found = [each for each in found if (each.source, each.field) != (view.name, field)]
        by_name: dict[str, list[Input]] = {}
        for each in found:
            by_name.setdefault(each.field, []).append(each)
        inputs = {each.full_name: each for each in found}
        inputs |= {
            name: each[0] for name, each in by_name.items() if len(each) == 1 and name != NOW
        }
        ambiguous = {
            name: tuple(each.full_name for each in inputs_)
            for name, inputs_ in by_name.items()
            if len(inputs_) > 1
        }
        return Scope(inputs, ambiguous)


@dataclass(frozen=True, slots=True)
class Inlined:
    """A derived feature over stored features and values of requests.

    Attributes:
        expression: The expression, with full names; `None` for a function.
        inputs: What it is computed from, in the order of the arguments, without `now`.
        arguments: The arguments of the expression or function by name, in order, with `now`.
    """

    expression: Expression | None
    inputs: tuple[Input, ...]
    arguments: tuple[str, ...]


class Derivations:
    """The derived features of a repository, each inlined when it is asked for.

    Args:
        sources: The views and requests.
        computations: How each derived feature is computed, by `view:field`.
    """

    def __init__(self, sources: Sources, computations: Mapping[str, Computation]) -> None:
        self._sources = sources
        self.computations = computations
        self._inlined: dict[str, Inlined] = {}

    def inlined(self, view: str, field: str, path: tuple[str, ...] = ()) -> Inlined:
        """Return a feature with the derived features among its inputs inlined.

        Raises:
            CycleError: It depends on itself.
            ExpressionError: The inlined expression is too large.
            ValueRefusedError: The default of a derived input is not of its type.
            KeyError: It depends on a feature that is not among the computations.
        """
        key = f"{view}:{field}"
        if key in path:
            raise CycleError((*path[path.index(key) :], key))
        if key not in self._inlined:
            declared = self._sources.derived[view]
            computation = self.computations[key]
            if isinstance(computation, Expression):
                result = self._inline(declared, field, computation, (*path, key))
            else:
                scope = self._sources.scope(declared, field)
                result = _function_arguments(declared.fields_[field], scope)
            self._inlined[key] = result
        return self._inlined[key]

    def used(self, view: str, fields: Iterable[str]) -> list[Input]:
        """Return the stored features and request values behind features, each once.

        Features that cannot be inlined are left out.
        """
        found: dict[str, Input] = {}
        for field in fields:
            with suppress(CycleError, ExpressionError, KeyError, ValueRefusedError):
                found |= {each.full_name: each for each in self.inlined(view, field).inputs}
        return list(found.values())

    def _inline(
        self, view: DerivedView, field: str, expression: Expression, path: tuple[str, ...]
    ) -> Inlined:
        scope = self._sources.scope(view, field)
        inputs: dict[str, Input] = {}
        for name in expression.names:
            if name == NOW:
                continue
            found = scope.inputs[name]
            if found.kind == "derived":
                inner = self.inlined(found.source, found.field, path)
                if inner.expression is None:
                    raise KeyError(name)
                inputs |= {each.full_name: each for each in inner.inputs}
                value = _as_served(inner.expression, found)
                expression = substitute(expression, name, value)
            else:
                inputs[found.full_name] = found
                expression = _renamed(expression, name, found)
        wanted = expression_type(view.fields_[field].dtype)
        if wanted is None:
            raise ExpressionError(f"no expression has the type {view.fields_[field].type}")
        expression = expression.converted(wanted)
        arguments = expression.names
        used = tuple(inputs[name] for name in arguments if name != NOW)
        return Inlined(expression, used, arguments)


def _as_served(expression: Expression, found: Input) -> Expression:
    """Return the value that a derived feature is served with: its default if it is null."""
    if found.spec.default is None:
        return expression
    codec = codec_of(found.spec.dtype)
    return expression.or_default(codec.decode(found.spec.encode(found.spec.default)))


def _renamed(expression: Expression, name: str, found: Input) -> Expression:
    """Return the expression with the full name of an input."""
    full_name, type_ = found.full_name, found.type
    if name == full_name or type_ is None:
        return expression
    return substitute(expression, name, parse(full_name, {full_name: type_}))


def _function_arguments(spec: DerivedField, scope: Scope) -> Inlined:
    names = spec.inputs or ()
    inputs = {name: scope.inputs[name] for name in names if name != NOW}
    if any(each.kind == "derived" for each in inputs.values()):
        raise ExpressionError("a function takes stored features and request values only")
    arguments = tuple(NOW if name == NOW else inputs[name].full_name for name in names)
    return Inlined(None, tuple(inputs.values()), arguments)


def names_in(text: str) -> Iterator[tuple[str, int]]:
    """Yield what may be names in the text of an expression, each with its offset."""
    for match in _STRING_OR_NAME.finditer(text):
        if match[1] is not None:
            yield re.sub(r"\s", "", match[1]), match.start()
