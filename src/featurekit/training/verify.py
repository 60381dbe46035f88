"""The report of a verification: what the online store serves against what the history says.

A value is read online between two moments. What a read should have returned is computed for both. A
difference counts only if it is one at both moments, so that a load, an event or an expiry during the
read is not taken for a fault.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from featurekit.plan import FieldPlan
from featurekit.types import codec_of

Kind = Literal["equal", "mismatch", "missing", "extra", "undecided"]
"""How a value compares: `missing` is only in the history, `extra` only in the store. `undecided` values
differ while a load of their view was running."""

KINDS: tuple[Kind, ...] = ("equal", "mismatch", "missing", "extra", "undecided")

Origin = Literal["labels", "source", "store", "unknown"]
"""Where a sampled key comes from; `unknown` keys are invented, and must have no values."""


@dataclass(frozen=True, slots=True)
class Served:
    """A value as a read returns it.

    Attributes:
        value: The value; `None` if there is none, even if the field has a default.
        status: Its status: `present`, `invalid`, `absent`, or `stale`: of windows without a live mark.
    """

    value: object
    status: Literal["present", "invalid", "absent", "stale"]

    @classmethod
    def of(cls, value: object, status: str) -> Served:
        """Return the value of a read without its default."""
        if status == "present":
            return cls(value, "present")
        if status == "stale":
            return STALE
        return cls(None, "invalid") if status == "invalid" else ABSENT


ABSENT = Served(None, "absent")
STALE = Served(None, "stale")


def compare_value(online: Served, recomputed: Sequence[Served], *, tolerance: float = 0.0) -> Kind:
    """Return how a value read online compares with all that a read could have returned.

    Of several possible values, it must equal one; otherwise the first one says what is wrong. Floats may
    differ by a tolerance, relative to them or to 1.
    """
    if any(_same(online, each, tolerance) for each in recomputed):
        return "equal"
    if online.status == "stale":
        return "undecided"
    if online.status == "absent":
        return "missing"
    if recomputed[0].status == "absent" and online.status == "present":
        return "extra"
    return "mismatch"


def _same(a: Served, b: Served, tolerance: float) -> bool:
    if a.status != b.status or a.status == "invalid":
        return False
    if tolerance and isinstance(a.value, float) and isinstance(b.value, float):
        return math.isclose(a.value, b.value, rel_tol=tolerance, abs_tol=tolerance)
    return same_value(a.value, b.value)


def same_value(a: object, b: object) -> bool:
    """Return whether two values are equal; `nan` equals `nan`, also within lists."""
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same_value, a, b))
    both_nan = isinstance(a, float) and isinstance(b, float) and a != a and b != b  # noqa: PLR0124
    return both_nan or a == b


@dataclass(frozen=True, slots=True)
class FeatureCheck:
    """How the sampled values of a feature compare.

    Attributes:
        name: The feature, as `view:field`.
        equal: Values that are the same in the store and in the history, or in neither.
        mismatch: Values that differ, or that cannot be decoded.
        missing: Values that only the history has.
        extra: Values that only the store has.
        undecided: Values that the history cannot judge: differences while a load of the view was
            running, and windows without a live mark.
        invented: Those of the equal values that are of invented keys.
    """

    name: str
    equal: int = 0
    mismatch: int = 0
    missing: int = 0
    extra: int = 0
    undecided: int = 0
    invented: int = 0

    @property
    def differences(self) -> int:
        """Values that differ for certain."""
        return self.mismatch + self.missing + self.extra

    @property
    def is_compared(self) -> bool:
        """Whether a value is equal or differs that is not of an invented key."""
        return self.equal - self.invented + self.differences > 0


@dataclass(frozen=True, slots=True)
class Difference:
    """One value that differs.

    Attributes:
        feature: The feature, as `view:field`.
        kind: How it differs.
        key: The key of the entity's hash.
        origin: Where the key comes from.
        online: The value in the store as text; `None` if there is none.
        recomputed: The value of the history as text; `None` if there is none.
        read_ms: When it was read, by the server's clock.
        reason: Why it may be.
    """

    feature: str
    kind: Kind
    key: str
    origin: Origin
    online: str | None
    recomputed: str | None
    read_ms: int
    reason: str


@dataclass(frozen=True, slots=True)
class ViewCheck:
    """What the values of a view were compared with.

    Attributes:
        name: The view.
        as_of: When rows of its history counted; `loads`: what the recorded loads took.
        loaded_ms: The start of the last load; `None` if there was none, or if it does not matter.
    """

    name: str
    as_of: str
    loaded_ms: int | None = None


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """The result of `FeatureStore.verify`.

    Attributes:
        request: The service's name, or `features` for a list.
        registry: The registry's fingerprint.
        started_ms: The server's time before the first read.
        ended_ms: The server's time after the last read.
        keys: For each entity the number of keys from each origin.
        views: What the values were compared with.
        features: How many values compare in which way.
        examples: Some of the values that differ or are undecided, a few for each feature.
        left_out: Derived features that cannot be computed here: they need values of a request, or a
            function that cannot be called.
    """

    request: str
    registry: str
    started_ms: int
    ended_ms: int
    keys: Mapping[str, Mapping[Origin, int]]
    views: tuple[ViewCheck, ...]
    features: tuple[FeatureCheck, ...]
    examples: tuple[Difference, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def differences(self) -> int:
        """Values that differ for certain."""
        return sum(feature.differences for feature in self.features)

    @property
    def values(self) -> int:
        """Values that were read, with those that are undecided."""
        return sum(sum(getattr(f, kind) for kind in KINDS) for f in self.features)

    @property
    def undecided(self) -> int:
        """Values that the history cannot judge."""
        return sum(feature.undecided for feature in self.features)

    @property
    def not_compared(self) -> tuple[str, ...]:
        """Features of which no value could be compared, but for those of invented keys."""
        return tuple(feature.name for feature in self.features if not feature.is_compared)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data, for JSON."""
        return {
            **asdict(self),
            "values": self.values,
            "differences": self.differences,
            "undecided": self.undecided,
            "not_compared": self.not_compared,
        }


def text_of(field: FieldPlan, served: Served) -> str | None:
    """Return a value for people; `None` if there is none."""
    if served.status != "present":
        return None if served.status == "absent" else served.status
    return codec_of(field.dtype).display_text(served.value)


def count_kinds(name: str, kinds: Iterable[tuple[Kind, bool]]) -> FeatureCheck:
    """Return the counts of one feature, of how each value compares and whether its key is invented."""
    counts = Counter(kinds)
    by_kind = {kind: counts[kind, False] + counts[kind, True] for kind in KINDS}
    return FeatureCheck(name, **by_kind, invented=counts["equal", True])
