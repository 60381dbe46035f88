"""A uvicorn protocol that bounds how long a client may hold a connection.

uvicorn itself keeps a client that sends nothing, headers without end, or a body that is no longer
read, and one that never reads its responses. Here each phase of a connection has a limit:

- the head of a request, from its first byte or from the start of the connection: `HEAD_TIMEOUT_S`;
- the body: a limit of the reader (`Limits.body_timeout_s`). A body whose request is answered already
  is read and dropped for `DISCARD_TIMEOUT_S`, so that the client can see the response;
- the response: the client must take some of it in each `STALL_TIMEOUT_S`;
- the pause between two requests: uvicorn's `timeout_keep_alive`.
"""

from __future__ import annotations

import asyncio
import socket
import struct

from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from featurekit.server.context import mark_shutting_down

HEAD_TIMEOUT_S = 10.0
DISCARD_TIMEOUT_S = 10.0
STALL_TIMEOUT_S = 30.0

HEAD_BYTES = 64 * 1024

_NO_LINGER = struct.pack("ii", 1, 0)

_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
)
_TOO_LARGE_BODY = (
    b'{"error":{"type":"HTTPError","message":"the request head is larger than %d bytes",'
    b'"where":"","hint":""}}' % HEAD_BYTES
)


class BoundedProtocol(HttpToolsProtocol):
    """One HTTP connection."""

    _in_head = True  # also between two requests
    _heads = 0
    _head_begun = False
    _head_bytes = 0
    _unsent_bytes = 0
    _has_progress = False
    _head_timer: asyncio.TimerHandle | None = None
    _discard_timer: asyncio.TimerHandle | None = None
    _stall_timer: asyncio.TimerHandle | None = None

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_head_timer()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._head_timer, self._discard_timer, self._stall_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    @override
    def shutdown(self) -> None:
        super().shutdown()
        if self.cycle is not None:
            mark_shutting_down(self.cycle.scope)

    # Requests

    @override
    def data_received(self, data: bytes) -> None:
        was_in_head, heads = self._in_head, self._heads
        super().data_received(data)
        is_only_head = was_in_head and self._in_head and heads == self._heads
        if self.transport.is_closing():
            self._watch_writes()
            return
        if is_only_head:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:
                self.transport.write(_TOO_LARGE % (len(_TOO_LARGE_BODY), _TOO_LARGE_BODY))
                self._close()
                return
        if self._head_timer is None and (is_only_head or self._head_begun):
            self._start_head_timer()

    @override
    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_begun, self._head_bytes = True, 0

    @override
    def on_headers_complete(self) -> None:
        self._heads += 1
        self._in_head = self._head_begun = False
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        super().on_headers_complete()

    @override
    def on_message_complete(self) -> None:
        self._in_head, self._head_bytes = True, 0
        if self._discard_timer is not None:  # the request was answered before its end
            self._discard_timer.cancel()
            self._discard_timer = None
            self._start_keep_alive_timer()
        super().on_message_complete()

    def _start_head_timer(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self._on_head_timeout)

    def _on_head_timeout(self) -> None:
        self._head_timer = None
        if self._heads and not self.cycle.response_complete:
            self._start_head_timer()  # the client may wait for a response before it goes on
        else:
            self._close()

    # Responses

    @override
    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._watch_writes()
        elif not self._in_head and self.cycle.response_complete:
            self._discard_timer = self.loop.call_later(DISCARD_TIMEOUT_S, self._close)

    @override
    def timeout_keep_alive_handler(self) -> None:
        self._close()

    def _start_keep_alive_timer(self) -> None:
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    @override
    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_writes()

    @override
    def resume_writing(self) -> None:
        super().resume_writing()
        self._has_progress = True

    def _close(self) -> None:
        """Close the connection once the client has read what was sent."""
        if not self.transport.is_closing():
            self.transport.close()
        self._watch_writes()

    def _watch_writes(self) -> None:
        """Abort the connection unless the client reads some of what is sent in each interval."""
        if self._stall_timer is None:
            self._has_progress = False
            self._unsent_bytes = self.transport.get_write_buffer_size()
            self._stall_timer = self.loop.call_later(STALL_TIMEOUT_S, self._on_stall_timeout)

    def _on_stall_timeout(self) -> None:
        self._stall_timer = None
        unsent_bytes = self.transport.get_write_buffer_size()
        if unsent_bytes and unsent_bytes >= self._unsent_bytes and not self._has_progress:
            # Without this, the kernel would keep what is not sent, and the connection.
            connection = self.transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            self.transport.abort()
        elif unsent_bytes:
            self._watch_writes()
