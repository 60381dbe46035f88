"""Write the objects of a Feast repository as JSON: `python dump_objects.py REPOSITORY OUTPUT`.

Runs in a Python that has Feast, which may be another one than featurekit's, and imports the modules of
the repository as `feast apply` does.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path

LISTS = {
    "entities": "entities",
    "dataSources": "data_sources",
    "featureViews": "feature_views",
    "streamFeatureViews": "stream_feature_views",
    "onDemandFeatureViews": "on_demand_feature_views",
    "labelViews": "label_views",
    "featureServices": "feature_services",
    "permissions": "permissions",
}
"""The lists of `feast registry-dump`, and what Feast calls them in Python; older versions lack some."""


def main(repository: str, output: str) -> None:
    """Write the document."""
    warnings.simplefilter("ignore")
    os.chdir(repository)
    sys.path.insert(0, repository)
    from feast.repo_operations import parse_repo
    from google.protobuf.json_format import MessageToDict

    contents = parse_repo(Path(repository))
    document = {
        name: [MessageToDict(each.to_proto()) for each in getattr(contents, attribute, ())]
        for name, attribute in LISTS.items()
    }
    Path(output).write_text(json.dumps(document, default=str), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:3])
