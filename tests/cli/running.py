"""Commands run as a user would run them, in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from featurekit.cli import program


def run(*arguments: str, stdin: str | None = None) -> Result:
    """Run a command; what it does not catch is raised here."""
    return CliRunner().invoke(program, arguments, input=stdin, catch_exceptions=False)


def run_json(*arguments: str, stdin: str | None = None) -> Any:
    """What a command prints with `--json`."""
    result = run(*arguments, "--json", stdin=stdin)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def replace(path: Path, old: str, new: str) -> None:
    """Change a file's text."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
