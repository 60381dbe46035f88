"""Convert the definitions of a Feast repository to YAML: `featurekit import-feast`.

The input is Feast's own document of a registry, as `feast registry-dump` prints it. Nothing here needs
Feast; only `repository`, which reads the objects of a repository, uses it if it is installed.
"""

from __future__ import annotations
