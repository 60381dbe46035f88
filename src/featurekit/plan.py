"""Plans: what is to be done with each view, entity and read, decided once.

A plan is plain data: compiled once, then only read. It can be printed, compared, and pickled
to a worker. It knows nothing of YAML, does no I/O, and reads no clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from featurekit.errors import UnknownNameError
from featurekit.keys import KeyPlan
from featurekit.types import DType

Bound = int | float | Decimal | None


@dataclass(frozen=True, slots=True)
class Checks:
    """What a value must hold to besides its type.

    Attributes:
        min: Least value, for numbers; `None` for no bound.
        max: Greatest value, for numbers.
        one_of: The values allowed, as bytes in the hash; empty for any.
        pattern: A regular expression that the whole string matches; empty for none.
        max_length: Most characters, bytes or elements; 0 for no bound.
        required: Whether null is refused.
        allow_nan: Whether `nan`, `inf` and `-inf` are values.
    """

    min: Bound = None
    max: Bound = None
    one_of: tuple[bytes, ...] = ()
    pattern: str = ""
    max_length: int = 0
    required: bool = False
    allow_nan: bool = False


@dataclass(frozen=True, slots=True)
class FieldPlan:
    """One feature: a field of the hash.

    Attributes:
        name: The hash field.
        dtype: Its type.
        checks: What written values must hold to.
        default: What a reader gives where nothing is stored, as bytes in the hash; or `None`.
        ttl_ms: The field's own TTL; 0 where the view's key TTL covers it.
    """

    name: str
    dtype: DType
    checks: Checks = Checks()
    default: bytes | None = None
    ttl_ms: int = 0


@dataclass(frozen=True, slots=True)
class SourcePlan:
    """Where the rows of a batch view come from.

    Attributes:
        type: `parquet`, `csv`, `jsonl`, `sql` or `python`.
        paths: Files, folders or globs, relative to the repository's folder.
        query: The SQL of a `sql` source.
        callable: `module:function` of a `python` source.
        timestamp_field: The column that tells when a row became true; empty for file order.
        created_timestamp_field: The column that breaks ties; may be empty.
        columns: Pairs of (field or join key, column of the source) where the two differ.
        options: Further pairs of the source type, as `("delimiter", ";")`.
    """

    type: str
    paths: tuple[str, ...] = ()
    query: str = ""
    callable: str = ""
    timestamp_field: str = ""
    created_timestamp_field: str = ""
    columns: tuple[tuple[str, str], ...] = ()
    options: tuple[tuple[str, str], ...] = ()

    def column(self, name: str) -> str:
        """The source's column for a field or join key."""
        return dict(self.columns).get(name, name)


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """Where the events of a stream view come from: a type and its settings."""

    type: str
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ViewPlan:
    """How one feature view is written.

    Attributes:
        name: The view.
        kind: `batch` or `stream`.
        key: How its rows' keys are made.
        fields: Its features, in declared order.
        expires: `key`: each write renews the key's TTL. `field`: each field has its own.
        ttl_ms: The TTL that a write sets; fields of their own TTL have it in `FieldPlan`.
        refresh_ms: How often the view is expected to be written.
        retired: Fields of the entity that are declared no more; a batch write deletes them.
        ordering: `arrival` or `event_time`.
        source: Where a batch view's rows come from, if from anywhere.
        stream: Where a stream view's events come from, if from anywhere.
    """

    name: str
    kind: str
    key: KeyPlan
    fields: tuple[FieldPlan, ...]
    expires: str
    ttl_ms: int
    refresh_ms: int
    retired: tuple[str, ...] = ()
    ordering: str = "arrival"
    source: SourcePlan | None = None
    stream: StreamPlan | None = None

    @property
    def event_time_field(self) -> str:
        """The hash field with the newest event time, where the view keeps one; else empty."""
        return f"@{self.name}" if self.ordering == "event_time" else ""

    def field(self, name: str) -> FieldPlan:
        """The field of that name.

        Raises:
            UnknownNameError: The view has none.
        """
        for field in self.fields:
            if field.name == name:
                return field
        raise UnknownNameError.among(
            "field", name, [f.name for f in self.fields], where=f"feature view {self.name}"
        )


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """A named list of features: pairs of (view, field), in order."""

    name: str
    features: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class EntityPlan:
    """One entity: its keys, and the fields that were once declared for it."""

    name: str
    key: KeyPlan
    retired: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RepoPlan:
    """All that a repository declares, compiled.

    Attributes:
        project: The project's name.
        prefix: The key prefix.
        fingerprint: Of the registry that this was compiled from.
    """

    project: str
    prefix: str
    fingerprint: str
    entities: tuple[EntityPlan, ...] = ()
    views: tuple[ViewPlan, ...] = ()
    services: tuple[ServicePlan, ...] = ()

    def view(self, name: str) -> ViewPlan:
        """The view of that name; `UnknownNameError` if there is none."""
        for view in self.views:
            if view.name == name:
                return view
        raise UnknownNameError.among("feature view", name, [v.name for v in self.views])

    def service(self, name: str) -> ServicePlan:
        """The service of that name; `UnknownNameError` if there is none."""
        for service in self.services:
            if service.name == name:
                return service
        raise UnknownNameError.among("feature service", name, [s.name for s in self.services])

    def entity(self, name: str) -> EntityPlan:
        """The entity of that name; `UnknownNameError` if there is none."""
        for entity in self.entities:
            if entity.name == name:
                return entity
        raise UnknownNameError.among("entity", name, [e.name for e in self.entities])


@dataclass(frozen=True, slots=True)
class ReadColumn:
    """One feature of a read.

    Attributes:
        name: Its name in the answer.
        view: The view it belongs to.
        field: What it is.
        group: Index into `ReadPlan.groups`: whose hash it is in.
        slot: Index into that group's fields.
        event_time_field: The hash field with the view's newest event time; empty for none.
        least_ttl_ms: What a value must have left of its TTL, or it is older than this read allows;
            `None` for a value of any age. Of the field's own TTL if it has one, else of the key's.
    """

    name: str
    view: str
    field: FieldPlan
    group: int
    slot: int
    event_time_field: str = ""
    least_ttl_ms: int | None = None

    @property
    def is_event_time(self) -> bool:
        """Whether it is a view's event time, read beside the features."""
        return self.field.name.startswith("@")


@dataclass(frozen=True, slots=True)
class ReadGroup:
    """The fields that a read takes from the hash of one entity, each once, in order."""

    key: KeyPlan
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """How one list of features is read.

    Attributes:
        name: The service's name, or `features` for a list.
        groups: One for each entity that the features belong to.
        columns: The features, in the order of the answer.
        fingerprint: Of the registry that this was compiled from.
    """

    name: str
    groups: tuple[ReadGroup, ...]
    columns: tuple[ReadColumn, ...]
    fingerprint: str = ""

    @property
    def join_keys(self) -> tuple[str, ...]:
        """The join keys that a request names: those of all groups, each once."""
        return tuple(dict.fromkeys(k.name for g in self.groups for k in g.key.join_keys))
