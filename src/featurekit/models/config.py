"""The model of `featurerepo.yaml`: the project, its definition files and its online store."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from featurekit.errors import ValueRefusedError, name_hint
from featurekit.models.model import Model, model_json_schema
from featurekit.models.scalars import (
    Duration,
    Flag,
    Name,
    NonEmptyText,
    NonNegativeInt,
    PositiveInt,
    ScalarText,
    ShortDuration,
    Text,
    TextList,
    format_raw,
)
from featurekit.store_options import SCHEMES, STORE_OPTIONS, CertificateCheck, ReadFrom

ONLINE = "online"
"""The value of `registry:` for a registry in the online store."""


def check_store_url(text: str) -> str:
    """Return a store URL after a check of its scheme; no message may show the rest, with its secrets."""
    scheme, separator, _ = text.partition("://")
    if not separator:
        raise ValueRefusedError(
            "expected a store URL, for example redis://localhost:6379/0",
            hint=f"known schemes: {', '.join(SCHEMES)}",
        )
    if scheme not in SCHEMES:
        shown = format_raw(scheme) if re.fullmatch(r"[a-z+]+", scheme) else "what precedes '://'"
        raise ValueRefusedError(
            f"{shown} is not an online store's scheme",
            hint=name_hint(scheme, SCHEMES),
        )
    return text


def _check_prefix(text: str) -> str:
    if not text or re.search(r"[\s{}\x00-\x1f\x7f]", text):
        raise ValueRefusedError(
            f"found {format_raw(text)}, expected text without braces, spaces and control characters"
        )
    return text


def _option(name: str) -> Any:
    """Return the field of a store option, with the default and description of the option table."""
    option = STORE_OPTIONS[name]
    is_duration = option.kind == "duration"
    return Field(
        default=option.default,
        json_schema_extra={"default": option.default_text} if is_duration else None,
        description=f"{option.description}, for example `{option.example}`.",
    )


class Tls(Model):
    """TLS settings of a `rediss://` connection. Paths are relative to this file."""

    ca_certs: NonEmptyText | None = _option("ssl_ca_certs")
    certfile: NonEmptyText | None = _option("ssl_certfile")
    keyfile: NonEmptyText | None = _option("ssl_keyfile")
    cert_reqs: CertificateCheck = _option("ssl_cert_reqs")
    check_hostname: Flag = _option("ssl_check_hostname")


class OnlineStoreConfig(Model):
    """The online store. Options in the URL override these keys."""

    url: Annotated[Text, AfterValidator(check_store_url)] = Field(
        default="embedded://.featurekit/online",
        repr=False,
        description="The store's URL: redis://, redis+cluster://, redis+sentinel://, each with "
        "rediss for TLS, unix://, embedded:// or memory://; secrets come from the environment, "
        "for example `url: ${FEATUREKIT_ONLINE_URL:-embedded://.featurekit/online}`.",
    )
    key_prefix: Annotated[Text, AfterValidator(_check_prefix)] = Field(
        default="fs",
        description="Prefix of all keys, such as `fs` in `fs:user:u0001`, "
        "for example `key_prefix: fs`.",
        json_schema_extra={"pattern": r"^[^\s{}]+$"},
    )
    timeout: ShortDuration = _option("timeout")
    connect_timeout: ShortDuration = _option("connect_timeout")
    load_timeout: ShortDuration = _option("load_timeout")
    retries: NonNegativeInt = _option("retries")
    max_connections: PositiveInt | None = _option("max_connections")
    health_check: ShortDuration = _option("health_check")
    read_from: ReadFrom = _option("read_from")
    tls: Tls | None = Field(
        default=None,
        description="TLS settings, for example `tls: {ca_certs: ca.crt}`.",
    )

    @property
    def options(self) -> dict[str, str]:
        """The options that the file sets, as text, by their names in URLs."""
        tls = self.tls.model_dump(exclude_unset=True) if self.tls else {}
        texts = {f"ssl_{name}": str(value) for name, value in tls.items()}
        for name in self.model_fields_set & STORE_OPTIONS.keys():
            is_duration = STORE_OPTIONS[name].kind == "duration"
            texts[name] = f"{getattr(self, name)}{'ms' if is_duration else ''}"
        return texts


def _check_setting(text: str) -> str:
    if re.search(r"://[^/@]*:[^/@]*@", text):
        raise ValueRefusedError(
            "a Spark setting must not contain a URL with a password: Spark shows settings on its pages",
            hint="set FEATUREKIT_ONLINE_PASSWORD in the environment",
        )
    return text


class SparkConfig(Model):
    """Settings of the Spark session that featurekit opens."""

    master: NonEmptyText | None = Field(
        default=None, description="The master of the session, for example `master: local[4]`."
    )
    conf: dict[NonEmptyText, Annotated[ScalarText, AfterValidator(_check_setting)]] = Field(
        default={},
        description="Settings of the session, for example `conf: {spark.executor.memory: 4g}`.",
    )


class EnginesConfig(Model):
    """Settings of engines."""

    spark: SparkConfig = Field(
        default=SparkConfig(), description="Spark, for example `spark: {master: local[4]}`."
    )


class LoadLogConfig(Model):
    """How much of the log of loads is kept. Loads without this file obey the last `apply`."""

    keep: Duration = Field(
        default=400 * 86_400_000,
        json_schema_extra={"default": "400d"},
        description="How long a load is kept, and the registry under which it ran, "
        "for example `keep: 400d`.",
    )
    max_bytes: PositiveInt = Field(
        default=8 * 2**20,
        description="The most bytes of the older loads of one view, about 45 for each load; the oldest go "
        "first; for example `max_bytes: 8388608`.",
    )


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
        default=ONLINE,
        description="Where the applied definitions are stored: `online`, next to the data, or a "
        "file, for example `registry: registry.json`.",
    )
    online_store: OnlineStoreConfig = Field(
        default=OnlineStoreConfig(),
        description="Online store and its connection options, "
        "for example `online_store: {url: redis://localhost:6379/0}`.",
    )
    load_log: LoadLogConfig = Field(
        default=LoadLogConfig(),
        description="How much of the log of loads is kept, for example `load_log: {keep: 90d}`.",
    )
    engine: Literal["duckdb", "spark"] = Field(
        default="duckdb",
        description="What reads the sources of loads and training sets: `duckdb` in the process, or "
        "`spark`; `--engine` overrides it; for example `engine: spark`.",
    )
    engines: EnginesConfig = Field(
        default=EnginesConfig(),
        description="Settings of engines, for example `engines: {spark: {master: local[4]}}`.",
    )


def repo_json_schema() -> dict[str, Any]:
    """Return the JSON Schema of `featurerepo.yaml`."""
    return model_json_schema(RepoConfig, "featurerepo.yaml")
