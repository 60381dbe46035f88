"""Files: what the page is made of, read once, and the terms on which browsers may use it."""

from __future__ import annotations

import mimetypes
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response

_POLICY = "; ".join(
    (
        "default-src 'self'",
        "style-src 'self'",
        "script-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""Nothing inline and nothing from elsewhere: text of the store cannot become a script."""

HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

PAGE = "index.html"

_TYPES = {".js": "text/javascript", ".svg": "image/svg+xml", ".LICENSE": "text/plain"}


@dataclass(frozen=True, slots=True)
class StaticFile:
    """One file, as it is sent."""

    data: bytes
    media_type: str
    etag: str

    def response(self, request: Request) -> Response:
        """The file, or word that the browser's copy is still it."""
        headers = HEADERS | {"ETag": self.etag, "Cache-Control": "no-cache"}
        if self.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(self.data, headers=headers, media_type=self.media_type)


@cache
def static_files(package: str = __package__) -> dict[str, StaticFile]:
    """All files of a package by their path below its folder `static`."""
    found: dict[str, StaticFile] = {}
    folders = [("", files(package).joinpath("static"))]
    while folders:
        prefix, folder = folders.pop()
        for entry in folder.iterdir():
            path = f"{prefix}{entry.name}"
            if entry.is_dir():
                folders.append((f"{path}/", entry))
            else:
                found[path] = _file(path, entry.read_bytes())
    return found


def _file(path: str, data: bytes) -> StaticFile:
    ending = f".{path.rpartition('.')[2]}"
    media_type = _TYPES.get(ending) or mimetypes.guess_type(path)[0] or "application/octet-stream"
    return StaticFile(data, media_type, f'"{sha256(data).hexdigest()[:20]}"')
