"""Check the values that a caller sends along with a read, for features that are computed from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any

from featurekit.errors import RequestError, ValueRefusedError, name_hint
from featurekit.lower.encoders import field_encoder
from featurekit.plan import FieldPlan, ReadPlan
from featurekit.types import codec_of

Request = Mapping[str, object] | Sequence[Mapping[str, object]] | None
"""Request data: `{"amount": 9.5}` for all rows, or a list with one such mapping for each."""

RequestRows = Sequence[Sequence[object]]
"""The values of the request for each row; none if the plan has no request."""

NOT_SENT = object()
"""Stands for a value that a row does not have."""


class RequestData:
    """Checks the request data of one plan.

    Args:
        plan: The compiled list of features.

    Attributes:
        names: The names of the values that a caller sends.
    """

    def __init__(self, plan: ReadPlan) -> None:
        self._plan = plan
        self.names = tuple(column.name for column in plan.requests)
        self._checks = [(c.name, _value_check(c.name, c.field)) for c in plan.requests]

    def rows(
        self, count: int, request: Request, columns: Mapping[str, Sequence[object]] | None = None
    ) -> RequestRows:
        """Return the checked values for `count` rows. See `each`."""
        return list(self.each(count, request, columns or {}))

    def each(
        self, count: int, request: Request, columns: Mapping[str, Sequence[object]]
    ) -> Iterator[Sequence[object]]:
        """Yield the checked values for each of `count` rows; nothing if none are needed.

        Args:
            count: The number of rows.
            request: Request data.
            columns: Values from columns beside the join keys, for each row.

        Raises:
            RequestError: A value is unknown, missing or given twice, or there is not one mapping a row.
            ValueRefusedError: A value does not fit.
        """
        if request is None or isinstance(request, Mapping):
            given: Iterable[Any] = repeat(request or {}, count)
            if not columns:
                row = self._row(request or {}, "request") if request or self.names else []
                return repeat(row, count if self.names else 0)
        else:
            given = self._mappings(request, count)
        if not self.names:
            self._check_empty(given)
            return iter(())
        return self._merged(given, columns)

    def _merged(
        self, given: Iterable[Any], columns: Mapping[str, Sequence[object]]
    ) -> Iterator[Sequence[object]]:
        for i, mapping in enumerate(given):
            where = f"request of row {i}"
            self._check_mapping(mapping, where)
            own = {n: column[i] for n, column in columns.items() if column[i] is not NOT_SENT}
            if twice := [name for name in own if name in mapping]:
                raise RequestError(
                    f"'{twice[0]}' is also a column of the rows", where=where, hint="send it once"
                )
            yield self._row({**mapping, **own} if own else mapping, where)

    def _check_empty(self, given: Iterable[Any]) -> None:
        for i, mapping in enumerate(given):
            self._row(mapping, f"request of row {i}")

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

    def _check_mapping(self, mapping: Any, where: str) -> None:
        if not isinstance(mapping, Mapping):
            raise RequestError(
                f"expected a mapping of names to values, not {mapping!r}", where=where
            )

    def _row(self, mapping: Any, where: str) -> list[object]:
        self._check_mapping(mapping, where)
        for name in mapping:
            if name not in self.names:
                raise RequestError(
                    f"unknown request value '{name}'",
                    where=where,
                    hint=name_hint(str(name), self.names)
                    if self.names
                    else f"{self._plan.name} needs no request data",
                )
        return [check(mapping.get(name, NOT_SENT), where) for name, check in self._checks]


def _value_check(name: str, field: FieldPlan) -> Callable[[object, str], object]:
    """Return the function from a value that was sent, and where, to the checked value."""
    codec, encode = codec_of(field.dtype), field_encoder(field)
    default = None if field.default is None else codec.decode(field.default)

    def check(value: object, where: str) -> object:
        if value is NOT_SENT:
            if field.default is None:
                raise RequestError(
                    f"missing request value '{name}'",
                    where=where,
                    hint=f"send {name}, {codec.noun}, as in request={{'{name}': ...}}",
                )
            return default
        try:
            data = encode(value)
        except ValueRefusedError as error:
            place = f"{where}, value '{name}'"
            raise ValueRefusedError(error.message, where=place, hint=error.hint) from error
        return default if data is None else codec.decode(data)

    return check
