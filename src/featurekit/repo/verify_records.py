"""The report of the last verification of each service, in the folder of a repository."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurekit.errors import RegistryError
from featurekit.repo.atomic_files import write_atomically

if TYPE_CHECKING:
    from featurekit.training.verify import VerifyReport


def save_report(root: Path, report: VerifyReport) -> None:
    """Replace the last report of a service, unless the folder cannot be written."""
    path = _path(root, report.request)
    with suppress(OSError, RegistryError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(report.to_dict(), indent=2, ensure_ascii=False) + "\n")


def last_report(root: Path, service: str) -> dict[str, Any] | None:
    """Return the last report of a service, as `VerifyReport.to_dict`; `None` if there is none."""
    if not service.isidentifier():  # it may come from a request
        return None
    with suppress(OSError, ValueError):
        document = json.loads(_path(root, service).read_text(encoding="utf-8"))
        return document if isinstance(document, dict) else None
    return None


def _path(root: Path, service: str) -> Path:
    return root / ".featurekit" / "verify" / f"{service}.json"
