"""A small model of late arrivals: its columns, how it is fitted and how good it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

LABEL = "late"
TIME = "event_timestamp"
REQUEST = ["hour"]
"""What a request knows of a flight besides its keys."""

TEST_START = pd.Timestamp("2013-10-01", tz="UTC")
"""Models learn from the flights before, and are tested on those after."""

FILE = Path(__file__).parent / "data" / "model.joblib"


def is_test(table: pd.DataFrame) -> pd.Series:
    """Return which flights a model is tested on."""
    return table[TIME] >= TEST_START


def fit(table: pd.DataFrame, features: Sequence[str]) -> HistGradientBoostingClassifier:
    """Fit a model to the flights that it may learn from; it keeps the names of its columns."""
    known = table[~is_test(table)]
    model = HistGradientBoostingClassifier(max_iter=30, random_state=0)
    return model.fit(inputs(known, [*REQUEST, *features]), known[LABEL])


def inputs(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Return the columns of a model as floats; a missing value is NaN."""
    return table[list(names)].astype(float)


def late_probability(model: HistGradientBoostingClassifier, table: pd.DataFrame) -> pd.Series:
    """Return the probability that each flight is late."""
    found = model.predict_proba(inputs(table, model.feature_names_in_))
    return pd.Series(found[:, 1], index=table.index)


def auc(model: HistGradientBoostingClassifier, table: pd.DataFrame) -> float:
    """Return the area under the ROC curve on the flights to test on: 0.5 is chance, 1 is perfect."""
    tested = table[is_test(table)]
    return float(roc_auc_score(tested[LABEL], late_probability(model, tested)))
