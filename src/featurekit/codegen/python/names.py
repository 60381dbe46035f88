"""Names of classes and modules for definitions, the same for the same definitions in any order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from keyword import iskeyword

from featurekit.codegen.python.imports import IMPORTABLE

SERVICE_CLASSES = ("Row", "Reader", "Keys", "KeyColumns", "Dict", "Columns", "Request")
VIEW_CLASSES = ("Row", "Reader", "Writer", "Values", "Event", "BatchRow")
STORE_CLASSES = ("FeatureStore",)


class Names:
    """Gives each service and each view the first part of its class names, which no other has.

    Args:
        project: The project.
        services: The names of the feature services.
        views: The names of the feature views.
    """

    def __init__(self, project: str, services: Iterable[str], views: Iterable[str]) -> None:
        self._taken = {*IMPORTABLE, "FINGERPRINT", "FeatureName", "ServiceName"}
        self._modules = {*IMPORTABLE, "type"}  # a module is a name in `__init__`, beside these
        self.store = self._free(project, "", STORE_CLASSES)
        self.services = {
            name: self._free(name, "Service", SERVICE_CLASSES)
            for name in sorted(services, key=_oddity)
        }
        self.views = {
            name: self._free(name, "View", VIEW_CLASSES) for name in sorted(views, key=_oddity)
        }
        self.service_modules = {name: self._free_module(name, "service") for name in self.services}
        self.view_modules = {name: self._free_module(name, "view") for name in self.views}

    def _free(self, name: str, kind: str, suffixes: Sequence[str]) -> str:
        for stem in _stems(name, kind):
            names = {stem + suffix for suffix in suffixes}
            if not names & self._taken:
                self._taken |= names
                return stem
        raise AssertionError("there are endlessly many names")

    def _free_module(self, name: str, kind: str) -> str:
        module = f"{name}_" if iskeyword(name) else name
        while module in self._modules:
            module = f"{module}_{kind}"
        self._modules.add(module)
        return module


def _oddity(name: str) -> tuple[bool, str]:
    """Return a sort key: names that lose a `_` in a class name give way to others."""
    return "" in name.split("_"), name


def _stems(name: str, kind: str) -> Iterator[str]:
    """Yield possible names, best first.

    Examples:
        >>> stems = _stems("fraud_v1", "Service")
        >>> [next(stems), next(stems), next(stems)]
        ['FraudV1', 'FraudV1Service', 'Fraud_v1']
    """
    camel = "".join(part[:1].upper() + part[1:] for part in name.split("_"))
    yield camel
    exact = name[:1].upper() + name[1:]
    for stem in (camel, exact) if kind else ():
        if stem != camel:
            yield stem
        yield f"{stem}{kind}"
    number = 2
    while True:
        yield f"{camel}{number}"
        number += 1
