"""`featurerepo.yaml` from `feature_store.yaml`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from featurekit.codegen.feast.naming import definition_name
from featurekit.codegen.feast.yaml_text import Block, comment, mapping_text

_EMBEDDED = "${FEATUREKIT_ONLINE_URL:-embedded://.featurekit/online}"


def repository_text(project: str, config: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Return the file, and what differs from `feature_store.yaml`."""
    name = definition_name(project, set())
    notes = (
        []
        if name == project
        else [f"project: it is `{project}` in Feast; names are lower-case here"]
    )
    url = _store_url(config.get("online_store"), notes)
    head = (
        "Imported from Feast by `featurekit import-feast`. Values are stored in another form than Feast's, so "
        "both can serve from one server for a while; load the views before clients read here."
    )
    text = comment(head) + "".join(comment(note) for note in notes)
    keys = Block(project=name, definitions=["features/*.yaml"])
    keys["online_store"] = Block(url=url, key_prefix="fs")
    return text + mapping_text(keys), notes


def _store_url(store: object, notes: list[str]) -> str:
    """Return the URL of the online store; that of an embedded server if Feast's has no equal."""
    if not isinstance(store, Mapping) or store.get("type") not in ("redis", "sqlite", None):
        kind = store.get("type") if isinstance(store, Mapping) else store
        if kind:
            notes.append(
                f"online_store {kind}: featurekit stores values in Redis or Valkey; set FEATUREKIT_ONLINE_URL"
            )
        return _EMBEDDED
    if store.get("type") != "redis":
        return _EMBEDDED
    address, *options = str(store.get("connection_string", "localhost:6379")).split(",")
    hosts = [address, *(each for each in options if "=" not in each)]
    settings = dict(each.split("=", 1) for each in options if "=" in each)
    if settings.keys() & {"password", "username"}:
        notes.append("online_store: set FEATUREKIT_ONLINE_PASSWORD; passwords are not copied")
    secure = "s" if settings.get("ssl", "").lower() == "true" else ""
    database = f"/{settings['db']}" if re.fullmatch("[0-9]+", settings.get("db", "")) else ""
    kind = str(store.get("redis_type", "redis"))
    if "cluster" in kind:
        return f"redis{secure}+cluster://{','.join(hosts)}"
    if "sentinel" in kind:
        return f"redis{secure}+sentinel://{','.join(hosts)}/{store.get('sentinel_master', 'mymaster')}"
    return f"redis{secure}://{address}{database}"
