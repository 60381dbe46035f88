"""Plans of fields: what one value of a feature is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from featurekit.constraints import UNCONSTRAINED, Constraints
from featurekit.errors import UnknownNameError
from featurekit.expressions import Expression
from featurekit.types import DType

AggregateFunction = Literal["count", "sum", "min", "max", "mean", "stddev", "count_distinct"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AggregatePlan:
    """An aggregate of the events of a sliding window.

    Attributes:
        function: What is computed.
        of: The input that it is computed of; `None` for a `count` of events.
        window_ms: The length of the window, a multiple of `tile_ms`.
        tile_ms: The length of the tiles that are kept, counted from the start of 1970 in UTC.
        where: The condition that an event must meet, over the view's inputs.
        where_text: Its text.
        definition: Three hex digits of the hash of what the stored tiles mean: the function, `of`,
            `where` and their types. Tiles of another definition read as empty.
        is_zero_if_empty: Whether a window without events is 0, not missing: a count of a view whose
            mark shows that its worker runs.
    """

    function: AggregateFunction
    of: str | None = None
    window_ms: int
    tile_ms: int
    where: Expression | None = None
    where_text: str | None = None
    definition: str = "000"
    is_zero_if_empty: bool = False

    @property
    def tiles(self) -> int:
        """The number of whole tiles of a window; it also has the one under way."""
        return self.window_ms // self.tile_ms

    @property
    def head(self) -> str:
        """How stored tiles begin: the length of a tile in seconds and the definition, as `60.3fa@`."""
        return f"{self.tile_ms // 1000}.{self.definition}@"


@dataclass(frozen=True, slots=True)
class FieldPlan:
    """One feature, stored as one field of a hash.

    Attributes:
        name: The name of the hash field.
        dtype: The type of its values.
        constraints: Rules that written values must meet.
        default: The stored bytes of the value that a reader returns for a missing field.
        ttl_ms: The field's own TTL; 0 if the key's TTL covers it.
        aggregate: How it is computed from events; `None` if its value is written as it is.
    """

    name: str
    dtype: DType
    constraints: Constraints = UNCONSTRAINED
    default: bytes | None = None
    ttl_ms: int = 0
    aggregate: AggregatePlan | None = None


class NamedPlan(Protocol):
    """A plan that has a name."""

    @property
    def name(self) -> str:
        """The name."""


T = TypeVar("T", bound=NamedPlan)


def find_plan(kind: str, plans: Iterable[T], name: str, where: str = "") -> T:
    """Return a plan by name.

    Raises:
        UnknownNameError: There is none of that name; the hint has the nearest one.
    """
    plans = tuple(plans)
    for plan in plans:
        if plan.name == name:
            return plan
    raise UnknownNameError.among(kind, name, [plan.name for plan in plans], where=where)
