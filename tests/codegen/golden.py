"""Write the golden files again: `python -m tests.codegen.golden`."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from tests.codegen.repositories import DEFINITIONS, source, write_repo

if __name__ == "__main__":
    for name, definitions in DEFINITIONS.items():
        with TemporaryDirectory() as folder:
            text = source(write_repo(Path(folder), definitions))
        (Path(__file__).parents[1] / "golden" / "python" / f"{name}.py").write_text(text)
