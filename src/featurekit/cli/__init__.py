"""The commands. Each parses, calls the library once, prints, and leaves.

Whatever a command does not need is not imported: `featurekit --help` knows click and a table.
"""

from __future__ import annotations

from featurekit.cli.program import main, program

__all__ = ["main", "program"]
