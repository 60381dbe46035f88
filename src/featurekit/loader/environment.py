"""Expand `${VAR}` and `${VAR:-default}`; `$${` is a literal `${`.

In `featurerepo.yaml` that happens when it is loaded, in the locations of sources when one is opened.

Values from the environment may be secret, so messages show the text as written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from typing_extensions import override

from featurekit.loader.document import Document
from featurekit.loader.problems import LocatedProblem, Path

_REFERENCE = re.compile(r"\$(\$\{)|\$\{(?:([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\})?")


class ExpandedText(str):
    """Text with expanded variables; its `repr` is the text as written."""

    __slots__ = ("written",)
    written: str

    def __new__(cls, text: str, written: str) -> ExpandedText:
        """Create the text `text`, shown as `written`."""
        self = super().__new__(cls, text)
        self.written = written
        return self

    @override
    def __repr__(self) -> str:
        return repr(self.written)


OnProblem = Callable[[str, str], None]
"""Called with the message and the hint of each problem in a text."""


def expand_variables(document: Document, env: Mapping[str, str]) -> object:
    """Return the document's data with variables expanded; unset ones become its problems."""
    return _expand(document, document.data, (), env)


def _expand(document: Document, raw: object, path: Path, env: Mapping[str, str]) -> object:
    if isinstance(raw, dict):
        return {key: _expand(document, item, (*path, key), env) for key, item in raw.items()}
    if isinstance(raw, list):
        return [_expand(document, item, (*path, i), env) for i, item in enumerate(raw)]
    if isinstance(raw, str) and "${" in raw:

        def add_problem(message: str, hint: str) -> None:
            document.problems.append(LocatedProblem(document.at(path), message, hint))

        return ExpandedText(expand_text(raw, env, add_problem), written=str(raw))
    return raw


def expand_text(text: str, env: Mapping[str, str], on_problem: OnProblem) -> str:
    """Return a text with variables expanded.

    Args:
        text: The text as written.
        env: The variables. An empty one counts as unset.
        on_problem: Called for each unset variable without a default, and each `${` that is wrong.
    """

    def substitute(match: re.Match[str]) -> str:
        escaped, name, default = match.groups()
        if escaped:
            return "${"
        if name is None:
            message = "'${' is not followed by a name and '}'"
            on_problem(message, "write $${ for a literal ${")
            return ""
        value = env.get(name) or default
        if value is None:
            message = f"environment variable {name} is not set"
            on_problem(message, f"set it, or give a default: ${{{name}:-...}}")
            return ""
        return value

    return _REFERENCE.sub(substitute, text)


def used_variables(text: str) -> set[str]:
    """Return the names of the variables in a text."""
    return {name for _, name, _ in _REFERENCE.findall(text) if name}
