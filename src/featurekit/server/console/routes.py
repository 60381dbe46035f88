"""The console's routes: its page, the files of it, and the answers behind it."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute

from featurekit.server.auth import Scope
from featurekit.server.console.api import Api
from featurekit.server.console.files import PAGE, static_files
from featurekit.server.console.live import Live
from featurekit.server.console.sampler import Sampler
from featurekit.server.context import ServerContext
from featurekit.server.routing import Handler, route


def console_routes(
    site: ServerContext, *, base: str = "/console", demo: bool = False
) -> Sequence[BaseRoute]:
    """The routes of the console.

    Args:
        site: What it shows. What changes or deletes anything is off unless `allow_writes`.
        base: Where it is: `/console`, or empty for the root.
        demo: Whether the demo's endpoints are served at the root, for the page to use.
    """
    base = base.rstrip("/")
    sampler = Sampler(site.store)
    api, live = Api(site, sampler, demo=demo), Live(sampler)

    def at(
        path: str, handler: Handler, scope: Scope | None = "read", method: str = "GET"
    ) -> BaseRoute:
        return route(f"{base}/{path}", handler, site=site, scope=scope, methods=(method,))

    async def page(request: Request) -> Response:
        return static_files()[PAGE].response(request)

    async def to_page(_request: Request) -> Response:
        return RedirectResponse(f"{base}/")

    async def file(request: Request) -> Response:
        found = static_files().get(request.path_params["path"])
        if found is None:
            raise HTTPException(404)
        return found.response(request)

    entry = [route(base, to_page, site=site, scope=None)] if base else [at(PAGE, page, None)]
    return [
        *entry,
        at("", page, None),
        at("static/{path:path}", file, None),
        at("api/session", api.session, None),
        at("api/live", live.answer),
        at("api/registry", api.registry),
        at("api/ids", api.ids),
        at("api/read", api.read, method="POST"),
        at("api/batch-read", api.batch_read, method="POST"),
        at("api/inspect", api.inspect),
        at("api/letters", api.letters),
        at("api/loads", api.loads),
        at("api/doctor", api.doctor),
        at("api/reset", api.reset, "write", "POST"),
    ]
