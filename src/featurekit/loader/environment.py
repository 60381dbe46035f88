"""`${VAR}` and `${VAR:-default}` in `featurerepo.yaml`; `$${` stands for `${`.

What comes out of the environment may be secret: messages show the text as written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from typing_extensions import override

from featurekit.loader.document import Document
from featurekit.loader.places import Finding, Path

_REFERENCE = re.compile(r"\$(\$\{)|\$\{(?:([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\})?")


class Expanded(str):
    """Text with variables filled in, which shows as it was written."""

    __slots__ = ("written",)
    written: str

    def __new__(cls, text: str, written: str) -> Expanded:
        """The text `text`, shown as `written`."""
        self = super().__new__(cls, text)
        self.written = written
        return self

    @override
    def __repr__(self) -> str:
        return repr(self.written)


def expand(document: Document, env: Mapping[str, str]) -> object:
    """The document's data with variables filled in; what is missing is among its findings."""
    return _Expander(document, env).value(document.data, ())


class _Expander:
    def __init__(self, document: Document, env: Mapping[str, str]) -> None:
        self._document = document
        self._env = env

    def value(self, raw: object, path: Path) -> object:
        if isinstance(raw, dict):
            return {key: self.value(item, (*path, key)) for key, item in raw.items()}
        if isinstance(raw, list):
            return [self.value(item, (*path, i)) for i, item in enumerate(raw)]
        if isinstance(raw, str) and "${" in raw:
            text = _REFERENCE.sub(lambda match: self._filled(match, path), raw)
            return Expanded(text, written=str(raw))
        return raw

    def _filled(self, match: re.Match[str], path: Path) -> str:
        escaped, name, default = match.groups()
        if escaped:
            return "${"
        if name is None:
            self._refuse(path, "found '${' without a name and '}'", "write $${ for the text '${'")
            return ""
        value = self._env.get(name) or default
        if value is None:
            self._refuse(
                path,
                f"the environment variable {name} is not set",
                f"set it, or give a default: ${{{name}:-...}}",
            )
            return ""
        return value

    def _refuse(self, path: Path, message: str, hint: str) -> None:
        self._document.findings.append(Finding(self._document.at(path), message, hint))
