"""Generate a Python module from a registry."""

from __future__ import annotations

from collections.abc import Iterator

from featurekit.codegen.python.annotations import read_type
from featurekit.codegen.python.text import class_name, docstring
from featurekit.compiler import compile_read, compile_repo
from featurekit.lower.records import Record
from featurekit.plan import ReadPlan
from featurekit.registry import Registry

_IMPORTS = {
    "datetime": ("date", "datetime"),
    "decimal": ("Decimal",),
    "typing": ("Any", "Literal"),
}
"""Modules, and the names of them that annotations use."""


def python_module(registry: Registry) -> str:
    """Return the source of a module with a row class for each feature service."""
    plan = compile_repo(registry)
    body = "\n\n".join(
        _row_class(compile_read(plan, service.name), service.description)
        for service in registry.feature_services
    )
    head = f'"""Row classes of the feature services of {registry.project}."""'
    return "\n".join(
        [head, "", "from __future__ import annotations", "", *_imports(body), "", body]
    )


def _imports(body: str) -> Iterator[str]:
    for module, names in _IMPORTS.items():
        if used := [name for name in names if name in body]:
            yield f"from {module} import {', '.join(used)}"
    yield ""
    yield "from featurekit.typed import Row"


def _row_class(plan: ReadPlan, description: str) -> str:
    reserved = dir(Record)
    columns = [column for column in plan.columns if column.name not in reserved]
    slots = "".join(f"        {column.name!r},\n" for column in columns)
    lines = [f"    {column.name}: {read_type(column.field)}" for column in columns]
    text = docstring(description or f"A row of the feature service {plan.name}.")
    return "\n".join(
        [
            f"class {class_name(plan.name)}Row(Row):",
            f"    {text}",
            "",
            f"    __slots__ = (\n{slots}    )",
            *lines,
            "",
        ]
    )
