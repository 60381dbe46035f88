"""Expand `${VAR}` and `${VAR:-default}` in `featurerepo.yaml`; `$${` is a literal `${`.

Values from the environment may be secret, so messages show the text as written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

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


def expand_variables(document: Document, env: Mapping[str, str]) -> object:
    """Return the document's data with variables expanded; unset ones become its problems."""
    return _Expander(document, env).expand(document.data, ())


class _Expander:
    def __init__(self, document: Document, env: Mapping[str, str]) -> None:
        self._document = document
        self._env = env

    def expand(self, raw: object, path: Path) -> object:
        if isinstance(raw, dict):
            return {key: self.expand(item, (*path, key)) for key, item in raw.items()}
        if isinstance(raw, list):
            return [self.expand(item, (*path, i)) for i, item in enumerate(raw)]
        if isinstance(raw, str) and "${" in raw:
            text = _REFERENCE.sub(lambda match: self._substitute(match, path), raw)
            return ExpandedText(text, written=str(raw))
        return raw

    def _substitute(self, match: re.Match[str], path: Path) -> str:
        escaped, name, default = match.groups()
        if escaped:
            return "${"
        if name is None:
            message = "'${' is not followed by a name and '}'"
            self._add_problem(path, message, "write $${ for a literal ${")
            return ""
        value = self._env.get(name) or default
        if value is None:
            message = f"environment variable {name} is not set"
            self._add_problem(path, message, f"set it, or give a default: ${{{name}:-...}}")
            return ""
        return value

    def _add_problem(self, path: Path, message: str, hint: str) -> None:
        location = self._document.at(path)
        self._document.problems.append(LocatedProblem(location, message, hint))
