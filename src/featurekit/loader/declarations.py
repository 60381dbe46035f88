"""The entities, views and services that a repository's files declare, before cross checks."""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Generic, TypeGuard, TypeVar

from pydantic import BaseModel

from featurekit.derivations import Derivations
from featurekit.errors import name_hint
from featurekit.loader.document import Document
from featurekit.loader.partial_parse import parse_partially
from featurekit.loader.problems import LocatedProblem, Path, SourceLocation
from featurekit.loader.validation import ValidationTarget, field_label, validate
from featurekit.models.definitions import Definitions, Entity, FeatureService, FeatureView
from featurekit.models.derived import DerivedView, Request
from featurekit.models.model import Named
from featurekit.models.scalars import PlainScalar, format_raw

N = TypeVar("N", bound=Named)
N_co = TypeVar("N_co", bound=Named, covariant=True)


@dataclass(frozen=True, slots=True)
class Declaration(Generic[N_co]):
    """One declaration and its location.

    Attributes:
        model: The valid part of the declaration.
        label: Its name in messages, for example `feature view 'user_profile'`.
        data: The mapping in the file, valid or not.
        document: The file.
        path: The path in the file.
    """

    model: N_co
    label: str
    data: dict[str, object]
    document: Document
    path: Path

    def at(self, *path: str | int) -> SourceLocation:
        """Return the location of a value in it, or of the nearest enclosing one."""
        return self.document.at((*self.path, *path))

    def key_at(self, *path: str | int) -> SourceLocation:
        """Return the location of a key in it."""
        return self.document.key_at((*self.path, *path))

    def at_character(self, offset: int, *path: str | int) -> SourceLocation:
        """Return the location of a character of a text in it, such as an expression."""
        return self.document.at_character((*self.path, *path), str(self.raw(*path)), offset)

    def names(self, key: str) -> list[str] | None:
        """Return all names in a mapping of it, valid or not; `None` without a mapping."""
        mapping = self.data.get(key)
        return list(mapping) if isinstance(mapping, dict) else None

    def field(self, name: str) -> str:
        """Return a field's label for messages."""
        return field_label(self.label, name)

    def raw(self, *path: str | int) -> object:
        """Return a value as the file has it; `None` if it is missing."""
        value: object = self.data
        for part in path:
            if isinstance(value, dict):
                value = value.get(part)
            elif isinstance(value, list) and isinstance(part, int):
                value = value[part]
            else:
                return None
        return value


@dataclass(slots=True)
class Declarations:
    """Everything that the files declare.

    Attributes:
        entities: The entities, including the valid part of those with errors.
        feature_views: The feature views that are stored, also partial.
        feature_services: The feature services, also partial.
        unnamed: The kinds with a declaration whose name is invalid, so any name may be meant.
        is_partial: Whether a file or list is unreadable, so any name may be declared in it.
        problems: The problems so far.
        derived_views: The feature views that are computed, also partial.
        requests: The request data, also partial.
        derivations: The derived features of which all inputs are valid.
    """

    entities: list[Declaration[Entity]] = field(default_factory=list)
    feature_views: list[Declaration[FeatureView]] = field(default_factory=list)
    feature_services: list[Declaration[FeatureService]] = field(default_factory=list)
    unnamed: set[str] = field(default_factory=set)
    is_partial: bool = False
    problems: list[LocatedProblem] = field(default_factory=list)
    derived_views: list[Declaration[DerivedView]] = field(default_factory=list)
    requests: list[Declaration[Request]] = field(default_factory=list)
    derivations: Derivations | None = None

    def add(self, document: Document) -> None:
        """Add the declarations and problems of a file."""
        self.problems += document.problems
        data = document.data
        if data is None:
            self.is_partial |= bool(document.problems)
            return
        if isinstance(data, PlainScalar) and data.value is None:
            return
        if not isinstance(data, dict):
            message = f"found {format_raw(data)}, expected {', '.join(Definitions.model_fields)}"
            hint = "start with one of these keys, with its list below it"
            self._add_unreadable(document.at(()), message, hint)
            return
        for key, items in data.items():
            kind = key if key in Definitions.model_fields else _closest_list(key)
            if kind != key:
                hint = name_hint(kind or key, Definitions.model_fields)
                location = document.key_at((key,))
                self.problems.append(LocatedProblem(location, f"unknown key '{key}'", hint))
                self.is_partial |= kind is None
            if kind is not None:
                self._add_list(document, (key,), kind, items)

    def _add_unreadable(self, location: SourceLocation, message: str, hint: str) -> None:
        self.problems.append(LocatedProblem(location, message, hint))
        self.is_partial = True

    def _add_list(self, document: Document, path: Path, kind: str, items: object) -> None:
        if isinstance(items, PlainScalar) and items.value is None:
            return
        if not isinstance(items, list):
            hint = "start each item with a dash: - name: ..." if isinstance(items, dict) else ""
            message = f"{path[0]}: found {format_raw(items)}, expected a list"
            self._add_unreadable(document.at(path), message, hint)
            return
        for index, data in enumerate(items):
            item_path: Path = (*path, index)
            match kind:
                case "entities":
                    self._add_item(Entity, self.entities, document, item_path, data)
                case "requests":
                    self._add_item(Request, self.requests, document, item_path, data)
                case "feature_views" if _is_derived(data):
                    rest = self._without_stored_keys(document, item_path, data)
                    self._add_item(DerivedView, self.derived_views, document, item_path, rest)
                case "feature_views":
                    self._add_item(FeatureView, self.feature_views, document, item_path, data)
                case _:
                    self._add_item(
                        FeatureService, self.feature_services, document, item_path, data
                    )

    def _without_stored_keys(
        self, document: Document, path: Path, data: dict[str, object]
    ) -> dict[str, object]:
        """Refuse the keys of stored views in a derived view; return the others."""
        for key in _STORED_KEYS & {*data}:
            message = f"unknown key '{key}' in a derived feature view"
            hint = "remove it, or `derived`: a view is stored or derived"
            if key == "entity":
                hint = "remove it; the entities of a derived view are those of its inputs"
            self.problems.append(LocatedProblem(document.key_at((*path, key)), message, hint))
        return {key: value for key, value in data.items() if key not in _STORED_KEYS}

    def _add_item(
        self,
        model: type[N],
        declarations: list[Declaration[N]],
        document: Document,
        path: Path,
        data: object,
    ) -> None:
        kind = _KIND_LABELS[model]
        name = data.get("name") if isinstance(data, dict) else None
        is_named = isinstance(name, str) and bool(name.strip())
        label = f"{kind} {format_raw(str(name))}" if is_named else f"{kind} {int(path[-1]) + 1}"
        valid, problems = validate(model, ValidationTarget(document, path, data, label))
        self.problems += problems
        if not isinstance(data, dict):
            self.unnamed.add(kind)
            return
        parsed = valid or parse_partially(model, data)
        if not parsed.name:
            misspelled = next(iter(get_close_matches("name", data, n=1)), "")
            likely_name = name if is_named else data.get(misspelled)
            parsed = parsed.model_copy(update={"name": str(likely_name or "")})
            if is_named or not parsed.name:
                self.unnamed.add(kind)
        declarations.append(Declaration(parsed, label, data, document, path))


_STORED_KEYS = {"entity", "batch", "stream"}
"""Keys that only stored views have."""


def _is_derived(data: object) -> TypeGuard[dict[str, object]]:
    """Return whether a feature view has the key `derived`, or instead of others one that is like it."""
    if not isinstance(data, dict):
        return False
    others = {"name", "fields", *_STORED_KEYS}
    is_misspelled = get_close_matches("derived", {*data} - others, n=1, cutoff=0.8)
    return "derived" in data or bool(is_misspelled and not _STORED_KEYS & {*data})


def _closest_list(key: str) -> str | None:
    """Return the list that a misspelled key probably means."""
    close = get_close_matches(key, Definitions.model_fields, n=1)
    with_suffix = [known for known in Definitions.model_fields if known.endswith(f"_{key}")]
    return next(iter([*close, *with_suffix]), None)


_KIND_LABELS: dict[type[BaseModel], str] = {
    Entity: "entity",
    FeatureView: "feature view",
    DerivedView: "feature view",
    Request: "request",
    FeatureService: "feature service",
}
