"""Turn pydantic's errors into problems with a location, what was found and what is expected."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from featurekit.errors import FeatureKitError, name_hint
from featurekit.loader.document import Document
from featurekit.loader.environment import ExpandedText
from featurekit.loader.model_introspection import (
    is_container,
    key_description,
    literal_choices,
    model_at,
    model_keys,
    model_mappings,
    nested_models,
    path_in_data,
)
from featurekit.loader.problems import LocatedProblem, Path
from featurekit.models.scalars import format_raw

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
class ValidationTarget:
    """A value of a document to validate.

    Attributes:
        document: The document.
        path: The path of the value in the document.
        data: The value.
        label: Its name in messages, as `feature view 'user_profile'`; empty for a whole file.
    """

    document: Document
    path: Path
    data: object
    label: str = ""


def validate(model: type[M], target: ValidationTarget) -> tuple[M | None, list[LocatedProblem]]:
    """Return the value as a model, or `None` and its problems."""
    try:
        return model.model_validate(target.data), []
    except ValidationError as error:
        details = error.errors(include_url=False)
        errors = [_ModelError(model, target, detail) for detail in details]
        misspelled = _misspelled_keys(errors)
        exclusive = _check_exclusive_keys(model, target, misspelled)
        return None, [*_without_consequences(errors, misspelled), *exclusive]


def field_label(owner: str, field: str) -> str:
    """Return the label of a field of a view with the label `owner`."""
    name = owner.rpartition(" ")[2]
    return f"{owner}: fields.{field}" if name.isdigit() else f"field '{name[1:-1]}:{field}'"


def _misspelled_keys(errors: list[_ModelError]) -> set[Path]:
    """Return the paths of the keys that unknown keys probably mean."""
    return {error.likely_key for error in errors if error.is_unknown_key and error.likely_key}


def _without_consequences(
    errors: list[_ModelError], misspelled: set[Path]
) -> Iterator[LocatedProblem]:
    """Yield one problem for a misspelled key, and none for the key that is missing therefore."""
    for error in errors:
        if error.is_unknown_key or not (error.likely_key in misspelled or error.is_consequence):
            yield from error.problems()


def _check_exclusive_keys(
    model: type[BaseModel], target: ValidationTarget, misspelled: set[Path]
) -> Iterator[LocatedProblem]:
    """Yield a problem for each mapping without exactly one of its mutually exclusive keys."""
    for owner, data, path in model_mappings(model, target.data):
        keys = owner.exactly_one
        given = [key for key in data if key in keys]
        if not keys or len(given) == 1 or any((*path, key) in misspelled for key in keys):
            continue
        if not given and (*target.path, *path) in target.document.incomplete:
            continue
        names = " and ".join(f"'{key}'" for key in given or keys)
        actual = f"both {names}" if given else f"neither {names}".replace(" and ", " nor ")
        label, rest = target.label, path
        if path[:1] == ("fields",):
            label, rest = field_label(label, str(path[1])), path[2:]
        prefix = "".join(f"{part}: " for part in (label, _dotted(rest)) if part)
        location = target.document.key_at((*target.path, *path, *given[1:2]))
        yield LocatedProblem(location, f"{prefix}found {actual}, expected exactly one")


class _ModelError:
    """One of pydantic's errors."""

    def __init__(
        self, model: type[BaseModel], target: ValidationTarget, detail: ErrorDetails
    ) -> None:
        self._target = target
        self._detail = detail
        self._path = tuple(path_in_data(target.data, detail["loc"]))
        self._model = model_at(model, detail["loc"])
        self._kind = detail["type"]
        self._label = target.label
        if self._is_in_fields():
            self._label = field_label(target.label, str(self._path[1]))

    @property
    def is_unknown_key(self) -> bool:
        """Whether the model does not know the key."""
        return self._kind == "extra_forbidden"

    @property
    def is_consequence(self) -> bool:
        """Whether another reported mistake causes this error."""
        if self._kind == "missing":
            return (*self._target.path, *self._path) in self._target.document.incomplete
        if self._kind == "too_short":  # also reported for lists with only invalid items
            return bool(_value_at(self._target.data, self._path))
        without_space = ":" in str(self._path[-1]) if self._path else False
        return without_space and self._detail["input"] == "" and not self._is_key

    @property
    def _is_key(self) -> bool:
        """Whether the error is about a key, not about its value."""
        return self._detail["loc"][-1:] == ("[key]",)

    @property
    def likely_key(self) -> Path | None:
        """The path of the missing key, or of the key that an unknown one probably means."""
        if self._kind == "missing":
            return (*self._path, self._detail["loc"][-1])
        if self._kind == "needs":
            return (*self._path[:-1], self._detail["ctx"]["key"])
        if not self.is_unknown_key:
            return None
        close = get_close_matches(str(self._path[-1]), model_keys(self._model), n=1, cutoff=0.6)
        return (*self._path[:-1], close[0]) if close else None

    def _is_in_fields(self) -> bool:
        return self._path[:1] == ("fields",) and len(self._path) > 1

    def _dotted_path(self, path: Path) -> str:
        return _dotted(path[2:] if self._is_in_fields() else path)

    def problems(self) -> Iterator[LocatedProblem]:
        """Yield the problem, unless `_check_exclusive_keys` reports it."""
        if self._kind != "exactly_one":
            yield self._problem()

    def _problem(self) -> LocatedProblem:
        document = self._target.document
        full_path = (*self._target.path, *self._path)
        if self.is_unknown_key:
            key = str(self._path[-1])
            message = f"unknown key {format_raw(key)}{self._inside(self._path[:-1])}"
            return LocatedProblem(document.key_at(full_path), message, self._hint_for_key(key))
        if self._kind in {"missing", "union_tag_not_found"}:
            return self._missing_key(full_path)
        if self._kind == "union_tag_invalid":
            full_path = (*full_path, "type")
        location = document.key_at(full_path) if self._is_key else document.at(full_path)
        message, hint = self._message_and_hint()
        return LocatedProblem(
            location, f"{self._prefix()}{message}", hint or self._hint_for_value()
        )

    def _missing_key(self, full_path: Path) -> LocatedProblem:
        is_type = self._kind == "union_tag_not_found"
        key = "type" if is_type else str(self._detail["loc"][-1])
        location = self._target.document.at(full_path)
        if is_type and not isinstance(self._detail["input"], dict):
            message = f"found {format_raw(self._detail['input'])}, expected a mapping"
            return LocatedProblem(location, f"{self._prefix()}{message}", self._hint_for_value())
        hint = self._hint_for_value() if is_type else key_description(self._model, key)
        return LocatedProblem(location, f"key '{key}' is missing{self._inside(self._path)}", hint)

    def _message_and_hint(self) -> tuple[str, str]:
        context = self._detail.get("ctx", {})
        raw = self._detail["input"]
        if isinstance(error := context.get("error"), FeatureKitError):
            value = _value_at(self._target.data, self._path)
            return _hide_expanded(value, error.message), error.hint
        if self._kind == "needs":
            return self._detail["msg"], ""
        if self._kind == "literal_error":
            choices = literal_choices(self._model, str(self._path[-1]))
            expected = " or ".join(choices)
            return f"found {format_raw(raw)}, expected {expected}", name_hint(str(raw), choices)
        if self._kind == "union_tag_invalid":
            choices = [tag.strip("' ") for tag in context["expected_tags"].split(",")]
            message = f"unknown source type {format_raw(context['tag'])}"
            return message, name_hint(context["tag"], choices)
        actual = "an empty value" if self._kind == "too_short" else format_raw(raw)
        is_known = self._kind in _EXPECTED
        expected = (
            f", expected {_EXPECTED[self._kind]}" if is_known else f": {self._detail['msg']}"
        )
        return f"found {actual}{expected}", ""

    def _prefix(self) -> str:
        parts = [self._label, self._dotted_path(self._path)]
        return "".join(f"{part}: " for part in parts if part)

    def _inside(self, path: Path) -> str:
        parts = [self._dotted_path(path), self._label]
        container = " of ".join(part for part in parts if part)
        return f" in {container}" if container else ""

    def _hint_for_value(self) -> str:
        """Return an example of a valid value, from the key's description."""
        key = str(self._path[-1]) if self._path else ""
        if self._is_key and ":" in key:
            return f"add a space after the colon: {key.replace(':', ': ', 1)}"
        if self._kind == "model_type" and self._is_in_fields():
            return f"for example `{key}: int64` or `{key}: {{type: int64, default: 0}}`"
        if self._kind not in _EXPECTED and self._kind != "union_tag_not_found":
            return ""
        description = key_description(self._model, key)
        example = re.search(r"for example (`.*`)", description)
        return f"for example {example[1]}" if example else ""

    def _hint_for_key(self, key: str) -> str:
        """Return where a key belongs that is known one level below, else the nearest known key."""
        parents = [
            info.alias or name
            for name, info in self._model.model_fields.items()
            if not is_container(info.annotation)
            and any(key in model_keys(nested) for nested in nested_models(info.annotation))
        ]
        is_near = get_close_matches(key, model_keys(self._model), n=1, cutoff=0.8)
        if is_near or not parents:
            return name_hint(key, model_keys(self._model))
        siblings = _value_at(self._target.data, self._path[:-1])
        given = [p for p in parents if isinstance(siblings, dict) and p in siblings]
        return f"'{key}' belongs under '{(given or parents)[0]}'"


def _value_at(data: Any, path: Path) -> object:
    for part in path:
        data = data[part]
    return data


def _hide_expanded(raw: object, message: str) -> str:
    """Replace text from the environment in a message by the text as written."""
    if not isinstance(raw, ExpandedText):
        return message
    _, separator, rest = message.partition(", expected")
    return f"found {raw!r}{separator}{rest}" if separator else f"{raw!r} is invalid"


def _dotted(path: Path) -> str:
    text = ""
    for part in path:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")
