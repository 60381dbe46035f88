"""What the files of a repository declare, one by one, before it is held against each other."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from featurekit.errors import nearest
from featurekit.loader.document import Document
from featurekit.loader.places import Finding, Path, Place
from featurekit.loader.validation import Subject, validate
from featurekit.models.definitions import (
    Definitions,
    Entity,
    FeatureService,
    FeatureView,
    FieldEntry,
)
from featurekit.models.fields import FieldSpec
from featurekit.models.model import Named
from featurekit.models.plain import Plain, found

_FIELD: TypeAdapter[FieldSpec] = TypeAdapter(FieldEntry)
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
        salvaged: What is sound of the views among the broken, so that it is checked as well.
        is_partial: Whether a file did not parse, so that any name may be in it.
        findings: What is wrong so far.
    """

    entities: list[Item[Entity]] = field(default_factory=list)
    feature_views: list[Item[FeatureView]] = field(default_factory=list)
    feature_services: list[Item[FeatureService]] = field(default_factory=list)
    broken: set[tuple[str, str]] = field(default_factory=set)
    salvaged: list[Item[FeatureView]] = field(default_factory=list)
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
            if model is FeatureView and isinstance(data, dict):
                self.salvaged.append(Item(_sound_parts(str(name), data), document, path))


def _sound_parts(name: str, data: dict[str, object]) -> FeatureView:
    """A view with the fields that have no error, and neither `batch` nor `stream`."""
    raw, entity = data.get("fields"), data.get("entity")
    fields = {}
    for field_name, spec in raw.items() if isinstance(raw, dict) else ():
        with suppress(ValidationError):
            fields[field_name] = _FIELD.validate_python(spec)
    about = str(entity) if isinstance(entity, str) else ""
    return FeatureView.model_construct(name=name, entity=about, fields_=fields)


KINDS: dict[type[BaseModel], str] = {
    Entity: "entity",
    FeatureView: "feature view",
    FeatureService: "feature service",
}
"""What messages call the models that are declared under a name."""
