"""Which requests a server answers: by their `Host`, by the page that sent them, and by their token.

A browser lets any page send requests to a server on its machine or network. Two checks stop them:

- A page of another site cannot hide where it comes from: the browser adds `Origin` or
  `Sec-Fetch-Site`. Such requests are refused unless `--cors-origin` names the page.
- With DNS rebinding, a page's own name points to this server, so that the request looks like one
  of the server's own pages. `Host` still has the page's name. Without tokens, only names that no
  stranger can point here are accepted: loopback names, IP addresses and those of `--allowed-host`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import ip_address

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response

from featurekit.errors import RequestError
from featurekit.server.auth import Scope
from featurekit.server.context import ServerContext
from featurekit.server.responses import http_error_response

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]/@\s]+?)\.?(?::[0-9]*)?", re.IGNORECASE)
_NAME = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*", re.IGNORECASE)
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#@*\s]+", re.IGNORECASE)
_CHECKED_HEADERS = frozenset({b"host", b"origin", b"sec-fetch-site"})
_OWN_SITE = frozenset({b"same-origin", b"none"})

_ALLOWED_HEADERS = "authorization, content-type, if-none-match"
_EXPOSED_HEADERS = "etag, retry-after, www-authenticate"
_PREFLIGHT_MAX_AGE_S = 600


def is_loopback(host: str) -> bool:
    """Return whether a name or an IP address always means this machine."""
    name = host.lower().removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    return _is_ip(name) and ip_address(name.strip("[]")).is_loopback


def parse_host_names(host: str, allowed: Iterable[str]) -> frozenset[str]:
    """Return the names by which a server may be called, in lower case.

    Args:
        host: The address that the server listens on; counts if it is a name.
        allowed: The names of `--allowed-host`.

    Raises:
        RequestError: An allowed name has a scheme, a port or a wildcard.
    """
    names = [name.removesuffix(".").lower() for name in allowed]
    for name in names:
        if not _NAME.fullmatch(name):
            raise RequestError(
                f"'{name}' is not a host name",
                where="--allowed-host",
                hint="write the name alone, without a scheme, port or wildcard: features.example",
            )
    own = host.removesuffix(".").lower()
    return frozenset([*names, own] if _NAME.fullmatch(own) else names)


def parse_origins(origins: Iterable[str]) -> frozenset[str]:
    """Return the origins of `--cors-origin` as browsers send them.

    Raises:
        RequestError: An origin has another form than `https://app.example:8443`.
    """
    texts = [origin.removesuffix("/").lower() for origin in origins]
    for text in texts:
        if not _ORIGIN.fullmatch(text):
            raise RequestError(
                f"'{text}' is not an origin",
                where="--cors-origin",
                hint="write scheme and host, and the port if it has one: https://app.example:8443",
            )
    return frozenset(texts)


class AccessCheck:
    """Decides which requests are answered. All its checks come before any other work."""

    def __init__(self, context: ServerContext) -> None:
        self._tokens = context.tokens
        self._host_names = context.allowed_hosts
        self._origins = frozenset(origin.encode("latin-1") for origin in context.cors_origins)

    def refusal(self, request: Request, scope: Scope | None) -> Response | None:
        """Return the response that refuses a request; `None` if it is allowed.

        Args:
            request: The request.
            scope: The scope that its token needs; `None` for a public route.
        """
        headers = [pair for pair in request.scope["headers"] if pair[0] in _CHECKED_HEADERS]
        if not self._tokens and not self._has_safe_host(headers):
            return http_error_response(
                403,
                "this server does not answer requests for this host",
                "use an IP address, name the host with --allowed-host, or set tokens",
            )
        if len(headers) > 1 and self._is_cross_site(request, dict(headers), scope):
            return http_error_response(
                403,
                "requests from a page of another site are not allowed",
                "allow the origin of the page with --cors-origin",
            )
        return self._check_token(request, scope) if self._tokens and scope else None

    def _has_safe_host(self, headers: list[tuple[bytes, bytes]]) -> bool:
        hosts = [value for name, value in headers if name == b"host"]
        return len(hosts) == 1 and is_safe_host(hosts[0], self._host_names)

    def _is_cross_site(
        self, request: Request, headers: dict[bytes, bytes], scope: Scope | None
    ) -> bool:
        """Return whether a browser sent the request for a page of another origin.

        Following a link to a public page is allowed. `Sec-Fetch-Site` counts first: a reverse
        proxy may replace `Host`, with which `Origin` is compared.
        """
        origin, site = headers.get(b"origin"), headers.get(b"sec-fetch-site")
        if origin in self._origins or site in _OWN_SITE:
            return False
        if site is None:
            return origin is not None and origin.partition(b"://")[2] != headers.get(b"host")
        return scope is not None or not _is_link(request)

    def _check_token(self, request: Request, scope: Scope) -> Response | None:
        granted = self._tokens.scope_of(request.headers.get("authorization", ""))
        if granted is None:
            return _challenge(401, "a valid bearer token is required", "")
        if granted not in ("write", scope):
            text = f"this token does not have the scope '{scope}'"
            return _challenge(403, text, ' error="insufficient_scope"')
        return None

    def preflight(self, request: Request, methods: str) -> Response | None:
        """Return the response to a browser's question whether a page may send a request.

        Returns `None` if it is no such question, or the page's origin is not allowed.
        """
        asked = "access-control-request-method" in request.headers
        if not (request.method == "OPTIONS" and asked and self._allowed_origin(request.headers)):
            return None
        headers = {
            "Access-Control-Allow-Methods": methods,
            "Access-Control-Allow-Headers": _ALLOWED_HEADERS,
            "Access-Control-Max-Age": str(_PREFLIGHT_MAX_AGE_S),
        }
        return Response(status_code=204, headers=headers)

    def add_cors_headers(self, request: Request, response: Response) -> None:
        """Let a page of an allowed origin read a response."""
        if not self._origins:
            return
        response.raw_headers.append((b"vary", b"Origin"))
        if origin := self._allowed_origin(request.headers):
            response.raw_headers += [
                (b"access-control-allow-origin", origin),
                (b"access-control-expose-headers", _EXPOSED_HEADERS.encode()),
            ]

    def _allowed_origin(self, headers: Headers) -> bytes | None:
        origin = headers.get("origin", "").encode("latin-1")
        return origin if origin in self._origins else None


@lru_cache(maxsize=1024)
def is_safe_host(header: bytes, allowed: frozenset[str]) -> bool:
    """Return whether no stranger can make the name of a `Host` header point to this server.

    Args:
        header: The header's value.
        allowed: Names that are accepted besides loopback names and IP addresses.
    """
    match = _HOST.fullmatch(header.decode("latin-1").strip())
    if match is None:
        return False
    name = match[1].lower()
    if name.endswith("."):
        return False
    return name in allowed or is_loopback(name) or _is_ip(name)


def _is_ip(name: str) -> bool:
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _is_link(request: Request) -> bool:
    """Return whether the user follows a link to this page in a window of its own."""
    wanted = {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    is_read = request.method in {"GET", "HEAD"}
    return is_read and all(request.headers.get(name) == text for name, text in wanted.items())


def _challenge(status: int, message: str, reason: str) -> Response:
    headers = {"WWW-Authenticate": f"Bearer{reason}"}
    return http_error_response(status, message, headers=headers)
