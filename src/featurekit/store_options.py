"""The options of online stores: one table for store URLs, `featurerepo.yaml` and the docs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

CLUSTER_SCHEMES = ("redis+cluster", "rediss+cluster")
SENTINEL_SCHEMES = ("redis+sentinel", "rediss+sentinel")
SERVER_SCHEMES = ("redis", "rediss", "unix", *CLUSTER_SCHEMES, *SENTINEL_SCHEMES)
SCHEMES = (*SERVER_SCHEMES, "embedded", "memory")
TLS_SCHEMES = tuple(scheme for scheme in SCHEMES if scheme.startswith("rediss"))
REPLICATED_SCHEMES = (*CLUSTER_SCHEMES, *SENTINEL_SCHEMES)

PRIMARY, REPLICA = "primary", "replica"
ReadFrom = Literal["primary", "replica"]
CertificateCheck = Literal["required", "optional", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreOption:
    """One option.

    Attributes:
        name: The name in a URL.
        kind: How the value is written. A `duration` is in milliseconds here.
        default: The value of a store without this option; `None` if it has none.
        choices: The accepted values of a `choice`.
        schemes: The URL schemes that accept the option.
        yaml_key: The key below `online_store:`; `None` if only a URL has the option.
        example: The key with a value, as in `featurerepo.yaml`.
        description: The meaning, as one sentence without a full stop.
    """

    name: str
    kind: Literal["duration", "count", "flag", "choice", "text", "file"]
    description: str
    default: int | bool | str | None = None
    choices: tuple[str, ...] = ()
    schemes: tuple[str, ...] = SCHEMES
    yaml_key: str | None = None
    example: str = ""

    @property
    def attribute(self) -> str:
        """The name of the option in Python, which ends with its unit."""
        return f"{self.name}_s" if self.kind == "duration" else self.name

    @property
    def default_text(self) -> str:
        """The default as it is written in a URL; empty without a default."""
        if self.default is None:
            return ""
        if self.kind == "duration":
            seconds, ms = divmod(int(self.default), 1000)
            return f"{self.default}ms" if ms else f"{seconds}s"
        return str(self.default).lower() if self.kind == "flag" else str(self.default)

    @property
    def default_seconds(self) -> float:
        """The default of a `duration` in seconds."""
        return int(self.default or 0) / 1000


_TABLE = (
    StoreOption(
        name="timeout",
        kind="duration",
        default=250,
        yaml_key="timeout",
        example="timeout: 250ms",
        description="Maximum wait for the replies to one attempt of a read or write",
    ),
    StoreOption(
        name="connect_timeout",
        kind="duration",
        default=500,
        yaml_key="connect_timeout",
        example="connect_timeout: 1s",
        description="Maximum time to connect; the login may take as long again",
    ),
    StoreOption(
        name="load_timeout",
        kind="duration",
        default=10_000,
        yaml_key="load_timeout",
        example="load_timeout: 10s",
        description="Maximum wait for the next reply to a load or an administrative command",
    ),
    StoreOption(
        name="retries",
        kind="count",
        default=1,
        yaml_key="retries",
        example="retries: 2",
        description="Number of times to send a call again if it gets no reply",
    ),
    StoreOption(
        name="max_connections",
        kind="count",
        yaml_key="max_connections",
        example="max_connections: 32",
        description="Maximum number of connections for the threads of a process, and for each "
        "event loop; without it, threads have no limit and an event loop has 64",
    ),
    StoreOption(
        name="coalesce",
        kind="flag",
        default=True,
        description="Let small calls of one event loop share one connection and its system calls",
    ),
    StoreOption(
        name="health_check",
        kind="duration",
        default=30_000,
        yaml_key="health_check",
        example="health_check: 30s",
        description="A connection that was idle for longer answers a `PING` before it is used",
    ),
    StoreOption(
        name="read_from",
        kind="choice",
        default=PRIMARY,
        choices=get_args(ReadFrom),
        schemes=REPLICATED_SCHEMES,
        yaml_key="read_from",
        example="read_from: replica",
        description="Servers of a cluster or of Sentinel that answer reads",
    ),
    StoreOption(
        name="db",
        kind="count",
        default=0,
        description="Database number; a cluster has only 0",
    ),
    StoreOption(
        name="ssl_ca_certs",
        kind="file",
        schemes=TLS_SCHEMES,
        yaml_key="tls.ca_certs",
        example="ca_certs: tls/ca.crt",
        description="File of the trusted certificate authorities, instead of the machine's",
    ),
    StoreOption(
        name="ssl_certfile",
        kind="file",
        schemes=TLS_SCHEMES,
        yaml_key="tls.certfile",
        example="certfile: tls/client.crt",
        description="File of the client's certificate, for a server that requires one",
    ),
    StoreOption(
        name="ssl_keyfile",
        kind="file",
        schemes=TLS_SCHEMES,
        yaml_key="tls.keyfile",
        example="keyfile: tls/client.key",
        description="File of the private key of `certfile`",
    ),
    StoreOption(
        name="ssl_cert_reqs",
        kind="choice",
        default="required",
        choices=get_args(CertificateCheck),
        schemes=TLS_SCHEMES,
        yaml_key="tls.cert_reqs",
        example="cert_reqs: required",
        description="Verification of the server's certificate; `none` accepts any, for trials only",
    ),
    StoreOption(
        name="ssl_check_hostname",
        kind="flag",
        default=True,
        schemes=TLS_SCHEMES,
        yaml_key="tls.check_hostname",
        example="check_hostname: false",
        description="Require the server's certificate to name the host of the URL",
    ),
    StoreOption(
        name="sentinel_username",
        kind="text",
        schemes=SENTINEL_SCHEMES,
        description="User name for the sentinels, which have their own users",
    ),
    StoreOption(
        name="sentinel_password",
        kind="text",
        schemes=SENTINEL_SCHEMES,
        description="Password for the sentinels",
    ),
)
STORE_OPTIONS: dict[str, StoreOption] = {option.name: option for option in _TABLE}
TLS_OPTIONS = tuple(name for name in STORE_OPTIONS if name.startswith("ssl_"))
TLS_FILES = tuple(name for name in TLS_OPTIONS if STORE_OPTIONS[name].kind == "file")


def options_of(scheme: str) -> dict[str, StoreOption]:
    """Return the options that a URL of this scheme accepts."""
    return {name: option for name, option in STORE_OPTIONS.items() if scheme in option.schemes}
