"""Measure what a leak costs: train on features of different times, and test on served ones.

`now` joins today's features to labels of the past, `event_time` takes a row from its own time on, and
`schedule` from the load that served it.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from model import TIME, auc, fit

from featurekit import FeatureStore

LABELS = Path(__file__).parent / "data" / "labels.parquet"
NOW = pd.Timestamp("2014-01-03", tz="UTC")


def main() -> None:
    """Print for each meaning how good its model looks, and how good it is when served."""
    labels = pd.read_parquet(LABELS)
    with FeatureStore() as store:
        today = store.get_historical_features(labels.assign(**{TIME: NOW}), "delay_v1")
        own_time = store.get_historical_features(labels, "delay_v1", as_of="event_time")
        served = store.get_historical_features(labels, "delay_v1")
        tables = {
            "now": today.to_df().assign(**{TIME: labels[TIME]}),
            "event_time": own_time.to_df(),
            "schedule": served.to_df(),
        }
    features = [feature["name"] for feature in served.metadata["features"]]
    print(f"{'trained on':12}{'AUC on its own kind':>20}{'AUC as served':>16}")
    for name, table in tables.items():
        model = fit(table, features)
        print(f"{name:12}{auc(model, table):20.3f}{auc(model, tables['schedule']):16.3f}")
    print("\nfeature                      values that differ between event_time and schedule")
    for name in features:
        early, right = tables["event_time"][name], tables["schedule"][name]
        same = (early == right).fillna(value=False) | (early.isna() & right.isna())
        print(f"{name:28}{1 - same.mean():>7.1%}")


if __name__ == "__main__":
    main()
