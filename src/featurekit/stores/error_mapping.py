"""Troubles: what went wrong with a server, as a fact and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence

import redis

from featurekit.errors import StoreError, StoreUnavailableError
from featurekit.stores.deadline import Deadline
from featurekit.stores.url import PASSWORD_VARIABLE, StoreUrl
from featurekit.wire import ErrorReply, Reply

NOT_READY_HINTS = {
    "LOADING": "the server is still reading its data: try again in a moment",
    "MASTERDOWN": "the replica has lost its primary",
}
"""Codes of errors that pass, whatever was asked."""


class GarbledReplyError(OSError):
    """What came is not RESP, or more came than was asked for."""


class DemotedError(OSError):
    """The server was the primary, and takes no writes now."""


class NotReadyError(OSError):
    """The server is there and not ready: it reads its data, or has lost its primary."""


def check_greeting(url: StoreUrl, reply: Reply) -> None:
    """Diagnostics at the answer to the first PING: a server that turns a client away says so only now.

    Raises:
        StoreUnavailableError: It has too many clients, or is not ready yet.
        StoreError: It wants a password, or takes no clients from here.
    """
    if not isinstance(reply, ErrorReply) or reply.code in {"NOPERM", "BUSY"}:
        return
    if reply.code == "NOAUTH":
        raise StoreError(
            f"{url} wants a password",
            hint=f"set {PASSWORD_VARIABLE}, or write redis://user:${{PASSWORD}}@host",
        )
    if reply.code in NOT_READY_HINTS:
        raise StoreUnavailableError(f"{url} answers {reply}", hint=NOT_READY_HINTS[reply.code])
    kind = StoreUnavailableError if "max number of clients" in str(reply) else StoreError
    raise kind(f"{url} turned the connection away: {reply}")


def is_demoted(replies: Sequence[Reply]) -> bool:
    """Whether any of these replies, or of those in them, says that the server is a replica."""
    return any(
        reply.code == "READONLY"
        if isinstance(reply, ErrorReply)
        else isinstance(reply, list) and is_demoted(reply)
        for reply in replies
    )


def raise_if_demoted(reply: Reply) -> Reply:
    """A reply to a write, taken as it came.

    Raises:
        DemotedError: It says that the server is a replica, which wrote nothing.
    """
    if (reply.__class__ is ErrorReply or reply.__class__ is list) and is_demoted([reply]):
        raise DemotedError("READONLY")
    return reply


def check_primary(url: StoreUrl, reply: Reply) -> None:
    """Diagnostics at the answer to `ROLE`; a user who may not ask is found out by `READONLY`.

    Raises:
        StoreUnavailableError: It is a replica.
    """
    if isinstance(reply, list) and reply[0] != b"master":
        raise StoreUnavailableError(
            f"{url} is a replica, though the sentinels name it as the primary",
            hint="a fail-over takes some seconds: try again",
        )


def connect_error(url: StoreUrl, error: Exception, deadline: Deadline) -> StoreError:
    """The error for a connection that could not be made."""
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
    """The user that a URL names, for people."""
    return f"user '{url.username}'" if url.username else "the default user"


def unavailable_error(
    url: StoreUrl, doing: str, deadline: Deadline, error: Exception
) -> StoreUnavailableError:
    """The error for a server that did not answer: where, what was tried, for how long."""
    text = str(error).lower()
    if _timed_out(error) or "timeout" in text:
        fact = f"no answer from {url} within {deadline} while {doing}"
    elif isinstance(error, GarbledReplyError):
        fact = f"{url} answered with something that is not RESP while {doing}"
    elif isinstance(error, NotReadyError):
        fact = f"{url} is not ready: {error}"
    elif isinstance(error, DemotedError):
        fact = f"{url} takes no writes: it is a replica now"
    elif "refused" in text or "no such file" in text or "does not exist" in text:
        fact = f"nothing listens at {url}"
    else:
        fact = f"the connection to {url} broke while {doing}"
    return StoreUnavailableError(fact, hint=_remedy(url, text, error, deadline))


def pool_exhausted_error(url: StoreUrl, most: int, deadline: Deadline) -> StoreUnavailableError:
    """The error for a call that found all connections in use."""
    return StoreUnavailableError(
        f"all {most} connections to {url} are in use, and none came free within {deadline}",
        hint="raise max_connections, or make fewer calls at once, of more entities each",
    )


def _remedy(url: StoreUrl, text: str, error: Exception, deadline: Deadline) -> str:
    if "certificate" in text:
        return "the server's certificate is not trusted: give ssl_ca_certs=FILE in the URL or tls: {ca_certs: FILE}, and certfile and keyfile if it asks for a client's"
    if isinstance(error, DemotedError):
        return "give the address of the primary, or have it found: redis+sentinel://"
    if _timed_out(error) and deadline.bounds_call:
        return "raise the timeout of the call, or ask for less at once"
    return _other_scheme(url, error) or (
        "is the server running? If it is: ask for less at once, or raise the store's timeout"
        if _timed_out(error)
        else "is the server running, and is this its address?"
    )


def _other_scheme(url: StoreUrl, error: Exception) -> str:
    if url.scheme == "rediss":
        return "if the port does not speak TLS, write redis://"
    if url.scheme == "redis" and isinstance(error, (ConnectionError, GarbledReplyError)):
        return "if the port speaks TLS, write rediss://"
    return ""


def _timed_out(error: Exception) -> bool:
    return isinstance(error, (redis.TimeoutError, TimeoutError))
