"""RESP commands as bytes, and replies as Python values.

This module opens no connection: a store sends these bytes and returns the replies.
"""

from __future__ import annotations

from collections.abc import Sequence


class ErrorReply(Exception):  # noqa: N818 - a reply value, never raised
    """An error reply to one command.

    A value like any other reply; stores never raise it. Its text may contain keys and values of
    the command, so show it only to the caller of that command and never log it.
    """

    @property
    def code(self) -> str:
        """The first word, such as `WRONGTYPE`, `OOM` or `NOPERM`; `ERR` covers the rest."""
        return str(self).split(" ", 1)[0]

    @property
    def is_about_key(self) -> bool:
        """Whether the key is the reason, so that the server may answer the same for other keys.

        The server refuses the key to the user, or holds another type of value under it.
        """
        return self.code == "WRONGTYPE" or (self.code == "NOPERM" and str(self).endswith(" key"))


Reply = bytes | str | int | float | None | ErrorReply | list["Reply"]
"""The reply to one command; bulk strings are bytes."""


def bulk(data: bytes) -> bytes:
    """Return one argument, framed."""
    return b"$%d\r\n%b\r\n" % (len(data), data)


def command(*parts: bytes) -> bytes:
    """Return one command, framed."""
    return b"*%d\r\n" % len(parts) + b"".join(map(bulk, parts))


def text_command(*parts: str | int | bytes) -> bytes:
    """Return one command, framed, from text and numbers; not for hot paths."""
    return command(*(p if isinstance(p, bytes) else str(p).encode() for p in parts))


UNAVAILABLE = "UNAVAILABLE"
"""The code of the `ErrorReply` that stands for the reply of an unreachable server."""

MULTI = command(b"MULTI")
EXEC = command(b"EXEC")


def split_commands(data: bytes) -> list[bytes]:
    r"""Split a request into its commands.

    Examples:
        >>> split_commands(command(b"GET", b"*1\r\n") + command(b"PING"))
        [b'*2\r\n$3\r\nGET\r\n$4\r\n*1\r\n\r\n', b'*1\r\n$4\r\nPING\r\n']
    """
    commands = []
    start = 0
    while start < len(data):
        end = data.index(b"\r\n", start)
        arguments = int(data[start + 1 : end])
        end += 2
        for _ in range(arguments):
            line_end = data.index(b"\r\n", end)
            end = line_end + 2 + int(data[end + 1 : line_end]) + 2
        commands.append(data[start:end])
        start = end
    return commands


def first_error(replies: Sequence[Reply]) -> ErrorReply | None:
    """Return the first error among the replies, including those inside a transaction's reply."""
    for reply in replies:
        if isinstance(reply, ErrorReply):
            return reply
        if isinstance(reply, list) and (inner := first_error(reply)) is not None:
            return inner
    return None


def parse_info(reply: Reply) -> dict[str, str]:
    """Return the fields of a reply to `INFO`; empty if the reply is of another form."""
    if not isinstance(reply, bytes):
        return {}
    lines = reply.decode(errors="replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)
