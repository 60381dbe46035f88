"""Train the model on the training set in `data/train`, and test it on the last three months."""

from __future__ import annotations

import json
from pathlib import Path

import joblib
import pandas as pd
from model import FILE, auc, fit, is_test

TRAIN = Path(__file__).parent / "data" / "train"


def main() -> None:
    """Write the model; print how well it ranks the flights it has not seen."""
    table = pd.read_parquet(TRAIN / "data.parquet")
    manifest = json.loads((TRAIN / "manifest.json").read_text())
    model = fit(table, [feature["name"] for feature in manifest["features"]])
    joblib.dump(model, FILE)
    tests = int(is_test(table).sum())
    print(f"{len(table) - tests:,} flights to learn from, {tests:,} to test on")
    print(f"AUC {auc(model, table):.3f}")


if __name__ == "__main__":
    main()
