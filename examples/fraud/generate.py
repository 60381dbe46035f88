"""Write N synthetic users as Parquet: the same rows for the same seed, on any machine.

`featurekit demo` uses the same users. The first 5 users do not depend on N.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from featurekit.demo import SEED, profile, user_id

CHUNK = 100_000

SCHEMA = pa.schema(
    [
        ("user_id", pa.string()),
        ("country_iso", pa.string()),
        ("risk_segment", pa.string()),
        ("account_age_days", pa.int64()),
        ("tx_count_7d", pa.int64()),
        ("avg_amount_30d", pa.float64()),
        ("chargeback_count_180d", pa.int64()),
        ("event_timestamp", pa.timestamp("us", tz="UTC")),
    ]
)


def user(number: int, seed: int, at: datetime) -> dict[str, object]:
    """Return the row of one user; numbers start at 1."""
    return {"user_id": user_id(number), **profile(number, seed), "event_timestamp": at}


def chunks(count: int, seed: int, at: datetime) -> Iterator[list[dict[str, object]]]:
    """Yield the rows of all users in chunks, so that millions fit in memory."""
    for first in range(1, count + 1, CHUNK):
        last = min(count, first + CHUNK - 1)
        yield [user(number, seed, at) for number in range(first, last + 1)]


def main() -> None:
    """Parse the command line and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int, help="number of users")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument(
        "--at", default="2026-11-22T00:00:00+00:00", help="event timestamp of the rows"
    )
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "data" / "users.parquet"
    )
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(args.out, SCHEMA) as writer:
        for rows in chunks(args.count, args.seed, datetime.fromisoformat(args.at)):
            writer.write_table(pa.Table.from_pylist(rows, SCHEMA))
    print(f"{args.count:,} users in {os.path.relpath(args.out)}")


if __name__ == "__main__":
    main()
