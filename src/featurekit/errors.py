"""The errors of featurekit: what happened, where, and what to do.

There is a separate class where callers catch an error separately.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import Any, Self

from typing_extensions import override


def _format(where: str, message: str, hint: str) -> str:
    head = f"{where}: {message}" if where else message
    return f"{head}\n  hint: {hint}" if hint else head


class FeatureKitError(Exception):
    """Base class of all featurekit errors.

    Attributes:
        message: What happened, in one line.
        where: `file:line:col`, a view and field, or a key; may be empty.
        hint: What to do; may be empty.
        reports: If `materialize` raised the error, the reports of all its views.
        problems: If definitions are invalid, each problem.
    """

    reports: Sequence[Any] = ()
    problems: Sequence[Problem] = ()

    def __init__(self, message: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(message, where, hint)
        self.message = message
        self.where = where
        self.hint = hint

    @override
    def __str__(self) -> str:
        return _format(self.where, self.message, self.hint)

    @override
    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.__dict__)

    def to_dict(self) -> dict[str, object]:
        """Return the error as plain data, with the name of its class as `type`."""
        return {
            "type": type(self).__name__,
            "message": self.message,
            "where": self.where,
            "hint": self.hint,
        }

    def to_document(self) -> dict[str, object]:
        """Return the error as the JSON document that commands print: with its problems and reports."""
        return {
            "error": self.to_dict(),
            "problems": [problem.to_dict() for problem in self.problems],
            "reports": [report.to_dict() for report in self.reports],
        }


def _rebuild(cls: type[FeatureKitError], state: dict[str, object]) -> FeatureKitError:
    """Return a pickled error from its attributes, without a call of its `__init__`."""
    error = cls.__new__(cls)
    Exception.__init__(error, state.get("message", ""))
    error.__dict__.update(state)
    return error


_MAX_LISTED_NAMES = 20
_MAX_NAME = 100
"""Longer names are shortened in messages, and no similar name is searched for them."""


def shorten_name(name: object) -> str:
    """Return a name for a message, shortened if it is longer than any name that is declared."""
    text = str(name)
    return text if len(text) <= _MAX_NAME else f"{text[:_MAX_NAME]}… ({len(text)} characters)"


def join_where(*parts: str | None) -> str:
    """Return where something happened: the parts that are known, from the outside in."""
    return ", ".join(part for part in parts if part)


def name_hint(name: str, known: Iterable[str]) -> str:
    """Return a hint for an unknown name: the closest match, and the known names.

    Examples:
        >>> name_hint("drivr", ["driver", "rider"])
        "did you mean 'driver'? known: driver, rider"
    """
    name, names = str(name), sorted({*known})
    if not names:
        return "none are declared"
    more = len(names) - _MAX_LISTED_NAMES
    listed = ", ".join(names[:_MAX_LISTED_NAMES]) + (f" and {more} more" if more > 0 else "")
    # The search takes time with the square of the length.
    close = get_close_matches(name, names, n=1, cutoff=0.6) if len(name) <= _MAX_NAME else []
    return f"did you mean '{close[0]}'? known: {listed}" if close else f"known: {listed}"


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem in a definition.

    Attributes:
        where: Where it is, as `file:line:column`.
        message: What it is.
        hint: What to do; may be empty.
        file: The file.
        line: The line, from 1; `None` if the problem concerns the whole file.
        column: The column, from 1; `None` as well.
    """

    where: str
    message: str
    hint: str = ""
    file: str = ""
    line: int | None = None
    column: int | None = None

    def to_dict(self) -> dict[str, object]:
        """Return the problem as plain data."""
        return asdict(self)

    @override
    def __str__(self) -> str:
        return _format(self.where, self.message, self.hint)


class DefinitionError(FeatureKitError):
    """The definitions are invalid; `problems` lists all problems, sorted by location."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        super().__init__(f"{count} problem{'s' if count != 1 else ''} in the definitions")

    @override
    def __str__(self) -> str:
        return "\n".join([*map(str, self.problems), self.message])


class RepoNotFoundError(FeatureKitError):
    """The folder and its parents contain no `featurerepo.yaml`."""


class UnknownNameError(FeatureKitError):
    """A name is not declared or not applied."""

    @classmethod
    def among(cls, kind: str, name: str, known: Iterable[str], *, where: str = "") -> Self:
        """Return the error for a `name` that is not among the `known` names of a `kind`."""
        return cls(
            f"unknown {kind} '{shorten_name(name)}'", where=where, hint=name_hint(name, known)
        )


class ValueRefusedError(FeatureKitError, ValueError):
    """A value does not fit its type or breaks a constraint."""


class RequestError(FeatureKitError, ValueError):
    """A call is invalid: a wrong join key, a wrong shape, no features."""


class SourceError(FeatureKitError):
    """A batch source cannot be read, or a column is missing or has the wrong type."""


class OlderRowsError(FeatureKitError):
    """All rows of a load are older than rows that earlier loads of the view wrote."""


class BadRowError(FeatureKitError):
    """A row of a load does not fit its view; the error names file, row, field and value.

    Attributes:
        keys: The keys of the rejected rows of the batch, as far as they have one.
    """

    keys: Sequence[bytes] = ()


class MaterializeError(FeatureKitError):
    """Some of several views could not be loaded; the others are loaded.

    Attributes:
        errors: The errors of the views that failed, in order.
    """

    def __init__(self, message: str, errors: Sequence[FeatureKitError], hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.errors = tuple(errors)

    @override
    def to_document(self) -> dict[str, object]:
        return {**super().to_document(), "errors": [error.to_dict() for error in self.errors]}


class BadEventError(FeatureKitError):
    """An event does not fit its stream view; the error names its index, field and value.

    Attributes:
        index: The position of the event in the call, from 0.
    """

    def __init__(self, message: str, *, where: str = "", hint: str = "", index: int = 0) -> None:
        super().__init__(message, where=where, hint=hint)
        self.index = index


class StoreError(FeatureKitError):
    """The online store refused a command or failed."""


class StoreUnavailableError(StoreError):
    """The online store did not reply within its timeout. The call can be repeated."""


class StoreUnfitError(StoreError):
    """The server or its user lacks what featurekit needs for expiry; nothing was written."""


class RegistryError(FeatureKitError):
    """A registry cannot be read, is empty, or has an unsupported version."""


class RegistryConflictError(RegistryError):
    """Another process applied its changes first."""


class BreakingChangeError(RegistryError):
    """An apply would change the meaning of stored bytes."""


class LockedError(FeatureKitError):
    """Another load of the same view is running."""


class StreamError(FeatureKitError):
    """A stream source refused a command or failed."""


class StreamUnavailableError(StreamError):
    """A stream source is unavailable. The call can be repeated."""


class MissingExtraError(FeatureKitError, ImportError):
    """An optional dependency is not installed."""

    @classmethod
    def of(cls, extra: str, feature: str) -> Self:
        """Return the error for a `feature` that needs the `extra`."""
        return cls(
            f"{feature} needs the extra '{extra}'",
            hint=f"in a checkout of featurekit: pip install '.[{extra}]'",
        )
