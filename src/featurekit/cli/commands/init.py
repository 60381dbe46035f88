"""`featurekit init`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import click

from featurekit.cli.context import Session, session_command
from featurekit.cli.output import GOOD, Styled, show_json, show_line
from featurekit.errors import FeatureKitError, RequestError
from featurekit.models import definitions_json_schema, repo_json_schema

PROJECT = "my_project"
SCHEMAS = Path(".featurekit/schemas")
NEXT = (
    "featurekit apply",
    "featurekit materialize",
    "featurekit get fraud_v1 --entity user_id=u0001",
)


@session_command("init")
@click.argument("folder", default=".", type=click.Path(path_type=Path))
def command(session: Session, folder: Path) -> None:
    """Begin a repository that works at once.

    Writes featurerepo.yaml, definitions, some rows of data and JSON Schemas for your editor into
    FOLDER (here by default). Nothing is overwritten.
    """
    texts = dict(_files(_project_name(folder)))
    if taken := [path for path in texts if (folder / path).exists()]:
        raise RequestError(
            f"{folder / taken[0]} is there already",
            hint="name an empty folder: `featurekit init my_features`",
        )
    for path, text in texts.items():
        _write(folder / path, text)
    steps = ([] if folder == Path() else [f"cd {folder}"]) + [*NEXT]
    if session.json:
        show_json({"folder": folder, "files": list(texts), "next": steps})
        return
    for path in texts:
        show_line(Styled("+ ", GOOD), (folder / path).as_posix())
    show_line("\nnext:")
    for step in steps:
        show_line("  ", Styled(step, "bold"))


def _files(project: str) -> Iterator[tuple[Path, str]]:
    """The files of a new repository: their paths within it, and what they say."""
    yield from _templates(files("featurekit.cli") / "template", Path(), project)
    schemas = {"featurerepo": repo_json_schema(), "definitions": definitions_json_schema()}
    for name, schema in schemas.items():
        yield SCHEMAS / f"{name}.json", json.dumps(schema, indent=2) + "\n"


def _templates(folder: Traversable, path: Path, project: str) -> Iterator[tuple[Path, str]]:
    for item in sorted(folder.iterdir(), key=lambda item: item.name):
        if item.is_dir():
            yield from _templates(item, path / item.name, project)
        else:
            name = ".gitignore" if item.name == "gitignore" else item.name
            yield path / name, item.read_text(encoding="utf-8").replace(PROJECT, project)


def _project_name(folder: Path) -> str:
    """The folder's name as a project may be named."""
    name = re.sub(r"[^a-z0-9]+", "_", folder.absolute().name.lower()).strip("_")
    return name if re.match("[a-z]", name) else PROJECT


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise FeatureKitError(
            f"it cannot be written: {error.strerror}", where=str(path)
        ) from error
