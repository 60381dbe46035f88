"""What all models of definitions share: frozen, and closed to keys they do not know."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from featurekit.models.scalars import FilledText, FlagOrText, Name, ScalarText, Text


class Model(BaseModel):
    """A mapping of a definition file."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


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
