"""`featurerepo.yaml`: which definitions there are, and where their values are kept."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from featurekit.errors import ValueRefusedError, nearest
from featurekit.models.model import Model
from featurekit.models.plain import found
from featurekit.models.scalars import FilledText, Name, Text, Texts

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


class OnlineStoreConfig(Model):
    """Where values are kept."""

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
        description="Where values are kept; as `online_store: {url: redis://localhost:6379/0}`.",
    )
