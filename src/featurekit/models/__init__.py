"""Models: what the YAML files may say, as pydantic classes.

Their descriptions are the source of the reference docs and of the JSON Schemas. A key that is
accepted here is obeyed by a plan, or is one of the descriptive keys of `Described`.
"""

from __future__ import annotations

from featurekit.models.config import RepoConfig
from featurekit.models.definitions import Definitions, Entity, FeatureService, FeatureView
from featurekit.models.fields import FieldSpec
from featurekit.models.loaded import LoadedRepo
from featurekit.models.scalars import format_duration, parse_duration
from featurekit.models.schema import definitions_json_schema, repo_json_schema

__all__ = [
    "Definitions",
    "Entity",
    "FeatureService",
    "FeatureView",
    "FieldSpec",
    "LoadedRepo",
    "RepoConfig",
    "definitions_json_schema",
    "format_duration",
    "parse_duration",
    "repo_json_schema",
]
