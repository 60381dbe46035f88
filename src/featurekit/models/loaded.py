"""What a loader hands on: a repository's definitions, checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from featurekit.errors import Problem
from featurekit.models.config import RepoConfig
from featurekit.models.definitions import Entity, FeatureService, FeatureView


@dataclass(frozen=True, slots=True)
class LoadedRepo:
    """A repository as its files declare it.

    Attributes:
        root: The folder of `featurerepo.yaml`.
        config: What that file says.
        entities: In the order of the files; so are views and services.
        feature_views: The feature views.
        feature_services: The feature services.
        warnings: What is allowed and likely wrong.
    """

    root: Path
    config: RepoConfig
    entities: tuple[Entity, ...]
    feature_views: tuple[FeatureView, ...]
    feature_services: tuple[FeatureService, ...]
    warnings: tuple[Problem, ...] = ()
