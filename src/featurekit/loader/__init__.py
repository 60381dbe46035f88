"""Load and check the YAML files of a repository. Only this package reads YAML.

All problems in all files are reported together, each with its file, line and column.
"""

from __future__ import annotations

from featurekit.loader.document import read_document
from featurekit.loader.files import REPO_FILE, find_repo
from featurekit.loader.load import load_repo

__all__ = ["REPO_FILE", "find_repo", "load_repo", "read_document"]
