"""Run queries so that Ctrl-C interrupts them.

DuckDB looks for signals only between some steps: in the main thread, Ctrl-C during a sort took up to
50 seconds. So queries of the main thread run in another one, which is interrupted from the main thread.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_STOP_TIMEOUT_S = 10.0
"""The longest wait for an interrupted query, which may wait for an iterator of the caller."""

_INTERRUPT_INTERVAL_S = 0.05
"""An interrupt before the query has begun is lost, so it is repeated."""


_WAIT_INTERVAL_S = 0.25


def run_interruptibly(
    action: Callable[[], T],
    interrupt: Callable[[], None],
    on_wait: Callable[[], None] | None = None,
) -> T:
    """Return the result of a function, and interrupt it if a signal handler raises meanwhile.

    Args:
        action: Called in another thread if this is the main one.
        interrupt: Makes `action` raise soon; called again until it has.
        on_wait: Called in this thread a few times a second, for progress.
    """
    if on_wait is None and threading.current_thread() is not threading.main_thread():
        return action()
    results: list[T] = []
    errors: list[BaseException] = []
    done = threading.Event()
    context = contextvars.copy_context()

    def work() -> None:
        try:
            results.append(context.run(action))
        except BaseException as error:  # noqa: BLE001 - raised again in the main thread
            errors.append(error)
        finally:
            done.set()

    threading.Thread(target=work, name="featurekit query", daemon=True).start()
    try:
        _wait(done, on_wait)
    except BaseException:
        end = time.monotonic() + _STOP_TIMEOUT_S
        while not done.is_set() and time.monotonic() < end:
            interrupt()
            done.wait(_INTERRUPT_INTERVAL_S)
        raise
    if errors:
        raise errors[0]
    return results[0]


def _wait(done: threading.Event, on_wait: Callable[[], None] | None) -> None:
    if on_wait is None:
        done.wait()
        return
    while not done.wait(_WAIT_INTERVAL_S):
        on_wait()
