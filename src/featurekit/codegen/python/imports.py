"""The imports of a generated module."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set

from featurekit.codegen.python.text import WIDTH, by_kind

_TYPED = "featurekit.typed"
_MODULES = {
    "builtins": ("bool", "bytes", "dict", "float", "int", "list", "object", "str", "tuple"),
    "collections.abc": ("Mapping", "Sequence"),
    "datetime": ("date", "datetime"),
    "decimal": ("Decimal",),
    "typing": (
        *(
            "TYPE_CHECKING",
            "Any",
            "ClassVar",
            "Literal",
            "NotRequired",
            "Required",
            "TypeAlias",
            "TypedDict",
        ),
        *("Unpack", "overload"),
    ),
    _TYPED: (
        *(
            "Array",
            "Column",
            "DataFrame",
            "EntityRows",
            "EventOptions",
            "FeatureService",
            "FeatureType",
            "Json",
        ),
        *(
            "MaxAge",
            "OnlineReader",
            "OnlineResponse",
            "ReadOptions",
            "Request",
            "Row",
            "Signature",
        ),
        *("TimedEventOptions", "Timeout", "Timestamp", "TypedBatchWriter", "FeatureStore"),
        *("TypedReader", "TypedStreamWriter", "TypedTimedStreamWriter"),
    ),
    "typing_extensions": ("ReadOnly", "override"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

_OTHERS = (_TYPED, "typing_extensions")
_STANDARD = tuple(module for module in _MODULES if module not in _OTHERS)

IMPORTABLE = frozenset(_MODULE_OF)
"""All names that a generated module may import, which its classes do not take."""


class Imports:
    """Collects the names that a module uses.

    Attributes:
        names: The names imported from modules.
        modules: The modules imported under a private name, for annotations in a class whose
            attributes have the names of types.
    """

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.modules: set[str] = set()

    def use(self, name: str, shadowed: Set[str] = frozenset()) -> str:
        """Return how to refer to a name where other things may have some names."""
        module = _MODULE_OF[name]
        if name in shadowed:
            self.modules.add(module)
            return f"_{module.rpartition('.')[2]}.{name}"
        if module != "builtins":
            self.names.add(name)
        return name

    def add(self, other: Imports) -> None:
        """Add what another part of the module uses."""
        self.names |= other.names
        self.modules |= other.modules

    def lines(self) -> Iterator[str]:
        """Yield the import statements, sorted as ruff sorts them."""
        for modules in (_STANDARD, _OTHERS):
            if block := [*self._block(modules)]:
                yield from block
                yield ""

    def _block(self, modules: Iterable[str]) -> Iterator[str]:
        for module in modules:
            if module in self.modules and module == _TYPED:
                yield "from featurekit import typed as _typed"
            elif module in self.modules:
                yield f"import {module} as _{module.rpartition('.')[2]}"
        for module in modules:
            names = sorted(self.names & {*_MODULES[module]}, key=by_kind)
            if names:
                yield import_line(module, names)


def import_line(module: str, names: Iterable[str]) -> str:
    """Return an import statement of names, on several lines if one would be too long."""
    line = f"from {module} import {', '.join(names)}"
    if len(line) <= WIDTH:
        return line
    return f"from {module} import (\n" + "".join(f"    {name},\n" for name in names) + ")"
