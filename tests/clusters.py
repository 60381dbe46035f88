"""Run real clusters for tests, on free loopback ports."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from featurekit.stores.cluster.topology import SLOTS, slot_of

NODE_TIMEOUT_MS = 5000
Address = tuple[str, int]


class Node:
    """One server of a cluster.

    Attributes:
        port: The port.
        tls: The TLS port, if the server runs with `--tls-cluster`.
        process: The server's process.
    """

    def __init__(self, binary: str, folder: Path, arguments: Sequence[str]) -> None:
        self._command = [
            binary, "--bind", "127.0.0.1", "--cluster-enabled", "yes", "--save", "",
            "--appendonly", "no", "--cluster-node-timeout", str(NODE_TIMEOUT_MS),
            "--cluster-require-full-coverage", "no", "--cluster-replica-no-failover", "yes",
            "--repl-diskless-sync-delay", "0", *arguments,
        ]  # fmt: skip
        for _ in range(5):  # another process may bind a free port first
            self.port, self.bus, self.tls = free_port(), free_port(), free_port()
            self.folder = folder / str(self.port)
            self.folder.mkdir()
            self.start()
            if self.alive:
                return
        raise RuntimeError((self.folder / "log").read_text())

    @property
    def address(self) -> Address:
        return "127.0.0.1", self.port

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            place = ["--port", str(self.port), "--cluster-port", str(self.bus)]
            place += ["--tls-port", str(self.tls)] if "--tls-cluster" in self._command else []
            command = [*self._command, *place, "--dir", str(self.folder)]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_for(lambda: not self.alive or self.ask("PING"), "a server to answer")

    def client(self) -> redis.Redis:
        """Return a redis-py client; close it."""
        return redis.Redis(
            port=self.port, retry=Retry(NoBackoff(), 0), socket_timeout=5, driver_info=None
        )

    def ask(self, *args: Any) -> Any:
        """Return the reply to one command."""
        with self.client() as client:
            run: Any = client.execute_command
            return run(*args)

    def kill(self) -> None:
        """Kill the process, as a power cut would."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """Suspend the process: it accepts connections and does not answer."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Resume the process after `stop`."""
        self.process.send_signal(signal.SIGCONT)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Suspend the process during the block."""
        self.stop()
        try:
            yield
        finally:
            self.resume()

    @property
    def alive(self) -> bool:
        return self.process.poll() is None


class Cluster:
    """A cluster whose primaries have the same number of replicas.

    Attributes:
        nodes: All servers.
        url: The store URL.
    """

    def __init__(self, binary: str, primaries: int, replicas: int, *arguments: str) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="fk"))
        self.nodes: list[Node] = []
        try:
            for _ in range(primaries * (1 + replicas)):
                self.nodes.append(Node(binary, self._folder, arguments))
            self._join(primaries)
        except BaseException:
            self.remove()
            raise
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes[:primaries])
        self.url = f"redis+cluster://{hosts}"

    def _join(self, primaries: int) -> None:
        for number, node in enumerate(self.nodes):
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if number < primaries:
                first, last = SLOTS * number // primaries, SLOTS * (number + 1) // primaries - 1
                node.ask("CLUSTER", "ADDSLOTSRANGE", first, last)
            for other in self.nodes[:number]:
                node.ask("CLUSTER", "MEET", "127.0.0.1", other.port, other.bus)
        count = len(self.nodes)
        wait_for(lambda: all(self._known(node) == count for node in self.nodes), "nodes to meet")
        for number, node in enumerate(self.nodes[primaries:]):
            node.ask("CLUSTER", "REPLICATE", self.nodes[number % primaries].ask("CLUSTER", "MYID"))
        self.wait_until_agreed()

    def _known(self, node: Node) -> int:
        rows = [line.split() for line in node.ask("CLUSTER", "NODES").splitlines()]
        return sum(b"handshake" not in row[2] and row[7] == b"connected" for row in rows)

    def wait_until_agreed(self) -> None:
        """Wait until all nodes agree on the topology, and replicas are in sync."""
        wait_for(lambda: all(map(self._agrees, self.nodes)), "the cluster to agree")

    def _agrees(self, node: Node) -> bool:
        with node.client() as client:
            info = client.info("replication")
            synced = info["role"] == "master" or info["master_link_status"] == "up"
            agreed = [self._slots(each) for each in self.nodes]
            ports = {port for _, _, *ports in agreed[0] for port in ports}
            sound = b"cluster_state:ok" in node.ask("CLUSTER", "INFO")
            whole = len(ports) == len(self.nodes)
            return synced and sound and whole and all(each == agreed[0] for each in agreed)

    def _slots(self, node: Node) -> list[Any]:
        return sorted(
            [start, end, primary[1], *sorted(each[1] for each in replicas)]
            for start, end, primary, *replicas in node.ask("CLUSTER", "SLOTS")
        )

    @property
    def primaries(self) -> list[Node]:
        """The live primaries, as one live node reports them."""
        node = next(node for node in self.nodes if node.alive)
        ports = {row[2][1] for row in node.ask("CLUSTER", "SLOTS")}
        return [node for node in self.nodes if node.port in ports]

    def primary_of(self, key: str | bytes) -> Node:
        """Return the primary that serves the slot of a key."""
        return self.owner_of(slot_of(key.encode() if isinstance(key, str) else key))

    def owner_of(self, slot: int) -> Node:
        """Return the primary that serves a slot."""
        for node in self.nodes:
            if not node.alive:
                continue
            for start, end, primary, *_ in node.ask("CLUSTER", "SLOTS"):
                if start <= slot <= end:
                    return self.at(primary[1])
        raise AssertionError(f"no node serves slot {slot}")

    def replicas_of(self, node: Node) -> list[Node]:
        """Return the replicas of a primary."""
        for _, _, primary, *replicas in node.ask("CLUSTER", "SLOTS"):
            if primary[1] == node.port:
                return [self.at(each[1]) for each in replicas]
        return []

    def client(self) -> redis.RedisCluster:
        """Return a redis-py cluster client; close it."""
        return redis.RedisCluster("127.0.0.1", self.nodes[0].port, driver_info=None)

    def at(self, port: int) -> Node:
        return next(node for node in self.nodes if node.port == port)

    def flush(self) -> None:
        """Delete all keys."""
        for node in self.primaries:
            node.ask("FLUSHALL", "SYNC")

    def begin_move(self, slot: int, target: Node) -> Node:
        """Start to migrate a slot, without its keys, to another primary; return the current owner."""
        source = self.owner_of(slot)
        ids = [node.ask("CLUSTER", "MYID") for node in (source, target)]
        target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])
        return source

    def move_keys(self, slot: int, source: Node, target: Node) -> None:
        """Move all keys of a slot."""
        while keys := source.ask("CLUSTER", "GETKEYSINSLOT", slot, 100):
            source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)

    def end_move(self, slot: int, target: Node) -> None:
        """Make the target the owner of a slot, on all primaries."""
        name = target.ask("CLUSTER", "MYID")
        for node in sorted(self.primaries, key=lambda node: node is not target):
            node.ask("CLUSTER", "SETSLOT", slot, "NODE", name)

    def move(self, slot: int, target: Node) -> None:
        """Migrate a slot and its keys to another primary."""
        source = self.begin_move(slot, target)
        self.move_keys(slot, source, target)
        self.end_move(slot, target)

    def remove(self) -> None:
        """Stop all nodes and delete the folder."""
        for node in self.nodes:
            node.resume()
            node.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 60) -> None:
    """Wait until a condition holds."""
    late = time.monotonic() + seconds
    error: Exception | None = None
    while time.monotonic() < late:
        try:
            if condition():
                return
        except (redis.RedisError, OSError) as each:
            error = each
        time.sleep(0.02)
    raise AssertionError(f"waited {seconds} s for {what}: {error}")
