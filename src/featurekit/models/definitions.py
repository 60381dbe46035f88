"""Definition files: entities, feature views and feature services."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic import WithJsonSchema as _Schema

from featurekit.errors import ValueRefusedError, nearest
from featurekit.models.fields import FieldSpec, TypeName
from featurekit.models.model import Model, Named
from featurekit.models.plain import Plain, found
from featurekit.models.scalars import Duration, FieldName, FilledText, Text
from featurekit.models.sources import BatchSource, StreamSource
from featurekit.types import KEY_TYPES

_FEATURE = r"[^:.\s]+(:[^:.\s]+)?"


def _key_type(text: str) -> str:
    if text not in KEY_TYPES:
        raise ValueRefusedError(
            f"found {found(text)}, expected a type for join keys", hint=nearest(text, KEY_TYPES)
        )
    return text


def _tag(text: str) -> str:
    if not text or re.search(r"[\s{}\x00-\x1f\x7f]", text):
        raise ValueRefusedError(
            f"found {found(text)}, expected text without braces, spaces and control characters"
        )
    return text


def is_feature(text: str) -> bool:
    """Whether a text has the form `view:field`, or `view`."""
    return re.fullmatch(_FEATURE, text) is not None


def _feature(text: str) -> str:
    if not is_feature(text):
        raise ValueRefusedError(
            f"found {found(text)}, expected view:field, or view for all of its fields"
        )
    return text


def _joined(raw: object) -> object:
    if isinstance(raw, dict) and len(raw) == 1:
        [(view, field)] = raw.items()
        raise ValueRefusedError(
            "found a mapping, expected view:field", hint=f"write no space: {view}:{field}"
        )
    return raw


def _longhand(raw: object) -> object:
    is_null = isinstance(raw, Plain) and raw.value is None
    return {"type": raw} if isinstance(raw, str) and not is_null else raw


KeyType = Annotated[Text, AfterValidator(_key_type), _Schema({"enum": list(KEY_TYPES)})]
FeatureRef = Annotated[
    Text,
    BeforeValidator(_joined),
    AfterValidator(_feature),
    _Schema({"type": "string", "pattern": f"^{_FEATURE}$"}),
]
FieldEntry = Annotated[
    FieldSpec, BeforeValidator(_longhand, json_schema_input_type=TypeName | FieldSpec)
]


class HashTag(Model):
    """What decides the shard of an entity's keys on a cluster."""

    exactly_one: ClassVar[tuple[str, ...]] = ("literal", "join_key")

    literal: Annotated[Text, AfterValidator(_tag)] | None = Field(
        default=None,
        description="One text for all entities, without braces; as `literal: vip`.",
    )
    join_key: FilledText | None = Field(
        default=None,
        description="The join key whose value decides; as `join_key: region`.",
    )


class Entity(Named):
    """What features are about: a user, a card, a pair of rider and driver."""

    join_keys: Annotated[dict[FieldName, KeyType], Field(min_length=1)] = Field(
        description="The keys that tell one entity from another, with their types (string, "
        "int64, int32 or date), in the order of the composite key; "
        "as `join_keys: {user_id: string}`."
    )
    hash_tag: HashTag | None = Field(
        default=None,
        description="What puts entities on one shard of a cluster; "
        "as `hash_tag: {join_key: region}`.",
    )


class Batch(Model):
    """How a batch view is written and expires."""

    refresh: Duration = Field(
        description="How often it is expected to be written; as `refresh: 24h`."
    )
    ttl: Duration | None = Field(
        default=None,
        description="How long a write lives; twice `refresh` by default; as `ttl: 48h`.",
    )
    expires: Literal["key", "field"] = Field(
        default="key",
        description="Whether a write renews the TTL of the entity's key, which one batch view "
        "of an entity may, or of each field; as `expires: field`.",
    )
    source: BatchSource | None = Field(
        default=None,
        description="Where its rows come from; without it they are written by "
        "`featurekit write`; as `source: {type: parquet, path: data/users.parquet}`.",
    )

    @property
    def ttl_ms(self) -> int:
        """The TTL that acts, in milliseconds."""
        return self.ttl or 2 * self.refresh


class Stream(Model):
    """How a stream view is written and expires."""

    refresh: Duration = Field(
        description="How often a field is expected to be written; as `refresh: 1m`."
    )
    ttl: Duration | None = Field(
        default=None,
        description="How long a written field lives; five times `refresh` by default; "
        "as `ttl: 5m`.",
    )
    ordering: Literal["arrival", "event_time"] = Field(
        default="arrival",
        description="Whether the last write to arrive wins, or the one of the newest event; "
        "as `ordering: event_time`.",
    )
    source: StreamSource | None = Field(
        default=None,
        description="Where its events come from; without it a program pushes them; "
        "as `source: {type: redis_stream, stream: user-activity}`.",
    )

    @property
    def ttl_ms(self) -> int:
        """The TTL that acts, in milliseconds."""
        return self.ttl or 5 * self.refresh


class FeatureView(Named):
    """Features of one entity that are written together and expire by one rule."""

    exactly_one: ClassVar[tuple[str, ...]] = ("batch", "stream")

    entity: FilledText = Field(description="The entity it is about; as `entity: user`.")
    batch: Batch | None = Field(
        default=None,
        description="That it is written in batches, and how; either this or `stream`; "
        "as `batch: {refresh: 24h}`.",
    )
    stream: Stream | None = Field(
        default=None,
        description="That it is written event by event, and how; either this or `batch`; "
        "as `stream: {refresh: 1m}`.",
    )
    fields_: Annotated[dict[FieldName, FieldEntry], Field(min_length=1)] = Field(
        alias="fields",
        description="Its features by name, each a type or a mapping; "
        "as `fields: {country_iso: string, tx_count_7d: {type: int64, default: 0}}`.",
    )

    @property
    def how(self) -> Batch | Stream:
        """The one of `batch` and `stream` that it has."""
        how = self.batch or self.stream
        if how is None:  # refused by `exactly_one`, so this is for the type checker
            raise ValueRefusedError("neither 'batch' nor 'stream'")
        return how

    @property
    def owns_key(self) -> bool:
        """Whether its writes renew the TTL of the entity's key."""
        return self.batch is not None and self.batch.expires == "key"

    @property
    def event_time_field(self) -> str | None:
        """The hash field that holds the newest event time; `None` if the view keeps none."""
        ordered = self.stream is not None and self.stream.ordering == "event_time"
        return f"@{self.name}" if ordered else None

    def field_ttl_ms(self, name: str) -> int:
        """The TTL of a field of its own, in milliseconds; 0 where the key's covers it."""
        return 0 if self.owns_key else self.fields_[name].ttl or self.how.ttl_ms


class FeatureService(Named):
    """A named list of features that a model asks for together."""

    features: Annotated[tuple[FeatureRef, ...], Field(min_length=1)] = Field(
        description="Its features in order: `view:field`, or `view` for all fields of a view; "
        "as `features: [user_profile:tx_count_7d, user_activity]`."
    )


def expand_features(
    references: Iterable[str], fields: Mapping[str, Iterable[str]]
) -> Iterator[tuple[str, str]]:
    """Yield the (view, field) pairs of `view:field` and `view` references.

    Args:
        references: The references, in order.
        fields: The field names of each view.
    """
    for reference in references:
        view, colon, field = reference.partition(":")
        for name in [field] if colon else fields[view]:
            yield view, name


class Definitions(Model):
    """A definition file: any of three lists."""

    entities: tuple[Entity, ...] = Field(
        default=(), description="What features are about; as `entities: [{name: user, ...}]`."
    )
    feature_views: tuple[FeatureView, ...] = Field(
        default=(), description="Groups of features; as `feature_views: [{name: ..., ...}]`."
    )
    feature_services: tuple[FeatureService, ...] = Field(
        default=(),
        description="Lists of features to be read together; "
        "as `feature_services: [{name: fraud_v1, features: [...]}]`.",
    )
