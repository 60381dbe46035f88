"""What all models of definitions share: frozen, and closed to keys they do not know."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from featurekit.models.scalars import FilledText, FlagOrText, Name, ScalarText, Text


def _one_of(schema: dict[str, Any], model: type[Model]) -> None:
    if model.exactly_one:
        schema["oneOf"] = [{"required": [key]} for key in model.exactly_one]


class Model(BaseModel):
    """A mapping of a definition file.

    Attributes:
        exactly_one: Keys of which exactly one must be given.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", ser_json_inf_nan="constants", json_schema_extra=_one_of
    )
    exactly_one: ClassVar[tuple[str, ...]] = ()

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        given = [key for key in self.exactly_one if getattr(self, key) is not None]
        if self.exactly_one and len(given) != 1:
            names = " and ".join(f"'{key}'" for key in self.exactly_one)
            raise PydanticCustomError("exactly_one", f"expected exactly one of {names}")
        return self


def needs(key: str, message: str) -> PydanticCustomError:
    """The error for a key that means something only beside another `key`."""
    return PydanticCustomError("needs", "{message}", {"key": key, "message": message})


class Described(Model):
    """The descriptive keys: read by people and generated docs, obeyed by nothing else."""

    description: Text = Field(
        default="", description="What it is, for people; as `description: A cardholder.`"
    )
    owner: Text = Field(
        default="", description="Who answers for it; as `owner: risk@example.com`."
    )
    tags: dict[FilledText, ScalarText] = Field(
        default={}, description='Labels of your own, all of them text; as `tags: {tier: "1"}`.'
    )
    deprecated: FlagOrText = Field(
        default=False,
        description="That it is on its way out, or why; as `deprecated: use tx_count_30d`.",
    )


class Named(Described):
    """Something declared under a name."""

    name: Name = Field(
        description="Its name, unique among its kind: lower-case letters, digits and `_`; "
        "as `name: user`."
    )
