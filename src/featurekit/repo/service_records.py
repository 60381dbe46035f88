"""The last training sets and the last verification of each service, in the folder of a repository.

Nothing is recorded if the folder cannot be written.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from featurekit.errors import RegistryError
from featurekit.repo.atomic_files import write_atomically

if TYPE_CHECKING:
    from featurekit.training.verify import VerifyReport

Kind = Literal["training", "verify"]

_KEPT = 10


def save_report(root: Path, report: VerifyReport) -> None:
    """Replace the last report of a service."""
    with suppress(OSError, RegistryError):
        text = json.dumps(report.to_dict(), indent=2, ensure_ascii=False)
        _write(root, "verify", report.request, text)


def last_report(root: Path, service: str) -> dict[str, Any] | None:
    """Return the last report of a service, as `VerifyReport.to_dict`; `None` if there is none."""
    document = _read(root, "verify", service)
    return document if isinstance(document, dict) else None


def record_training_set(root: Path, folder: Path) -> None:
    """Record a training set by its manifest."""
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
        _write(root, "training", service, json.dumps([record, *others][:_KEPT], indent=2))


def last_training_sets(root: Path, service: str) -> list[dict[str, Any]]:
    """Return the training sets of a service that were written last, newest first."""
    document = _read(root, "training", service)
    return document if isinstance(document, list) else []


def _relative(folder: Path, root: Path) -> str:
    return str(folder.relative_to(root) if folder.is_relative_to(root) else folder)


def _path(root: Path, kind: Kind, service: str) -> Path:
    return root / ".featurekit" / kind / f"{service}.json"


def _write(root: Path, kind: Kind, service: str, text: str) -> None:
    path = _path(root, kind, service)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text + "\n")


def _read(root: Path, kind: Kind, service: str) -> object:
    """Return what a file has; `None` if it cannot be read."""
    if service.isidentifier():  # else no service: it may come from a request
        with suppress(OSError, ValueError):
            document: object = json.loads(_path(root, kind, service).read_text(encoding="utf-8"))
            return document
    return None
