"""Answer reads without the layers between the web server and the handler.

On a read of one entity, Starlette's application, middleware and router take as long as a fifth of the
rest. So the paths of reads are looked up first. All other requests, and errors that no handler expects,
go through Starlette as ever.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.routing import Route
from starlette.types import ASGIApp, ExceptionHandler, Receive, Scope, Send
from typing_extensions import override


class DirectApp(Starlette):
    """An application that calls the `POST` endpoints of some routes itself.

    Call `answer_directly` before the first request.
    """

    _exact: dict[str, ASGIApp]
    _by_name: list[tuple[str, str, str, ASGIApp]]

    def answer_directly(self, routes: Sequence[Route], on_error: ExceptionHandler) -> None:
        """Set the routes. Their paths have at most one parameter, which takes one segment.

        Args:
            routes: Routes of this application.
            on_error: Makes the response after a bug.
        """
        self._exact, self._by_name = {}, []
        for each in routes:
            endpoint = ServerErrorMiddleware(each.endpoint, handler=on_error)
            start, brace, rest = each.path.partition("{")
            parameter, _, end = rest.partition("}")
            if brace:
                self._by_name.append((start, end, parameter, endpoint))
            else:
                self._exact[each.path] = endpoint

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = None
        if scope["type"] == "http" and scope["method"] == "POST" and not scope.get("root_path"):
            endpoint = self._exact.get(scope["path"]) or self._named(scope)
        if endpoint is None:
            await super().__call__(scope, receive, send)
            return
        scope["app"] = self
        await endpoint(scope, receive, send)

    def _named(self, scope: Scope) -> ASGIApp | None:
        """Return the endpoint of a path with a name in it, and note the name."""
        path = scope["path"]
        for start, end, parameter, endpoint in self._by_name:
            if path.startswith(start) and path.endswith(end):
                name = path[len(start) : len(path) - len(end)]
                if name and "/" not in name:
                    scope["path_params"] = {parameter: name}
                    return endpoint
        return None
