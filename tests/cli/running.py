"""Run commands as a user does, in this process."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from featurekit.cli import program


def run(*arguments: str, stdin: str | None = None) -> Result:
    """Run a command; exceptions that it does not handle are raised."""
    return CliRunner().invoke(program, arguments, input=stdin, catch_exceptions=False)


def run_json(*arguments: str, stdin: str | None = None) -> Any:
    """Return the JSON document that a command prints."""
    result = run(*arguments, "--json", stdin=stdin)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def table_cells(text: str) -> list[list[str]]:
    """Return the cells of each line of a printed table, independent of column widths."""
    return [re.split(r" {2,}", line.strip()) for line in text.splitlines()]


def replace(path: Path, old: str, new: str) -> None:
    """Replace a text in a file."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
