"""What the files of a repository declare, one by one, before it is held against each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Generic, TypeVar

from pydantic import BaseModel

from featurekit.errors import nearest
from featurekit.loader.document import Document
from featurekit.loader.partial_parse import salvage
from featurekit.loader.places import Finding, Path, Place
from featurekit.loader.validation import Subject, of_field, validate
from featurekit.models.definitions import Definitions, Entity, FeatureService, FeatureView
from featurekit.models.model import Named
from featurekit.models.plain import Plain, found

N = TypeVar("N", bound=Named)


@dataclass(frozen=True, slots=True)
class Item(Generic[N]):
    """Something declared, and where.

    Attributes:
        model: What is declared, as far as it could be read.
        shown: What messages call it, as `feature view 'user_profile'`.
        data: What the file says, right or wrong.
        document: The file.
        path: Where in the file.
    """

    model: N
    shown: str
    data: dict[str, object]
    document: Document
    path: Path

    def at(self, *path: str | int) -> Place:
        """The place of a value in it, or of the nearest one around it."""
        return self.document.at((*self.path, *path))

    def key_at(self, *path: str | int) -> Place:
        """The place of the key of a value in it."""
        return self.document.key_at((*self.path, *path))

    def names(self, key: str) -> list[str] | None:
        """The names in a mapping of it, also of what is wrong; `None` where there is none."""
        named = self.data.get(key)
        return list(named) if isinstance(named, dict) else None

    def field(self, name: str) -> str:
        """What messages call a field of it."""
        return of_field(self.shown, name)

    def raw(self, *path: str | int) -> object:
        """A value in it as the file has it; `None` where it is not there."""
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
class Declared:
    """All that the files declare.

    Attributes:
        entities: With what can be read of those that have errors; so are views and services.
        feature_views: The feature views.
        feature_services: The feature services.
        unnamed: The kinds of which one has no name that can stay; it may come to be any.
        is_partial: Whether a file or a list could not be read, so that any name may be in it.
        findings: What is wrong so far.
    """

    entities: list[Item[Entity]] = field(default_factory=list)
    feature_views: list[Item[FeatureView]] = field(default_factory=list)
    feature_services: list[Item[FeatureService]] = field(default_factory=list)
    unnamed: set[str] = field(default_factory=set)
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
            message = f"found {found(data)}, expected {_LISTS}"
            hint = "begin with one of these words and a colon: the list stands below it"
            self._refuse(document.at(()), message, hint)
            return
        for key, items in data.items():
            meant = key if key in Definitions.model_fields else _list_meant(key)
            if meant != key:
                hint = nearest(meant or key, Definitions.model_fields)
                place = document.key_at((key,))
                self.findings.append(Finding(place, f"unknown key '{key}'", hint))
                self.is_partial |= meant is None
            if meant is not None:
                self._add_list(document, (key,), meant, items)

    def _refuse(self, place: Place, message: str, hint: str = "") -> None:
        self.findings.append(Finding(place, message, hint))
        self.is_partial = True

    def _add_list(self, document: Document, path: Path, kind: str, items: object) -> None:
        if isinstance(items, Plain) and items.value is None:
            return
        if not isinstance(items, list):
            hint = "begin each one with a dash: - name: ..." if isinstance(items, dict) else ""
            message = f"{path[0]}: found {found(items)}, expected a list"
            self._refuse(document.at(path), message, hint)
            return
        for index, data in enumerate(items):
            here: Path = (*path, index)
            match kind:
                case "entities":
                    self._take(Entity, self.entities, document, here, data)
                case "feature_views":
                    self._take(FeatureView, self.feature_views, document, here, data)
                case _:
                    self._take(FeatureService, self.feature_services, document, here, data)

    def _take(
        self, model: type[N], to: list[Item[N]], document: Document, path: Path, data: object
    ) -> None:
        kind = KINDS[model]
        name = data.get("name") if isinstance(data, dict) else None
        is_named = isinstance(name, str) and bool(name.strip())
        shown = f"{kind} {found(str(name))}" if is_named else f"{kind} {int(path[-1]) + 1}"
        made, findings = validate(model, Subject(document, path, data, shown))
        self.findings += findings
        if isinstance(data, dict):
            read = made or salvage(model, data)
            if not read.name:
                typo = next(iter(get_close_matches("name", data, n=1)), "")
                meant = name if is_named else data.get(typo)
                read = read.model_copy(update={"name": str(meant or "")})
                if is_named or not read.name:
                    self.unnamed.add(kind)
            to.append(Item(read, shown, data, document, path))
        else:
            self.unnamed.add(kind)


_LISTS = ", ".join(Definitions.model_fields)


def _list_meant(key: str) -> str | None:
    """The list that a misspelled key is likely to mean."""
    close = get_close_matches(key, Definitions.model_fields, n=1)
    ends = [known for known in Definitions.model_fields if known.endswith(f"_{key}")]
    return next(iter([*close, *ends]), None)


KINDS: dict[type[BaseModel], str] = {
    Entity: "entity",
    FeatureView: "feature view",
    FeatureService: "feature service",
}
"""What messages call the models that are declared under a name."""
