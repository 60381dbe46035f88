"""Read the definitions of a Feast repository: its objects, or what `feast registry-dump` printed."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from featurekit.codegen.feast import dump_objects
from featurekit.errors import FeatureKitError, RequestError

CONFIG = "feature_store.yaml"

_DUMP = "run `feast registry-dump > registry.json` in the repository, and import that file"
_LISTS = {*dump_objects.LISTS, "project"}


@dataclass(frozen=True, slots=True)
class FeastRepository:
    """What a Feast repository declares.

    Attributes:
        document: The registry, as `feast registry-dump` prints it.
        config: The contents of `feature_store.yaml`; empty if only a dump was given.
        folder: The folder that its paths are relative to.
    """

    document: Mapping[str, Any]
    config: Mapping[str, Any]
    folder: Path

    @property
    def project(self) -> str:
        """The name of the project."""
        return str(self.config.get("project") or self.document.get("project") or "my_project")


def read_repository(path: Path, python: str | None) -> FeastRepository:
    """Read a folder with `feature_store.yaml`, or a dump of its registry.

    Args:
        path: The folder, a folder above it that `feast init` made, or the file with the dump.
        python: A Python with Feast; by default this one, if it has Feast.

    Raises:
        RequestError: There is no repository, or no Python with Feast to read it.
        FeatureKitError: The repository or the dump cannot be read.
    """
    if path.is_file() and path.name != CONFIG:
        folder = path.parent
        return FeastRepository(_read_dump(path), _read_config(folder), folder)
    folder = _repository_folder(path.parent if path.is_file() else path)
    return FeastRepository(_read_objects(folder, python), _read_config(folder), folder)


def _repository_folder(path: Path) -> Path:
    for folder in (path, path / "feature_repo"):
        if (folder / CONFIG).is_file():
            return folder
    raise RequestError(
        f"there is no {CONFIG} in {path}",
        hint=f"pass the folder of a Feast repository, or a file: {_DUMP}",
    )


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise FeatureKitError(f"cannot read it: {reason}", where=str(folder / CONFIG)) from error
    return data if isinstance(data, dict) else {}


def _read_dump(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FeatureKitError(f"cannot read it: {error.strerror}", where=str(path)) from error
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{path} is not the JSON of a Feast registry", hint=_DUMP) from error
    if not isinstance(data, dict) or not _LISTS & data.keys():
        raise RequestError(f"{path} is not the JSON of a Feast registry", hint=_DUMP)
    return data


def _read_objects(folder: Path, python: str | None) -> dict[str, Any]:
    if python is None:
        if importlib.util.find_spec("feast") is None:
            raise RequestError(
                "Feast is not installed here, and its objects are needed",
                hint=f"pass --python with a Python that has Feast; or {_DUMP}",
            )
        python = sys.executable
    with tempfile.TemporaryDirectory() as temporary:
        output = Path(temporary) / "registry.json"
        command = [python, str(dump_objects.__file__), str(folder.resolve()), str(output)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - the user names it
        except OSError as error:
            raise RequestError(
                f"cannot run {python}: {error.strerror}", where="--python"
            ) from error
        if done.returncode or not output.exists():
            reason = (done.stderr.strip().splitlines() or ["it ended without a message"])[-1]
            raise FeatureKitError(
                f"Feast cannot read the repository: {reason}",
                where=str(folder),
                hint="`feast plan` shows the whole error; the Python must have what the repository imports",
            )
        return _read_dump(output)


def file_columns(repository: FeastRepository, source: Mapping[str, Any]) -> dict[str, str]:
    """Return the columns of a source of local Parquet files, with their types here; nothing if unreadable."""
    uri = str(source.get("fileOptions", {}).get("uri", "")).removeprefix("file://")
    path = repository.folder / uri
    if not uri or not path.is_file() or importlib.util.find_spec("pyarrow") is None:
        return {}
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(path)
    except (OSError, pa.ArrowException):
        return {}
    types = {field.name: str(field.type).partition("[")[0] for field in schema}
    return {name: _COLUMN_TYPES.get(dtype, "json") for name, dtype in types.items()}


_COLUMN_TYPES = {
    **dict.fromkeys(("string", "large_string"), "string"),
    **dict.fromkeys(("int64", "uint32", "uint64"), "int64"),
    **dict.fromkeys(("int8", "int16", "int32", "uint8", "uint16"), "int32"),
    **dict.fromkeys(("date32", "date64"), "date"),
    **dict.fromkeys(("binary", "large_binary"), "bytes"),
    "double": "float64",
    "float": "float32",
    "bool": "bool",
    "timestamp": "timestamp",
}
"""The types of Arrow that have an equal here."""
