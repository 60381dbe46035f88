"""Loading: from a folder to a repository's definitions, or to all that is wrong with them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from featurekit.errors import DefinitionError
from featurekit.loader.crosscheck import cross_check
from featurekit.loader.declared import Declared
from featurekit.loader.definition_warnings import warnings_of
from featurekit.loader.document import Document
from featurekit.loader.environment import expand
from featurekit.loader.files import REPO_FILE, find_repo, matching, read_file, where_looked
from featurekit.loader.places import Finding, as_problems
from featurekit.loader.queries import with_queries
from featurekit.loader.validation import Subject, validate
from featurekit.models.config import RepoConfig
from featurekit.models.loaded import LoadedRepo
from featurekit.models.plain import Plain, found


def load_repo(path: str | Path, env: Mapping[str, str]) -> LoadedRepo:
    """The repository that `path` is in, read and checked.

    Args:
        path: Its folder, or one below it, or its `featurerepo.yaml`.
        env: The environment that `${VAR}` stands for.

    Raises:
        RepoNotFoundError: There is no `featurerepo.yaml` from there upwards.
        DefinitionError: Something is wrong; it lists all of it.
    """
    root = find_repo(path)
    document = read_file(root, root / REPO_FILE)
    config, findings = _config(document, env)
    declared = Declared(findings=findings)
    for file in _definition_files(root, document, declared):
        declared.add(read_file(root, file))
    with_queries(root, declared)
    cross_check(declared)
    if config is None or declared.findings:
        raise DefinitionError(as_problems(declared.findings))
    return LoadedRepo(
        root=root,
        config=config,
        entities=tuple(item.model for item in declared.entities),
        feature_views=tuple(item.model for item in declared.feature_views),
        feature_services=tuple(item.model for item in declared.feature_services),
        warnings=as_problems(warnings_of(declared)),
    )


def _config(document: Document, env: Mapping[str, str]) -> tuple[RepoConfig | None, list[Finding]]:
    document.data = data = expand(document, env)
    findings = document.findings
    if data is None and findings:
        return None, findings
    if data is None or (isinstance(data, Plain) and data.value is None):
        data = {}
    config, wrong = validate(RepoConfig, Subject(document, (), data))
    missing_variables = {finding.place for finding in findings}
    return config, [*findings, *(f for f in wrong if f.place not in missing_variables)]


def _definition_files(root: Path, document: Document, declared: Declared) -> list[Path]:
    """The files of all patterns, each once, in the order of the patterns."""
    files: dict[str, Path] = {}
    broken = {finding.place for finding in declared.findings}
    for index, pattern in enumerate(_patterns(document.data)):
        place = document.at(("definitions", index))
        if place in broken:
            declared.is_partial = True
            continue
        matched = matching(root, pattern)
        if not matched:
            message = f"no definition file matches {found(pattern)}"
            declared.is_partial = True
            declared.findings.append(Finding(place, message, where_looked(root, pattern)))
        for file in matched:
            files.setdefault(os.path.realpath(file), file)
    return list(files.values())


def _patterns(data: object) -> list[str]:
    """The patterns of `definitions`, also where the rest of the file is wrong."""
    patterns = data.get("definitions") if isinstance(data, dict) else None
    if isinstance(patterns, str):
        patterns = [patterns]
    if not isinstance(patterns, list):
        return []
    return [pattern for pattern in patterns if isinstance(pattern, str) and pattern.strip()]
