"""Check the values that a caller sends along with a read, for features that are computed from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any

from featurekit.errors import FeatureKitError, RequestError, ValueRefusedError, name_hint
from featurekit.lower.encoders import field_encoder
from featurekit.plan import FieldPlan, ReadPlan
from featurekit.types import codec_of

Request = Mapping[str, object] | Sequence[Mapping[str, object]] | None
"""Request data: `{"amount": 9.5}` for all rows, or a list with one such mapping for each."""

RequestRows = Sequence[Sequence[object]]
"""The values of the request for each row; none if the plan has no request."""

RequestColumns = Mapping[str, Sequence[object]]
"""The values of a request that stand beside the join keys, by name, one for each row."""

NOT_SENT = object()
"""Stands for a value that a row does not have."""


def is_shared(request: object, columns: RequestColumns) -> bool:
    """Return whether all rows have the same request data."""
    return not columns and (
        request is None or type(request) is dict or isinstance(request, Mapping)
    )


class RequestData:
    """Checks the request data of one plan.

    Args:
        plan: The compiled list of features.

    Attributes:
        names: The names of the values that a caller sends.
    """

    def __init__(self, plan: ReadPlan) -> None:
        self.names = tuple(column.name for column in plan.requests)
        self._known = frozenset((*self.names, *plan.ignored_request_values))
        self._checks = [(c.name, _value_check(c.name, c.field)) for c in plan.requests]

    def rows(self, count: int, request: Request, columns: RequestColumns) -> RequestRows:
        """Return the checked values for `count` rows. See `each`."""
        return list(self.each(count, request, columns))

    def shared(self, request: Any, rows: int) -> Sequence[object]:
        """Return the checked values that are the same for all rows, of which there may be none. See `each`."""
        if not request and not (self.names and rows):
            return ()
        return self._usual_or_any(request or {}, "request")

    def each(
        self, count: int, request: Request, columns: RequestColumns
    ) -> Iterator[Sequence[object]]:
        """Yield the checked values for each of `count` rows; nothing if none are needed.

        Args:
            count: The number of rows.
            request: Request data.
            columns: Values from columns beside the join keys.

        Raises:
            RequestError: A value is unknown, missing or given twice, or there is not one mapping a row.
            ValueRefusedError: A value does not fit.
        """
        if is_shared(request, columns):
            return repeat(self.shared(request, count), count if self.names else 0)
        given: Iterable[Any] = repeat(request or {}, count)
        if request is not None and not isinstance(request, Mapping):
            given = self._mappings(request, count)
        rows = self._rows(given, columns)
        return rows if self.names else iter([row for row in rows if row])

    def _mappings(self, request: Any, count: int) -> Sequence[Mapping[str, object]]:
        if isinstance(request, str | bytes) or not isinstance(request, Sequence):
            raise RequestError(
                f"expected a mapping or a list of mappings, not {request!r}", where="request"
            )
        if len(request) != count:
            raise RequestError(
                f"{len(request)} mappings for {count} rows",
                where="request",
                hint="pass one mapping for all rows, or one for each",
            )
        return request

    def _rows(self, given: Iterable[Any], columns: RequestColumns) -> Iterator[Sequence[object]]:
        for i, mapping in enumerate(given):
            if columns:
                yield self._row(_merged(mapping, columns, i), f"request of row {i}")
            else:
                yield self._usual_or_any(mapping, i)

    def _usual_or_any(self, mapping: Any, where: str | int) -> list[object]:
        """Return the values of a usual mapping, a dict with all of them, or of any other."""
        if type(mapping) is dict and (
            len(mapping) == len(self._checks) or mapping.keys() <= self._known
        ):
            try:
                return [check(mapping[name]) for name, check in self._checks]
            except (KeyError, ValueRefusedError):
                pass  # reported below
        return self._row(mapping, where if isinstance(where, str) else f"request of row {where}")

    def _row(self, mapping: Any, where: str) -> list[object]:
        """Return the values of any mapping."""
        _check_mapping(mapping, where)
        for name in mapping:
            if name not in self._known:
                raise RequestError(
                    f"unknown request value '{name}'", where=where, hint=self._unknown(name)
                )
        values = []
        for name, check in self._checks:
            try:
                values.append(check(mapping.get(name, NOT_SENT)))
            except FeatureKitError as error:
                place = where if isinstance(error, RequestError) else f"{where}, value '{name}'"
                raise type(error)(error.message, where=place, hint=error.hint) from error
        return values

    def _unknown(self, name: object) -> str:
        if not self.names:
            return "these features need no request data"
        return name_hint(str(name), self.names).replace("known:", "these features need")


def _merged(mapping: Any, columns: RequestColumns, row: int) -> dict[str, object]:
    """Return the request data of a row with the values beside its join keys."""
    _check_mapping(mapping, where := f"request of row {row}")
    own = {name: column[row] for name, column in columns.items() if column[row] is not NOT_SENT}
    if twice := [name for name in own if name in mapping]:
        raise RequestError(
            f"'{twice[0]}' is also a column of the rows", where=where, hint="send it once"
        )
    return {**mapping, **own}


def _check_mapping(mapping: Any, where: str) -> None:
    if not isinstance(mapping, Mapping):
        raise RequestError(f"expected a mapping of names to values, not {mapping!r}", where=where)


def _value_check(name: str, field: FieldPlan) -> Callable[[object], object]:
    """Return the function from a value that was sent, or `NOT_SENT`, to the checked value."""
    codec, encode = codec_of(field.dtype), field_encoder(field)
    default = None if field.default is None else codec.decode(field.default)

    def check(value: object) -> object:
        if value is NOT_SENT:
            if field.default is None:
                raise RequestError(
                    f"missing request value '{name}'",
                    hint=f"send {name}, {codec.noun}, as in request={{'{name}': ...}}",
                )
            return default
        data = encode(value)
        return default if data is None else codec.decode(data)

    return check
