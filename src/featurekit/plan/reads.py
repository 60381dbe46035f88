"""Plans of reads."""

from __future__ import annotations

from dataclasses import dataclass

from featurekit.keys import KeyPlan
from featurekit.plan.derived import DerivedFeature
from featurekit.plan.fields import FieldPlan


@dataclass(frozen=True, slots=True)
class ReadColumn:
    """One feature of a read.

    Attributes:
        name: The column's name in the response.
        view: The view that the feature belongs to.
        field: The feature.
        group: The index into `ReadPlan.groups` of the hash that holds it.
        slot: The index into that group's fields.
        event_time_field: The hash field that holds the view's newest event time, if there is one.
        min_remaining_ttl_ms: The TTL that a value must have left; with less, it is older than
            this read allows. The field's own TTL counts, or else the key's. `None` for any age.
        max_event_age_ms: How old the view's newest event time may be, if it is stored; `None` for
            any age, and where TTLs count from event times.
        alias: The name that stands for the view in this read, if it has one.
        max_mark_age_ms: How old the mark of the view may be, if it has one; a window under an older
            mark, or none, is stale.
    """

    name: str
    view: str
    field: FieldPlan
    group: int
    slot: int
    event_time_field: str | None = None
    min_remaining_ttl_ms: int | None = None
    max_event_age_ms: int | None = None
    alias: str | None = None
    max_mark_age_ms: int | None = None

    @property
    def is_event_time(self) -> bool:
        """Whether this column holds a view's event time, which is read beside the features."""
        return self.field.name.startswith("@")


@dataclass(frozen=True, slots=True)
class RequestColumn:
    """A value of a request: a field that the caller sends, for each row or for all."""

    name: str
    field: FieldPlan


@dataclass(frozen=True, slots=True)
class DerivedColumn:
    """One feature of a read that is computed from others.

    Attributes:
        name: The column's name in the response.
        view: The derived view that it belongs to.
        feature: What is computed.
        arguments: For each input of the feature, the index into `ReadPlan.stored`, or into
            `ReadPlan.requests` for a value of the request.
        alias: The name that stands for the view in this read, if it has one.
    """

    name: str
    view: str
    feature: DerivedFeature
    arguments: tuple[int, ...]
    alias: str | None = None

    @property
    def field(self) -> FieldPlan:
        """The name, type and default of the feature."""
        return self.feature.field

    @property
    def is_event_time(self) -> bool:
        """Whether this column holds a view's event time: never."""
        return False


Column = ReadColumn | DerivedColumn
"""One feature of a response."""


@dataclass(frozen=True, slots=True)
class ReadGroup:
    """The fields that a read takes from the hash of one entity, in order, each once.

    Attributes:
        key: How its key is built, from the join keys as a request names them.
        fields: The hash fields.
        alias: The alias of its views, if they have one.
    """

    key: KeyPlan
    fields: tuple[str, ...]
    alias: str | None = None

    @property
    def is_global(self) -> bool:
        """Whether the hash is that of a view without an entity, which joins every row."""
        return not self.key.join_keys

    @property
    def name(self) -> str:
        """The name of the group in a response: the alias, or else the entity."""
        return self.alias or self.key.entity


@dataclass(frozen=True, slots=True)
class MarkPlan:
    """Where the workers of a view say up to when all events are in its windows.

    Attributes:
        view: The stream view.
        key: The key of a hash with a time in milliseconds for each partition or consumer. The least
            is the view's mark.
    """

    view: str
    key: bytes


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """How a list of features is read.

    Attributes:
        name: The service's name, or `features` for a list.
        groups: One group for each entity and each alias that the features belong to.
        columns: The features, in the order of the response.
        fingerprint: The fingerprint of the compiled registry.
        arrays: Whether vectors are decoded to numpy arrays, if numpy is installed, instead of lists.
        inputs: Stored features that only derived ones need; they are not in the response.
        requests: The values that a caller must send along.
        ignored_request_values: The other values of the same declarations, which a caller may send.
        marks: The marks of views with windows, which are read in the same round trip.
    """

    name: str
    groups: tuple[ReadGroup, ...]
    columns: tuple[Column, ...]
    fingerprint: str = ""
    arrays: bool = False
    inputs: tuple[ReadColumn, ...] = ()
    requests: tuple[RequestColumn, ...] = ()
    ignored_request_values: tuple[str, ...] = ()
    marks: tuple[MarkPlan, ...] = ()

    @property
    def stored(self) -> tuple[ReadColumn, ...]:
        """The features that are read from the store: those of the response, then the inputs."""
        columns = (column for column in self.columns if isinstance(column, ReadColumn))
        return (*columns, *self.inputs)

    @property
    def derived(self) -> tuple[DerivedColumn, ...]:
        """The features of the response that are computed."""
        return tuple(column for column in self.columns if isinstance(column, DerivedColumn))

    @property
    def join_keys(self) -> tuple[str, ...]:
        """The join keys that a request must contain: those of all groups, each once."""
        return tuple(dict.fromkeys(k.name for g in self.groups for k in g.key.join_keys))

    def identifying_groups(self) -> list[ReadGroup]:
        """Return the groups whose keys identify a row; they contain the join keys of all others."""
        needed: list[ReadGroup] = []
        for group in sorted(self.groups, key=lambda g: -len(g.key.join_keys)):
            known = {part.name for other in needed for part in other.key.join_keys}
            if not {part.name for part in group.key.join_keys} <= known:
                needed.append(group)
        return needed
