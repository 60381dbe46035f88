"""What a feature set costs in memory and reads, as measured with a sample. Plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Origin = Literal["source", "history", "example", "invented"]
"""Where the values of a field come from: a batch source, a history of events, a file of examples, or its type."""

Basis = Literal["measured", "computed"]


@dataclass(frozen=True, slots=True)
class FieldCost:
    """The memory of one field.

    Attributes:
        view: Its view.
        name: The field.
        dtype: Its type.
        origin: Where its values come from.
        share: The share of entities that have it.
        value_bytes: The mean size of a value.
        max_value_bytes: The size of the longest value in the sample.
        bytes: What an entity needs less without the field.
        causes_wide: Whether its values are longer than a compact hash may hold.
    """

    view: str
    name: str
    dtype: str
    origin: Origin
    share: float
    value_bytes: float
    max_value_bytes: int
    bytes: float
    causes_wide: bool


@dataclass(frozen=True, slots=True)
class Choice:
    """Another way to store an entity.

    Attributes:
        name: What to change.
        bytes: The memory of an entity.
        total_bytes: That of all entities.
        basis: Whether it was measured with a sample, or computed because the server would have to be
            configured.
    """

    name: str
    bytes: float
    total_bytes: int
    basis: Basis


@dataclass(frozen=True, slots=True)
class ReadCost:
    """How long reads of all features of an entity take from here.

    Attributes:
        entities: Entities in one read.
        median_us: The median, in microseconds.
        p99_us: The 99th percentile.
    """

    entities: int
    median_us: float
    p99_us: float


@dataclass(frozen=True, slots=True)
class EntityEstimate:
    """The cost of one entity.

    Attributes:
        entity: The entity.
        count: How many there will be.
        sample: How many were written and measured.
        bytes: The memory of one, with its part of the server's tables.
        key_bytes: The part of it that has no field: the key, the hash and the tables.
        total_bytes: The memory of all.
        encodings: The share of entities with each encoding of the hash.
        views: What an entity needs less without a view, by view.
        fields: The fields.
        wide_because: Why hashes are not compact; empty if they are.
        choices: What else would save memory, the cheapest first.
        reads: How long reads take.
        server_us: The CPU time of the server for each entity in a read, in microseconds; `None` if it
            does not report it.
    """

    entity: str
    count: int
    sample: int
    bytes: float
    key_bytes: float
    total_bytes: int
    encodings: Mapping[str, float]
    views: Mapping[str, float]
    fields: tuple[FieldCost, ...]
    wide_because: tuple[str, ...]
    choices: tuple[Choice, ...]
    reads: tuple[ReadCost, ...]
    server_us: float | None


@dataclass(frozen=True, slots=True)
class EstimateReport:
    """The result of `FeatureStore.data.estimate`.

    Attributes:
        store: The store's address.
        server: The server and its version, such as `valkey 9.1.2`.
        allocator: The server's memory allocator.
        servers: How many servers share the entities.
        used_bytes: The memory that the servers use now.
        max_bytes: Their `maxmemory` in all; 0 for no limit.
        entities: The entities.
        notes: What the estimate assumes.
    """

    store: str
    server: str
    allocator: str
    servers: int
    used_bytes: int
    max_bytes: int
    entities: tuple[EntityEstimate, ...]
    notes: tuple[str, ...]

    @property
    def total_bytes(self) -> int:
        """The memory of all entities."""
        return sum(each.total_bytes for each in self.entities)

    @property
    def fits(self) -> bool:
        """Whether the servers have a limit that this would stay below, or none."""
        return not self.max_bytes or self.used_bytes + self.total_bytes <= self.max_bytes

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data, for JSON."""
        return {**asdict(self), "total_bytes": self.total_bytes, "fits": self.fits}
