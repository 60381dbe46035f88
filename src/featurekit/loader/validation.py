"""Validation: pydantic's errors as findings with a place, what was found and what is expected."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from featurekit.errors import FeatureKitError, nearest
from featurekit.loader.document import Document
from featurekit.loader.environment import Expanded
from featurekit.loader.places import Finding, Path
from featurekit.loader.shapes import (
    description,
    is_container,
    keys_of,
    literals,
    mappings,
    model_at,
    models_in,
    real_parts,
)
from featurekit.models.plain import found

M = TypeVar("M", bound=BaseModel)

_EXPECTED = {
    "string_type": "text",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "dict_type": "a mapping",
    "tuple_type": "a list",
    "list_type": "a list",
    "too_short": "at least one",
}


@dataclass(frozen=True, slots=True)
class Subject:
    """What is validated: a value of a document, and how messages call it.

    Attributes:
        document: Where it stands.
        path: Where in the document.
        data: The value.
        name: As `feature view 'user_profile'`; empty for a whole file.
    """

    document: Document
    path: Path
    data: object
    name: str = ""


def validate(model: type[M], subject: Subject) -> tuple[M | None, list[Finding]]:
    """The value as a model, or what is wrong with it."""
    try:
        return model.model_validate(subject.data), []
    except ValidationError as error:
        details = error.errors(include_url=False)
        reports = [_Report(model, subject, detail) for detail in details]
        return None, [*_without_echoes(reports), *_choices(model, subject, _misspelled(reports))]


def of_field(owner: str, field: str) -> str:
    """What messages call a field of a view, which they call `owner`."""
    _, _, view = owner.partition(" view ")
    return f"{owner}: fields.{field}" if view.isdigit() else f"field '{view[1:-1]}:{field}'"


def _misspelled(reports: list[_Report]) -> set[Path]:
    """The paths of the keys that unknown ones are likely to mean."""
    return {report.meant for report in reports if report.is_unknown_key and report.meant}


def _without_echoes(reports: list[_Report]) -> Iterator[Finding]:
    """One finding for a misspelled key: not a second one for the key that it stands for."""
    misspelled = _misspelled(reports)
    for report in reports:
        if report.is_unknown_key or not (report.meant in misspelled or report.is_echo):
            yield from report.findings()


def _choices(model: type[BaseModel], subject: Subject, misspelled: set[Path]) -> Iterator[Finding]:
    """What has none or too many of keys that exclude one another, whatever else is wrong."""
    for owner, data, path in mappings(model, subject.data):
        keys = owner.exactly_one
        given = [key for key in data if key in keys]
        if not keys or len(given) == 1 or any((*path, key) in misspelled for key in keys):
            continue
        if not given and (*subject.path, *path) in subject.document.incomplete:
            continue
        names = " and ".join(f"'{key}'" for key in given or keys)
        found_them = f"both {names}" if given else f"neither {names}".replace(" and ", " nor ")
        lead = "".join(f"{part}: " for part in (subject.name, _dotted(path)) if part)
        place = subject.document.key_at((*subject.path, *path, *given[1:2]))
        yield Finding(place, f"{lead}found {found_them}, expected one of them")


class _Report:
    """One of pydantic's errors, told as a finding."""

    def __init__(self, model: type[BaseModel], subject: Subject, detail: ErrorDetails) -> None:
        self._subject = subject
        self._detail = detail
        self._path = tuple(real_parts(subject.data, detail["loc"]))
        self._model = model_at(model, detail["loc"])
        self._kind = detail["type"]
        self._name = subject.name
        if self._is_below_fields():
            self._name = of_field(subject.name, str(self._path[1]))

    @property
    def is_unknown_key(self) -> bool:
        """Whether it is about a key that the model does not know."""
        return self._kind == "extra_forbidden"

    @property
    def is_echo(self) -> bool:
        """Whether a slip that is told elsewhere explains it."""
        if self._kind == "missing":
            return (*self._subject.path, *self._path) in self._subject.document.incomplete
        if self._kind == "too_short":  # told of lists with nothing right in them as well
            return bool(_at(self._subject.data, self._path))
        without_space = ":" in str(self._path[-1]) if self._path else False
        return without_space and self._detail["input"] == "" and not self._is_key

    @property
    def _is_key(self) -> bool:
        """Whether it is about a key itself."""
        return self._detail["loc"][-1:] == ("[key]",)

    @property
    def meant(self) -> Path | None:
        """The path of the key that is missed, or that an unknown key is likely to mean."""
        if self._kind == "missing":
            return (*self._path, self._detail["loc"][-1])
        if self._kind == "needs":
            return (*self._path[:-1], self._detail["ctx"]["key"])
        if not self.is_unknown_key:
            return None
        close = get_close_matches(str(self._path[-1]), keys_of(self._model), n=1, cutoff=0.6)
        return (*self._path[:-1], close[0]) if close else None

    def _is_below_fields(self) -> bool:
        return self._path[:1] == ("fields",) and len(self._path) > 1

    def _shown_path(self, path: Path) -> str:
        return _dotted(path[2:] if self._is_below_fields() else path)

    def findings(self) -> Iterator[Finding]:
        """The finding; none where `_choices` tells it."""
        if self._kind != "exactly_one":
            yield self._finding()

    def _finding(self) -> Finding:
        document = self._subject.document
        full = (*self._subject.path, *self._path)
        if self.is_unknown_key:
            key = str(self._path[-1])
            message = f"unknown key {found(key)}{self._inside(self._path[:-1])}"
            return Finding(document.key_at(full), message, self._hint_for_key(key))
        if self._kind in {"missing", "union_tag_not_found"}:
            return self._missing(full)
        if self._kind == "union_tag_invalid":
            full = (*full, "type")
        place = document.key_at(full) if self._is_key else document.at(full)
        message, hint = self._told()
        return Finding(place, f"{self._lead()}{message}", hint or self._hint_for_value())

    def _missing(self, full: Path) -> Finding:
        tagged = self._kind == "union_tag_not_found"
        key = "type" if tagged else str(self._detail["loc"][-1])
        place = self._subject.document.at(full)
        if tagged and not isinstance(self._detail["input"], dict):
            message = f"found {found(self._detail['input'])}, expected a mapping"
            return Finding(place, f"{self._lead()}{message}", self._hint_for_value())
        hint = self._hint_for_value() if tagged else description(self._model, key)
        return Finding(place, f"key '{key}' is missing{self._inside(self._path)}", hint)

    def _told(self) -> tuple[str, str]:
        context = self._detail.get("ctx", {})
        raw = self._detail["input"]
        if isinstance(error := context.get("error"), FeatureKitError):
            return _unexpanded(_at(self._subject.data, self._path), error.message), error.hint
        if self._kind == "needs":
            return self._detail["msg"], ""
        if self._kind == "literal_error":
            choices = literals(self._model, str(self._path[-1]))
            expected = " or ".join(choices)
            return f"found {found(raw)}, expected {expected}", nearest(str(raw), choices)
        if self._kind == "union_tag_invalid":
            choices = [tag.strip("' ") for tag in context["expected_tags"].split(",")]
            return f"no source of type {found(context['tag'])}", nearest(context["tag"], choices)
        shown = "nothing in it" if self._kind == "too_short" else found(raw)
        known = self._kind in _EXPECTED
        tail = f", expected {_EXPECTED[self._kind]}" if known else f": {self._detail['msg']}"
        return f"found {shown}{tail}", ""

    def _lead(self) -> str:
        parts = [self._name, self._shown_path(self._path)]
        return "".join(f"{part}: " for part in parts if part)

    def _inside(self, path: Path) -> str:
        parts = [self._shown_path(path), self._name]
        shown = " of ".join(part for part in parts if part)
        return f" in {shown}" if shown else ""

    def _hint_for_value(self) -> str:
        """An example of what was expected, from the description of the key."""
        key = str(self._path[-1]) if self._path else ""
        if self._is_key and ":" in key:
            return f"write a space after the colon: {key.replace(':', ': ', 1)}"
        if self._kind == "model_type" and self._is_below_fields():
            return f"as `{key}: int64`, or `{key}: {{type: int64, default: 0}}`"
        if self._kind not in _EXPECTED and self._kind != "union_tag_not_found":
            return ""
        _, mark, example = description(self._model, key).rpartition("as `")
        return f"as `{example.rstrip('.')}" if mark else ""

    def _hint_for_key(self, key: str) -> str:
        """Where a key belongs that is known one level below, else the nearest known key."""
        parents = [
            info.alias or name
            for name, info in self._model.model_fields.items()
            if not is_container(info.annotation)
            and any(key in keys_of(below) for below in models_in(info.annotation))
        ]
        is_near = get_close_matches(key, keys_of(self._model), n=1, cutoff=0.8)
        if is_near or not parents:
            return nearest(key, keys_of(self._model))
        here = _at(self._subject.data, self._path[:-1])
        given = [p for p in parents if isinstance(here, dict) and p in here]
        return f"'{key}' stands under '{(given or parents)[0]}'"


def _at(data: Any, path: Path) -> object:
    for part in path:
        data = data[part]
    return data


def _unexpanded(raw: object, message: str) -> str:
    """A message about text out of the environment, without that text."""
    if not isinstance(raw, Expanded):
        return message
    _, mark, rest = message.partition(", expected")
    return f"found {raw!r}{mark}{rest}" if mark else f"{raw!r} does not fit"


def _dotted(path: Path) -> str:
    text = ""
    for part in path:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")
