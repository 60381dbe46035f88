"""What a loader hands on: a repository's definitions, checked, with where each came from."""

from __future__ import annotations

from collections.abc import Mapping
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
        origins: Where each was declared: `feature view user_profile` to `features/user.yaml:12:5`.
        warnings: What is allowed and likely wrong.
    """

    root: Path
    config: RepoConfig
    entities: tuple[Entity, ...]
    feature_views: tuple[FeatureView, ...]
    feature_services: tuple[FeatureService, ...]
    origins: Mapping[str, str]
    warnings: tuple[Problem, ...] = ()
