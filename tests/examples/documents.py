"""Run the fenced blocks of a document from top to bottom in one folder, and compare the output.

- `console`: lines after `$ ` are commands, the lines below them are the expected output.
- `sh`: a script, which must succeed.
- blocks of any other language whose first line is a comment with a path: a file to write.
- `python` without a path: a part of one session for the whole document, which may use `await`; a `text`
  block right below it is the expected output.
- `yaml` without a path: definitions or a `featurerepo.yaml`, which must be valid.

A comment `<!-- not run: REASON -->` above a block says why it is only checked for its syntax, and
`<!-- in: FOLDER -->` in which folder it and those after it run. In expected output, `...` matches any text. Times are not compared. Tables are compared by their cells,
not by the widths of their columns.
"""

from __future__ import annotations

import ast
import configparser
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import yaml

from featurekit.loader import load_repo
from tests.examples.places import environment, run

SKIPPED = ("pip ", "make ", "git ")
"""Commands that a test does not run."""

INSTRUCTIONS = {"ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "RUN"}
INSTRUCTIONS |= {"USER", "WORKDIR"}
"""Instructions of a Dockerfile."""

SESSION = """
import ast, asyncio, inspect, json, sys, types

names = sys.modules["__main__"].__dict__  # so that pickle and inspect find what a block defines
with asyncio.Runner() as runner:
    for line in sys.stdin:
        place, text = json.loads(line)
        coroutine = eval(compile(text, place, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
        if inspect.iscoroutine(coroutine):
            runner.run(coroutine)
        print("\\0", flush=True)
"""


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        language: The word after the opening fence.
        text: Its lines.
        place: The file and line of its opening fence.
        not_run: Why it is not run; None if it is.
        folder: The folder from here on, relative to the one of the document; None if it stays.
    """

    language: str
    text: str
    place: str
    not_run: str | None = None
    folder: str | None = None

    @property
    def path(self) -> str | None:
        """The path in the comment on its first line, if there is one."""
        found = re.match(r"# (\S+/\S+|featurerepo\.yaml)\n", self.text)
        return found and found[1]


def blocks(document: Path) -> list[Block]:
    """Return the fenced blocks of a document, in order."""
    text = document.read_text()
    fences = re.finditer(
        r"^(?:<!-- (not run|in): ([^\n]+) -->\n)?^```(\w*)\n(.*?)^```$",
        text,
        re.MULTILINE | re.DOTALL,
    )
    return [
        Block(
            f[3],
            f[4],
            f"{document.name}:{text[: f.start(3)].count(chr(10)) + 1}",
            f[2] if f[1] == "not run" else None,
            f[2] if f[1] == "in" else None,
        )
        for f in fences
    ]


class PythonSession:
    """A Python process that runs one block after the other."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def run(self, block: Block, folder: Path) -> str:
        """Run a block; return what it printed.

        Raises:
            AssertionError: The block raised an error.
        """
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-c", SESSION],
                cwd=folder,
                env=environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([block.place, block.text]) + "\n")
        self._process.stdin.flush()
        printed = ""
        for line in self._process.stdout:
            if line == "\0\n":
                return printed
            printed += line
        raise AssertionError(f"{block.place} fails:\n{printed}")

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.communicate()
            self._process = None


def follow(document: Path, folder: Path, address: str = "127.0.0.1:6566") -> None:
    """Run the blocks of a document.

    Args:
        document: The document.
        folder: Where to run it.
        address: The feature server that takes the place of the one at the default address.

    Raises:
        AssertionError: The output differs from the document, or a block fails.
    """
    found = [
        replace(block, text=block.text.replace("127.0.0.1:6566", address))
        for block in blocks(document)
    ]
    home = folder
    with closing(PythonSession()) as session:
        for block, after in pairwise([*found, Block("", "", "")]):
            if block.not_run or block.language not in ("console", "sh", "python"):
                check_syntax(block)
            if block.folder:
                session.close()  # the next block starts a session in the other folder
                folder = home / block.folder
            if not block.not_run:
                folder = _run_block(block, after, folder, session)


def _run_block(block: Block, after: Block, folder: Path, session: PythonSession) -> Path:
    """Run a block, or write its file; return the working folder after it."""
    if block.language == "console":
        return _console(block, folder)
    if block.language == "sh":
        lines = [line for line in block.text.splitlines() if not line.startswith(SKIPPED)]
        run(folder, ["bash", "-euo", "pipefail", "-c", "\n".join(lines)])
    elif block.path:
        path = folder / block.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text)
    elif block.language == "python":
        printed = session.run(block, folder)
        if after.language == "text":
            compare(printed, after.text, after.place)
    return folder


def _console(block: Block, folder: Path) -> Path:
    """Run the commands of a block; return the working folder after them."""
    for command, expected in shown_commands(block.text):
        if command.startswith("cd "):
            folder = folder / command.removeprefix("cd ")
        elif not command.startswith(SKIPPED):
            printed = run(folder, ["bash", "-c", command], merged=True, fails=None)
            compare(printed, expected, f"{block.place}: {command}")
    return folder


def check_syntax(block: Block) -> None:
    """Check a block without running it.

    Raises:
        AssertionError: It is not valid.
    """
    if block.language == "python":
        compile(block.text, block.place, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    elif block.language in ("sh", "console"):
        lines = [command for command, _ in shown_commands(block.text)]
        text = block.text if block.language == "sh" else "\n".join(lines)
        subprocess.run(["bash", "-n", "-c", text], check=True)
    elif block.language == "json":
        json.loads(block.text)
    elif block.language == "yaml":
        _check_yaml(block)
    elif block.language == "ini":
        parser = configparser.ConfigParser(strict=False, allow_no_value=True)
        parser.read_string(block.text)
        assert parser.sections(), block.place
    elif block.language == "dockerfile":
        lines = re.sub(r"\\\n", " ", block.text).splitlines()
        words = {line.split()[0] for line in lines if line and not line.startswith("#")}
        assert words - INSTRUCTIONS == set(), block.place


def _check_yaml(block: Block) -> None:
    """Check definitions and `featurerepo.yaml` as `validate` does, and other YAML for its form."""
    documents = [*yaml.safe_load_all(block.text)]
    first = documents[0]
    assert isinstance(first, dict), block.place
    if "apiVersion" in first:
        assert all({"apiVersion", "kind", "metadata"} <= {*each} for each in documents), (
            block.place
        )
    elif {"project", "feature_views", "feature_services", "entities"} & {*first}:
        with tempfile.TemporaryDirectory() as name:
            _write_repo(Path(name), block.text, first)
            if not block.path or block.path == "featurerepo.yaml":  # files are checked by commands
                load_repo(name, os.environ)


def _write_repo(folder: Path, text: str, document: dict[str, object]) -> None:
    """Write a repository with a block of YAML, and with the entities that it leaves out."""
    views = document.get("feature_views", [])
    names = {view["entity"] for view in views if "entity" in view}  # type: ignore[attr-defined]
    missing = [] if "entities" in document else sorted(names)
    entities = [{"name": each, "join_keys": {f"{each}_id": "string"}} for each in missing]
    if "project" in document:
        (folder / "featurerepo.yaml").write_text(text)
        pattern = str(document.get("definitions", ["none"])[0])  # type: ignore[index]
        path = folder / pattern.replace("*", "all")
        path.parent.mkdir(exist_ok=True)
        path.write_text("entities: [{name: user, join_keys: {user_id: string}}]\n")
        return
    (folder / "featurerepo.yaml").write_text(
        "project: documents\ndefinitions: [block.yaml, more.yaml]\n"
        "online_store: {url: 'memory://', key_prefix: fs}\n"
    )
    (folder / "block.yaml").write_text(text)
    (folder / "more.yaml").write_text(yaml.safe_dump({"entities": entities}))


def shown_commands(text: str) -> Iterator[tuple[str, str]]:
    """Yield the commands of a console block with their expected output."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, printed = part.partition("\n")
        while command.endswith("\\"):
            more, _, printed = printed.partition("\n")
            command = f"{command}\n{more}"
        yield command, printed


def compare(printed: str, expected: str, place: str) -> None:
    """Compare output with the document, which is at `place`."""
    pattern = ".*".join(re.escape(_normalize(part)) for part in expected.split("..."))
    assert re.fullmatch(pattern, _normalize(printed), re.DOTALL), f"{place} prints:\n{printed}"


def markdown_rows(text: str) -> list[list[str]]:
    """Return the cells of all rows of all Markdown tables in a text, without headings."""
    tables = re.findall(r"(?:^\|.*\|[ ]*\n)+", text, re.MULTILINE)
    return [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]
        for table in tables
        for line in table.splitlines()[2:]
    ]


def terminal_cells(line: str) -> list[str]:
    """Return the cells of a line of a table in a terminal, which two spaces or more separate."""
    return re.split(r" {2,}", line.strip())


def _normalize(text: str) -> str:
    """Return a text without column widths, and without times and rates, which vary."""
    ago = re.compile(r"\b(\d+[dhm] )?\d+\w+ ago\b|\bjust now\b")
    lines = [
        " ".join(ago.sub("AGO", cell) for cell in terminal_cells(line))
        for line in text.strip("\n").split("\n")
    ]
    text = re.sub(r"\b[\d.,]+ (us|ms|s)\b", "TIME", "\n".join(lines))
    text = re.sub(r"\b\d+m \d+s\b", "LEFT", text)
    return re.sub(r"TIME [\d,]+( TIME)?$", "TIME", text, flags=re.MULTILINE)
