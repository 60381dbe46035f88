"""The protocol: uvicorn's, with bounds on how long and how large the head of a request may be.

uvicorn bounds neither: a client that sends nothing, or headers without end, would be kept.
"""

from __future__ import annotations

import asyncio

from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from featurekit.server.shutdown import stop

HEAD_S = 10.0
"""Seconds that the head of a request may take, from its first byte or from the connection's start."""

HEAD_BYTES = 64 * 1024

_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
)
_TOO_LARGE_BODY = (
    b'{"error":{"class":"HTTPError","message":"the head of the request is larger than %d bytes",'
    b'"where":"","hint":""}}' % HEAD_BYTES
)


class BoundedProtocol(HttpToolsProtocol):
    """One connection."""

    _alarm: asyncio.TimerHandle | None = None
    _in_head = True
    _head_bytes = 0

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait_for_head()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    @override
    def shutdown(self) -> None:
        super().shutdown()
        if self.cycle is not None:
            stop(self.cycle.scope)

    @override
    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._in_head:
            return
        self._head_bytes += len(data)
        if self._head_bytes > HEAD_BYTES and not self.transport.is_closing():
            self.transport.write(_TOO_LARGE % (len(_TOO_LARGE_BODY), _TOO_LARGE_BODY))
            self.transport.close()
        elif self._alarm is None:
            self._wait_for_head()

    @override
    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0

    @override
    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_waiting()
        super().on_headers_complete()

    def _wait_for_head(self) -> None:
        self._alarm = self.loop.call_later(HEAD_S, self._too_late)

    def _stop_waiting(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _too_late(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()
