"""Generate `docs/python.md` from the docstrings of the public names.

`python -m featurekit.cli.python_page docs/` writes the page; with `--check`, it exits with 1 if the
file is stale.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from types import FunctionType

import featurekit
from featurekit.codegen.reference import write_pages
from featurekit.testing import Clock, MemoryFeatureStore

PAGE = "python.md"
HEAD = """\
# Python API reference

This page is generated from the docstrings. Every name is imported from `featurekit`, but those of the [test kit](testing.md) from
`featurekit.testing`; errors are also listed in [errors.md](errors.md). Plain numbers that stand for a time span are seconds. A method whose name ends in `_async`
does the same as the one without it, and is listed with it.
"""
SHORT_SIGNATURE = 80
"""The most characters of a signature on one line."""

CLASSES = (
    "FeatureStore", "OnlineReader", "OnlineResponse", "RetrievalJob", "TrainingProgress", "VerifyReport", "DriftReport", "DriftBounds", "DataTools", "DataReport", "ProfileReport", "EstimateReport", "StreamWriter", "MaterializeReport", "Progress",
    "WriteReport", "StreamOptions", "WorkerOptions", "StreamReport", "Metrics", "Entity", "FeatureView",
    "Feature", "FeatureService",
)  # fmt: skip
FUNCTIONS = ("embedded_server",)
INTERNAL = {
    "applied", "check_sources", "compiled", "declared", "diagnostics", "evidence", "handle", "is_registry_loaded",
    "load_registry", "readers", "registry", "reload", "reload_definitions", "row_writer", "streams",
}  # fmt: skip
"""Names of `FeatureStore` that the command line and the server use, and that programs do not need."""
SECTION = re.compile(
    r"^(Args|Attributes|Raises|Returns|Yields):\n((?:[ ]{4}.*\n?|\n)+)", re.MULTILINE
)


def python_page() -> str:
    """Return the page, in Markdown."""
    parts = [HEAD]
    for name in CLASSES:
        parts += _class_parts(getattr(featurekit, name))
    parts += _class_parts(MemoryFeatureStore, without=featurekit.FeatureStore)
    parts += _class_parts(Clock)
    parts.append("## Functions\n")
    parts += [_function_part(name, getattr(featurekit, name)) for name in FUNCTIONS]
    statuses = ", ".join(f"`{status}`" for status in featurekit.Status.__args__)  # type: ignore[attr-defined]
    parts.append(
        f"## Statuses\n\n`Status` is one of {statuses}: see [reading](reading.md#statuses).\n"
    )
    return "\n".join(parts)


def _class_parts(owner: type, without: type = object) -> Iterator[str]:
    yield f"## `{owner.__name__}`\n\n{_markdown(inspect.getdoc(owner) or '')}\n"
    inherited = set(dir(without))
    for name in [each for each in _public_names(owner) if each not in inherited]:
        member = inspect.getattr_static(owner, name)
        if isinstance(member, property):
            yield f"### `{name}`\n\n{_markdown(inspect.getdoc(member) or '')}\n"
            continue
        function = member.__func__ if isinstance(member, (classmethod, staticmethod)) else member
        if isinstance(function, FunctionType) and not name.endswith("_async"):
            yield _function_part(name, function, has_twin=hasattr(owner, f"{name}_async"))


def _public_names(owner: type) -> list[str]:
    """Return the public names of a class that have a docstring, in the order of definition."""
    classes = [each for each in owner.__mro__ if each.__module__.startswith("featurekit")]
    return [
        name
        for name in dict.fromkeys(name for each in classes for name in vars(each))
        if not name.startswith("_")
        and name not in INTERNAL
        and inspect.getdoc(inspect.getattr_static(owner, name))
    ]


def _function_part(name: str, function: FunctionType, *, has_twin: bool = False) -> str:
    title = f"### `{name}`" + (f", `{name}_async`" if has_twin else "")
    signature = f"{name}{_signature(function)}"
    return f"{title}\n\n```\n{signature}\n```\n\n{_markdown(inspect.getdoc(function) or '')}\n"


def _signature(function: FunctionType) -> str:
    """Return a signature with one parameter a line if it is long."""
    signature = inspect.signature(function)
    kept = [each for each in signature.parameters.values() if each.name not in {"self", "cls"}]
    text = str(signature.replace(parameters=kept)).replace("'", "")
    if len(text) <= SHORT_SIGNATURE:
        return text
    lines, keyword_only = [], False
    for each in kept:
        if each.kind is each.KEYWORD_ONLY and not keyword_only:
            lines.append("    *,")
            keyword_only = True
        lines.append(f"    {each},".replace("'", ""))
    returned = text.rpartition(" -> ")[2]
    return "\n".join(["(", *lines, f") -> {returned}"])


def _markdown(doc: str) -> str:
    """Return a docstring with its sections as lists."""
    doc = doc.partition("\nExamples:\n")[0]
    return SECTION.sub(_section, doc + "\n").strip()


def _section(found: re.Match[str]) -> str:
    title, body = found[1], inspect.cleandoc(found[2])
    if title in {"Returns", "Yields"}:
        return f"**{title}** " + " ".join(body.split()) + "\n\n"
    items = re.split(r"\n(?=\S)", body)
    lines = []
    for item in items:
        name, _, text = item.partition(":")
        lines.append(f"- `{name}`: {' '.join(text.split())}")
    names = {"Args": "Arguments", "Attributes": "Attributes", "Raises": "Raises"}
    return f"**{names[title]}**\n\n" + "\n".join(lines) + "\n\n"


def main(arguments: Sequence[str]) -> int:
    """Write the page into the given folder, or check it there; returns the exit code."""
    return write_pages(arguments, PAGE, python_page())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
