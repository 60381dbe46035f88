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
    labels = pd.read_parquet(LABELS)[::4].reset_index(drop=True)  # enough to see the difference
    with FeatureStore() as store:
        jobs = {
            "now": store.get_historical_features(labels.assign(**{TIME: NOW}), "delay_v1"),
            "event_time": store.get_historical_features(labels, "delay_v1", as_of="event_time"),
            "schedule": store.get_historical_features(labels, "delay_v1"),
        }
        tables = {}
        for name, job in jobs.items():
            print(f"features as of {name} ...", flush=True)
            tables[name] = job.to_df().assign(**{TIME: labels[TIME]})
        features = [feature["name"] for feature in jobs["now"].metadata["features"]]
    print(f"{'trained on':12}{'AUC on its own kind':>20}{'AUC as served':>16}")
    for name, table in tables.items():
        model = fit(table, features)
        own, served = auc(model, table), auc(model, tables["schedule"])
        print(f"{name:12}{own:20.3f}{served:16.3f}", flush=True)
    print("\nfeature                      values that differ between event_time and schedule")
    for name in features:
        early, right = tables["event_time"][name], tables["schedule"][name]
        same = (early == right).fillna(value=False) | (early.isna() & right.isna())
        print(f"{name:28}{1 - same.mean():>7.1%}")


if __name__ == "__main__":
    main()
