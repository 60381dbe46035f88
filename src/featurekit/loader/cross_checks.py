"""Check declarations against one another, and values against their types.

The checks use the valid part of each declaration, so that one error does not hide another. They
skip everything that depends on an invalid part.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from featurekit.errors import name_hint
from featurekit.loader.dead_letters import dead_letter_problems
from featurekit.loader.declarations import Declaration, Declarations
from featurekit.loader.derived_checks import AnyView, DerivedChecks, request_problems
from featurekit.loader.histories import history_problems, log_problems
from featurekit.loader.locations import location_problems, log_location_problems
from featurekit.loader.problems import LocatedProblem
from featurekit.loader.service_checks import service_problems
from featurekit.loader.values import value_problems
from featurekit.loader.windows import window_problems
from featurekit.models.definitions import Entity, FeatureService, FeatureView
from featurekit.models.model import Named
from featurekit.models.scalars import format_raw

RESERVED_NAMES = frozenset(
    {
        # Attributes of a row.
        *("error", "found", "found_by", "freshness", "keys", "statuses", "to_dict"),
        # Attributes of a response.
        *("ages", "columns", "entities", "errors", "feature_names", "is_complete"),
        *("statuses_by_row", "to_arrow", "to_df", "to_json", "to_numpy", "to_pandas", "to_rows"),
        # Keys of a row over HTTP.
        *("entity", "features"),
    }
)
"""Names that a feature may not have, because rows and responses have attributes or keys of that name."""


def cross_check(declarations: Declarations, root: Path) -> None:
    """Add the problems between declarations to `declarations.problems`."""
    problems = declarations.problems
    views: list[AnyView] = [*declarations.feature_views, *declarations.derived_views]
    problems += _duplicates("entity", declarations.entities)
    problems += _duplicates("feature view", views)
    problems += _duplicates("request", declarations.requests)
    problems += _duplicates("feature service", declarations.feature_services)
    for item in declarations.entities:
        problems += _check_hash_tag(item)
    _check_stored_views(declarations)
    for view in declarations.derived_views:
        problems += _check_reserved_names(view)
    problems += request_problems(declarations)
    derived_checks = DerivedChecks(declarations, root)
    problems += derived_checks.problems()
    declarations.derivations = derived_checks.derivations

    def unknown_view(name: str) -> tuple[str, str] | None:
        return _unknown_name(declarations, "feature view", name, views)

    for service in declarations.feature_services:
        problems += _check_service_name(service, views)
        problems += service_problems(declarations, service, unknown_view)
        problems += log_location_problems(service)


def _check_stored_views(declarations: Declarations) -> None:
    problems = declarations.problems
    entities = {item.model.name: item for item in declarations.entities}
    for view in declarations.feature_views:
        problems += _check_entity_exists(declarations, view)
        problems += value_problems(view)
        problems += _check_reserved_names(view)
        problems += _check_field_ttls(view)
        problems += _check_load_limits(view)
        problems += _check_ordering(view)
        problems += window_problems(view)
        problems += history_problems(view)
        problems += location_problems(view)
        entity = entities.get(view.model.entity_name)
        if entity is not None:
            problems += _check_field_names(view, entity)
            problems += _check_columns(view, entity.names("join_keys"))
        elif view.model.entity is None and not problems:  # else `entity` may be misspelled
            problems += _check_columns(view, [])
    problems += _duplicate_fields(declarations.feature_views)
    problems += _duplicate_key_owners(declarations.feature_views)
    problems += dead_letter_problems(declarations.feature_views)
    problems += log_problems(declarations)


def _duplicates(kind: str, items: Sequence[Declaration[Named]]) -> Iterator[LocatedProblem]:
    first: dict[str, Declaration[Named]] = {}
    for item in items:
        name = item.model.name
        other = first.setdefault(name, item)
        if name and other is not item:
            message = f"{kind} '{name}' is declared twice, first at {other.at('name')}"
            yield LocatedProblem(item.at("name"), message)


def _check_hash_tag(item: Declaration[Entity]) -> Iterator[LocatedProblem]:
    tag, known = item.model.hash_tag, item.names("join_keys")
    key = tag.join_key if tag else None
    if key is not None and known is not None and key not in known:
        yield LocatedProblem(
            item.at("hash_tag", "join_key"),
            f"{item.label}: hash_tag: unknown join key {format_raw(key)}",
            name_hint(key, known),
        )


def _unknown_name(
    declarations: Declarations, kind: str, name: str, items: Sequence[Declaration[Named]]
) -> tuple[str, str] | None:
    """Return message and hint for an undeclared name; `None` if an unreadable part may have it."""
    known = [item.model.name for item in items if item.model.name]
    if not name or name in known or declarations.is_partial or kind in declarations.unnamed:
        return None
    return f"unknown {kind} {format_raw(name)}", name_hint(name, known)


def _check_entity_exists(
    declarations: Declarations, item: Declaration[FeatureView]
) -> Iterator[LocatedProblem]:
    if unknown := _unknown_name(
        declarations, "entity", item.model.entity or "", declarations.entities
    ):
        yield LocatedProblem(item.at("entity"), f"{item.label}: {unknown[0]}", unknown[1])


def _owns_key(view: FeatureView) -> bool:
    """Return whether the view owns the key; one with both `batch` and `stream` may not."""
    return view.owns_key and view.stream is None


def _check_field_ttls(item: Declaration[FeatureView]) -> Iterator[LocatedProblem]:
    view = item.model
    for name, spec in view.fields_.items() if _owns_key(view) else ():
        if spec.ttl is not None:
            yield LocatedProblem(
                item.key_at("fields", name, "ttl"),
                f"{item.field(name)}: ttl has no effect, because the view expires with the "
                "entity's key",
                "remove it, or set `expires: field` under `batch`",
            )


def _check_load_limits(item: Declaration[FeatureView]) -> Iterator[LocatedProblem]:
    batch = item.model.batch
    if batch is None or item.names("batch") is None:
        return
    has_source = "source" in (item.names("batch") or ())
    for key, value in (("min_rows", batch.min_rows), ("max_source_age", batch.max_source_age)):
        if value is not None and not has_source:
            yield LocatedProblem(
                item.key_at("batch", key),
                f"{item.label}: {key} has no effect, because the view has no source",
                "remove it, or add a `source:` under `batch`",
            )
    if batch.max_source_age and batch.source and batch.source.timestamp_field is None:
        yield LocatedProblem(
            item.key_at("batch", "max_source_age"),
            f"{item.label}: max_source_age needs the times of the rows",
            "add `timestamp_field:` to the source",
        )


def _check_ordering(item: Declaration[FeatureView]) -> Iterator[LocatedProblem]:
    batch = item.model.batch
    if batch is None or batch.ordering != "event_time" or batch.source is None:
        return
    if batch.source.timestamp_field is None:
        yield LocatedProblem(
            item.key_at("batch", "ordering"),
            f"{item.label}: ordering: event_time needs the times of the rows",
            "add `timestamp_field:` to the source",
        )


def _check_field_names(
    item: Declaration[FeatureView], entity: Declaration[Entity]
) -> Iterator[LocatedProblem]:
    join_keys = entity.names("join_keys") or ()
    for name in item.names("fields") or ():
        if name in join_keys:
            yield LocatedProblem(
                item.key_at("fields", name),
                f"{item.field(name)} has the name of a join key of {entity.label}",
                "rename the field; join keys are already part of the key",
            )
    for name in item.names("inputs") or ():
        if name in join_keys:
            yield LocatedProblem(
                item.key_at("inputs", name),
                f"{item.label}: inputs.{name} has the name of a join key of {entity.label}",
                "rename the input; a join key is one value in each window of an entity",
            )


def _check_reserved_names(item: AnyView) -> Iterator[LocatedProblem]:
    for name in item.names("fields") or ():
        if name in RESERVED_NAMES:
            yield LocatedProblem(
                item.key_at("fields", name),
                f"{item.field(name)} has a reserved name: it is an attribute or a key of rows and "
                "responses",
                "rename the field",
            )


def _check_columns(
    item: Declaration[FeatureView], join_keys: list[str] | None
) -> Iterator[LocatedProblem]:
    view = item.model
    fields = item.names("fields")
    if fields is None or join_keys is None:
        return
    kind, names = ("input", item.names("inputs") or []) if view.is_windowed else ("field", fields)
    known = [*names, *join_keys]
    for keys, source in view.sources():
        for column in source.columns:
            if column not in known:
                yield LocatedProblem(
                    item.key_at(*keys, "columns", column),
                    f"{item.label}: columns: unknown {kind} or join key {format_raw(column)}",
                    name_hint(column, known),
                )


def _duplicate_fields(views: Sequence[Declaration[FeatureView]]) -> Iterator[LocatedProblem]:
    first: dict[tuple[str, str], Declaration[FeatureView]] = {}
    for item in views:
        entity = item.model.entity
        for name in item.names("fields") or () if entity else ():
            other = first.setdefault((entity or "", name), item)
            if other.label != item.label:
                yield LocatedProblem(
                    item.key_at("fields", name),
                    f"{item.field(name)}: {other.label} ({other.key_at('fields', name)}) already "
                    f"declares '{name}' for entity '{entity}'",
                    "rename one of the fields; all views of an entity share one hash",
                )


def _duplicate_key_owners(views: Sequence[Declaration[FeatureView]]) -> Iterator[LocatedProblem]:
    first: dict[str, Declaration[FeatureView]] = {}
    for item in views:
        entity = item.model.entity
        if not (entity and _owns_key(item.model)):
            continue
        other = first.setdefault(entity, item)
        if other.label != item.label:
            yield LocatedProblem(
                item.at("batch"),
                f"{item.label} cannot set the TTL of entity '{entity}': {other.label} "
                f"({other.at('batch')}) already sets it",
                "a key has one TTL; set `expires: field` under `batch` of one of the views",
            )


def _check_service_name(
    item: Declaration[FeatureService], views: Sequence[AnyView]
) -> Iterator[LocatedProblem]:
    for view in views:
        if item.model.name and view.model.name == item.model.name:
            yield LocatedProblem(
                item.at("name"),
                f"{item.label} has the name of a feature view ({view.at('name')})",
                "rename the service; a read could mean either",
            )
