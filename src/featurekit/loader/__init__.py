"""The loader: YAML files in, a checked repository out. The only reader of YAML.

Everything wrong in all files is found in one go, each problem with its file, line and column.
"""

from __future__ import annotations

from featurekit.loader.files import REPO_FILE, find_repo
from featurekit.loader.load import load_repo

__all__ = ["REPO_FILE", "find_repo", "load_repo"]
