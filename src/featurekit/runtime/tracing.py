"""Record OpenTelemetry spans if the application uses OpenTelemetry.

This module does not import OpenTelemetry. It uses the API if the application has imported it and has
set a tracer provider; otherwise a call costs one dictionary lookup. Spans contain names and counts,
never an id, a value, or an error message that may contain one.
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
"""The span attribute with the store's result: `ok`, `partial`, `unavailable` or `refused`."""

Attributes = Mapping[str, str | int | Sequence[str]]
Method = TypeVar("Method", bound=Callable[..., Any])


def tracing_enabled() -> bool:
    """Return whether the application has set a tracer provider.

    `get_tracer_provider` would read the environment each time, which takes a twentieth of a read.
    """
    trace = modules.get(API)
    return trace is not None and getattr(trace, "_TRACER_PROVIDER", trace) is not None


def record_span(
    name: str, seconds: float, attributes: Attributes, error: FeatureKitError | None = None
) -> None:
    """Record a span of this duration that ends now."""
    trace, tracer = modules[API], _tracer()
    if tracer is None:
        return
    end_ns = time_ns()
    start_ns = end_ns - int(seconds * 1e9)
    finished = tracer.start_span(
        name, kind=trace.SpanKind.CLIENT, attributes=attributes, start_time=start_ns
    )
    if error is not None:
        _set_error(finished, error)
    finished.end(end_time=end_ns)


@contextmanager
def span(name: str, attributes: Attributes) -> Iterator[Callable[[Attributes], None]]:
    """Record a span around a block. The yielded function adds attributes to it."""
    tracer = _tracer()
    if tracer is None:
        yield _ignore
        return
    options = {"record_exception": False, "set_status_on_exception": False}
    with tracer.start_as_current_span(name, attributes=attributes, **options) as current:
        try:
            yield current.set_attributes
        except FeatureKitError as error:
            _set_error(current, error)
            raise


def traced(
    name: str,
    start_attributes: Callable[[Any], Attributes],
    end_attributes: Callable[[Any], Attributes],
) -> Callable[[Method], Method]:
    """Return a decorator that records a span for each call of a method.

    Args:
        name: The span's name.
        start_attributes: Returns the first attributes from `self`.
        end_attributes: Returns further attributes from the method's result.
    """

    def decorate(method: Method) -> Method:
        if inspect.iscoroutinefunction(method):

            @wraps(method)
            async def call_async(self: Any, *args: Any, **options: Any) -> Any:
                if not tracing_enabled():
                    return await method(self, *args, **options)
                with span(name, start_attributes(self)) as set_attributes:
                    result = await method(self, *args, **options)
                    set_attributes(end_attributes(result))
                return result

            return cast("Method", call_async)

        @wraps(method)
        def call(self: Any, *args: Any, **options: Any) -> Any:
            if not tracing_enabled():
                return method(self, *args, **options)
            with span(name, start_attributes(self)) as set_attributes:
                result = method(self, *args, **options)
                set_attributes(end_attributes(result))
            return result

        return cast("Method", call)

    return decorate


def _tracer() -> Any:
    """Return the tracer of the application's provider; `None` without a provider."""
    if not tracing_enabled():
        return None
    trace = modules[API]
    provider = trace.get_tracer_provider()
    if isinstance(provider, trace.ProxyTracerProvider):
        return None
    return _provider_tracer(provider)


@lru_cache(maxsize=1)
def _provider_tracer(provider: Any) -> Any:
    return provider.get_tracer("featurekit")


def _set_error(failed: Any, error: FeatureKitError) -> None:
    """Set a span's status from the error's class alone: its message may contain a key."""
    trace, name = modules[API], type(error).__name__
    failed.set_attribute("error.type", name)
    if isinstance(error, StoreError):
        unavailable = isinstance(error, StoreUnavailableError)
        failed.set_attribute(STORE, "unavailable" if unavailable else "refused")
    failed.set_status(trace.Status(trace.StatusCode.ERROR, name))


def _ignore(_attributes: Attributes) -> None:
    pass
