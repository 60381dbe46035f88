"""`featurerepo.yaml`: which definitions there are, and where their values are kept."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from featurekit.errors import ValueRefusedError, nearest
from featurekit.models.model import Model
from featurekit.models.plain import found
from featurekit.models.scalars import Count, FilledText, Flag, Name, Text, Texts, Wait, Whole

URL_SCHEMES = (
    "redis",
    "rediss",
    "unix",
    "redis+cluster",
    "rediss+cluster",
    "redis+sentinel",
    "rediss+sentinel",
    "embedded",
    "memory",
)

WAITS = ("timeout", "connect_timeout", "load_timeout", "health_check")


def _url(text: str) -> str:
    """Check the scheme alone; the rest may be secret and is shown nowhere."""
    scheme, mark, _ = text.partition("://")
    if not mark:
        raise ValueRefusedError(
            "expected the URL of a store, as redis://localhost:6379/0",
            hint=f"known schemes: {', '.join(URL_SCHEMES)}",
        )
    if scheme not in URL_SCHEMES:
        raise ValueRefusedError(
            f"no kind of store has the scheme {found(scheme)}", hint=nearest(scheme, URL_SCHEMES)
        )
    return text


def _prefix(text: str) -> str:
    if not text or re.search(r"[\s{}\x00-\x1f\x7f]", text):
        raise ValueRefusedError(
            f"found {found(text)}, expected text without braces, spaces and control characters"
        )
    return text


class Tls(Model):
    """What an encrypted connection (rediss://) is proven with. Files are relative to this file."""

    ca_certs: FilledText | None = Field(
        default=None,
        description="The file of the authorities that the server's certificate is trusted by, "
        "if not those of the machine; as `ca_certs: tls/ca.crt`.",
    )
    certfile: FilledText | None = Field(
        default=None,
        description="The file of the client's certificate, for a server that asks for one; "
        "as `certfile: tls/client.crt`.",
    )
    keyfile: FilledText | None = Field(
        default=None,
        description="The file of the key to `certfile`; as `keyfile: tls/client.key`.",
    )
    cert_reqs: Literal["required", "optional", "none"] = Field(
        default="required",
        description="Whether the server's certificate must be right; as `cert_reqs: required`.",
    )
    check_hostname: Flag = Field(
        default=True,
        description="Whether that certificate must be for the host of the URL; "
        "as `check_hostname: false`.",
    )


class OnlineStoreConfig(Model):
    """Where values are kept, and how they are reached. Options of the URL itself win over these."""

    url: Annotated[Text, AfterValidator(_url)] = Field(
        default="embedded://.featurekit/online",
        repr=False,
        description="The store's URL: redis://, redis+cluster://, redis+sentinel://, each with "
        "rediss for TLS, unix://, embedded:// or memory://; secrets come from the environment; "
        "as `url: ${FEATUREKIT_ONLINE_URL:-embedded://.featurekit/online}`.",
    )
    key_prefix: Annotated[Text, AfterValidator(_prefix)] = Field(
        default="fs",
        description="What all keys begin with, as `fs` in `fs:user:u0001`; as `key_prefix: fs`.",
        json_schema_extra={"pattern": r"^[^\s{}]+$"},
    )
    timeout: Wait = Field(
        default=250,
        json_schema_extra={"default": "250ms"},
        description="How long one try of a read or write waits for its replies; "
        "as `timeout: 250ms`.",
    )
    connect_timeout: Wait = Field(
        default=500,
        json_schema_extra={"default": "500ms"},
        description="How long connecting may take, TLS and login each; as `connect_timeout: 1s`.",
    )
    load_timeout: Wait = Field(
        default=10_000,
        json_schema_extra={"default": "10s"},
        description="How long a load, or a command of upkeep, waits for the next reply; "
        "as `load_timeout: 10s`.",
    )
    retries: Whole = Field(
        default=1,
        description="How often a whole call is sent again when no answer came; as `retries: 2`.",
    )
    max_connections: Count | None = Field(
        default=None,
        description="Most connections at once, for threads and for each event loop (there 64 "
        "unless told); as `max_connections: 32`.",
    )
    health_check: Wait = Field(
        default=30_000,
        json_schema_extra={"default": "30s"},
        description="A connection that was idle for longer is proven by a PING before it is "
        "used; as `health_check: 30s`.",
    )
    read_from: Literal["primary", "replica"] = Field(
        default="primary",
        description="Which servers of a cluster or of Sentinel answer reads; "
        "as `read_from: replica`.",
    )
    tls: Tls | None = Field(
        default=None,
        description="What an encrypted connection is proven with; as `tls: {ca_certs: ca.crt}`.",
    )

    @property
    def options(self) -> dict[str, str]:
        """What is given, by the names that these options have in a URL."""
        own = self.model_fields_set - {"url", "key_prefix", "tls"}
        tls = self.tls.model_dump(exclude_unset=True) if self.tls else {}
        return {
            **{name: f"{getattr(self, name)}{'ms' * (name in WAITS)}" for name in own},
            **{f"ssl_{name}": str(value) for name, value in tls.items()},
        }


class RepoConfig(Model):
    """`featurerepo.yaml`."""

    project: Name = Field(
        description="The project's name: lower-case letters, digits and `_`; as `project: fraud`."
    )
    definitions: Texts = Field(
        description="Definition files, folders or globs, relative to this file; "
        "as `definitions: [features/*.yaml]`."
    )
    registry: FilledText = Field(
        default=".featurekit/registry.json",
        description="The file that remembers what was applied, or `online` to keep it beside "
        "the data; as `registry: online`.",
    )
    online_store: OnlineStoreConfig = Field(
        default=OnlineStoreConfig(),
        description="Where values are kept, and how they are reached; "
        "as `online_store: {url: redis://localhost:6379/0}`.",
    )
