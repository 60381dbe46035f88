"""The TypeScript compiler and node, if this machine has them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

COMPILER = Path(__file__).parent.parent.parent / ".typescript/package/lib/tsc.js"
OPTIONS = (
    *("--strict", "--noUncheckedIndexedAccess", "--exactOptionalPropertyTypes"),
    *("--noImplicitOverride", "--noPropertyAccessFromIndexSignature", "--noUnusedLocals"),
    *("--noUnusedParameters", "--verbatimModuleSyntax", "--erasableSyntaxOnly"),
    *("--target", "es2022", "--lib", "es2022,dom", "--module", "nodenext"),
)


def require_typescript() -> None:
    """Skip the test, or fail where the compiler is required, if there is none."""
    lacks = [
        name
        for name, found in (("node", shutil.which("node")), (str(COMPILER), COMPILER.exists()))
        if not found
    ]
    if lacks:
        message = f"no {' and no '.join(lacks)}; run .ci/install-typescript.sh .typescript"
        if os.environ.get("FEATUREKIT_REQUIRE_TYPESCRIPT"):
            pytest.fail(message)
        pytest.skip(message)


def compile_typescript(folder: Path) -> str:
    """Compile the modules of a folder to JavaScript beside them, and return the messages."""
    names = sorted(path.name for path in folder.glob("*.ts"))
    (folder / "package.json").write_text('{"type": "module"}')
    command = ["node", str(COMPILER), *OPTIONS, *names]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False).stdout


def run_node(folder: Path, name: str, *arguments: str) -> str:
    """Run a JavaScript module and return what it prints."""
    done = subprocess.run(
        ["node", name, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
