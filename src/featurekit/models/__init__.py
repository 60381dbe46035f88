"""Pydantic models of the YAML files.

Their descriptions are the source of `docs/yaml.md` and of the JSON Schemas. Every key that a model
accepts is used by a plan, except the descriptive keys of `Described`.
"""

from __future__ import annotations

from featurekit.models.config import RepoConfig, repo_json_schema
from featurekit.models.definitions import (
    Definitions,
    Entity,
    FeatureService,
    FeatureView,
    LoadedRepo,
    definitions_json_schema,
)
from featurekit.models.derived import DerivedField, DerivedView, Request
from featurekit.models.fields import FieldSpec
from featurekit.models.scalars import format_duration, parse_duration

__all__ = [
    "Definitions",
    "DerivedField",
    "DerivedView",
    "Entity",
    "FeatureService",
    "FeatureView",
    "FieldSpec",
    "LoadedRepo",
    "RepoConfig",
    "Request",
    "definitions_json_schema",
    "format_duration",
    "parse_duration",
    "repo_json_schema",
]
