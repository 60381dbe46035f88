"""Map failures of a server to `StoreError`: what happened, where, and what to do."""

from __future__ import annotations

import re
from collections.abc import Sequence

import redis

from featurekit.errors import StoreError, StoreUnavailableError
from featurekit.stores.deadline import Deadline
from featurekit.stores.url import PASSWORD_VARIABLE, StoreUrl
from featurekit.wire import ErrorReply, Reply

NOT_READY_HINTS = {
    "BUSY": "a script runs for too long: SCRIPT KILL ends it",
    "LOADING": "the server is still loading its data: try again in a moment",
    "MASTERDOWN": "the replica has lost its primary",
}
"""Hints for error codes that a server sends to any command until it is ready."""


class GarbledReplyError(OSError):
    """The server sent something other than RESP, or more replies than requests."""


class DemotedError(OSError):
    """The server was the primary and is a replica now, which does not accept writes."""


class NotReadyError(OSError):
    """The server executes no commands now; the text is its error, such as `LOADING ...`."""


def to_error_reply(text: str) -> ErrorReply:
    """Return an error of a server as the reply to one command.

    Raises:
        NotReadyError: It is the server's answer to any command until it is ready.
    """
    if text.partition(" ")[0] in NOT_READY_HINTS:
        raise NotReadyError(text)
    return ErrorReply(text)


def check_greeting(url: StoreUrl, reply: Reply) -> None:
    """Check the reply to the first `PING`, in which a server may reject the connection.

    Raises:
        StoreUnavailableError: The server has too many clients.
        StoreError: The server requires a password, or rejects clients from this host.
    """
    if not isinstance(reply, ErrorReply) or reply.code == "NOPERM":
        return
    if reply.code == "NOAUTH":
        raise StoreError(
            f"{url} requires a password",
            hint=f"set {PASSWORD_VARIABLE}, or write redis://user:${{PASSWORD}}@host",
        )
    kind = StoreUnavailableError if "max number of clients" in str(reply) else StoreError
    raise kind(f"{url} rejected the connection: {reply}")


def is_demoted(replies: Sequence[Reply]) -> bool:
    """Return whether a reply, or one nested in it, says that the server is a replica."""
    return any(
        reply.code == "READONLY"
        if isinstance(reply, ErrorReply)
        else isinstance(reply, list) and is_demoted(reply)
        for reply in replies
    )


def raise_if_demoted(reply: Reply) -> Reply:
    """Return the reply to a write.

    Raises:
        DemotedError: The server is a replica and wrote nothing.
    """
    if (reply.__class__ is ErrorReply or reply.__class__ is list) and is_demoted([reply]):
        raise DemotedError("READONLY")
    return reply


def check_primary(url: StoreUrl, reply: Reply) -> None:
    """Check the reply to `ROLE`. For a user who may not run `ROLE`, `READONLY` reveals a replica.

    Raises:
        StoreUnavailableError: The server is a replica.
    """
    if isinstance(reply, list) and reply[0] != b"master":
        raise StoreUnavailableError(
            f"{url} is a replica, but the sentinels report it as the primary",
            hint="a failover takes some seconds: try again",
        )


def connect_error(url: StoreUrl, error: Exception, deadline: Deadline) -> StoreError:
    """Return the error for a connection that could not be opened."""
    if isinstance(error, redis.AuthenticationError):
        return StoreError(
            f"{url} refused the login of {user_text(url)}",
            hint="check the user and password of the URL",
        )
    if isinstance(error, redis.ResponseError):
        return StoreError(
            f"{url} refused {user_text(url)}: {error}",
            hint="the user needs +auth and +select, and the database must exist",
        )
    return unavailable_error(url, "connecting", deadline, error)


def user_text(url: StoreUrl) -> str:
    """Return the URL's user for messages."""
    return f"user '{url.shown_username}'" if url.username else "the default user"


def unavailable_error(
    url: StoreUrl, action: str, deadline: Deadline, error: Exception
) -> StoreUnavailableError:
    """Return the error for a server that did not answer, with the action and the time limit."""
    text = str(error).lower()
    if isinstance(error, NotReadyError):
        message = f"{url} answers {error}"
    elif _timed_out(error) or "timeout" in text:
        message = f"no answer from {url} within {deadline} while {action}"
    elif isinstance(error, GarbledReplyError):
        message = f"{url} answered with something other than RESP while {action}"
    elif isinstance(error, DemotedError):
        message = f"{url} does not accept writes: it is a replica now"
    elif "refused" in text or "no such file" in text or "does not exist" in text:
        message = f"nothing listens at {url}"
    else:
        message = f"the connection to {url} broke while {action}"
    return StoreUnavailableError(message, hint=_unavailable_hint(url, text, error, deadline))


def pool_exhausted_error(url: StoreUrl, limit: int, deadline: Deadline) -> StoreUnavailableError:
    """Return the error for a call that got no connection because all stayed in use."""
    return StoreUnavailableError(
        f"all {limit} connections to {url} stayed in use for {deadline}",
        hint="raise max_connections, or make fewer concurrent calls with more entities each",
    )


def _unavailable_hint(url: StoreUrl, text: str, error: Exception, deadline: Deadline) -> str:
    if isinstance(error, NotReadyError):
        return NOT_READY_HINTS[str(error).partition(" ")[0]]
    if "certificate" in text:
        return _certificate_hint(text)
    if isinstance(error, DemotedError):
        return "use the address of the primary, or redis+sentinel:// to find it"
    if _timed_out(error) and deadline.bounds_call:
        return "raise the timeout of the call, or request less at once"
    return _tls_hint(url, error) or (
        "is the server running? If it is, request less at once or raise the store's timeout"
        if _timed_out(error)
        else "is the server running, and is this its address?"
    )


def _certificate_hint(text: str) -> str:
    reason = re.search(r"certificate verify failed: (.+?)\.? \(_ssl", text)
    if reason and not re.search(r"issuer|self.signed", reason[1]):
        hint = f"the server's certificate was refused: {reason[1]}"
        if "key usage" in reason[1] or "key identifier" in reason[1]:  # VERIFY_X509_STRICT
            hint += "; Python 3.13 and newer require it: create the certificate again with it"
        return hint
    return (
        "the server's certificate is not trusted: set ssl_ca_certs=FILE in the URL or "
        "tls: {ca_certs: FILE}; set certfile and keyfile if it requires a client certificate"
    )


def _tls_hint(url: StoreUrl, error: Exception) -> str:
    if url.scheme == "rediss":
        return "if the port does not speak TLS, write redis://"
    if url.scheme == "redis" and isinstance(error, (ConnectionError, GarbledReplyError)):
        return "if the port speaks TLS, write rediss://"
    return ""


def _timed_out(error: Exception) -> bool:
    return isinstance(error, (redis.TimeoutError, TimeoutError))
