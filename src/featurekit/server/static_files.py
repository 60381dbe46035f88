"""Static files of a package, read once and served with strict security headers."""

from __future__ import annotations

import mimetypes
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files

from starlette.exceptions import HTTPException
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
"""Allows nothing inline and nothing from another origin: stored text cannot become a script."""

SECURITY_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

_TYPES = {".js": "text/javascript", ".svg": "image/svg+xml", ".LICENSE": "text/plain"}


@dataclass(frozen=True, slots=True)
class StaticFile:
    """The content of one file."""

    data: bytes
    media_type: str
    etag: str

    def response(self, request: Request) -> Response:
        """Return the file, or 304 if the browser's copy is current."""
        headers = SECURITY_HEADERS | {"ETag": self.etag, "Cache-Control": "no-cache"}
        if self.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(self.data, headers=headers, media_type=self.media_type)


def file_response(package: str, path: str, request: Request) -> Response:
    """Return a file of a package.

    Raises:
        HTTPException: 404 if the file does not exist.
    """
    file = static_files(package).get(path)
    if file is None:
        raise HTTPException(404)
    return file.response(request)


@cache
def static_files(package: str) -> dict[str, StaticFile]:
    """Return all files in a package's folder `static`, by their path below it."""
    result: dict[str, StaticFile] = {}
    folders = [("", files(package).joinpath("static"))]
    while folders:
        prefix, folder = folders.pop()
        for entry in folder.iterdir():
            path = f"{prefix}{entry.name}"
            if entry.is_dir():
                folders.append((f"{path}/", entry))
            else:
                result[path] = _load(path, entry.read_bytes())
    return result


def _load(path: str, data: bytes) -> StaticFile:
    suffix = f".{path.rpartition('.')[2]}"
    media_type = _TYPES.get(suffix) or mimetypes.guess_type(path)[0] or "application/octet-stream"
    return StaticFile(data, media_type, f'"{sha256(data).hexdigest()[:20]}"')
