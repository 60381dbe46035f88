"""Plans of derived views: features that are computed when they are read."""

from __future__ import annotations

from dataclasses import dataclass

from featurekit.expressions import Expression
from featurekit.plan.fields import FieldPlan, find_plan


@dataclass(frozen=True, slots=True)
class RequestPlan:
    """Values that a caller sends along with a read.

    Attributes:
        name: The name of the declaration.
        fields: The values; one with a default may be left out.
    """

    name: str
    fields: tuple[FieldPlan, ...]


@dataclass(frozen=True, slots=True)
class FunctionPlan:
    """A function of Python that computes a feature.

    Attributes:
        callable: The function, as `module:function`.
        source_hash: The SHA-256 of the module's source in hex, when it was applied.
        names: The names of its arguments, in order; `now` is the time of the read.
    """

    callable: str
    source_hash: str
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DerivedInput:
    """A value that a derived feature is computed from.

    Attributes:
        name: Its name among the arguments, `view.field`.
        source: The name of the stored view or of the request declaration.
        field: The stored feature, or the field of the request.
        is_request: Whether a caller sends it.
    """

    name: str
    source: str
    field: FieldPlan
    is_request: bool = False


@dataclass(frozen=True, slots=True)
class DerivedFeature:
    """One feature that is computed when it is read. Other derived features are inlined.

    Attributes:
        field: Its name, type and default.
        inputs: What it is computed from, in the order of the arguments; `now` is not among them.
        compute: The expression, whose value is of the field's type, or the function. Its `names` are the
            arguments: names of inputs and `now`.
        text: The expression as it is declared, or the function.
    """

    field: FieldPlan
    inputs: tuple[DerivedInput, ...]
    compute: Expression | FunctionPlan
    text: str = ""

    @property
    def name(self) -> str:
        """The name of the field."""
        return self.field.name


@dataclass(frozen=True, slots=True)
class DerivedViewPlan:
    """A view of features that are computed when they are read."""

    name: str
    features: tuple[DerivedFeature, ...]

    def feature(self, name: str) -> DerivedFeature:
        """Return a feature by name.

        Raises:
            UnknownNameError: The view has no such feature.
        """
        return find_plan("field", self.features, name, where=f"feature view {self.name}")
