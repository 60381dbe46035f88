"""RESP as bytes: commands out, replies in.

Nothing here opens a connection; a store sends these bytes and hands back what came.
"""

from __future__ import annotations

from collections.abc import Sequence


class ErrorReply(Exception):  # noqa: N818 - it is a reply, and raised by nobody
    """An error that the server gave as the reply to one command.

    A value like any other reply, never raised by a store. Its text may hold keys and values
    of the command, so it is shown to whoever sent the command and logged nowhere.
    """

    @property
    def code(self) -> str:
        """The first word, as `WRONGTYPE`, `OOM`, `NOPERM`; `ERR` covers the rest."""
        return str(self).split(" ", 1)[0]


Reply = bytes | str | int | float | None | ErrorReply | list["Reply"]
"""What a server answers to one command; bulk strings come as bytes."""


def bulk(data: bytes) -> bytes:
    """One argument, framed."""
    return b"$%d\r\n%b\r\n" % (len(data), data)


def command(*parts: bytes) -> bytes:
    """One command, framed."""
    return b"*%d\r\n" % len(parts) + b"".join(map(bulk, parts))


def text_command(*parts: str | int | bytes) -> bytes:
    """One command given as text, for what is sent now and then and not on a hot path."""
    return command(*(p if isinstance(p, bytes) else str(p).encode() for p in parts))


UNAVAILABLE = "UNAVAILABLE"
"""The code of the reply that stands for the answer of a server that is away."""

MULTI = command(b"MULTI")
EXEC = command(b"EXEC")


def commands_in(data: bytes) -> list[bytes]:
    r"""The commands of a request, apart.

    Examples:
        >>> commands_in(command(b"GET", b"*1\r\n") + command(b"PING"))
        [b'*2\r\n$3\r\nGET\r\n$4\r\n*1\r\n\r\n', b'*1\r\n$4\r\nPING\r\n']
    """
    found = []
    start = 0
    while start < len(data):
        end = data.index(b"\r\n", start)
        arguments = int(data[start + 1 : end])
        end += 2
        for _ in range(arguments):
            line = data.index(b"\r\n", end)
            end = line + 2 + int(data[end + 1 : line]) + 2
        found.append(data[start:end])
        start = end
    return found


def first_error(replies: Sequence[Reply]) -> ErrorReply | None:
    """The first error among replies, looking into the replies of a transaction too."""
    for reply in replies:
        if isinstance(reply, ErrorReply):
            return reply
        if isinstance(reply, list) and (inner := first_error(reply)) is not None:
            return inner
    return None


def info_of(reply: Reply) -> dict[str, str]:
    """The names and values in a reply to `INFO`; none if it is no such reply."""
    if not isinstance(reply, bytes):
        return {}
    lines = reply.decode(errors="replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)
