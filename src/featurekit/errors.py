"""Errors: every one is a fact, where it is, and what to do about it.

A class of its own exists only where a caller would catch it apart from the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Self

from typing_extensions import override


class FeatureKitError(Exception):
    """Base of all errors of featurekit.

    Attributes:
        message: The fact, in one line.
        where: `file:line:col`, a view and field, a key; empty where nothing can be pointed at.
        hint: What to do about it; may be empty.
    """

    def __init__(self, message: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(message, where, hint)
        self.message = message
        self.where = where
        self.hint = hint

    @override
    def __str__(self) -> str:
        head = f"{self.where}: {self.message}" if self.where else self.message
        return f"{head}\n  hint: {self.hint}" if self.hint else head

    @override
    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.__dict__)


def _rebuild(cls: type[FeatureKitError], state: dict[str, object]) -> FeatureKitError:
    """Make an error again from its attributes, so that errors cross process boundaries."""
    error = cls.__new__(cls)
    Exception.__init__(error, state.get("message", ""))
    error.__dict__.update(state)
    return error


_SHOWN = 20


def name_hint(name: str, known: Iterable[str]) -> str:
    """A hint for a name that is not there: the nearest one, and all that are.

    Examples:
        >>> name_hint("drivr", ["driver", "rider"])
        "did you mean 'driver'? known: driver, rider"
    """
    names = sorted(known)
    if not names:
        return "none are declared"
    more = len(names) - _SHOWN
    shown = ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
    close = get_close_matches(name, names, n=1, cutoff=0.6)
    return f"did you mean '{close[0]}'? known: {shown}" if close else f"known: {shown}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in a definition: where (`file:line:col`), what, and what to do."""

    where: str
    message: str
    hint: str = ""

    @override
    def __str__(self) -> str:
        head = f"{self.where}: {self.message}" if self.where else self.message
        return f"{head}\n  hint: {self.hint}" if self.hint else head


class DefinitionError(FeatureKitError):
    """The definitions of a repository are wrong; `problems` lists all of it, sorted by place."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        super().__init__(f"{count} problem{'s' if count != 1 else ''} in the definitions")

    @override
    def __str__(self) -> str:
        return "\n".join([*map(str, self.problems), self.message])


class RepoNotFoundError(FeatureKitError):
    """There is no `featurerepo.yaml` where one was looked for."""


class UnknownNameError(FeatureKitError):
    """A name that nothing was declared under."""

    @classmethod
    def among(cls, kind: str, name: str, known: Iterable[str], *, where: str = "") -> Self:
        """The error for `name`, which is none of the `known` names of a `kind`."""
        return cls(f"unknown {kind} '{name}'", where=where, hint=name_hint(name, known))


class ValueRefusedError(FeatureKitError, ValueError):
    """A value does not fit its type or breaks a constraint."""


class RequestError(FeatureKitError, ValueError):
    """A call asks for something that cannot be: a wrong join key, a wrong shape, no features."""


class SourceError(FeatureKitError):
    """A batch source cannot be read, or lacks a column, or has one of another type."""


class BadRowError(FeatureKitError):
    """A row of a load does not fit its view; names file, row, field and value."""


class BadEventError(FeatureKitError):
    """An event does not fit its stream view; names its index, field and value.

    Attributes:
        index: Its place among the events given, from 0.
    """

    def __init__(self, message: str, *, where: str = "", hint: str = "", index: int = 0) -> None:
        super().__init__(message, where=where, hint=hint)
        self.index = index


class StoreError(FeatureKitError):
    """The online store refused or failed."""


class StoreUnavailableError(StoreError):
    """No reply from the online store within its timeout. Safe to call again."""


class StoreUnfitError(StoreError):
    """This server, or this user on it, cannot keep the promise about expiry; nothing was written."""


class RegistryError(FeatureKitError):
    """A registry cannot be read or was not made by this version."""


class RegistryConflictError(RegistryError):
    """Somebody else applied first."""


class BreakingChangeError(RegistryError):
    """Applying would make stored bytes mean something else."""


class LockedError(FeatureKitError):
    """Another load of the same view is running."""


class StreamError(FeatureKitError):
    """A source of events refused or failed."""


class StreamUnavailableError(StreamError):
    """A source of events is away. Safe to call again."""


class MissingExtraError(FeatureKitError, ImportError):
    """An optional dependency is not installed."""

    @classmethod
    def of(cls, extra: str, need: str) -> Self:
        """The error for something (`need`) that takes the extra named `extra`."""
        return cls(f"{need} needs the extra '{extra}'", hint=f"pip install 'featurekit[{extra}]'")
