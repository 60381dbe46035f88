"""The generated pages are fresh and complete."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import click
import pytest

from featurekit.cli import pages, python_page
from featurekit.cli.program import COMMANDS, load_command
from featurekit.codegen import reference

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("page", [pages, python_page, reference])
def test_the_page_in_docs_is_fresh(page: object) -> None:
    assert page.main([str(DOCS), "--check"]) == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize("page", [pages, python_page, reference])
def test_a_stale_page_is_found_and_written_again(page: object, tmp_path: Path) -> None:
    assert page.main([str(tmp_path), "--check"]) == 1  # type: ignore[attr-defined]
    assert page.main([str(tmp_path)]) == 0  # type: ignore[attr-defined]
    assert page.main([str(tmp_path), "--check"]) == 0  # type: ignore[attr-defined]


def test_the_page_of_the_python_api_has_loads_with_their_twins() -> None:
    page = python_page.python_page()
    assert "### `materialize`, `materialize_async`" in page
    assert "- `on_bad_row`:" in page
    assert "FeatureStore" in page


@pytest.mark.parametrize("name", COMMANDS)
def test_the_program_shows_the_first_line_of_a_commands_help(name: str) -> None:
    assert (load_command(name).help or "").splitlines()[0] == COMMANDS[name]


def test_every_command_of_a_module_is_in_the_program() -> None:
    folder = Path(pages.__file__).parent / "commands"
    modules = [
        import_module(f"featurekit.cli.commands.{path.stem}") for path in folder.glob("[a-z]*.py")
    ]
    commands = [
        each
        for module in modules
        for each in vars(module).values()
        if isinstance(each, click.Command)
    ]
    groups = [each for each in commands if isinstance(each, click.Group)]
    nested = {each for group in groups for each in group.commands.values()}
    assert set(commands) - nested == {load_command(name) for name in COMMANDS}
