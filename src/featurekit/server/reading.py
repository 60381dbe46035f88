"""Reading: lists of features made ready to be answered over HTTP.

What can be prepared once is: the compiled reader, how each column is spelled, and which columns
are of one entity. It is made anew when the registry is another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from featurekit.compiler import compile_read
from featurekit.errors import RequestError, ValueRefusedError
from featurekit.plan import FieldPlan, ReadColumn, ReadGroup, ReadPlan, RepoPlan
from featurekit.repo.serving import max_age_ms
from featurekit.runtime.reader import OnlineReader
from featurekit.server.context import ServerContext
from featurekit.server.json_values import Spell, speller
from featurekit.types import Codec, DType, codec_of

MOST = 256
"""Lists of features that are kept ready."""

Asked = str | tuple[str, ...]
"""A feature service by name, or `view:field` and `view`."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One list of features, ready to be answered.

    Attributes:
        repo: The registry it was made from.
        reader: Reads it.
        columns: The features, in order, without what was read beside them.
        names: Their names.
        spells: How the values of each are spelled.
        clocks: The views whose newest event time is read beside them.
        dates: The join keys that JSON has as text and the reader as something else.
    """

    repo: RepoPlan
    reader: OnlineReader
    columns: tuple[ReadColumn, ...]
    names: tuple[str, ...]
    spells: tuple[Spell | None, ...]
    clocks: tuple[str, ...]
    dates: Mapping[str, Codec]

    def column_of(self, name: str, values: list[Any]) -> list[Any]:
        """A column of join keys as the reader takes it, from how JSON has it."""
        codec = self.dates.get(name)
        if codec is None:
            return values
        try:
            return [codec.from_json(value) for value in values]
        except ValueRefusedError as error:
            raise ValueRefusedError(error.message, where=f"join key {name}") from error


class ReaderCache:
    """The lists of features that were asked for, each made ready once.

    Args:
        site: What is served.
        words: How floats that are not finite are spelled.
        clocks: Whether to read the newest event time of each view that keeps it, as one more
            column, an int64 named by `clock_name`.
    """

    def __init__(
        self, site: ServerContext, words: Mapping[str, str], *, clocks: bool = False
    ) -> None:
        self._store = site.store
        self._most = site.limits.entities
        self._words = words
        self._clocks = clocks
        self._made: dict[object, Reading] = {}

    def of(
        self, asked: Asked, max_age: object = None, *, full_names: bool, freshness: bool = False
    ) -> Reading:
        """The reading of a list of features.

        Args:
            asked: Which.
            max_age: How old the values of some views may be: `{"user_activity": "2m"}`.
            full_names: Whether they are named `view__field`.
            freshness: Whether to ask how long each value has to live, too.

        Raises:
            UnknownNameError: There is no such service, view or field.
            RequestError: The list is empty, or cannot be asked for in one request.
            RegistryError: Nothing is applied yet.
        """
        ages_ms = max_age_ms(max_age) if max_age else ()
        key = (asked, ages_ms, full_names, freshness)
        made = self._made.get(key)
        repo = self._store.compiled
        if made is None or made.repo is not repo:
            plan = compile_read(
                repo, asked, full_feature_names=full_names, max_age_ms=dict(ages_ms)
            )
            made = self._make(repo, plan, freshness=freshness)
            if len(self._made) >= MOST:
                self._made.clear()
            self._made[key] = made
        return made

    def check_count(self, count: int) -> None:
        """Refuse more entities than a request may have."""
        if count > self._most:
            raise RequestError(
                f"{count} entities are more than the {self._most} of one request",
                hint="ask in several requests, or raise --max-entities",
            )

    def _make(self, repo: RepoPlan, plan: ReadPlan, *, freshness: bool) -> Reading:
        keys = {part.name: part.dtype for group in plan.groups for part in group.key.join_keys}
        return Reading(
            repo=repo,
            reader=self._store.readers.reader_for_plan(
                with_clocks(plan) if self._clocks else plan, freshness=freshness
            ),
            columns=plan.columns,
            names=tuple(column.name for column in plan.columns),
            clocks=tuple(
                {c.view: None for c in plan.columns if self._clocks and c.event_time_field}
            ),
            spells=tuple(speller(c.field.dtype, self._words) for c in plan.columns),
            dates={name: codec_of(d) for name, d in keys.items() if d.kind == "date"},
        )


def clock_name(view: str) -> str:
    """The column with a view's newest event time; no field is named so."""
    return f"_event_time_{view}"


def with_clocks(plan: ReadPlan) -> ReadPlan:
    """The plan with a column more for each view that keeps event time."""
    views = {c.view: (c, c.event_time_field) for c in plan.columns if c.event_time_field}
    groups, columns = list(plan.groups), list(plan.columns)
    for view, (column, field) in views.items():
        fields = groups[column.group].fields
        groups[column.group] = ReadGroup(groups[column.group].key, (*fields, field))
        columns.append(
            replace(
                column,
                name=clock_name(view),
                field=FieldPlan(field, DType("int64")),
                slot=len(fields),
                event_time_field=None,
                min_remaining_ttl_ms=None,
            )
        )
    return replace(plan, groups=tuple(groups), columns=tuple(columns))
