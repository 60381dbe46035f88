"""Probes: what a server can do and a user may do, found out by asking and by trying."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from secrets import token_hex

from featurekit.errors import StoreError, StoreUnavailableError, StoreUnfitError
from featurekit.lower.scripts import SCRIPTS
from featurekit.lower.write_group import Dialect, row_command
from featurekit.ports import Capabilities
from featurekit.stores.error_mapping import NOT_READY_HINTS, user_text
from featurekit.stores.url import StoreUrl
from featurekit.wire import (
    EXEC,
    MULTI,
    ErrorReply,
    Reply,
    command,
    first_error,
    parse_info,
    text_command,
)

Exchange = Callable[[bytes, int], list[Reply]]

NEEDED = (
    "hset",
    "hdel",
    "hmget",
    "expire",
    "pexpire",
    "multi",
    "exec",
    "hpexpire",
    "hpttl",
    "hpexpireat",
)
PROBE_TTL_MS = 60_000
NEEDS = "needs Redis 7.4 or newer, or Valkey 9 or newer"
RIGHTS = (
    "+hset +hdel +hsetex +pexpire +hpexpire +hpexpireat +pttl +unlink +multi +exec "
    "+hget +evalsha +script|load +set +get +del +eval"
)
"""What writers of all kinds need; docs/wire-format.md tells which needs what."""

NODE_OF_CLUSTER = "this is one node of a cluster: write redis+cluster:// in the place of redis://"

REFUSALS: dict[str, tuple[type[StoreError], str]] = {
    **{code: (StoreUnavailableError, hint) for code, hint in NOT_READY_HINTS.items()},
    "READONLY": (StoreError, "this is a replica: give the address of the primary"),
    "OOM": (StoreError, "the server's memory is full: raise maxmemory, or delete"),
    "MOVED": (StoreUnfitError, NODE_OF_CLUSTER),
    "CLUSTERDOWN": (StoreUnfitError, NODE_OF_CLUSTER),
}


def fetch_capabilities(exchange: Exchange, server: str) -> Capabilities:
    """Ask a server which of the commands it has, in one round trip.

    Raises:
        StoreUnfitError: It lacks one that the promise about expiry takes.
    """
    names = (*NEEDED, "hsetex")
    known, hello, info = exchange(
        text_command("COMMAND", "INFO", *names)
        + text_command("HELLO")
        + text_command("INFO", "server"),
        3,
    )
    version = _from_hello(hello) or _from_info(info) or "a server of unknown version"
    if isinstance(known, ErrorReply) and known.code == "LOADING":
        raise StoreUnavailableError(
            f"{server} is still reading its data", hint="try again in a moment"
        )
    if not isinstance(known, list):
        return Capabilities(hsetex=False, server=version)
    has = {name for name, entry in zip(names, known, strict=True) if entry}
    if lacking := [name.upper() for name in NEEDED if name not in has]:
        told = "HEXPIRE" if "HPEXPIRE" in lacking else ", ".join(lacking)
        raise StoreUnfitError(
            f"{server} is {version} and has no {told}", hint=f"featurekit {NEEDS}"
        )
    return Capabilities(hsetex="hsetex" in has, server=version)


def verify_writes(
    exchange: Exchange, url: StoreUrl, capabilities: Capabilities, prefix: str
) -> None:
    """Write, expire and delete a probe key in one transaction, and look at every answer.

    Nothing is sent before the server has confirmed the transaction, and a failure on the way leaves
    by an error: the link is then closed, and the server drops what was queued.

    Raises:
        OSError: The connection broke.
        StoreUnfitError: A command is missing, renamed or not allowed, or did not do its work.
    """
    key = f"{prefix}:@probe:{token_hex(8)}"
    wanted = _probe_commands(key, hsetex=capabilities.hsetex)
    names = [name for name, _, _ in wanted]
    _expect(exchange, url, MULTI, ["MULTI"], b"OK")
    _expect(exchange, url, b"".join(data for _, data, _ in wanted), names, b"QUEUED")
    [results] = exchange(EXEC, 1)
    if not isinstance(results, list):
        raise _refusal(url, "EXEC", results)
    for name, (_, _, good), result in zip(names, wanted, results, strict=True):
        if result != good:
            raise _refusal(url, name, result)


def verify_row_writes(exchange: Exchange, url: StoreUrl, dialect: Dialect, key: bytes) -> None:
    """As `verify_writes`, by the one command that writes a row where there are no transactions.

    The script asks for each right before it writes, and looks at what its commands answer.

    Raises:
        StoreUnfitError: A command is missing, renamed or not allowed, or did not do its work.
    """
    ttl = PROBE_TTL_MS
    owned = row_command(key, {0: [(b"a", b"1")]}, [b"b"], ttl, hsetex=dialect.hsetex)
    timed = row_command(key, {ttl: [(b"b", b"1")]}, [b"a"], 0, hsetex=dialect.hsetex)
    for name, data, good in [
        *(("SCRIPT LOAD", script.load, script.sha) for script in SCRIPTS),
        ("EVALSHA", owned, 1),
        ("EVALSHA", timed, 1),
        ("UNLINK", command(b"UNLINK", key), 1),
    ]:
        [reply] = exchange(data, 1)
        if isinstance(reply, ErrorReply) and reply.code in {"MOVED", "ASK", "CLUSTERDOWN"}:
            raise StoreUnavailableError(f"{url} answers {reply}", hint="try again in a moment")
        if reply != good:
            raise _refusal(url, name, reply)


def _probe_commands(key: str, *, hsetex: bool) -> list[tuple[str, bytes, Reply]]:
    """Name, bytes and the right result of each command of the probe."""
    lines: list[tuple[Sequence[str | int], Reply]] = [
        (("HSET", key, "a", "1", "b", "1"), 2),
        (("PEXPIRE", key, PROBE_TTL_MS), 1),
        (("HPEXPIRE", key, PROBE_TTL_MS, "FIELDS", 1, "a"), [1]),
        (("HDEL", key, "b"), 1),
        (("UNLINK", key), 1),
    ]
    if hsetex:
        lines.insert(3, (("HSETEX", key, "PX", PROBE_TTL_MS, "FIELDS", 1, "b", "2"), 1))
    return [(str(parts[0]), text_command(*parts), good) for parts, good in lines]


def _expect(
    exchange: Exchange, url: StoreUrl, data: bytes, names: Sequence[str], good: bytes
) -> None:
    replies = exchange(data, len(names))
    for name, reply in zip(names, replies, strict=True):
        if reply != good:
            raise _refusal(url, name, reply)


def _refusal(url: StoreUrl, name: str, reply: Reply) -> StoreError:
    error = first_error([reply])
    if error is None:
        return StoreUnfitError(
            f"{url}: {name} answered {reply!r} to a probe", hint=f"featurekit {NEEDS}"
        )
    text = str(error)
    if "NOPERM" in text:
        return StoreUnfitError(
            f"{user_text(url)} of {url} may not run {name} on the probe key: {text}",
            hint=f"grant {RIGHTS} on the keys of featurekit",
        )
    if "unknown command" in text:
        return StoreUnfitError(
            f"{url} has no {name}, or it was renamed", hint=f"featurekit {NEEDS}"
        )
    kind, hint = REFUSALS.get(error.code, (StoreError, ""))
    return kind(f"{url} refused {name}: {text}", hint=hint)


def _from_hello(reply: Reply) -> str:
    if not isinstance(reply, list):
        return ""
    told = dict(zip(reply[::2], reply[1::2], strict=False))
    return " ".join(
        part.decode()
        for name in (b"server", b"version")
        if isinstance(part := told.get(name), bytes)
    )


def _from_info(reply: Reply) -> str:
    if not isinstance(reply, bytes):
        return ""
    told = parse_info(reply)
    name = told.get("server_name", "redis")
    return f"{name} {told.get(f'{name}_version', told.get('redis_version', ''))}".strip()
