"""The model of `featurerepo.yaml`: the project, its definition files and its online store."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from featurekit.errors import ValueRefusedError, name_hint
from featurekit.models.model import Model, model_json_schema
from featurekit.models.scalars import (
    Flag,
    Name,
    NonEmptyText,
    NonNegativeInt,
    PositiveInt,
    ShortDuration,
    Text,
    TextList,
    format_raw,
)

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
            f"no kind of store has the scheme {format_raw(scheme)}",
            hint=name_hint(scheme, URL_SCHEMES),
        )
    return text


def _prefix(text: str) -> str:
    if not text or re.search(r"[\s{}\x00-\x1f\x7f]", text):
        raise ValueRefusedError(
            f"found {format_raw(text)}, expected text without braces, spaces and control characters"
        )
    return text


class Tls(Model):
    """What an encrypted connection (rediss://) is proven with. Files are relative to this file."""

    ca_certs: NonEmptyText | None = Field(
        default=None,
        description="The file of the authorities that the server's certificate is trusted by, "
        "if not those of the machine, for example `ca_certs: tls/ca.crt`.",
    )
    certfile: NonEmptyText | None = Field(
        default=None,
        description="The file of the client's certificate, for a server that asks for one, "
        "for example `certfile: tls/client.crt`.",
    )
    keyfile: NonEmptyText | None = Field(
        default=None,
        description="The file of the key to `certfile`, for example `keyfile: tls/client.key`.",
    )
    cert_reqs: Literal["required", "optional", "none"] = Field(
        default="required",
        description="Whether the server's certificate must be right, for example `cert_reqs: required`.",
    )
    check_hostname: Flag = Field(
        default=True,
        description="Whether that certificate must be for the host of the URL, "
        "for example `check_hostname: false`.",
    )


class OnlineStoreConfig(Model):
    """Where values are kept, and how they are reached. Options of the URL itself win over these."""

    url: Annotated[Text, AfterValidator(_url)] = Field(
        default="embedded://.featurekit/online",
        repr=False,
        description="The store's URL: redis://, redis+cluster://, redis+sentinel://, each with "
        "rediss for TLS, unix://, embedded:// or memory://; secrets come from the environment, "
        "for example `url: ${FEATUREKIT_ONLINE_URL:-embedded://.featurekit/online}`.",
    )
    key_prefix: Annotated[Text, AfterValidator(_prefix)] = Field(
        default="fs",
        description="What all keys begin with, as `fs` in `fs:user:u0001`, for example `key_prefix: fs`.",
        json_schema_extra={"pattern": r"^[^\s{}]+$"},
    )
    timeout: ShortDuration = Field(
        default=250,
        json_schema_extra={"default": "250ms"},
        description="How long one try of a read or write waits for its replies, "
        "for example `timeout: 250ms`.",
    )
    connect_timeout: ShortDuration = Field(
        default=500,
        json_schema_extra={"default": "500ms"},
        description="How long connecting may take, TLS and login each, for example `connect_timeout: 1s`.",
    )
    load_timeout: ShortDuration = Field(
        default=10_000,
        json_schema_extra={"default": "10s"},
        description="How long a load, or a command of upkeep, waits for the next reply, "
        "for example `load_timeout: 10s`.",
    )
    retries: NonNegativeInt = Field(
        default=1,
        description="How often a whole call is sent again when no answer came, for example `retries: 2`.",
    )
    max_connections: PositiveInt | None = Field(
        default=None,
        description="Most connections at once, for threads and for each event loop (there 64 "
        "unless told), for example `max_connections: 32`.",
    )
    health_check: ShortDuration = Field(
        default=30_000,
        json_schema_extra={"default": "30s"},
        description="A connection that was idle for longer is proven by a PING before it is "
        "used, for example `health_check: 30s`.",
    )
    read_from: Literal["primary", "replica"] = Field(
        default="primary",
        description="Which servers of a cluster or of Sentinel answer reads, "
        "for example `read_from: replica`.",
    )
    tls: Tls | None = Field(
        default=None,
        description="What an encrypted connection is proven with, for example `tls: {ca_certs: ca.crt}`.",
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
        description="Project name: lower-case letters, digits and `_`, for example `project: fraud`."
    )
    definitions: TextList = Field(
        description="Definition files, folders or globs, relative to this file, "
        "for example `definitions: [features/*.yaml]`."
    )
    registry: NonEmptyText = Field(
        default=".featurekit/registry.json",
        description="File of the applied definitions, or `online` to store them next to the "
        "data, for example `registry: online`.",
    )
    online_store: OnlineStoreConfig = Field(
        default=OnlineStoreConfig(),
        description="Online store and its connection options, "
        "for example `online_store: {url: redis://localhost:6379/0}`.",
    )


def repo_json_schema() -> dict[str, Any]:
    """Return the JSON Schema of `featurerepo.yaml`."""
    return model_json_schema(RepoConfig, "featurerepo.yaml")
