"""Log formats without control characters: messages may contain text from the store or a client."""

from __future__ import annotations

import logging
from copy import copy
from types import TracebackType

from typing_extensions import override
from uvicorn.logging import AccessFormatter, DefaultFormatter

from featurekit.printable import printable


class PrintableFormatter(DefaultFormatter):
    """Formats what the server and uvicorn report."""

    @override
    def formatMessage(self, record: logging.LogRecord) -> str:
        record = copy(record)
        record.message = printable(record.message)
        return super().formatMessage(record)

    @override
    def formatException(
        self,
        ei: tuple[type[BaseException], BaseException, TracebackType | None]
        | tuple[None, None, None],
    ) -> str:
        return printable(super().formatException(ei))


class PrintableAccessFormatter(AccessFormatter):
    """Formats the line of a request."""

    @override
    def formatMessage(self, record: logging.LogRecord) -> str:
        record = copy(record)
        parts = record.args if isinstance(record.args, tuple) else ()
        record.args = tuple(
            printable(part, one_line=True) if isinstance(part, str) else part for part in parts
        )
        return super().formatMessage(record)
