"""`GET /openapi.json`, and the page at `/docs` that shows it."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute

from featurekit.plan import RepoPlan
from featurekit.server.answers import json_bytes
from featurekit.server.console.files import static_files
from featurekit.server.context import ServerContext
from featurekit.server.openapi.document import document_of
from featurekit.server.routing import route
from featurekit.server.v1.registry import applied_registry

_PAGE = "docs.html"


def front_routes(site: ServerContext) -> list[BaseRoute]:
    """What `/` leads to, where nothing else is served there."""

    async def front(_request: Request) -> Response:
        return RedirectResponse("docs")

    return [route("/", front, site=site, scope=None)]


def openapi_routes(site: ServerContext) -> list[BaseRoute]:
    """The routes of the document and its page. The page is the same for all and open to all."""
    document = _Document(site)

    async def openapi(request: Request) -> Response:
        return document.response(request)

    async def docs(request: Request) -> Response:
        return static_files(__package__)[_PAGE].response(request)

    async def file(request: Request) -> Response:
        found = static_files(__package__).get(request.path_params["name"])
        if found is None:
            raise HTTPException(404)
        return found.response(request)

    return [
        route("/openapi.json", openapi, site=site),
        route("/docs", docs, site=site, scope=None),
        route("/docs/{name}", file, site=site, scope=None),
    ]


class _Document:
    """The document as bytes, made once for each registry."""

    def __init__(self, site: ServerContext) -> None:
        self._site = site
        self._made: tuple[RepoPlan, bytes] | None = None

    def response(self, request: Request) -> Response:
        repo = self._site.store.compiled
        made = self._made
        if made is None or made[0] is not repo:
            document = document_of(self._site, applied_registry(self._site), repo)
            made = self._made = (repo, json_bytes(document))
        etag = f'"{repo.fingerprint[:20]}"'
        headers = {"ETag": etag, "Cache-Control": "no-cache"}
        if etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(made[1], headers=headers, media_type="application/json")
