"""Import the functions that compute features, where that is allowed and their source is the applied one.

A function runs in every process that serves it. So a module is imported only from the repository's
folder, only if the definitions there declare the function or the caller allows it, and only if its source
has the hash that `apply` put into the registry. What is imported is exactly the source that was hashed: a
module of that name that is loaded already, or compiled code on disk, may be of another version.
"""

from __future__ import annotations

import hashlib
import logging
import sys
from collections.abc import Iterator, Mapping
from importlib.abc import SourceLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

from typing_extensions import override

from featurekit.errors import FeatureKitError
from featurekit.import_path import import_path
from featurekit.loader.files import UnreadableFileError, read_bytes
from featurekit.loader.functions import FunctionError, module_file
from featurekit.plan import FunctionPlan, RepoPlan
from featurekit.runtime.functions import Function

_log = logging.getLogger("featurekit.functions")


class FeatureFunctions(Mapping[FunctionPlan, Function | None]):
    """The functions of a repository; `None` for one that cannot be called here, which is logged once.

    Pickles as the folder and what is allowed, never as code.

    Args:
        root: The repository's folder.
        allowed: The functions that may be imported, as `module:function`; `None` for all.
    """

    def __init__(self, root: Path, allowed: frozenset[str] | None) -> None:
        self._root = root
        self._allowed = allowed
        self._functions: dict[FunctionPlan, Function] = {}
        self._reported: set[tuple[FunctionPlan, str]] = set()

    @override
    def __reduce__(self) -> tuple[object, ...]:
        return FeatureFunctions, (self._root, self._allowed)

    @override
    def __getitem__(self, plan: FunctionPlan) -> Function | None:
        reason = self.problem(plan)
        if reason is None:
            return self._functions[plan]
        if (plan, reason) not in self._reported:
            self._reported.add((plan, reason))
            _log.warning(
                "function %s is not called, its features are invalid: %s", plan.callable, reason
            )
        return None

    @override
    def __iter__(self) -> Iterator[FunctionPlan]:
        return iter(self._functions)

    @override
    def __len__(self) -> int:
        return len(self._functions)

    def problem(self, plan: FunctionPlan) -> str | None:
        """Return why a function cannot be called here; `None` if it can, after an import if needed."""
        if plan in self._functions:
            return None
        if self._allowed is not None and plan.callable not in self._allowed:
            return "the definitions here do not declare it; allow it with --allow-functions"
        try:
            self._functions[plan] = _import_function(self._root, plan)
        except FeatureKitError as error:
            return str(error)
        return None

    def problems(self, repo: RepoPlan) -> list[str]:
        """Return why functions of a repository cannot be called here, each with its features."""
        features: dict[FunctionPlan, list[str]] = {}
        for view in repo.derived_views:
            for feature in view.features:
                if isinstance(feature.compute, FunctionPlan):
                    name = f"{view.name}:{feature.name}"
                    features.setdefault(feature.compute, []).append(name)
        reasons = ((plan, self.problem(plan)) for plan in features)
        return [
            f"{', '.join(features[plan])}: invalid, as {plan.callable} is not called: {reason}"
            for plan, reason in reasons
            if reason is not None
        ]


def _import_function(root: Path, plan: FunctionPlan) -> Function:
    module_name, _, name = plan.callable.partition(":")
    file = module_file(root, module_name)
    try:
        source = read_bytes(file)
    except UnreadableFileError as error:
        raise FunctionError(f"cannot read {file.name}: {error}") from error
    if hashlib.sha256(source).hexdigest() != plan.source_hash:
        raise FunctionError(
            f"{file.name} is not the version that was applied",
            hint="run `featurekit apply`, or update the file",
        )
    module = _run_module(root, module_name, file, source)
    function: Any = getattr(module, name, None)
    if not callable(function):
        raise FunctionError(f"no function '{name}' in {file.name}")
    return function  # type: ignore[no-any-return]


class _SourceLoader(SourceLoader):
    """Loads a module from a source that is read already, and no compiled code."""

    def __init__(self, file: Path, source: bytes) -> None:
        self._file = file
        self._source = source

    @override
    def get_filename(self, fullname: str) -> str:
        return str(self._file)

    @override
    def get_data(self, path: str) -> bytes:
        return self._source


def _run_module(root: Path, name: str, file: Path, source: bytes) -> ModuleType:
    """Return a new module made of a source, under a name of its own, so that no other one changes."""
    digest = hashlib.sha256(source).hexdigest()
    parent, _, last = name.rpartition(".")
    own_name = f"{parent}{'.' if parent else ''}{last}__featurekit_{digest[:16]}"
    is_package = file.name == "__init__.py"
    loader = _SourceLoader(file, source)
    spec = spec_from_loader(own_name, loader, origin=str(file), is_package=is_package)
    if spec is None:
        raise FunctionError(f"{file.name} is not a module")
    module = module_from_spec(spec)
    sys.modules[own_name] = module  # dataclasses and others look it up
    try:
        with import_path(root):
            loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[own_name]
        raise FunctionError(
            f"{file.name} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    return module
