"""Nodes: links to the servers of a cluster, several of which one thread may have under way."""

from __future__ import annotations

import os
import socket
import ssl
from time import monotonic
from typing import Any

from typing_extensions import override

from featurekit.errors import StoreError
from featurekit.stores.cluster.routed_requests import refusal
from featurekit.stores.connection import INCOMPLETE, Connection, OnReply, connect, reply_reader
from featurekit.stores.deadline import Deadline
from featurekit.stores.error_mapping import GarbledReplyError, user_text
from featurekit.stores.pool import Pool
from featurekit.stores.url import StoreUrl
from featurekit.wire import ErrorReply, Reply, command

READONLY = command(b"READONLY")
WOULD_WAIT = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class NodeConnection(Connection):
    """A link whose exchange may go on step by step, beside those of other links."""

    __slots__ = ("_count", "_flags", "_on_reply", "_rest", "values")

    def __init__(self, link: Connection) -> None:
        super().__init__(link._connection)  # noqa: SLF001 - it is the same connection
        self._reader = reply_reader(refusal)
        # A plain socket is asked not to wait each time, so that its timeout can stay as it is.
        self._flags = 0 if isinstance(self.sock, ssl.SSLSocket) else socket.MSG_DONTWAIT
        self._rest = memoryview(b"")
        self._count = 0
        self._on_reply: OnReply = None
        self.values: list[Any] = []

    def begin(self, data: bytes, count: int, timeout_s: float, on_reply: OnReply) -> bool:
        """Begin to send `data`, which gets `count` replies; whether all of it is sent.

        Raises:
            OSError: The link is broken; close it.
        """
        if (timeout_s if self._flags else 0) != self._timeout_s:
            self.set_timeout(timeout_s if self._flags else 0)
        self.used_at = monotonic()
        self._count, self._on_reply, self.values = count, on_reply, []
        try:
            size = self.sock.send(data, self._flags)
        except WOULD_WAIT:
            size = 0
        if size == len(data):
            return True
        self._rest = memoryview(data)[size:]
        return self.push()

    def push(self) -> bool:
        """Send as much as the server takes now; whether that was all.

        Raises:
            OSError: The link is broken; close it.
        """
        while self._rest:
            try:
                size = self.sock.send(self._rest, self._flags)
            except WOULD_WAIT:
                return False
            self._rest = self._rest[size:]
        return True

    def pull(self) -> bool:
        """Take what has come; whether all replies are there, as `values`.

        Raises:
            OSError: The link is broken; close it.
        """
        buffer, reader, on_reply, values = self._buffer, self._reader, self._on_reply, self.values
        while True:
            try:
                size = self.sock.recv_into(buffer, 0, self._flags)
            except WOULD_WAIT:
                return False
            if not size:
                raise ConnectionResetError("the server closed the connection")
            reader.feed(buffer, 0, size)  # type: ignore[arg-type]  # takes any buffer
            new = iter(reader.gets, INCOMPLETE)
            values.extend(map(on_reply, new) if on_reply else new)
            if len(values) >= self._count:
                break
            if self._flags:
                return False  # whereas TLS may hold bytes back that no poll tells of
        if len(values) > self._count or reader.has_data():
            raise GarbledReplyError("more replies than requests")
        return True


class NodePool(Pool):
    """The links to one server of a cluster.

    Args:
        url: The server's.
        reading: Whether they read from it even where it is a replica. Nothing is written over such
            links: a replica would begin to run a script, where it should point to its primary.
    """

    def __init__(self, url: StoreUrl, *, reading: bool = False) -> None:
        super().__init__(url)
        self._reading = reading

    @override
    def connect(self, deadline: Deadline) -> NodeConnection:
        link = NodeConnection(connect(self.url, deadline))
        if self._reading:
            timeout_s = deadline.cap(self.url.connect_timeout_s)
            try:
                check_readonly(self.url, link.exchange(READONLY, 1, timeout_s)[0])
            except BaseException:
                link.close()
                raise
        return link

    def ready(self, now: float) -> NodeConnection | None:
        """A link that may be used at once, `now` by the monotonic clock, if there is one."""
        if os.getpid() != self._pid or not self.idle:
            return None
        if self.permits is not None and not self.permits.acquire(blocking=False):
            return None
        try:
            link = self.idle.pop()
        except IndexError:
            link = None
        if isinstance(link, NodeConnection) and now - link.used_at <= self._health_check_s:
            self.round_trips += 1
            return link
        if link is not None:
            self.idle.append(link)
        self.leave()
        return None

    def obtain(self, deadline: Deadline) -> NodeConnection:
        """A link, after waiting for room and opening one if need be.

        Raises:
            StoreError: There is no room in time, or none could be opened.
        """
        self.enter(deadline)
        try:
            link = self.get(deadline, monotonic())
        except BaseException:
            self.leave()
            raise
        assert isinstance(link, NodeConnection)  # noqa: S101  (they are all made by `connect`)
        self.round_trips += 1
        return link

    def release(self, link: NodeConnection) -> None:
        """Take back a link on which every request got its reply."""
        self.put(link)
        self.leave()

    def give_up(self, link: NodeConnection, error: OSError) -> None:
        """Close a link that broke, and others that most likely broke with it."""
        self.handle_loss(link, error)
        self.leave()

    def abandon(self, link: NodeConnection) -> None:
        """Close a link whose replies nobody waits for any more."""
        self.discard(link)
        self.leave()

    def enter(self, deadline: Deadline) -> None:
        """Wait until one more connection may be used.

        Raises:
            StoreUnavailableError: It took longer than the call may take.
        """
        self.acquire_permit(deadline)

    def leave(self) -> None:
        """Let another caller use a connection."""
        if self.permits is not None:
            self.permits.release()


def check_readonly(url: StoreUrl, reply: Reply) -> None:
    """Diagnostics at the answer to `READONLY`.

    Raises:
        StoreError: This user may not read from replicas.
    """
    if isinstance(reply, ErrorReply):
        raise StoreError(
            f"{user_text(url)} may not read from {url} as a replica: {reply}",
            hint="grant +readonly, or read from primaries",
        )
