"""Generate a Python module, or a package, from a registry."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from featurekit.codegen.files import MARK, GeneratedFolder
from featurekit.codegen.python.imports import Imports, import_line
from featurekit.codegen.python.names import Names
from featurekit.codegen.python.parts import Column
from featurekit.codegen.python.services import service_part
from featurekit.codegen.python.store import store_part
from featurekit.codegen.python.text import by_kind, docstring, quoted
from featurekit.codegen.python.views import view_part
from featurekit.compiler import compile_read, compile_repo
from featurekit.models.derived import DerivedField
from featurekit.models.fields import FieldSpec
from featurekit.plan import Column as PlanColumn
from featurekit.plan import ReadPlan
from featurekit.registry import Registry

_ORIGIN = f"{MARK} python`; do not edit."
_HEAD = """\
# fmt: off
# ruff: noqa
"""
_FINGERPRINT = "_fingerprint"


def python_module(registry: Registry) -> str:
    """Return the source of a module with the classes of all services and views."""
    code = _Code(registry)
    imports = Imports()
    names, lines = ["FINGERPRINT"], code.fingerprint_lines()
    for part in [*code.services.values(), *code.views.values(), code.store]:
        imports.add(part.imports)
        names += part.names
        lines += ["", "", *_stripped(part.lines)]
    return _module(code.about, imports.lines(), [*_all(names), "", *lines])


def python_package(registry: Registry) -> GeneratedFolder:
    """Return the sources of a package with one module for each service and view."""
    code = _Code(registry)
    names, files, lines = code.names, {}, []
    exported = ["FINGERPRINT"]
    modules = [
        *((names.service_modules[name], part) for name, part in code.services.items()),
        *((names.view_modules[name], part) for name, part in code.views.items()),
    ]
    for module, part in modules:
        imports = [*part.imports.lines(), f"from .{_FINGERPRINT} import FINGERPRINT", ""]
        body = [*_all(part.names), "", "", *_stripped(part.lines)]
        files[f"{module}.py"] = _module(code.about, imports, body)
        lines.append(import_line(f".{module}", sorted(part.names, key=by_kind)))
        exported += part.names
    lines = [import_line(f".{_FINGERPRINT}", ["FINGERPRINT"]), *sorted(lines)]
    body = [*_all([*exported, *code.store.names]), "", "", *_stripped(code.store.lines)]
    imports = [*code.store.imports.lines(), *lines, ""]
    files["__init__.py"] = _module(code.about, imports, body)
    files[f"{_FINGERPRINT}.py"] = _module(code.about, [], code.fingerprint_lines())
    return GeneratedFolder(files, ("*.py",))


class _Code:
    """The parts of the code of a registry."""

    def __init__(self, registry: Registry) -> None:
        repo = compile_repo(registry)
        self._fields: dict[tuple[str, str], FieldSpec | DerivedField] = {
            (view.name, name): spec
            for view in registry.feature_views
            for name, spec in view.fields_.items()
        }
        self._fields |= {
            (view.name, name): spec
            for view in registry.derived_views
            for name, spec in view.fields_.items()
        }
        services = {service.name: service for service in registry.feature_services}
        views = {view.name: view for view in registry.feature_views}
        self.names = Names(registry.project, services, views)
        self.fingerprint = registry.fingerprint
        self.about = [f"Typed access to the features of project {registry.project}.", _ORIGIN]
        plans = {name: compile_read(repo, name) for name in services}
        self.services = {
            name: service_part(stem, services[name], plans[name], self._columns(plans[name]))
            for name, stem in self.names.services.items()
        }
        self.views = {
            name: view_part(
                stem,
                views[name],
                repo.view(name),
                self._columns(compile_read(repo, [name])),
                self.fingerprint,
            )
            for name, stem in self.names.views.items()
        }
        self.store = store_part(self.names, repo, plans)

    def _columns(self, plan: ReadPlan) -> list[Column]:
        return [self._column(column) for column in plan.columns]

    def _column(self, column: PlanColumn) -> Column:
        spec = self._fields[column.view, column.field.name]
        return Column(column.name, column.view, column.field, spec)

    def fingerprint_lines(self) -> list[str]:
        """Return the definition of the fingerprint."""
        about = docstring(
            ["The fingerprint of the registry that this code was generated from."], ""
        )
        return [f"FINGERPRINT = {quoted(self.fingerprint)}", *about]


def _module(about: Sequence[str], imports: Iterable[str], body: Iterable[str]) -> str:
    lines = [
        *docstring(about, ""),
        "",
        _HEAD,
        "from __future__ import annotations",
        "",
        *imports,
        *body,
    ]
    return "\n".join(lines).rstrip("\n") + "\n"


def _all(names: Sequence[str]) -> Iterator[str]:
    yield "__all__ = ["
    yield from (f"    {quoted(name)}," for name in sorted(names, key=by_kind))
    yield "]"


def _stripped(lines: Sequence[str]) -> list[str]:
    """Return the lines without empty ones at the end."""
    end = len(lines)
    while end and not lines[end - 1]:
        end -= 1
    return [*lines[:end]]
