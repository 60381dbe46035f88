"""The commands and scripts in the documents print what the documents show."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from featurekit import FeatureStore, errors
from featurekit.cli.program import COMMANDS
from tests.examples.documents import blocks, follow, markdown_rows, terminal_cells
from tests.examples.places import ENVIRONMENT, ROOT, copy_folder, folder, run
from tests.server.server_process import served

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FROM_SCRATCH = [ROOT / "README.md", ROOT / "docs" / "tutorial.md"]
IN_THE_SHOP = [
    path
    for path in DOCUMENTS
    if path not in FROM_SCRATCH and any(block.language for block in blocks(path))
]
SERVER = "127.0.0.1:6566"


@pytest.mark.parametrize(
    "name", ["README.md", pytest.param("docs/tutorial.md", marks=pytest.mark.slow)]
)
def test_a_document_shows_the_actual_output(name: str) -> None:
    with folder() as place:
        follow(ROOT / name, place)


@pytest.fixture(scope="module")
def shop() -> Iterator[Path]:
    """The repository that `featurekit init shop` writes."""
    with folder() as place:
        run(place, ["featurekit", "init", "shop"])
        yield place / "shop"


@pytest.fixture
def loaded_shop(shop: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The repository, applied and loaded; changes of its files are undone afterwards."""
    monkeypatch.setenv("FEATUREKIT_ONLINE_URL", ENVIRONMENT["FEATUREKIT_ONLINE_URL"])
    files = {path: path.read_bytes() for path in shop.rglob("*") if _is_declared(path)}
    with FeatureStore(repo_path=shop) as store:
        store.apply(allow_breaking=True)
        store.reset()
        store.materialize()
    yield shop
    for path in [*shop.rglob("*")]:
        if _is_declared(path) and path not in files:
            path.unlink()
    for path, data in files.items():
        path.write_bytes(data)


def _is_declared(path: Path) -> bool:
    return path.is_file() and ".featurekit" not in path.parts


@pytest.mark.slow
@pytest.mark.parametrize("path", IN_THE_SHOP, ids=lambda path: str(path.name))
def test_the_blocks_of_a_document_run(path: Path, loaded_shop: Path) -> None:
    for name in {block.folder for block in blocks(path)} - {None, "."}:
        copy_folder(str(name), loaded_shop)
    if SERVER not in path.read_text():
        follow(path, loaded_shop)
        return
    with served(loaded_shop, "--console") as server:
        follow(path, loaded_shop, urlsplit(server.url).netloc)


def test_tables_are_compared_by_cells() -> None:
    narrow, wide = "a  b\n1  x y\n", "a       b\n1       x y\n"
    assert [*map(terminal_cells, narrow.split("\n"))] == [*map(terminal_cells, wide.split("\n"))]
    rows = [["1", "x \\| y"]]
    assert markdown_rows("|a|b|\n|-|-|\n|1|x \\| y|\n") == rows
    assert markdown_rows("| a  | b      |\n|----|--------|\n| 1  | x \\| y |\n") == rows


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.name))
def test_links_between_documents_have_a_target(path: Path) -> None:
    links = re.findall(r"\]\(([^):#]*)(?:#([^)]*))?\)", path.read_text())
    targets = [((path.parent / name if name else path), heading) for name, heading in links]
    assert [target for target, _ in targets if not target.exists()] == []
    assert [(t, h) for t, h in targets if h and h not in _headings(t.read_text())] == []


def _headings(page: str) -> set[str]:
    """Return the headings of a page as links name them."""
    headings = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


def test_the_pages_for_developers_name_modules_that_exist() -> None:
    files = [f"/{path.relative_to(ROOT)}" for path in ROOT.glob("[!.]*/**/*.*")]
    for name in ("architecture.md", "CONTRIBUTING.md"):
        named = re.findall(r"`([\w./]+\.(?:py|js))`", (ROOT / "docs" / name).read_text())
        assert [each for each in named if not any(f.endswith(f"/{each}") for f in files)] == []


def test_the_architecture_shows_the_layers_that_are_checked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    [layers] = [c["layers"] for c in project["tool"]["importlinter"]["contracts"] if "layers" in c]
    [picture] = [
        block.text
        for block in blocks(ROOT / "docs" / "architecture.md")
        if block.text.startswith(layers[0])
    ]
    lines = picture.replace("|\n", "| ").splitlines()
    assert [re.split("  +", line)[0] for line in lines] == layers


def test_every_fence_is_closed() -> None:
    for path in DOCUMENTS:
        assert path.read_text().count("```") == 2 * len(blocks(path))


def test_every_error_is_in_the_documents_with_its_bases() -> None:
    page = (ROOT / "docs" / "errors.md").read_text()
    documented = {row[0].strip("`"): row[1].strip("`") for row in markdown_rows(page)}
    classes = [
        each
        for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, errors.FeatureKitError)
    ]
    bases = {each.__name__: each.__bases__[-1].__name__ for each in classes}
    assert {name: base or "FeatureKitError" for name, base in documented.items()} == bases


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.name))
def test_every_command_in_a_document_exists(path: Path) -> None:
    shown = re.findall(r"(?:^\$ |`)featurekit ([a-z][\w-]*)", path.read_text(), re.MULTILINE)
    assert [name for name in shown if name not in COMMANDS] == []


def test_decisions_are_numbered_consecutively_and_say_different_things() -> None:
    page = (ROOT / "docs" / "decisions.md").read_text()
    decisions = re.findall(r"^(\d+)\. \*\*(.+?)\*\*", page, re.MULTILINE | re.DOTALL)
    assert sorted(int(number) for number, _ in decisions) == [*range(1, len(decisions) + 1)]
    assert len({title for _, title in decisions}) == len(decisions)


def test_documents_and_examples_import_public_modules_only() -> None:
    names = ("demo", "errors", "server", "partitions", "spark", "testing")
    public = {"featurekit", *(f"featurekit.{name}" for name in names)}
    code = [block.text for path in DOCUMENTS for block in blocks(path)]
    code += [path.read_text() for path in sorted((ROOT / "examples").rglob("*.py"))]
    pattern = r"(?:from|import) (featurekit[\w.]*)"
    imported = {name for text in code for name in re.findall(pattern, text)}
    assert imported - public == set()
