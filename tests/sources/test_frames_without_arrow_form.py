"""Data frames that Arrow cannot hold are refused with row and column, and without a traceback of pyarrow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from featurekit import FeatureStore, SourceError
from featurekit.errors import RequestError, UnknownNameError

DEFINITIONS = """
entities: [{name: user, join_keys: {user_id: string}}]
feature_views:
  - {name: profile, entity: user, batch: {refresh: 1h}, fields: {count: int64, country: string}}
feature_services: [{name: all, features: [profile]}]
"""


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    (tmp_path / "featurerepo.yaml").write_text(
        f"project: p\ndefinitions: [d.yaml]\nonline_store: {{url: 'memory://{tmp_path.name}'}}\n"
    )
    (tmp_path / "d.yaml").write_text(DEFINITIONS)
    store = FeatureStore(tmp_path)
    store.apply()
    return store


def frame(count: object = 1, country: object = "NO") -> pd.DataFrame:
    columns = {"user_id": ["u0", "u1"], "count": [1, count], "country": ["NO", country]}
    return pd.DataFrame(columns, dtype=object)


@pytest.mark.parametrize(
    ("cells", "place"),
    [({"count": 10**30}, "row 1, count"), ({"country": "\ud800"}, "row 1, country")],
)
def test_a_cell_without_an_arrow_type_is_refused_by_row_and_column(
    store: FeatureStore, cells: dict[str, Any], place: str
) -> None:
    with pytest.raises(SourceError) as caught:
        store.write_batch("profile", frame(**cells))
    assert caught.value.where.endswith(place)
    assert "has no Arrow type" in caught.value.message


def test_columns_of_one_name_are_refused(store: FeatureStore) -> None:
    repeated = pd.DataFrame([["u0", 1, 2, "NO"]], columns=["user_id", "count", "count", "country"])
    with pytest.raises(SourceError, match="several columns named 'count'"):
        store.write_batch("profile", repeated)


@pytest.mark.parametrize("features", [None, 5])
def test_features_other_than_a_list_are_refused(store: FeatureStore, features: Any) -> None:
    with pytest.raises(RequestError, match="features must be the name of a feature service"):
        store.get_online_features(features, {"user_id": ["u0"]})


def test_a_view_that_is_not_text_is_unknown(store: FeatureStore) -> None:
    views: Any = [None]
    with pytest.raises(UnknownNameError, match="unknown feature view 'None'"):
        store.materialize(views)
