"""Models of definition files: entities, feature views and feature services."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
)

from featurekit.errors import Problem, ValueRefusedError
from featurekit.expressions import BOOL, NOW, Expression, ExpressionError, parse
from featurekit.feature_lists import FeatureItem, ViewItem, global_entity, join_key_pairs
from featurekit.models.config import RepoConfig
from featurekit.models.derived import Computation, DerivedView, Request
from featurekit.models.fields import FieldSpec, InputSpec, TypeName, expand_type_shorthand
from featurekit.models.model import Model, Named, model_json_schema
from featurekit.models.scalars import (
    Duration,
    FieldName,
    Name,
    NonEmptyText,
    PositiveInt,
    PositiveShare,
    Share,
    Text,
    TimeOfDay,
    format_raw,
)
from featurekit.models.sources import BatchSource, EventHistory, KafkaSource, StreamSource
from featurekit.types import KEY_TYPES, expression_type, type_hint

_FEATURE_REF = r"[^:.\s]+(:[^:.\s]+)?"


def _validate_key_type(text: str) -> str:
    if text not in KEY_TYPES:
        raise ValueRefusedError(
            f"found {format_raw(text)}, expected a join key type", hint=type_hint(text, KEY_TYPES)
        )
    return text


def _validate_hash_tag(text: str) -> str:
    if not text or re.search(r"[\s{}\x00-\x1f\x7f]", text):
        raise ValueRefusedError(
            f"found {format_raw(text)}, expected text without braces, spaces or control characters"
        )
    return text


def _validate_feature_ref(text: str) -> str:
    if not re.fullmatch(_FEATURE_REF, text):
        raise ValueRefusedError(
            f"found {format_raw(text)}, expected view:field, or view for all its fields"
        )
    return text


def _refuse_mapping(raw: object) -> object:
    if isinstance(raw, dict) and len(raw) == 1:
        [(view, field)] = raw.items()
        raise ValueRefusedError(
            "found a mapping, expected view:field",
            hint=f"remove the space after the colon: {view}:{field}",
        )
    return raw


AnySource = BatchSource | StreamSource | EventHistory
KeyType = Annotated[
    Text, AfterValidator(_validate_key_type), WithJsonSchema({"enum": list(KEY_TYPES)})
]
FeatureRef = Annotated[
    Text,
    BeforeValidator(_refuse_mapping),
    AfterValidator(_validate_feature_ref),
    WithJsonSchema({"type": "string", "pattern": f"^{_FEATURE_REF}$"}),
]
FieldEntry = Annotated[
    FieldSpec,
    BeforeValidator(expand_type_shorthand, json_schema_input_type=TypeName | FieldSpec),
]


InputEntry = Annotated[
    InputSpec,
    BeforeValidator(expand_type_shorthand, json_schema_input_type=TypeName | InputSpec),
]


class EventId(Model):
    """The id of an event, by which a repeated one is known."""

    event_id: NonEmptyText = Field(
        description="Key of the event with its id, for example `event_id: transaction_id`."
    )


def _refuse_other_text(raw: object) -> object:
    if not isinstance(raw, dict | EventId) and raw not in ("source", "none"):
        raise ValueRefusedError(
            f"found {format_raw(raw)}, expected source, none or a mapping with event_id",
            hint="for example `once: {event_id: transaction_id}`",
        )
    return raw


Once = Annotated[
    Annotated[Literal["source", "none"], Tag("(text)")] | Annotated[EventId, Tag("(mapping)")],
    Discriminator(lambda raw: "(mapping)" if isinstance(raw, dict | EventId) else "(text)"),
    BeforeValidator(_refuse_other_text),
]


class HashTag(Model):
    """Hash tag of an entity's keys: keys with the same tag are on one shard of a cluster."""

    exactly_one: ClassVar[tuple[str, ...]] = ("literal", "join_key")

    literal: Annotated[Text, AfterValidator(_validate_hash_tag)] | None = Field(
        default=None,
        description="One tag for all entities, without braces, for example `literal: vip`.",
    )
    join_key: NonEmptyText | None = Field(
        default=None,
        description="Join key whose value is the tag, for example `join_key: region`.",
    )


class Entity(Named):
    """What features describe: a user, a card, a pair of rider and driver."""

    join_keys: Annotated[dict[FieldName, KeyType], Field(min_length=1)] = Field(
        description="Join keys that identify an entity, with their types (string, int64, int32 "
        "or date), in the order of the composite key, for example `join_keys: {user_id: string}`."
    )
    hash_tag: HashTag | None = Field(
        default=None,
        description="Hash tag for clusters: keys with the same tag are on one shard, "
        "for example `hash_tag: {join_key: region}`.",
    )


class Schedule(Model):
    """When loads of a batch view run, for training sets. It runs nothing.

    Loads start at `at` and every `every` before and after that, counted from the start of 1970 in UTC.
    """

    every: Duration = Field(
        description="Time between the starts of two loads, for example `every: 24h`."
    )
    at: TimeOfDay | None = Field(
        default=None,
        description="Time of day in UTC at which a load starts, midnight by default; "
        "for example `at: 02:00`.",
    )
    takes: Duration | None = Field(
        default=None,
        description="Time that a load takes, after which its rows are served; none by default; "
        "for example `takes: 10m`.",
    )


class EventLog(Model):
    """Log of the events that a stream view has accepted."""

    locations: ClassVar[tuple[str, ...]] = ("path",)

    path: NonEmptyText = Field(
        description="Folder of the Parquet files, relative to the repository's folder; `${VAR}` is expanded "
        "when they are written; for example `path: log/user_activity`."
    )


class FeatureLogging(Model):
    """Log of the features that a service has served."""

    locations: ClassVar[tuple[str, ...]] = ("path",)

    path: NonEmptyText = Field(
        description="Folder of the Parquet files, relative to the repository's folder; `${VAR}` is expanded "
        "when they are written; for example `path: log/fraud_v1`."
    )
    sample_rate: PositiveShare = Field(
        default=1.0,
        description="Share of the entities that are logged, above 0 and up to 1, all by default; "
        "for example `sample_rate: 0.01`.",
    )


class Batch(Model):
    """Refresh interval, expiry and source of a batch view."""

    refresh: Duration = Field(
        description="Expected interval between writes, for example `refresh: 24h`."
    )
    ttl: Duration | None = Field(
        default=None,
        description="Time to live after a write, by default twice `refresh`, "
        "for example `ttl: 48h`.",
    )
    expires: Literal["key", "field"] = Field(
        default="key",
        description="What expires: the entity's key, which one batch view of an entity may own, "
        "or each field of the view, for example `expires: field`.",
    )
    ordering: Literal["arrival", "event_time"] = Field(
        default="arrival",
        description="Which row wins: the last to arrive, or the one with the newest time, compared "
        "entity by entity in the store, for example `ordering: event_time`.",
    )
    future_rows: Literal["skip", "load"] = Field(
        default="skip",
        description="What a load does with rows whose time is after its own start: leave them out "
        "and count them, or load them; for example `future_rows: load`.",
    )
    min_rows: PositiveInt | None = Field(
        default=None,
        description="Rows that the source must have; with fewer, a load fails before it writes, "
        "for example `min_rows: 1000`.",
    )
    max_source_age: Duration | None = Field(
        default=None,
        description="Maximum age of the newest row of the source by its `timestamp_field`; if it "
        "is older, a load fails before it writes, for example `max_source_age: 36h`.",
    )
    max_rejected: Share | None = Field(
        default=None,
        description="Share of the rows that a load with `--on-bad-row skip` may reject, 0 to 1; "
        "with more, it stops and fails, for example `max_rejected: 0.01`.",
    )
    source: BatchSource | None = Field(
        default=None,
        description="Source of the rows; without one, use `featurekit write`; "
        "for example `source: {type: parquet, path: data/users.parquet}`.",
    )
    batch_source: BatchSource | None = Field(
        default=None,
        description="History of the rows that programs write into a view without a `source`, for "
        "training sets, for example `batch_source: {type: parquet, path: log/users, ...}`.",
    )
    lookback: Duration | None = Field(
        default=None,
        description="Maximum age of the rows that a load takes, by their `timestamp_field`; any age by "
        "default; for example `lookback: 7d`.",
    )
    schedule: Schedule | None = Field(
        default=None,
        description="When loads run, for training sets; it runs nothing; "
        "for example `schedule: {every: 24h, at: 02:00}`.",
    )

    @property
    def history(self) -> BatchSource | None:
        """The source that training sets read."""
        return self.source or self.batch_source

    @property
    def ttl_ms(self) -> int:
        """The effective TTL in milliseconds."""
        return self.ttl or 2 * self.refresh


class Stream(Model):
    """Refresh interval, expiry and source of a stream view."""

    refresh: Duration = Field(
        description="Expected interval between writes of a field, for example `refresh: 1m`."
    )
    ttl: Duration | None = Field(
        default=None,
        description="Time to live of a written field, by default five times `refresh`, "
        "for example `ttl: 5m`.",
    )
    ordering: Literal["arrival", "event_time"] = Field(
        default="arrival",
        description="Which write wins: the last to arrive, or the one with the newest event time, "
        "for example `ordering: event_time`.",
    )
    max_ahead: Duration = Field(
        default=300_000,
        description="How far ahead of the clock an event's time may be, 5m by default; events "
        "further ahead are refused; for example `max_ahead: 1h`.",
    )
    source: StreamSource | None = Field(
        default=None,
        description="Source of the events; without one, a program pushes them; "
        "for example `source: {type: redis_stream, stream: user-activity}`.",
    )
    batch_source: EventHistory | None = Field(
        default=None,
        description="History of the events, for training sets; `log` by default; "
        "for example `batch_source: {type: jsonl, path: events/*.jsonl, ...}`.",
    )
    log: EventLog | None = Field(
        default=None,
        description="Log of the events that were accepted, for example `log: {path: log/activity}`.",
    )
    once: Once | None = Field(
        default=None,
        description="What identifies a repeated event of a view with windows: its place in the `source`, which "
        "is the default with a source; its own id; or `none`, which counts it again; for example "
        "`once: {event_id: transaction_id}`.",
    )

    @property
    def ttl_ms(self) -> int:
        """The effective TTL in milliseconds."""
        return self.ttl or 5 * self.refresh


class FeatureView(Named):
    """Features of one entity, or of none, that are written together and expire by one rule."""

    exactly_one: ClassVar[tuple[str, ...]] = ("batch", "stream")

    entity: NonEmptyText | None = Field(
        default=None,
        description="Entity that the features describe; without one, the view has one row for all "
        "requests, such as an exchange rate; for example `entity: user`.",
    )
    batch: Batch | None = Field(
        default=None,
        description="Batch settings; mutually exclusive with `stream`, "
        "for example `batch: {refresh: 24h}`.",
    )
    stream: Stream | None = Field(
        default=None,
        description="Stream settings; mutually exclusive with `batch`, "
        "for example `stream: {refresh: 1m}`.",
    )
    inputs: dict[FieldName, InputEntry] = Field(
        default={},
        description="Values of an event that aggregates over windows are computed of, each a scalar type "
        "or a mapping; all fields of the view are aggregates then; "
        "for example `inputs: {amount: float64, merchant: string}`.",
    )
    fields_: Annotated[dict[FieldName, FieldEntry], Field(min_length=1)] = Field(
        alias="fields",
        description="Features by name, each a type or a mapping, for example "
        "`fields: {country_iso: string, tx_count_7d: {type: int64, default: 0}}`.",
    )

    @property
    def ingestion(self) -> Batch | Stream:
        """The `batch` or `stream` settings."""
        ingestion = self.batch or self.stream
        if ingestion is None:  # `exactly_one` refuses this; the check is for the type checker
            raise ValueRefusedError("neither 'batch' nor 'stream'")
        return ingestion

    def sources(self) -> Iterator[tuple[tuple[str, str], AnySource]]:
        """Yield the sources and histories, each with the keys that it is declared under."""
        for kind, settings in (("batch", self.batch), ("stream", self.stream)):
            for key in ("source", "batch_source"):
                source: AnySource | None = getattr(settings, key, None)
                if source is not None:
                    yield (kind, key), source

    @property
    def entity_name(self) -> str:
        """The entity, or the name that stands for it if the view has none."""
        return self.entity or global_entity(self.name)

    @property
    def owns_key(self) -> bool:
        """Whether its writes renew the TTL of the entity's key."""
        return self.batch is not None and self.batch.expires == "key"

    @property
    def event_time_field(self) -> str | None:
        """The hash field that holds the newest event time; `None` if the view keeps none."""
        settings = self.batch or self.stream
        ordered = settings is not None and settings.ordering == "event_time"
        return f"@{self.name}" if ordered else None

    @property
    def is_windowed(self) -> bool:
        """Whether its fields are aggregates over windows of events."""
        return any(spec.aggregate for spec in self.fields_.values())

    @property
    def once(self) -> Literal["offset", "group", "event_id", "none"]:
        """What identifies a repeated event of a view with windows."""
        stream = self.stream
        if stream is None or stream.once == "none":
            return "none"
        if isinstance(stream.once, EventId):
            return "event_id"
        if stream.source is None:
            return "none"
        return "offset" if isinstance(stream.source, KafkaSource) else "group"

    @property
    def event_id(self) -> str | None:
        """The event key with the id that identifies a repeated event; `None` without one."""
        once = self.stream.once if self.stream else None
        return once.event_id if isinstance(once, EventId) else None

    @property
    def guard_field(self) -> str | None:
        """The hash field that identifies repeated events of windows; `None` if the view keeps none."""
        has_guard = self.is_windowed and self.once in ("offset", "event_id")
        return f"@{self.name}" if has_guard else None

    def condition(self, name: str) -> Expression | None:
        """Return the condition that events must meet to be in an aggregate; `None` without one.

        Raises:
            ExpressionError: It is not a condition over the inputs.
        """
        if (text := self.fields_[name].where) is None:
            return None
        types = {given: expression_type(spec.dtype) for given, spec in self.inputs.items()}
        expression = parse(text, {given: type_ for given, type_ in types.items() if type_})
        if NOW in expression.names and NOW not in self.inputs:
            raise ExpressionError(
                "an event is in a window by its own time, not by 'now'", hint="use inputs alone"
            )
        if expression.type != BOOL:
            raise ExpressionError(f"found a condition of type {expression.type}, expected bool")
        return expression

    def field_ttl_ms(self, name: str) -> int:
        """Return a field's own TTL in milliseconds; 0 if the field expires with the key."""
        spec = self.fields_[name]
        if spec.window and spec.tile_ms:
            return spec.window + spec.tile_ms
        return 0 if self.owns_key else spec.ttl or self.ingestion.ttl_ms


class AliasedView(Model):
    """An item of a list of features: a view under another name, or with other join keys.

    So a view can be read for several entities of one request, such as the weather at two airports.
    """

    view: Name = Field(description="Feature view, for example `view: airport_weather`.")
    as_: Name | None = Field(
        default=None,
        alias="as",
        description="Alias: its features are named `{alias}__{field}`, for example `as: origin`.",
    )
    join_keys: dict[FieldName, FieldName] = Field(
        default={},
        description="Names that a request has for join keys of the view's entity; other join keys "
        "keep their names; for example `join_keys: {airport: origin}`.",
    )
    fields_: Annotated[tuple[FieldName, ...], Field(min_length=1)] | None = Field(
        default=None,
        alias="fields",
        description="Fields to read, by default all, for example `fields: [wind, visibility]`.",
    )

    @property
    def item(self) -> ViewItem:
        """The item that a plan is compiled from."""
        return ViewItem(self.view, self.as_, join_key_pairs(self.join_keys), self.fields_)


def _feature_form(raw: object) -> str:
    is_item = isinstance(raw, AliasedView) or (isinstance(raw, dict) and "view" in raw)
    return "(mapping)" if is_item else "(text)"


FeatureEntry = Annotated[
    Annotated[FeatureRef, Tag("(text)")] | Annotated[AliasedView, Tag("(mapping)")],
    Discriminator(_feature_form),
]
_FEATURE_ENTRIES: TypeAdapter[str | AliasedView] = TypeAdapter(FeatureEntry)


def parse_feature_entry(raw: object) -> FeatureItem | None:
    """Return an entry of a service's list of features; `None` if it is not valid."""
    try:
        entry = _FEATURE_ENTRIES.validate_python(raw)
    except ValidationError:
        return None
    return entry.item if isinstance(entry, AliasedView) else entry


class FeatureService(Named):
    """A named list of features that a model reads together."""

    features: Annotated[tuple[FeatureEntry, ...], Field(min_length=1)] = Field(
        description="Features in order: `view:field`, `view` for all fields of a view, or a mapping "
        "for a view under an alias, "
        "for example `features: [user_profile:tx_count_7d, user_activity]`."
    )
    logging: FeatureLogging | None = Field(
        default=None,
        description="Log of what was served, for example "
        "`logging: {path: log/fraud_v1, sample_rate: 0.01}`.",
    )

    @property
    def items(self) -> tuple[FeatureItem, ...]:
        """The features as items of a list."""
        return tuple(
            entry.item if isinstance(entry, AliasedView) else entry for entry in self.features
        )


def _view_form(raw: object) -> str:
    is_derived = isinstance(raw, DerivedView) or (isinstance(raw, dict) and "derived" in raw)
    return "(derived)" if is_derived else "(stored)"


ViewEntry = Annotated[
    Annotated[FeatureView, Tag("(stored)")] | Annotated[DerivedView, Tag("(derived)")],
    Discriminator(_view_form),
]


class Definitions(Model):
    """A definition file with up to four lists."""

    entities: tuple[Entity, ...] = Field(
        default=(), description="Entities, for example `entities: [{name: user, ...}]`."
    )
    requests: tuple[Request, ...] = Field(
        default=(),
        description="Request data, for example "
        "`requests: [{name: transaction, fields: {amount: float64}}]`.",
    )
    feature_views: tuple[ViewEntry, ...] = Field(
        default=(),
        description="Feature views, stored or derived, "
        "for example `feature_views: [{name: ..., ...}]`.",
    )
    feature_services: tuple[FeatureService, ...] = Field(
        default=(),
        description="Feature services, "
        "for example `feature_services: [{name: fraud_v1, features: [...]}]`.",
    )


def definitions_json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a definition file."""
    return model_json_schema(Definitions, "featurekit definitions")


@dataclass(frozen=True, slots=True)
class LoadedRepo:
    """A repository's configuration and definitions, checked.

    Attributes:
        root: The folder of `featurerepo.yaml`.
        config: The contents of `featurerepo.yaml`.
        entities: The entities, in the order of the files.
        feature_views: The feature views that are stored, in the order of the files.
        feature_services: The feature services, in the order of the files.
        warnings: Non-fatal problems in the definitions.
        derived_views: The feature views that are computed, in the order of the files.
        requests: The request data, in the order of the files.
        computations: How each derived feature is computed, by `view:field`.
    """

    root: Path
    config: RepoConfig
    entities: tuple[Entity, ...]
    feature_views: tuple[FeatureView, ...]
    feature_services: tuple[FeatureService, ...]
    warnings: tuple[Problem, ...] = ()
    derived_views: tuple[DerivedView, ...] = ()
    requests: tuple[Request, ...] = ()
    computations: Mapping[str, Computation] = field(default_factory=dict)
