"""What the documents show is what happens."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from featurekit import errors
from featurekit.cli.program import COMMANDS
from tests.examples.documents import blocks, follow
from tests.examples.places import ROOT, folder

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("name", ["README.md", "docs/tutorial.md"])
def test_a_document_shows_what_happens(name: str) -> None:
    with folder() as place:
        follow(ROOT / name, place)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.name))
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text())
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_every_fence_is_closed() -> None:
    for path in DOCUMENTS:
        assert path.read_text().count("```") == 2 * len(blocks(path))


def test_every_error_is_in_the_documents_with_its_bases() -> None:
    page = (ROOT / "docs" / "errors.md").read_text()
    told = re.findall(r"^\| `(\w+)` \| (?:`(\w+)`)? ?\|", page, re.MULTILINE)
    classes = [
        each
        for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, errors.FeatureKitError)
    ]
    bases = {each.__name__: each.__bases__[-1].__name__ for each in classes}
    assert {name: base or "FeatureKitError" for name, base in told} == bases


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.name))
def test_every_command_that_a_document_names_is_one(path: Path) -> None:
    shown = re.findall(r"(?:^\$ |`)featurekit ([a-z]\w*)", path.read_text(), re.MULTILINE)
    assert [name for name in shown if name not in COMMANDS] == []
