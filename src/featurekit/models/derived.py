"""Models of what is computed when it is read: derived feature views and request data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import BeforeValidator, Field

from featurekit.expressions import Expression
from featurekit.models.fields import (
    ConstrainedValue,
    TypedValue,
    TypeName,
    expand_type_shorthand,
)
from featurekit.models.model import Model, Named
from featurekit.models.scalars import FieldName, Name, NonEmptyText
from featurekit.models.sources import FunctionPath


class RequestField(ConstrainedValue):
    """A value that a caller sends along with a read."""


RequestEntry = Annotated[
    RequestField,
    BeforeValidator(expand_type_shorthand, json_schema_input_type=TypeName | RequestField),
]


class Request(Named):
    """Request data: values that a caller sends along with a read, such as the amount of a payment."""

    fields_: Annotated[dict[FieldName, RequestEntry], Field(min_length=1)] = Field(
        alias="fields",
        description="Values by name, each a type or a mapping; one with a default may be left out; "
        "for example `fields: {amount: float64, currency: {type: string, default: NOK}}`.",
    )


class Derived(Model):
    """Where the inputs of a derived feature view come from."""

    from_: Annotated[tuple[Name, ...], Field(min_length=1)] = Field(
        alias="from",
        description="Feature views and request data whose fields expressions may name, "
        "for example `from: [user_profile, transaction]`.",
    )


class DerivedField(TypedValue):
    """A feature that is computed when it is read."""

    exactly_one: ClassVar[tuple[str, ...]] = ("expr", "callable")

    expr: NonEmptyText | None = Field(
        default=None,
        description="Expression over the inputs, the other fields of the view and `now`, the time of "
        'the read; for example `expr: "amount / nullif(avg_amount_30d, 0)"`.',
    )
    callable: FunctionPath | None = Field(
        default=None,
        description="Python function that computes the value, in a module of the repository's folder, "
        "for example `callable: risk_features:score`.",
    )
    inputs: Annotated[tuple[NonEmptyText, ...], Field(min_length=1)] | None = Field(
        default=None,
        description="Arguments of the function, in order, named as in expressions; for `callable` "
        "alone; for example `inputs: [amount, user_profile.country_iso]`.",
    )


class DerivedView(Named):
    """Features that are computed when they are read, from stored features and request data.

    Nothing of them is stored.
    """

    derived: Derived = Field(
        description="What the features are computed from, "
        "for example `derived: {from: [user_profile, transaction]}`."
    )
    fields_: Annotated[dict[FieldName, DerivedField], Field(min_length=1)] = Field(
        alias="fields",
        description="Features by name, for example "
        '`fields: {is_abroad: {type: bool, expr: "country_iso <> ip_country"}}`.',
    )


@dataclass(frozen=True, slots=True)
class FunctionSource:
    """The module of a `callable`.

    Attributes:
        sha256: The hash of its source, in hex.
    """

    sha256: str


Computation = Expression | FunctionSource
"""How a derived feature is computed: a checked expression, or the function that the field names."""
