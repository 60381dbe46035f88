"""Call the functions of a repository that compute features."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from featurekit.errors import FeatureKitError
from featurekit.lower.cell_decoder import CellDecoder, Pair, argument_reader, own_arguments
from featurekit.lower.encoders import Encode, field_encoder
from featurekit.lower.read import INVALID, STALE, UNAVAILABLE, Cell, Cells, FailedFunction, Stale
from featurekit.plan import DerivedColumn, FunctionPlan, ReadPlan
from featurekit.printable import printable
from featurekit.wire import UNAVAILABLE as UNAVAILABLE_CODE
from featurekit.wire import ErrorReply

Function = Callable[..., object]

Functions = Mapping[FunctionPlan, Function | None]
"""The functions that a reader may call; `None` for one that cannot be called here."""

_BAD_CELLS: dict[str, Cell] = {
    UNAVAILABLE: ErrorReply(f"{UNAVAILABLE_CODE} an input is unavailable"),
    INVALID: FailedFunction(),
    STALE: Stale(),
}
"""The cell of a feature by the worst status of its inputs."""

_log = logging.getLogger("featurekit.functions")


class FunctionCaller:
    """Calls the functions of a plan, and adds the encoded results to the cells of rows.

    Args:
        plan: The compiled list of features.
        functions: What to call.
        decoder: Decodes the inputs.
    """

    def __init__(self, plan: ReadPlan, functions: Functions, decoder: CellDecoder) -> None:
        self._decoder = decoder
        self._columns = [
            _FunctionColumn(column, functions.get(column.feature.compute), decoder)
            for column in plan.derived
            if isinstance(column.feature.compute, FunctionPlan)
        ]

    def add_cells(self, cells: list[Cell]) -> bool:
        """Add the results to a row's other cells; return whether one of them is not a value."""
        pairs = self._decoder.stored_pairs(cells)
        results = [column.cell(cells, pairs) for column in self._columns]
        cells += results
        return any(type(result) is not bytes and result is not None for result in results)


class _FunctionColumn:
    def __init__(
        self, column: DerivedColumn, function: Function | None, decoder: CellDecoder
    ) -> None:
        self._arguments_of = argument_reader(column, decoder.layout)
        self._name = column.name
        self._function = function
        self._encode: Encode = field_encoder(column.field)
        self._last_error = ""

    def cell(self, cells: Cells, pairs: list[Pair]) -> Cell:
        """Return the cell for a row's other cells, and its stored values with their statuses."""
        arguments, status = self._arguments_of(cells, pairs)
        if status is not None:
            return _BAD_CELLS[status]
        if self._function is None:
            return FailedFunction()
        try:
            return self._encode(self._function(*own_arguments(arguments)))
        except FeatureKitError as error:
            return self._failed(str(error))
        except Exception as error:  # noqa: BLE001 - the function is the repository's own code
            return self._failed(f"{type(error).__name__}: {error}")

    def _failed(self, reason: str) -> Cell:
        """Return the cell of a failed call; log the reason, once until it changes."""
        if reason != self._last_error:
            self._last_error = reason
            _log.warning("feature %s is invalid: %s", self._name, printable(reason))
        return FailedFunction(reason.encode(errors="replace"))
