"""What the files of a repository declare, one by one, before it is held against each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

from pydantic import BaseModel

from featurekit.errors import nearest
from featurekit.loader.document import Document
from featurekit.loader.places import Finding, Path, Place
from featurekit.loader.validation import Subject, validate
from featurekit.models.definitions import (
    Definitions,
    Entity,
    FeatureService,
    FeatureView,
)
from featurekit.models.model import Named
from featurekit.models.plain import Plain, found

N = TypeVar("N", bound=Named)


@dataclass(frozen=True, slots=True)
class Item(Generic[N]):
    """Something declared, and where."""

    model: N
    document: Document
    path: Path

    def at(self, *path: str | int) -> Place:
        """The place of a value in it, or of the nearest one around it."""
        return self.document.at((*self.path, *path))

    def key_at(self, *path: str | int) -> Place:
        """The place of the key of a value in it."""
        return self.document.key_at((*self.path, *path))


@dataclass(slots=True)
class Declared:
    """All that the files declare.

    Attributes:
        entities: Those without an error of their own; so are views and services.
        feature_views: The feature views.
        feature_services: The feature services.
        broken: Names (kind, name) that are declared with errors, so that what refers to them is
            not an error as well.
        is_partial: Whether a file did not parse, so that any name may be in it.
        findings: What is wrong so far.
    """

    entities: list[Item[Entity]] = field(default_factory=list)
    feature_views: list[Item[FeatureView]] = field(default_factory=list)
    feature_services: list[Item[FeatureService]] = field(default_factory=list)
    broken: set[tuple[str, str]] = field(default_factory=set)
    is_partial: bool = False
    findings: list[Finding] = field(default_factory=list)

    def add(self, document: Document) -> None:
        """Take in what a file declares."""
        self.findings += document.findings
        data = document.data
        if data is None:
            self.is_partial |= bool(document.findings)
            return
        if isinstance(data, Plain) and data.value is None:
            return
        if not isinstance(data, dict):
            message = f"found {found(data)}, expected {', '.join(Definitions.model_fields)}"
            self.findings.append(Finding(document.at(()), message))
            return
        for key, items in data.items():
            if key in Definitions.model_fields:
                self._add_list(document, key, items)
            else:
                hint = nearest(key, Definitions.model_fields)
                place = document.key_at((key,))
                self.findings.append(Finding(place, f"unknown key '{key}'", hint))

    def _add_list(self, document: Document, key: str, items: object) -> None:
        if isinstance(items, Plain) and items.value is None:
            return
        if not isinstance(items, list):
            message = f"{key}: found {found(items)}, expected a list"
            self.findings.append(Finding(document.at((key,)), message))
            return
        for index, data in enumerate(items):
            path: Path = (key, index)
            match key:
                case "entities":
                    self._take(Entity, self.entities, document, path, data)
                case "feature_views":
                    self._take(FeatureView, self.feature_views, document, path, data)
                case _:
                    self._take(FeatureService, self.feature_services, document, path, data)

    def _take(
        self, model: type[N], to: list[Item[N]], document: Document, path: Path, data: object
    ) -> None:
        kind = KINDS[model]
        name = data.get("name") if isinstance(data, dict) else None
        shown = f"{kind} '{name}'" if isinstance(name, str) else f"{kind} {int(path[-1]) + 1}"
        made, findings = validate(model, Subject(document, path, data, shown))
        self.findings += findings
        if made is not None:
            to.append(Item(made, document, path))
        elif isinstance(name, str):
            self.broken.add((kind, str(name)))


KINDS: dict[type[BaseModel], str] = {
    Entity: "entity",
    FeatureView: "feature view",
    FeatureService: "feature service",
}
"""What messages call the models that are declared under a name."""
