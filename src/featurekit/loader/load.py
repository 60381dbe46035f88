"""Load a repository: read its files, validate them, and run all checks."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from featurekit.errors import DefinitionError
from featurekit.loader.cross_checks import cross_check
from featurekit.loader.declarations import Declarations
from featurekit.loader.definition_warnings import definition_warnings
from featurekit.loader.document import Document
from featurekit.loader.environment import expand_variables
from featurekit.loader.files import (
    REPO_FILE,
    UnreadableFileError,
    find_repo,
    load_document,
    matching_files,
    no_match_hint,
    read_bytes,
)
from featurekit.loader.problems import LocatedProblem, to_problems
from featurekit.loader.validation import ValidationTarget, validate
from featurekit.models.config import RepoConfig
from featurekit.models.definitions import FeatureView, LoadedRepo
from featurekit.models.scalars import PlainScalar, format_raw
from featurekit.models.sources import SqlEvents, SqlSource


def load_repo(path: str | Path, env: Mapping[str, str]) -> LoadedRepo:
    """Return the repository that `path` is in, checked.

    Args:
        path: The repository's folder, a folder below it, or its `featurerepo.yaml`.
        env: The environment that `${VAR}` refers to.

    Raises:
        RepoNotFoundError: There is no `featurerepo.yaml` in `path` or above.
        DefinitionError: The files have problems; the error lists all of them.
    """
    root = find_repo(path)
    document = load_document(root, root / REPO_FILE)
    config, problems = _validate_config(document, env)
    declarations = Declarations(problems=problems)
    for file in _definition_files(root, document, declarations):
        declarations.add(load_document(root, file))
    _read_query_files(root, declarations)
    cross_check(declarations, root)
    if config is None or declarations.problems:
        raise DefinitionError(to_problems(declarations.problems))
    return LoadedRepo(
        root=root,
        config=config,
        entities=tuple(item.model for item in declarations.entities),
        feature_views=tuple(item.model for item in declarations.feature_views),
        feature_services=tuple(item.model for item in declarations.feature_services),
        warnings=to_problems(definition_warnings(declarations)),
        derived_views=tuple(item.model for item in declarations.derived_views),
        requests=tuple(item.model for item in declarations.requests),
        computations=declarations.derivations.computations if declarations.derivations else {},
    )


def _validate_config(
    document: Document, env: Mapping[str, str]
) -> tuple[RepoConfig | None, list[LocatedProblem]]:
    document.data = data = expand_variables(document, env)
    problems = document.problems
    if data is None and problems:
        return None, problems
    if data is None or (isinstance(data, PlainScalar) and data.value is None):
        data = {}
    config, invalid = validate(RepoConfig, ValidationTarget(document, (), data))
    unset_variables = {problem.location for problem in problems}
    return config, [*problems, *(p for p in invalid if p.location not in unset_variables)]


def _definition_files(root: Path, document: Document, declarations: Declarations) -> list[Path]:
    """Return the files that match any pattern, each once, in the order of the patterns."""
    files: dict[str, Path] = {}
    invalid = {problem.location for problem in declarations.problems}
    for index, pattern in enumerate(_definition_patterns(document.data)):
        location = document.at(("definitions", index))
        if location in invalid:
            declarations.is_partial = True
            continue
        matches = matching_files(root, pattern)
        if not matches:
            message = f"no definition file matches {format_raw(pattern)}"
            hint = no_match_hint(root, pattern)
            declarations.is_partial = True
            declarations.problems.append(LocatedProblem(location, message, hint))
        for file in matches:
            files.setdefault(os.path.realpath(file), file)
    return list(files.values())


def _definition_patterns(data: object) -> list[str]:
    """Return the patterns of `definitions`, even if the rest of the file is invalid."""
    patterns = data.get("definitions") if isinstance(data, dict) else None
    if isinstance(patterns, str):
        patterns = [patterns]
    if not isinstance(patterns, list):
        return []
    return [pattern for pattern in patterns if isinstance(pattern, str) and pattern.strip()]


def _read_query_files(root: Path, declarations: Declarations) -> None:
    """Replace each `query_file` with the query in that file."""
    for index, item in enumerate(declarations.feature_views):
        model = item.model
        for keys, source in item.model.sources():
            if not isinstance(source, SqlSource | SqlEvents) or source.query_file is None:
                continue
            try:
                query = read_bytes(root / source.query_file).decode("utf-8-sig")
            except (UnreadableFileError, UnicodeDecodeError) as error:
                reason = str(error) if isinstance(error, UnreadableFileError) else "not UTF-8"
                message = f"{item.label}: cannot read {format_raw(source.query_file)}: {reason}"
                location = item.at(*keys, "query_file")
                declarations.problems.append(LocatedProblem(location, message))
            else:
                with_query = source.model_copy(update={"query": query, "query_file": None})
                model = _with_source(model, keys, with_query)
        declarations.feature_views[index] = replace(item, model=model)


def _with_source(
    view: FeatureView, keys: tuple[str, str], source: SqlSource | SqlEvents
) -> FeatureView:
    kind, key = keys
    settings = getattr(view, kind).model_copy(update={key: source})
    return view.model_copy(update={kind: settings})
