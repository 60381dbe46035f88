"""Generate the synchronous form of asyncio modules, as httpcore does with `unasync`.

`python -m featurekit.codegen.unasync` writes the modules listed in `MODULES`; with `--check` it
exits with 1 if one of them is out of date. Edit the asyncio form only.

The generator drops `async` and `await`, and renames `AsyncPool` to `Pool` and `pool_async` to
`pool`. What differs by more than that belongs in a base class that each form has of its own (see
`stores/pool_state.py`); the table then names the base class of the synchronous form.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
RUFF = (sys.executable, "-m", "ruff")


@dataclass(frozen=True)
class SyncForm:
    """How one generated module differs from its asyncio form, beyond the general rules.

    Attributes:
        names: Maps a name used in the code to its synchronous equivalent.
        imports: Import statements for these equivalents.
        texts: Maps parts of the asyncio module to their replacements.
    """

    names: Mapping[str, str] = field(default_factory=dict)
    imports: str = ""
    texts: Mapping[str, str] = field(default_factory=dict)


THREADS = {"from one asyncio event loop at a time": "from threads"}
MODULES = {
    "stores/pool_async.py": SyncForm(
        names={"LoopPoolState": "ThreadPoolState"},
        imports="from featurekit.stores.pool_state import ThreadPoolState",
        texts={", bound to one asyncio event loop at a time.": ", shared by threads."},
    ),
    "stores/redis_async.py": SyncForm(
        names={"AsyncOnlineStore": "ServerCommands"},
        imports="from featurekit.stores.server_commands import ServerCommands",
        texts=THREADS
        | {
            "    async def _exchange": "    @override\n    async def _exchange",
            "on one server. Used from another event loop, it opens connections there.": (
                "on one server; thread-safe, survives `fork`, pickles as its URL."
            ),
        },
    ),
    "stores/embedded_async.py": SyncForm(),
    "stores/sentinel_async.py": SyncForm(texts=THREADS),
    "stores/cluster/node_pool_async.py": SyncForm(texts=THREADS),
    "stores/cluster/fan_out_async.py": SyncForm(
        names={"LoopExchanges": "ThreadExchanges", "task": "thread", "tasks": "threads"},
        imports="from featurekit.stores.cluster.exchanges import ThreadExchanges",
        texts={
            "from one asyncio event loop at a time": "from one thread",
            "a task of its own": "a thread of its own",
        },
    ),
    "stores/cluster/store_async.py": SyncForm(
        names={"LoopPermits": "ProcessPermits"},
        imports="from featurekit.stores.cluster.server_commands import ClusterCommands\n"
        "from featurekit.stores.permits import ProcessPermits",
        texts=THREADS
        | {
            "from asyncio import sleep": "from time import sleep",
            "(ClusterClient[AsyncNodePool], AsyncOnlineStore)": "(ClusterCommands)",
            "    async def execute": "    @override\n    async def execute",
            "    async def refresh": "    @override\n    async def refresh",
            "on a cluster. Used from another event loop, it opens connections there.": (
                "on a cluster; thread-safe, survives `fork`, pickles as its URL."
            ),
        },
    ),
}


def sync_path(path: str) -> str:
    """Return the path of the synchronous form: `stores/pool.py` for `stores/pool_async.py`."""
    return path.replace("_async.py", ".py")


def sync_source(path: str, form: SyncForm) -> str:
    """Return the synchronous form of an asyncio module.

    Args:
        path: The asyncio module, relative to the package.
        form: How its synchronous form differs.

    Raises:
        ValueError: The module does not contain a text that should be replaced.
    """
    text = (PACKAGE / path).read_text(encoding="utf-8")
    for old, new in form.texts.items():
        if old not in text:
            raise ValueError(f"{path} does not contain {old!r}")
        text = text.replace(old, new)
    text = "".join(_renamed(text, form.names))
    future = "from __future__ import annotations\n"
    text = text.replace(future, f"{future}{form.imports}\n", 1)
    mark = f"# Generated from {Path(path).name} by featurekit.codegen.unasync: edit that file.\n"
    return _tidied(mark + text)


def _renamed(text: str, names: Mapping[str, str]) -> Iterator[str]:
    """Yield the source with names replaced, and `async` and `await` dropped."""
    lines = text.splitlines(keepends=True)
    row, column = 1, 0
    in_import = False
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.NEWLINE:
            in_import = False
        if token.type != tokenize.NAME:
            continue
        in_import = in_import or token.string in {"import", "from"}
        (start_row, start), (_, end) = token.start, token.end
        new = _sync_name(token.string) if in_import else names.get(token.string)
        new = _sync_name(token.string) if new is None else new
        if new == token.string:
            continue
        yield from _between(lines, (row, column), (start_row, start))
        yield new
        dropped_space = not new and lines[start_row - 1][end : end + 1] == " "
        row, column = start_row, end + dropped_space
    yield from _between(lines, (row, column), (len(lines), len(lines[-1])))


def _between(lines: Sequence[str], start: tuple[int, int], end: tuple[int, int]) -> Iterator[str]:
    (row, column), (end_row, end_column) = start, end
    for number in range(row, end_row + 1):
        line = lines[number - 1]
        yield line[column if number == row else 0 : end_column if number == end_row else None]


def _sync_name(name: str) -> str:
    if name in {"async", "await"}:
        return ""
    return re.sub(r"^(_?)Async(?=[A-Z])", r"\1", name).removesuffix("_async")


def _tidied(text: str) -> str:
    """Return the source with sorted imports, without unused ones, and formatted."""
    for command in (
        ("check", "--quiet", "--select", "I,F401", "--fix", "--exit-zero"),
        ("format", "--quiet"),
    ):
        text = subprocess.run(  # noqa: S603  (our own interpreter)
            [*RUFF, *command, "--stdin-filename", str(PACKAGE / "stores" / "generated.py"), "-"],
            input=text,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    return text


def main(arguments: Sequence[str]) -> int:
    """Write the synchronous modules, or with `--check` compare them."""
    is_fresh = True
    for path, form in MODULES.items():
        target, text = PACKAGE / sync_path(path), sync_source(path, form)
        if "--check" not in arguments:
            target.write_text(text, encoding="utf-8")
        elif not target.exists() or target.read_text(encoding="utf-8") != text:
            sys.stderr.write(f"{target} is out of date: run featurekit.codegen.unasync\n")
            is_fresh = False
    return 0 if is_fresh else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
