"""Validation: pydantic's errors as findings with a place, what was found and what is expected."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from types import NoneType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from featurekit.errors import FeatureKitError, nearest
from featurekit.loader.document import Document
from featurekit.loader.environment import Expanded
from featurekit.loader.places import Finding, Path
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
        return None, _without_echoes([_Report(model, subject, detail) for detail in details])


def _without_echoes(reports: list[_Report]) -> list[Finding]:
    """One finding for a misspelled key: not a second one for the key that it stands for."""
    misspelled = {report.meant for report in reports if report.is_unknown_key}
    return [
        report.finding()
        for report in reports
        if report.is_unknown_key or report.meant not in misspelled
    ]


class _Report:
    """One of pydantic's errors, told as a finding."""

    def __init__(self, model: type[BaseModel], subject: Subject, detail: ErrorDetails) -> None:
        self._subject = subject
        self._detail = detail
        self._path = tuple(_real_parts(subject.data, detail["loc"]))
        self._model = _model_at(model, detail["loc"])
        self._kind = detail["type"]
        self._name = subject.name
        if subject.name.startswith("feature view '") and self._is_below_fields():
            view = subject.name.removeprefix("feature view ").strip("'")
            self._name = f"field '{view}:{self._path[1]}'"

    @property
    def is_unknown_key(self) -> bool:
        """Whether it is about a key that the model does not know."""
        return self._kind == "extra_forbidden"

    @property
    def meant(self) -> Path | None:
        """The path of the missing key, or of the one that an unknown key is likely to mean."""
        *around, key = self._detail["loc"] or ("",)
        if self._kind == "missing":
            return (*around, key)
        close = get_close_matches(str(key), _keys(self._model), n=1, cutoff=0.6)
        return (*around, close[0]) if self.is_unknown_key and close else None

    def _is_below_fields(self) -> bool:
        return self._path[:1] == ("fields",) and len(self._path) > 1

    def _shown_path(self, path: Path) -> str:
        return _dotted(path[2:] if self._is_below_fields() else path)

    def finding(self) -> Finding:
        document = self._subject.document
        full = (*self._subject.path, *self._path)
        if self.is_unknown_key:
            key = str(self._path[-1])
            message = f"unknown key '{key}'{self._inside(self._path[:-1])}"
            return Finding(document.key_at(full), message, self._hint_for_key(key))
        if self._kind in {"missing", "union_tag_not_found"}:
            return self._missing(full)
        is_key = self._detail["loc"][-1:] == ("[key]",)
        place = document.key_at(full) if is_key else document.at(full)
        message, hint = self._told()
        return Finding(place, f"{self._lead()}{message}", hint)

    def _missing(self, full: Path) -> Finding:
        tagged = self._kind == "union_tag_not_found"
        key = "type" if tagged else str(self._detail["loc"][-1])
        place = self._subject.document.at(full)
        owner = self._path
        if tagged and not isinstance(self._detail["input"], dict):
            message = f"found {found(self._detail['input'])}, expected a mapping"
            return Finding(place, f"{self._lead()}{message}")
        hint = "" if tagged else _description(self._model, key)
        return Finding(place, f"key '{key}' is missing{self._inside(owner)}", hint)

    def _told(self) -> tuple[str, str]:
        context = self._detail.get("ctx", {})
        raw = self._detail["input"]
        if isinstance(error := context.get("error"), FeatureKitError):
            return _unexpanded(_at(self._subject.data, self._path), error.message), error.hint
        if self._kind == "literal_error":
            choices = _literals(self._model, self._path)
            expected = " or ".join(choices)
            return f"found {found(raw)}, expected {expected}", nearest(str(raw), choices)
        if self._kind == "union_tag_invalid":
            choices = [tag.strip("' ") for tag in context["expected_tags"].split(",")]
            return f"no source of type '{context['tag']}'", nearest(context["tag"], choices)
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

    def _hint_for_key(self, key: str) -> str:
        """Where a key belongs that is known one level below, else the nearest known key."""
        parents = [
            info.alias or name
            for name, info in self._model.model_fields.items()
            if not _is_container(info.annotation)
            and any(key in _keys(below) for below in _models_in(info.annotation))
        ]
        if not parents:
            return nearest(key, _keys(self._model))
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


def _real_parts(data: Any, loc: tuple[int | str, ...]) -> Iterator[int | str]:
    """The parts of a `loc` that are in the data, so without the tags of unions."""
    for part in loc:
        try:
            data = data[part]
        except (LookupError, TypeError):  # the tag of a union, or `[key]`, or a missing key
            continue
        yield part


def _keys(model: type[BaseModel]) -> list[str]:
    return [info.alias or name for name, info in model.model_fields.items()]


def _description(model: type[BaseModel], key: str) -> str:
    for name, info in model.model_fields.items():
        if key == (info.alias or name):
            return info.description or ""
    return ""


def _model_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> type[BaseModel]:
    """The model that the last part of a `loc` is a key of."""
    current: tuple[type[BaseModel], ...] = (model,)
    owner = model
    inside_container = False
    for part in loc:
        if inside_container:
            inside_container = False
            continue
        if len(current) > 1:
            current = tuple(m for m in current if _tag(m) == part) or current
            owner = current[0]
            continue
        owner = current[0] if current else owner
        annotation = _annotation(owner, str(part))
        current = tuple(_models_in(annotation))
        inside_container = _is_container(annotation)
    return owner


def _annotation(model: type[BaseModel], key: str) -> Any:
    for name, info in model.model_fields.items():
        if key == (info.alias or name):
            return info.annotation
    return NoneType


def _tag(model: type[BaseModel]) -> str:
    info = model.model_fields.get("type")
    return str(get_args(info.annotation)[0]) if info else ""


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


def _is_container(annotation: Any) -> bool:
    origin = get_origin(annotation)
    if origin in {dict, tuple}:
        return True
    return origin is Annotated and _is_container(get_args(annotation)[0])


def _literals(model: type[BaseModel], path: Path) -> list[str]:
    annotation = _annotation(model, str(path[-1]))
    return list(get_args(annotation)) if get_origin(annotation) is Literal else []
