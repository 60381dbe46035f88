"""Tracing: spans for an application that uses OpenTelemetry, and one look-up for one that does not.

Nothing is imported here: OpenTelemetry is used if somebody has imported it, as redis-py does where it
finds it, and the application has set a provider of tracers. A span tells names and counts, never an id, a value, or a message that may hold one.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache, wraps
from sys import modules
from time import time_ns
from typing import Any, TypeVar, cast

from featurekit.errors import FeatureKitError, StoreError, StoreUnavailableError

API = "opentelemetry.trace"
"""The module that an application with tracing has imported."""

STORE = "featurekit.store"
"""The attribute that tells how the store did: `ok`, `partial`, `unavailable` or `refused`."""

Attributes = Mapping[str, str | int | Sequence[str]]
Method = TypeVar("Method", bound=Callable[..., Any])


def tracing_enabled() -> bool:
    """Whether the application has set a provider of tracers.

    Asking for it by `get_tracer_provider` would look into the environment each time, which takes
    as long as a twentieth of a read.
    """
    trace = modules.get(API)
    return trace is not None and getattr(trace, "_TRACER_PROVIDER", trace) is not None


def tell(
    name: str, seconds: float, attributes: Attributes, error: FeatureKitError | None = None
) -> None:
    """Tell of what has just ended, as a span that began so many seconds ago."""
    trace, tracer = modules[API], _tracer()
    if tracer is None:
        return
    end_ns = time_ns()
    start_ns = end_ns - int(seconds * 1e9)
    span = tracer.start_span(
        name, kind=trace.SpanKind.CLIENT, attributes=attributes, start_time=start_ns
    )
    if error is not None:
        _fail(span, error)
    span.end(end_time=end_ns)


@contextmanager
def span(name: str, attributes: Attributes) -> Iterator[Callable[[Attributes], None]]:
    """A span around a block, which may add attributes by calling what it is given."""
    tracer = _tracer()
    if tracer is None:
        yield _nobody
        return
    options = {"record_exception": False, "set_status_on_exception": False}
    with tracer.start_as_current_span(name, attributes=attributes, **options) as current:
        try:
            yield current.set_attributes
        except FeatureKitError as error:
            _fail(current, error)
            raise


def traced(
    name: str, of: Callable[[Any], Attributes], told: Callable[[Any], Attributes]
) -> Callable[[Method], Method]:
    """Have each call of a method be a span.

    Args:
        name: The span's name.
        of: From the object to the attributes that the span begins with.
        told: From what the method returns to those that it ends with.
    """

    def wrap(method: Method) -> Method:
        if inspect.iscoroutinefunction(method):

            @wraps(method)
            async def call_async(self: Any, *args: Any, **options: Any) -> Any:
                if not tracing_enabled():
                    return await method(self, *args, **options)
                with span(name, of(self)) as tell_more:
                    result = await method(self, *args, **options)
                    tell_more(told(result))
                return result

            return cast("Method", call_async)

        @wraps(method)
        def call(self: Any, *args: Any, **options: Any) -> Any:
            if not tracing_enabled():
                return method(self, *args, **options)
            with span(name, of(self)) as tell_more:
                result = method(self, *args, **options)
                tell_more(told(result))
            return result

        return cast("Method", call)

    return wrap


def _tracer() -> Any:
    """The tracer of the application's provider; `None` if it has set none."""
    if not tracing_enabled():
        return None
    trace = modules[API]
    provider = trace.get_tracer_provider()
    if isinstance(provider, trace.ProxyTracerProvider):
        return None
    return _tracer_of(provider)


@lru_cache(maxsize=1)
def _tracer_of(provider: Any) -> Any:
    return provider.get_tracer("featurekit")


def _fail(span: Any, error: FeatureKitError) -> None:
    """Tell that it failed, by the class of the error alone: a message may name a key."""
    trace, name = modules[API], type(error).__name__
    span.set_attribute("error.type", name)
    if isinstance(error, StoreError):
        away = isinstance(error, StoreUnavailableError)
        span.set_attribute(STORE, "unavailable" if away else "refused")
    span.set_status(trace.Status(trace.StatusCode.ERROR, name))


def _nobody(_attributes: Attributes) -> None:
    """Tell nobody."""
