"""The `init` command."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import click

from featurekit.cli.context import CliContext, cli_command
from featurekit.cli.output import GREEN, Styled, print_line
from featurekit.errors import FeatureKitError, RequestError
from featurekit.models import definitions_json_schema, repo_json_schema

PROJECT = "my_project"
SCHEMA_FOLDER = Path(".featurekit/schemas")
NEXT_STEPS = (
    "featurekit apply",
    "featurekit materialize",
    "featurekit get fraud_v1 --entity user_id=u0001",
)


@cli_command("init", has_url=False)
@click.argument("folder", default=".", type=click.Path(path_type=Path))
def init_command(context: CliContext, folder: Path) -> None:
    """Create a repository with working examples.

    Writes featurerepo.yaml, definitions, sample data and JSON Schemas for your editor into FOLDER,
    by default the current folder. Existing files are never overwritten.
    """
    texts = dict(_repository_files(_project_name(folder)))
    if existing := [path for path in texts if (folder / path).exists()]:
        raise RequestError(
            f"{folder / existing[0]} already exists",
            hint="pass an empty folder: `featurekit init my_features`",
        )
    for path, text in texts.items():
        _write_text(folder / path, text)
    steps = ([] if folder == Path() else [f"cd {folder}"]) + [*NEXT_STEPS]
    if context.json:
        context.print_json({"folder": folder, "files": list(texts), "next": steps})
        return
    for path in texts:
        print_line(Styled("+ ", GREEN), (folder / path).as_posix())
    print_line("\nnext:")
    for step in steps:
        print_line("  ", Styled(step, "bold"))


def _repository_files(project: str) -> Iterator[tuple[Path, str]]:
    """Yield the relative path and the contents of each file."""
    yield from _template_files(files("featurekit.cli") / "template", Path(), project)
    schemas = {"featurerepo": repo_json_schema(), "definitions": definitions_json_schema()}
    for name, schema in schemas.items():
        yield SCHEMA_FOLDER / f"{name}.json", json.dumps(schema, indent=2) + "\n"


def _template_files(folder: Traversable, path: Path, project: str) -> Iterator[tuple[Path, str]]:
    for item in sorted(folder.iterdir(), key=lambda item: item.name):
        if item.is_dir():
            yield from _template_files(item, path / item.name, project)
        else:
            name = ".gitignore" if item.name == "gitignore" else item.name
            yield path / name, item.read_text(encoding="utf-8").replace(PROJECT, project)


def _project_name(folder: Path) -> str:
    """Return the folder's name as a valid project name."""
    name = re.sub(r"[^a-z0-9]+", "_", folder.absolute().name.lower()).strip("_")
    return name if re.match("[a-z]", name) else PROJECT


def _write_text(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise FeatureKitError(
            f"cannot write the file: {error.strerror}", where=str(path)
        ) from error
