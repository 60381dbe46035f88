"""Calls that signals interrupt: time limits hold, and no connection or permit is lost."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import pytest

from featurekit.errors import StoreUnavailableError
from featurekit.ports import ReadOptions
from featurekit.stores.permits import Permits
from featurekit.wire import command
from tests.fault_proxy import FaultProxy
from tests.servers import Server
from tests.stores.conftest import opened, store_and_pool

KEYS = [b"k"]
GETS = [command(b"GET", b"k")]
LATE_S = 15.0
"""Well above the time limits of the calls, for machines under load."""


class InterruptedCallError(Exception):
    """Raised by a signal handler."""


def ignore(number: int, frame: FrameType | None) -> None:
    """Handle a signal by doing nothing, unlike `SIG_IGN`, which would not interrupt a call."""


def interrupt(number: int, frame: FrameType | None) -> None:
    raise InterruptedCallError


@contextmanager
def alarms(interval_s: float) -> Iterator[None]:
    """Send `SIGALRM` to this process again and again."""
    before = signal.signal(signal.SIGALRM, ignore)
    signal.setitimer(signal.ITIMER_REAL, interval_s, interval_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture
def proxy(valkey: Server) -> Iterator[FaultProxy]:
    with FaultProxy(valkey.socket) as proxy:
        yield proxy


@pytest.mark.parametrize("interval_s", [0.0005, 0.02], ids=["0.5 ms", "20 ms"])
def test_a_read_times_out_although_signals_arrive_all_the_time(
    proxy: FaultProxy, interval_s: float
) -> None:
    store = opened(f"{proxy.url}?retries=0&timeout=500ms")
    store.run(KEYS, GETS)
    proxy.to_server.drop = True
    healing = threading.Timer(30, proxy.heal)
    healing.start()
    with alarms(interval_s):
        began = time.monotonic()
        with pytest.raises(StoreUnavailableError, match="within 500 ms"):
            store.run(KEYS, GETS)
        assert time.monotonic() - began < LATE_S
        began = time.monotonic()
        with pytest.raises(StoreUnavailableError, match="of the call"):
            store.read(KEYS, GETS, options=ReadOptions(timeout_s=0.05))
        assert time.monotonic() - began < LATE_S
    healing.cancel()
    store.close()


def test_a_large_write_times_out_although_signals_arrive_all_the_time(valkey: Server) -> None:
    store = opened(f"{valkey.url}?retries=0&timeout=500ms")
    store.run(KEYS, GETS)
    pid = int(str(store.info("server")[0]["process_id"]))
    os.kill(pid, signal.SIGSTOP)
    waking = threading.Timer(30, os.kill, (pid, signal.SIGCONT))
    waking.start()
    request = command(b"SET", b"k", b"x" * 20_000_000)
    try:
        with alarms(0.02):
            began = time.monotonic()
            with pytest.raises(StoreUnavailableError, match="within 500 ms"):
                store.run(KEYS, [request])
            assert time.monotonic() - began < LATE_S
    finally:
        waking.cancel()
        os.kill(pid, signal.SIGCONT)
    store.close()


def test_a_reply_in_parts_arrives_complete_while_signals_arrive(valkey: Server) -> None:
    store = opened(valkey.url)
    value = random.randbytes(3_000_000)
    store.run(KEYS, [command(b"SET", b"k", value)])
    with alarms(0.001):
        assert all(store.run(KEYS, GETS) == [value] for _ in range(50))
    store.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # half-open sockets
def test_a_signal_handler_that_raises_loses_no_permit(valkey: Server) -> None:
    store, pool = store_and_pool(f"{valkey.url}?max_connections=2")
    store.run(KEYS, GETS)
    before = signal.signal(signal.SIGALRM, interrupt)
    interrupted = 0
    try:
        for _ in range(1500):
            try:
                signal.setitimer(signal.ITIMER_REAL, random.uniform(2e-5, 4e-4))
                store.run(KEYS, GETS)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except InterruptedCallError:
                interrupted += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupted > 50
    assert pool.permits is not None
    assert pool.permits.in_use == 0
    assert store.connection_stats.in_use == 0
    store.close()


def test_a_permit_that_nothing_refers_to_is_given_back() -> None:
    permits = Permits(1)
    permit = permits.request()
    assert permits.try_acquire() is None
    del permit
    assert permits.in_use == 0
    assert permits.request().is_granted


def test_permits_are_granted_in_the_order_of_the_requests() -> None:
    permits = Permits(2)
    first, second, third, fourth = (permits.request() for _ in range(4))
    states = [permit.is_granted for permit in (first, second, third, fourth)]
    assert states == [True, True, False, False]
    second.release()
    assert (third.is_granted, fourth.is_granted) == (True, False)
    third.release()
    assert fourth.is_granted


def test_threads_never_use_more_permits_than_there_are() -> None:
    permits, used, most = Permits(3), [0], [0]
    lock = threading.Lock()

    def work() -> None:
        for _ in range(300):
            permit = permits.request()
            assert permit.wait(30)
            with lock:
                used[0] += 1
                most[0] = max(most[0], used[0])
            time.sleep(0)
            with lock:
                used[0] -= 1
            permit.release()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most[0], permits.in_use) == (3, 0)
