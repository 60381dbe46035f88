"""The training sets that were written last for each service, in the folder of a repository."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from featurekit.errors import RegistryError
from featurekit.repo.atomic_files import write_atomically

_KEPT = 10


def record_training_set(root: Path, folder: Path) -> None:
    """Record a training set by its manifest, unless the repository's folder cannot be written."""
    with suppress(OSError, ValueError, RegistryError):
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        service = manifest["request"]
        record = {
            "path": _relative(folder.resolve(), root.resolve()),
            "created_at": manifest["created_at"],
            "registry": manifest["registry"],
            "rows": manifest["labels"]["rows"],
            "as_of": {view["name"]: view["as_of"] for view in manifest["views"]},
            "missing": {
                feature["name"]: feature["statuses"].get("missing", 0)
                for feature in manifest["features"]
            },
        }
        others = [
            each for each in last_training_sets(root, service) if each["path"] != record["path"]
        ]
        path = _path(root, service)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps([record, *others][:_KEPT], indent=2) + "\n")


def last_training_sets(root: Path, service: str) -> list[dict[str, Any]]:
    """Return the training sets of a service that were written last, newest first."""
    if not service.isidentifier():  # it may come from a request
        return []
    with suppress(OSError, ValueError):
        document = json.loads(_path(root, service).read_text(encoding="utf-8"))
        return document if isinstance(document, list) else []
    return []


def _relative(folder: Path, root: Path) -> str:
    return str(folder.relative_to(root) if folder.is_relative_to(root) else folder)


def _path(root: Path, service: str) -> Path:
    return root / ".featurekit" / "training" / f"{service}.json"
