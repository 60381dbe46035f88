"""Annotations of features and join keys in generated Python."""

from __future__ import annotations

from collections.abc import Iterator, Set

from featurekit.codegen.python.imports import Imports
from featurekit.codegen.python.text import quoted
from featurekit.plan import FieldPlan
from featurekit.signatures import FeatureType
from featurekit.types import DType, codec_of


class Annotations:
    """Writes annotations in one scope.

    Args:
        imports: Collects the names that they use.
        shadowed: The names that mean something else in this scope, such as a feature named `date`.
    """

    def __init__(self, imports: Imports, shadowed: Set[str] = frozenset()) -> None:
        self._imports = imports
        self._shadowed = shadowed

    def use(self, name: str) -> str:
        """Return how to refer to a name in this scope."""
        return self._imports.use(name, self._shadowed)

    def key(self, dtype: DType) -> str:
        """Return the annotation of a join key."""
        return self.use(codec_of(dtype).python_type)

    def read(self, field: FieldPlan) -> str:
        """Return the annotation of a feature of a row: without a default, it may be missing."""
        return self._value(field) if field.default is not None else f"{self._value(field)} | None"

    def write(self, field: FieldPlan) -> str:
        """Return the annotation of a value to write; `None` deletes the stored one."""
        return " | ".join(self._written(field))

    def _value(self, field: FieldPlan) -> str:
        if choices := FeatureType.of(field.name, field).one_of:
            return f"{self.use('Literal')}[{', '.join(map(quoted, choices))}]"
        if element := _element(field.dtype):
            return f"{self.use('list')}[{self.use(element)}]"
        return self.use(codec_of(field.dtype).python_type)

    def _written(self, field: FieldPlan) -> Iterator[str]:
        codec = codec_of(field.dtype)
        if element := _element(field.dtype):
            value = self.use(element)
            yield f"{self.use('list')}[{value}]"
            yield f"{self.use('tuple')}[{value}, ...]"
            yield self.use("Array")
        elif codec.any_json:
            yield self.use("Json")
        else:
            yield self._value(field)
            yield from map(self.use, codec.also_written)
        if not field.constraints.required:
            yield "None"


def _element(dtype: DType) -> str | None:
    """Return the Python type of the elements of an array or vector; `None` for other types."""
    if dtype.element:
        return codec_of(DType(dtype.element)).python_type
    return "float" if dtype.size else None
