"""JSON Schema of both kinds of files, made from the models, for editors to complete and check."""

from __future__ import annotations

from typing import Any

from featurekit.models.config import RepoConfig
from featurekit.models.definitions import Definitions
from featurekit.models.model import Model

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def repo_json_schema() -> dict[str, Any]:
    """The JSON Schema of `featurerepo.yaml`."""
    return _schema(RepoConfig, "featurerepo.yaml")


def definitions_json_schema() -> dict[str, Any]:
    """The JSON Schema of a definition file."""
    return _schema(Definitions, "featurekit definitions")


def _schema(model: type[Model], title: str) -> dict[str, Any]:
    schema = _tidied(model.model_json_schema())
    return {"$schema": _DIALECT, **schema, "title": title}


def _tidied(schema: Any) -> Any:
    """A schema as the loader has it: closed, and a key that is not meant is left out, not null."""
    if isinstance(schema, list):
        return [_tidied(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: _tidied(part) for key, part in schema.items()}
    if kept.get("default", ...) is None:
        del kept["default"]
    if "patternProperties" in kept:
        kept["additionalProperties"] = False
    choices = [part for part in kept.get("anyOf", []) if part != {"type": "null"}]
    if len(choices) == 1:
        del kept["anyOf"]
        return {**choices[0], **kept}
    return {**kept, "anyOf": choices} if choices else kept
