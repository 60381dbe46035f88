"""Base classes of all models: frozen, strict about unknown keys, and exported as JSON Schema."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from featurekit.models.scalars import FlagOrText, Name, NonEmptyText, ScalarText, Text

APPLIED = "applied"
"""Key of the validation context that is true for an applied registry."""

JSON_SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def _add_one_of(schema: dict[str, Any], model: type[Model]) -> None:
    if model.exactly_one:
        schema["oneOf"] = [{"required": [key]} for key in model.exactly_one]


class Model(BaseModel):
    """A mapping of a definition file.

    Attributes:
        exactly_one: Mutually exclusive keys; one of them must be given.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", ser_json_inf_nan="constants", json_schema_extra=_add_one_of
    )
    exactly_one: ClassVar[tuple[str, ...]] = ()

    @model_validator(mode="after")
    def _check_exactly_one(self) -> Self:
        given = [key for key in self.exactly_one if getattr(self, key) is not None]
        if self.exactly_one and len(given) != 1:
            names = " and ".join(f"'{key}'" for key in self.exactly_one)
            raise PydanticCustomError("exactly_one", f"expected exactly one of {names}")
        return self


def requires_key(key: str, message: str) -> PydanticCustomError:
    """Return the error for a key that is valid only if another `key` is given."""
    return PydanticCustomError("needs", "{message}", {"key": key, "message": message})


class Described(Model):
    """A model with the descriptive keys, which only people and generated docs use."""

    description: Text = Field(
        default="", description="Description for people, for example `description: A cardholder.`"
    )
    owner: Text = Field(
        default="",
        description="Person or team responsible, for example `owner: risk@example.com`.",
    )
    tags: dict[NonEmptyText, ScalarText] = Field(
        default={},
        description='Your own labels; all values are text, for example `tags: {tier: "1"}`.',
    )
    deprecated: FlagOrText = Field(
        default=False,
        description="Deprecation flag, or the reason, for example `deprecated: use tx_count_30d`.",
    )


class Named(Described):
    """A model that is declared under a name."""

    name: Name = Field(
        description="Name, unique among its kind: lower-case letters, digits and `_`, "
        "for example `name: user`."
    )


def model_json_schema(model: type[Model], title: str) -> dict[str, Any]:
    """Return a model's JSON Schema, as strict as the loader."""
    schema = _strict_schema(model.model_json_schema())
    return {"$schema": JSON_SCHEMA_DIALECT, **schema, "title": title}


def _strict_schema(schema: Any) -> Any:
    """Close mappings, and drop null: the loader expects an unset key to be left out."""
    if isinstance(schema, list):
        return [_strict_schema(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {key: _strict_schema(part) for key, part in schema.items()}
    if strict.get("default", ...) is None:
        del strict["default"]
    if "patternProperties" in strict:
        strict["additionalProperties"] = False
    choices = [part for part in strict.get("anyOf", []) if part != {"type": "null"}]
    if len(choices) == 1:
        del strict["anyOf"]
        return {**choices[0], **strict}
    return {**strict, "anyOf": choices} if choices else strict
