"""Predict whether flights will be late, from the features that the store serves now."""

from __future__ import annotations

import joblib
import pandas as pd
from model import FILE, late_probability

from featurekit import FeatureStore

KEYS = [
    {"tailnum": "N516JB", "origin": "JFK", "dest": "LAX"},
    {"tailnum": "N516JB", "origin": "JFK", "dest": "LAX"},
    {"tailnum": "unknown", "origin": "EWR", "dest": "ORD"},
]
HOURS = [7, 19, 19]


def main() -> None:
    """Print the probability for each flight."""
    model = joblib.load(FILE)
    with FeatureStore() as store:
        rows = store.online_reader("delay_v1").read_many(KEYS)
    table = pd.DataFrame([row.to_dict() for row in rows]).assign(hour=HOURS)
    for keys, hour, late in zip(KEYS, HOURS, late_probability(model, table), strict=True):
        print(f"{keys['origin']}-{keys['dest']} at {hour:2}:00  {late:.0%} late")


if __name__ == "__main__":
    main()
