"""Write the demo's repository: the definitions of examples/fraud with the keys and TTLs of the flags.

It is a normal repository, so `featurekit --repo .featurekit/demo` works while the demo runs.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from featurekit.demo.settings import Keys, Settings
from featurekit.errors import RepoNotFoundError
from featurekit.loader import load_repo
from featurekit.models import FeatureView, format_duration
from featurekit.models.definitions import Batch, Stream
from featurekit.models.model import Model
from featurekit.repo import FeatureStore
from featurekit.repo.store_handle import LazyStoreHandle

PROFILE = "user_profile"
ACTIVITY = "user_activity"
WINDOWS = "user_tx"
SERVICE = "fraud_v1"

_EXAMPLE = Path(__file__).parent / "fraud"
_HEADER = "# Rewritten at each start of `featurekit demo`.\n"


def declare(settings: Settings, batch_ttl_s: int) -> None:
    """Write the repository with a batch TTL."""
    example = load_repo(_EXAMPLE, {})
    url = LazyStoreHandle(settings.url, settings.folder).shareable_url
    keys = settings.keys
    _write(
        settings.folder / "featurerepo.yaml",
        {
            "project": re.sub(r"[^a-z0-9]+", "_", f"demo_{keys.prefix.lower()}"),
            "definitions": ["features.yaml"],
            "online_store": {"url": url, "key_prefix": keys.prefix},
        },
    )
    views = [_view(view, settings, batch_ttl_s) for view in example.feature_views]
    entities = [entity.model_copy(update={"name": keys.entity}) for entity in example.entities]
    entities += [entity.model_copy(update={"name": windows_entity(keys)}) for entity in entities]
    _write(
        settings.folder / "features.yaml",
        {
            "entities": [_document(entity) for entity in entities],
            "feature_views": [*map(_document, views), _windows(keys)],
            "feature_services": [_document(each) for each in example.feature_services],
        },
    )


def windows_entity(keys: Keys) -> str:
    """Return the entity of the windows, which are kept apart from the hashes of users."""
    return f"{keys.entity}_tx"


def _windows(keys: Keys) -> dict[str, Any]:
    """Return the view with windows over the transactions that users make in the demo."""
    stream = f"featurekit:demo:{keys}transactions"
    return {
        "name": WINDOWS,
        "entity": windows_entity(keys),
        "description": "Transactions of the last 20 seconds, each counted once.",
        "stream": {
            "refresh": "3s",
            "max_ahead": "2s",
            "source": {"type": "redis_stream", "stream": stream},
            "once": {"event_id": "id"},
        },
        "inputs": {"amount": "float64"},
        "fields": {
            "tx_count_20s": {"type": "int64", "aggregate": "count", "window": "20s", "tile": "2s"},
            "tx_amount_20s": {
                "type": "float64",
                "aggregate": "sum",
                "of": "amount",
                "window": "20s",
                "tile": "2s",
                "default": 0.0,
            },
        },
    }


def redeclare(store: FeatureStore, settings: Settings, batch_ttl_s: int) -> None:
    """Declare another batch TTL and apply it."""
    declare(settings, batch_ttl_s)
    store.reload_definitions()
    store.apply(allow_breaking=True)


def _view(view: FeatureView, settings: Settings, batch_ttl_s: int) -> FeatureView:
    """Return a view with the demo's TTLs and without a source, because the demo writes it."""
    fields = {name: spec.model_copy(update={"ttl": None}) for name, spec in view.fields_.items()}
    update: dict[str, Any] = {"entity": settings.keys.entity, "fields_": fields}
    if view.batch is not None:
        ttl_ms = batch_ttl_s * 1000
        update["batch"] = Batch.model_validate(_ttl_keys(ttl_ms, 2))
    else:
        ttl_ms = settings.streaming_ttl_s * 1000
        update["stream"] = Stream.model_validate(_ttl_keys(ttl_ms, 5))
    return view.model_copy(update=update)


def _ttl_keys(ttl_ms: int, refreshes_per_ttl: int) -> dict[str, str]:
    return {
        "refresh": format_duration(ttl_ms // refreshes_per_ttl),
        "ttl": format_duration(ttl_ms),
    }


def _document(model: Model) -> dict[str, Any]:
    document = model.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return {"name": document["name"], **document}


def _write(path: Path, document: dict[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
        path.write_text(_HEADER + text, encoding="utf-8")
    except OSError as error:
        raise RepoNotFoundError(
            f"cannot write the demo's repository: {error.strerror}", where=str(path)
        ) from error
