"""The generated pages are fresh, and tell of everything."""

from __future__ import annotations

from pathlib import Path

import pytest

from featurekit.cli import pages
from featurekit.cli.catalog import COMMANDS
from featurekit.cli.program import program
from featurekit.codegen import reference

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("page", [pages, reference])
def test_the_page_in_docs_is_fresh(page: object) -> None:
    assert page.main([str(DOCS), "--check"]) == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize("page", [pages, reference])
def test_a_stale_page_is_found_and_made_again(page: object, tmp_path: Path) -> None:
    assert page.main([str(tmp_path), "--check"]) == 1  # type: ignore[attr-defined]
    assert page.main([str(tmp_path)]) == 0  # type: ignore[attr-defined]
    assert page.main([str(tmp_path), "--check"]) == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_in_the_catalog_is_the_commands_own(name: str) -> None:
    command = program.get_command(program.make_context("featurekit", ["list"]), name)
    assert command is not None
    assert (command.help or "").splitlines()[0] == COMMANDS[name]


def test_every_module_of_a_command_is_in_the_catalog() -> None:
    folder = Path(pages.__file__).parent / "commands"
    assert {path.stem for path in folder.glob("[a-z]*.py")} == set(COMMANDS)
