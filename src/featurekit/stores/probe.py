"""Check what a server can do and what a user may do, by asking and by trying on a probe key."""

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

REQUIRED_COMMANDS = (
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
REQUIREMENT = "featurekit needs Redis 7.4 or newer, or Valkey 9 or newer"
RIGHTS = (
    "+hset +hdel +hsetex +pexpire +hpexpire +hpexpireat +hpexpiretime +pttl +unlink +multi +exec "
    "+hget +evalsha +script|load +set +get +del +eval "
    "+lpush +ltrim +lrange +hkeys +hexists +hsetnx"
)
"""The rights that writers of all kinds need; docs/wire-format.md lists them for each kind."""

CLUSTER_HINT = "this server is a node of a cluster: write redis+cluster:// instead of redis://"

REFUSALS: dict[str, tuple[type[StoreError], str]] = {
    **{code: (StoreUnavailableError, hint) for code, hint in NOT_READY_HINTS.items()},
    "READONLY": (StoreUnavailableError, "this server is a replica: use the primary's address"),
    "OOM": (StoreUnavailableError, "the server's memory is full: raise maxmemory, or delete data"),
    "NOREPLICAS": (
        StoreUnavailableError,
        "fewer replicas are connected than min-replicas-to-write",
    ),
    "MISCONF": (StoreUnavailableError, "the server cannot save its data: its log says why"),
    "MOVED": (StoreUnfitError, CLUSTER_HINT),
    "CLUSTERDOWN": (StoreUnfitError, CLUSTER_HINT),
}


def fetch_capabilities(exchange: Exchange, server: str) -> Capabilities:
    """Ask a server in one round trip which commands it has.

    Raises:
        StoreUnfitError: The server lacks a command that expiry of values needs.
        StoreUnavailableError: The server executes no commands now.
    """
    names = (*REQUIRED_COMMANDS, "hsetex")
    known, hello, info = exchange(
        text_command("COMMAND", "INFO", *names)
        + text_command("HELLO")
        + text_command("INFO", "server"),
        3,
    )
    version = (
        _version_from_hello(hello) or _version_from_info(info) or "a server of unknown version"
    )
    if isinstance(known, ErrorReply) and known.code in NOT_READY_HINTS:
        raise StoreUnavailableError(f"{server} answers {known}", hint=NOT_READY_HINTS[known.code])
    if not isinstance(known, list) or len(known) != len(names):
        return Capabilities(hsetex=False, server=version)
    present = {name for name, entry in zip(names, known, strict=True) if entry}
    if missing := [name.upper() for name in REQUIRED_COMMANDS if name not in present]:
        text = "HEXPIRE" if "HPEXPIRE" in missing else ", ".join(missing)
        raise StoreUnfitError(f"{server} is {version} and lacks {text}", hint=REQUIREMENT)
    return Capabilities(hsetex="hsetex" in present, server=version)


def verify_writes(
    exchange: Exchange, url: StoreUrl, capabilities: Capabilities, prefix: str
) -> None:
    """Write, expire and delete a probe key in one transaction, and check every reply.

    The commands are sent only after the server has accepted `MULTI`. A failure raises, upon which
    the caller closes the connection and the server drops the queued commands.

    Raises:
        OSError: The connection broke.
        StoreUnfitError: A command is missing, renamed, not permitted or without effect.
        StoreUnavailableError: The server refuses writes now: its memory is full, or it is a replica.
    """
    key = f"{prefix}:@probe:{token_hex(8)}"
    commands = _probe_commands(key, hsetex=capabilities.hsetex)
    names = [name for name, _, _ in commands]
    [accepted] = exchange(MULTI, 1)
    if accepted != b"OK":
        raise _refusal(url, "MULTI", accepted)
    # The server discards the transaction if it does not accept one of the commands.
    data = b"".join(data for _, data, _ in commands) + EXEC
    *queued, results = exchange(data, len(names) + 1)
    for name, reply in zip(names, queued, strict=True):
        if reply != b"QUEUED":
            raise _refusal(url, name, reply)
    if not isinstance(results, list) or len(results) != len(names):
        raise _refusal(url, "EXEC", results)
    for name, (_, _, expected), result in zip(names, commands, results, strict=True):
        if result != expected:
            raise _refusal(url, name, result)


def verify_row_writes(exchange: Exchange, url: StoreUrl, dialect: Dialect, key: bytes) -> None:
    """Check writes by the scripts that write a row in a cluster, which has no transactions.

    A script checks every right before it writes, and the reply of each command that it runs.

    Raises:
        StoreUnfitError: A command is missing, renamed, not permitted or without effect.
        StoreUnavailableError: The probe key's slot is moving, or the server refuses writes now.
    """
    ttl = PROBE_TTL_MS
    owned = row_command(key, {0: [(b"a", b"1")]}, [b"b"], ttl, hsetex=dialect.hsetex)
    timed = row_command(key, {ttl: [(b"b", b"1")]}, [b"a"], 0, hsetex=dialect.hsetex)
    for name, data, expected in [
        *(("SCRIPT LOAD", script.load, script.sha) for script in SCRIPTS),
        ("EVALSHA", owned, 1),
        ("EVALSHA", timed, 1),
        ("UNLINK", command(b"UNLINK", key), 1),
    ]:
        [reply] = exchange(data, 1)
        if isinstance(reply, ErrorReply) and reply.code in {"MOVED", "ASK", "CLUSTERDOWN"}:
            raise StoreUnavailableError(f"{url} answers {reply}", hint="try again in a moment")
        if reply != expected:
            raise _refusal(url, name, reply)


def _probe_commands(key: str, *, hsetex: bool) -> list[tuple[str, bytes, Reply]]:
    """Return the name, the bytes and the expected result of each command of the probe."""
    commands: list[tuple[Sequence[str | int], Reply]] = [
        (("HSET", key, "a", "1", "b", "1"), 2),
        (("PEXPIRE", key, PROBE_TTL_MS), 1),
        (("HPEXPIRE", key, PROBE_TTL_MS, "FIELDS", 1, "a"), [1]),
        (("HDEL", key, "b"), 1),
        (("UNLINK", key), 1),
    ]
    if hsetex:
        commands.insert(3, (("HSETEX", key, "PX", PROBE_TTL_MS, "FIELDS", 1, "b", "2"), 1))
    return [(str(parts[0]), text_command(*parts), expected) for parts, expected in commands]


def _refusal(url: StoreUrl, name: str, reply: Reply) -> StoreError:
    """Return the error for an unexpected reply to a command of the probe."""
    error = first_error([reply])
    if error is None:
        return StoreUnfitError(f"{url} sent {reply!r} in reply to {name}", hint=REQUIREMENT)
    text = str(error)
    if "NOPERM" in text:
        return StoreUnfitError(
            f"{user_text(url)} of {url} may not run {name} on the probe key: {text}",
            hint=f"grant {RIGHTS} on the keys of featurekit",
        )
    if "unknown command" in text:
        return StoreUnfitError(f"{url} lacks {name}, or it was renamed", hint=REQUIREMENT)
    kind, hint = REFUSALS.get(error.code, (StoreError, ""))
    return kind(f"{url} refused {name}: {text}", hint=hint)


def _version_from_hello(reply: Reply) -> str:
    if not isinstance(reply, list):
        return ""
    pairs = zip(reply[::2], reply[1::2], strict=False)
    values = {name: part for name, part in pairs if isinstance(name, bytes)}
    return " ".join(
        part.decode(errors="replace")
        for name in (b"server", b"version")
        if isinstance(part := values.get(name), bytes)
    )


def _version_from_info(reply: Reply) -> str:
    if not isinstance(reply, bytes):
        return ""
    values = parse_info(reply)
    name = values.get("server_name", "redis")
    return f"{name} {values.get(f'{name}_version', values.get('redis_version', ''))}".strip()
