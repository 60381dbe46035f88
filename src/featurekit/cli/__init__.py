"""The `featurekit` command line.

A command imports its library code when it runs, so `featurekit --help` loads little but click.
"""

from __future__ import annotations

from featurekit.cli.program import main, program

__all__ = ["main", "program"]
