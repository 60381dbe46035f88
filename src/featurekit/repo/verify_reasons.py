"""Why a value that is served may differ from what the history says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from featurekit.plan import FieldPlan, ViewPlan
from featurekit.repo.expected_values import OnlineRows, is_foreign, last_loads
from featurekit.repo.history import LoadRecord
from featurekit.repo.key_samples import SampledKey
from featurekit.repo.time_arguments import format_time_ms
from featurekit.training.verify import Difference, Kind, Served, text_of


@dataclass(frozen=True, slots=True)
class Explainer:
    """Describes values that differ.

    Attributes:
        view: The view.
        loads: Its recorded loads, if values were compared with them.
        is_loading: Whether a load of the view is running.
        is_unchanged: Whether the source is known to be as the last load read it.
    """

    view: ViewPlan
    loads: Sequence[LoadRecord]
    is_loading: bool
    is_unchanged: bool

    def example(
        self,
        field: FieldPlan,
        rows: OnlineRows,
        key: SampledKey,
        values: tuple[Served, Served],
        kind: Kind,
    ) -> Difference:
        """Describe one value that differs, `values` online and in the history."""
        doubt = self._doubt(rows, kind)
        if values[0].status == "stale":
            doubt = "the view has no live mark: its worker is silent, or late"
        return Difference(
            feature=f"{self.view.name}:{field.name}",
            kind="undecided" if doubt else kind,
            key=key.key.decode(errors="replace"),
            origin=key.origin,
            online=text_of(field, values[0]),
            recomputed=text_of(field, values[1]),
            read_ms=rows.before_ms,
            reason=doubt or self._reason(field, rows, key, values[0], kind),
        )

    def _doubt(self, rows: OnlineRows, kind: Kind) -> str:
        """Return why the history cannot say what the value should be; empty if it can."""
        if self.is_loading:
            return "a load of the view was running"
        for load in last_loads(self.loads, rows):
            at = format_time_ms(load.started_ms)
            if load.never_ended:
                return f"the load that began at {at} never ended"
            if is_foreign(load):
                return f"rows that are not from the source were loaded at {at}"
        if kind == "missing" and self.view.kind == "batch" and self.view.source is None:
            return (
                "it may have expired: its TTL counts from a write that the history does not have"
            )
        return ""

    def _reason(
        self, field: FieldPlan, rows: OnlineRows, key: SampledKey, online: Served, kind: Kind
    ) -> str:
        index = rows.keys.index(key)
        if online.status == "invalid":
            return f"the stored bytes are not a {field.dtype}: another program wrote them"
        if key.origin == "unknown":
            return "the key was invented for this check, so another program wrote it"
        if all(values[index].status == "absent" for values in rows.values.values()):
            return "the entity has no value at all: it was deleted or evicted"
        if (
            kind == "extra"
            and self.loads
            and all(_is_over(self.view, x, rows) for x in self.loads)
        ):
            return f"it should have expired: its TTL is over since {self._last}"
        cause = "the field was deleted" if kind == "missing" else "another program wrote it"
        return cause + self._alternative(kind)

    def _alternative(self, kind: Kind) -> str:
        """Return what else may be the cause, or why it is not."""
        if self.view.kind == "stream":
            return ", or the history does not have its last events yet"
        if not self.loads:
            return ""
        if self.is_unchanged:
            return f": the source has not changed since {self._last}"
        changed = "changed" if kind == "mismatch" else "deleted" if kind == "extra" else "added"
        late = ""
        if self.view.source is not None and not self.view.source.created_timestamp_field:
            late = ", or arrived late"
        return f", or the row was {changed} in the source after {self._last}{late}"

    @property
    def _last(self) -> str:
        return f"the load of {format_time_ms(self.loads[0].started_ms)}"


def _is_over(view: ViewPlan, load: LoadRecord, rows: OnlineRows) -> bool:
    return rows.before_ms > load.ended_ms + view.longest_ttl_ms
