"""SQL in files of its own: a `query_file` becomes the query that it holds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from featurekit.loader.declared import Declared, Item
from featurekit.loader.files import UnreadableError, content
from featurekit.loader.places import Finding
from featurekit.models.definitions import FeatureView
from featurekit.models.plain import found
from featurekit.models.sources import SqlSource


def with_queries(root: Path, declared: Declared) -> None:
    """Read the query files of all views; what cannot be read is among the findings."""
    for index, item in enumerate(declared.feature_views):
        source = item.model.batch.source if item.model.batch else None
        if isinstance(source, SqlSource) and source.query_file is not None:
            declared.feature_views[index] = _read(root, declared, item, source)


def _read(
    root: Path, declared: Declared, item: Item[FeatureView], source: SqlSource
) -> Item[FeatureView]:
    try:
        query = content(root / str(source.query_file)).decode("utf-8-sig")
    except (UnreadableError, UnicodeDecodeError) as error:
        reason = str(error) if isinstance(error, UnreadableError) else "not UTF-8"
        place = item.at("batch", "source", "query_file")
        message = f"{item.shown}: {found(source.query_file)} cannot be read: {reason}"
        declared.findings.append(Finding(place, message))
        return item
    filled = source.model_copy(update={"query": query, "query_file": None})
    batch = item.model.batch.model_copy(update={"source": filled}) if item.model.batch else None
    return replace(item, model=item.model.model_copy(update={"batch": batch}))
