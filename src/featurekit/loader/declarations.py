"""The entities, views and services that a repository's files declare, before cross checks."""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Generic, TypeVar

from pydantic import BaseModel

from featurekit.errors import name_hint
from featurekit.loader.document import Document
from featurekit.loader.partial_parse import parse_partially
from featurekit.loader.problems import LocatedProblem, Path, SourceLocation
from featurekit.loader.validation import ValidationTarget, field_label, validate
from featurekit.models.definitions import Definitions, Entity, FeatureService, FeatureView
from featurekit.models.model import Named
from featurekit.models.scalars import PlainScalar, format_raw

N = TypeVar("N", bound=Named)


@dataclass(frozen=True, slots=True)
class Declaration(Generic[N]):
    """One declaration and its location.

    Attributes:
        model: The valid part of the declaration.
        label: Its name in messages, for example `feature view 'user_profile'`.
        data: The mapping in the file, valid or not.
        document: The file.
        path: The path in the file.
    """

    model: N
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
        feature_views: The feature views, also partial.
        feature_services: The feature services, also partial.
        unnamed: The kinds with a declaration whose name is invalid, so any name may be meant.
        is_partial: Whether a file or list is unreadable, so any name may be declared in it.
        problems: The problems so far.
    """

    entities: list[Declaration[Entity]] = field(default_factory=list)
    feature_views: list[Declaration[FeatureView]] = field(default_factory=list)
    feature_services: list[Declaration[FeatureService]] = field(default_factory=list)
    unnamed: set[str] = field(default_factory=set)
    is_partial: bool = False
    problems: list[LocatedProblem] = field(default_factory=list)

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

    def _add_unreadable(self, location: SourceLocation, message: str, hint: str = "") -> None:
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
                case "feature_views":
                    self._add_item(FeatureView, self.feature_views, document, item_path, data)
                case _:
                    self._add_item(
                        FeatureService, self.feature_services, document, item_path, data
                    )

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


def _closest_list(key: str) -> str | None:
    """Return the list that a misspelled key probably means."""
    close = get_close_matches(key, Definitions.model_fields, n=1)
    with_suffix = [known for known in Definitions.model_fields if known.endswith(f"_{key}")]
    return next(iter([*close, *with_suffix]), None)


_KIND_LABELS: dict[type[BaseModel], str] = {
    Entity: "entity",
    FeatureView: "feature view",
    FeatureService: "feature service",
}
