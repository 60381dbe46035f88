"""Import a Feast repository."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from featurekit.codegen.feast.convert import Conversion
from featurekit.codegen.feast.on_demand import MODULE, OnDemandViews
from featurekit.codegen.feast.report import Imported, Outcome
from featurekit.codegen.feast.repository import FeastRepository, file_columns, read_repository
from featurekit.codegen.feast.repository_file import repository_text
from featurekit.codegen.feast.yaml_text import comment, list_text
from featurekit.errors import FeatureKitError

_VIEWS_HEAD = """\
Imported from Feast by `featurekit import-feast`; docs/from-feast.md compares both.
refresh: Feast has no such interval. Set how often a view is written; `featurekit status` reports it as late by it.
ttl: in Feast it limits how far training sets look back. Here a value expires this long after its last load or event. \
Set it to the longest outage of the pipeline that the model should survive.
"""


def import_feast(path: Path, output: Path, python: str | None = None) -> Imported:
    """Return the files of a repository that declares what a Feast repository does.

    Args:
        path: The folder of the Feast repository, or a file with the output of `feast registry-dump`.
        output: The folder that the files are for; paths of sources are relative to it.
        python: A Python with Feast; by default this one.

    Raises:
        RequestError: There is no repository, or no Python with Feast to read it.
        FeatureKitError: The repository cannot be read.
    """
    repository = read_repository(path, python)
    folder = PurePosixPath(os.path.relpath(repository.folder.resolve(), output.resolve()))
    conversion = Conversion(
        repository.document, folder, lambda source: file_columns(repository, source)
    )
    try:
        return _convert(repository, conversion)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise FeatureKitError(
            f"the document of the registry has another form than Feast's: {error!r}",
            where=str(path),
        ) from error


def _convert(repository: FeastRepository, conversion: Conversion) -> Imported:
    config, notes = repository_text(repository.project, repository.config)
    project = Outcome("project", repository.project, "featurerepo.yaml", notes)
    items = conversion.view_items()
    entities = list_text("entities", conversion.entity_items())
    on_demand = OnDemandViews(conversion)
    requests = list_text("requests", on_demand.request_items)
    views = list_text("feature_views", [*items, *on_demand.view_items])
    services = list_text("feature_services", conversion.service_items(on_demand.views))
    left_out = "\n".join(map(comment, [*on_demand.comments, *conversion.left_out()]))
    texts = {
        "featurerepo.yaml": config,
        "features/entities.yaml": entities,
        "features/views.yaml": "\n".join(
            filter(None, [comment(_VIEWS_HEAD), requests, views, left_out])
        ),
        "features/services.yaml": services,
        f"{MODULE}.py": on_demand.module,
    }
    return Imported(
        {name: text for name, text in texts.items() if text}, (project, *conversion.outcomes)
    )
