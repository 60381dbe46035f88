"""`featurekit schema`."""

from __future__ import annotations

import click

from featurekit.cli.context import Session, session_command
from featurekit.cli.output import show_json
from featurekit.models import definitions_json_schema, repo_json_schema

SCHEMAS = {"repo": repo_json_schema, "definitions": definitions_json_schema}


@session_command("schema")
@click.argument("what", type=click.Choice(list(SCHEMAS)), default="definitions")
def command(_: Session, what: str) -> None:
    """Print the JSON Schema of the YAML files, for editors.

    `repo` is that of featurerepo.yaml, `definitions` (the default) that of the files it names.
    """
    show_json(SCHEMAS[what]())
