"""A primary, a replica and a sentinel that watches them, on free ports of 127.0.0.1."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.servers import Server

SERVICE = "main"
DOWN_AFTER_MS = 500


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens at."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


def on_free_port(start: Callable[[int], Server]) -> tuple[int, Server]:
    """A server on a free port; one that is taken before it is bound gives way to another."""
    for _ in range(4):
        [port] = free_ports(1)
        try:
            return port, start(port)
        except RuntimeError:
            continue
    [port] = free_ports(1)
    return port, start(port)


def until(holds: Callable[[], object], seconds: float = 10) -> None:
    """Wait until something holds."""
    late = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < late, "it did not come to pass"
        time.sleep(0.02)


class Watched:
    """Two servers, the first of them the primary at first, and a sentinel.

    Attributes:
        servers: By their ports.
        url: A store URL whose first sentinel is not there.
    """

    def __init__(self, binary: str, *, password: str = "", down_after_ms: int) -> None:
        at_once = ("--repl-diskless-sync-delay", "0")
        first, self.first = on_free_port(lambda port: Server(binary, *_at(port), *at_once))
        to_first = ("--replicaof", f"127.0.0.1 {first}")
        second, self.second = on_free_port(
            lambda port: Server(binary, *_at(port), *to_first, *at_once)
        )
        self.servers = {first: self.first, second: self.second}
        until(self._in_step)
        lines = [
            f"sentinel monitor {SERVICE} 127.0.0.1 {first} 1",
            f"sentinel down-after-milliseconds {SERVICE} {down_after_ms}",
            f"sentinel failover-timeout {SERVICE} 2000",
            *([f"requirepass {password}"] if password else []),
        ]
        self.port, self.sentinel = on_free_port(
            lambda port: Server(binary, *_at(port), sentinel=lines)
        )
        [nobody] = free_ports(1)
        self.url = f"redis+sentinel://127.0.0.1:{nobody},127.0.0.1:{self.port}/{SERVICE}"
        self._password = password
        until(self._may_fail_over)

    def asked(self, question: str) -> object:
        """What the sentinel answers to `sentinel_master` or `sentinel_slaves`."""
        with redis.Redis(
            port=self.port,
            password=self._password or None,
            protocol=2,
            retry=Retry(NoBackoff(), 0),
        ) as client:
            return getattr(client, question)(SERVICE)

    @property
    def primary(self) -> Server:
        """The server that the sentinel names."""
        state = self.asked("sentinel_master")
        assert isinstance(state, dict)
        return self.servers[state["port"]]

    @property
    def replica(self) -> Server:
        """The other one."""
        return self.second if self.primary is self.first else self.first

    def freeze(self, server: Server) -> None:
        """Stop a server in its tracks; its connections stay open."""
        os.kill(server.process.pid, signal.SIGSTOP)

    def thaw(self, server: Server) -> None:
        """Let a frozen server go on as if nothing had been."""
        os.kill(server.process.pid, signal.SIGCONT)

    def remove(self) -> None:
        """End all of it."""
        for server in (self.sentinel, self.first, self.second):
            server.remove()

    def _may_fail_over(self) -> bool:
        replicas = self.asked("sentinel_slaves")
        assert isinstance(replicas, list)
        return [each["master-link-status"] for each in replicas] == ["ok"]

    def _in_step(self) -> bool:
        with self.second.client() as client:
            return str(client.info("replication")["master_link_status"]) == "up"


def _at(port: int) -> list[str]:
    return ["--port", str(port), "--bind", "127.0.0.1"]


@contextmanager
def watched(
    binary: str, *, password: str = "", down_after_ms: int = DOWN_AFTER_MS
) -> Iterator[Watched]:
    """A watched pair while the block runs."""
    group = Watched(binary, password=password, down_after_ms=down_after_ms)
    try:
        yield group
    finally:
        group.remove()
