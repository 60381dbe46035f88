"""What the documents show is what happens."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

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
