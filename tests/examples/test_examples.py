"""The examples, run by their commands, hold what pandas computes from the same data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from featurekit import FeatureStore
from tests.examples.places import ENVIRONMENT, ROOT, featurekit, python, repository
from tests.flights import table

pytestmark = pytest.mark.slow  # `make quickstart` runs the same commands

USERS = 1000


@pytest.fixture(scope="module", autouse=True)
def environment() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def fraud() -> Iterator[FeatureStore]:
    with repository("featurerepo.yaml", "examples/fraud") as folder:
        python(folder, "examples/fraud/generate.py", str(USERS))
        featurekit(folder, "apply", "--yes")
        featurekit(folder, "materialize")
        with FeatureStore(folder) as store:
            yield store


@pytest.fixture(scope="module")
def flights() -> Iterator[FeatureStore]:
    with repository("examples/flights") as folder:
        home = folder / "examples" / "flights"
        python(home, "prepare.py")
        featurekit(home, "apply", "--yes")
        featurekit(home, "materialize")
        with FeatureStore(home) as store:
            yield store


@pytest.fixture(scope="module")
def flown() -> pd.DataFrame:
    flights = table("flights")
    flown = flights[flights["tailnum"].notna()].copy()
    start = pd.to_datetime(flown["time_hour"]) + pd.to_timedelta(flown["minute"], unit="m")
    flown["scheduled"] = start
    flown["departed"] = start + pd.to_timedelta(flown["dep_delay"], unit="m")
    return flown


def stored(store: FeatureStore, features: str, ids: pd.DataFrame) -> pd.DataFrame:
    rows = store.get_online_features([features], ids.to_dict("records")).to_rows()
    return pd.DataFrame(rows)


def assert_floats(values: pd.Series, expected: pd.Series) -> None:
    pd.testing.assert_series_equal(
        values.astype(float),
        expected.astype(float),
        check_names=False,
        check_index=False,
        rtol=1e-12,
    )


def lives(ttl_ms: int | None, *, hours: int) -> bool:
    """Whether so many hours are left, but for the last few minutes."""
    return ttl_ms is not None and 0 <= hours * 3_600_000 - ttl_ms < 300_000


@pytest.mark.parametrize("repo", [".", "examples/flights"])
def test_examples_give_no_warning(repo: str) -> None:
    assert FeatureStore(ROOT / repo).warnings == ()


def test_the_first_users_are_the_same_however_many_there_are(tmp_path: Path) -> None:
    for count in (5, 50):
        python(
            ROOT, "examples/fraud/generate.py", str(count), "--out", f"{tmp_path}/{count}.parquet"
        )
    few, many = (pd.read_parquet(tmp_path / f"{count}.parquet") for count in (5, 50))
    pd.testing.assert_frame_equal(few, many.head(5))


def test_every_user_reads_as_generated(fraud: FeatureStore) -> None:
    users = pd.read_parquet(fraud.path / "examples/fraud/data/users.parquet")
    rows = stored(fraud, "user_profile", users[["user_id"]])
    pd.testing.assert_frame_equal(rows, users[rows.columns], check_dtype=False)
    assert len(rows) == USERS


def test_users_live_for_a_day_and_their_batch_fields_as_long(fraud: FeatureStore) -> None:
    seen = fraud.inspect("user", "u0001")
    assert lives(seen.key_ttl_ms, hours=24)
    batch = [f for f in seen.fields if f.view == "user_profile"]
    assert len(batch) == 6
    assert {f.ttl_ms for f in batch} == {None}


def test_plane_stats_are_those_of_pandas(flights: FeatureStore, flown: pd.DataFrame) -> None:
    recent = flown[flown["scheduled"] > flown["scheduled"].max() - pd.Timedelta(days=30)]
    planes = flown.groupby("tailnum").agg(last_seen=("departed", "max"))
    month = recent.groupby("tailnum").agg(
        flights=("dep_delay", "size"), mean=("dep_delay", "mean"), max=("dep_delay", "max")
    )
    expected = planes.join(month).join(table("planes").set_index("tailnum"))
    rows = stored(flights, "plane_stats", expected.index.to_frame())
    assert_floats(rows["flights_30d"], expected["flights"].fillna(0))
    assert_floats(rows["mean_dep_delay_30d"], expected["mean"])
    assert_floats(rows["max_dep_delay_30d"], expected["max"])
    assert_floats(rows["built"], expected["year"])
    assert_floats(rows["seats"], expected["seats"])
    assert list(rows["manufacturer"].fillna("")) == list(expected["manufacturer"].fillna(""))
    assert list(rows["last_seen"].dropna()) == list(expected["last_seen"].dropna())


def test_the_newest_flight_of_a_plane_wins(flights: FeatureStore, flown: pd.DataFrame) -> None:
    newest = flown[flown["departed"].notna()].sort_values("departed").groupby("tailnum").tail(1)
    rows = stored(flights, "plane_last_flight", newest[["tailnum"]])
    assert list(rows["last_dest"]) == list(newest["dest"])
    assert_floats(rows["last_arr_delay"], newest["arr_delay"])


def test_the_second_view_of_a_plane_expires_field_by_field(flights: FeatureStore) -> None:
    seen = flights.inspect("plane", "N516JB")
    ttls = {f.name: f.ttl_ms for f in seen.fields}
    assert lives(ttls["last_dest"], hours=6)
    assert ttls["seats"] is None
    assert lives(seen.key_ttl_ms, hours=48)


def test_route_stats_are_those_of_pandas(flights: FeatureStore) -> None:
    expected = (
        table("flights")
        .groupby(["origin", "dest"], as_index=False)
        .agg(
            flights=("year", "size"),
            median=("dep_delay", "median"),
            cancelled=("dep_time", lambda times: times.isna().mean()),
            carriers=("carrier", lambda carriers: sorted(set(carriers))),
        )
    )
    rows = stored(flights, "route_stats", expected[["origin", "dest"]])
    assert list(rows["flights"]) == list(expected["flights"])
    assert list(rows["carriers"]) == list(expected["carriers"])
    assert_floats(rows["median_dep_delay"], expected["median"])
    assert_floats(rows["cancelled_share"], expected["cancelled"])
    assert set(rows.loc[rows["dest_name"] == "unknown", "dest"]) == {"BQN", "PSE", "SJU", "STT"}


def test_one_request_spans_a_plane_and_a_route(flights: FeatureStore) -> None:
    reader = flights.online_reader("delay_v1")
    row = reader.read({"tailnum": "N516JB", "origin": "EWR", "dest": "LGA"})
    assert row.is_jet
    assert row.built == 2000
    assert row.median_dep_delay is None  # its one flight never left
    assert row.cancelled_share == 1.0


def test_flights_are_served_from_the_registry_alone(flights: FeatureStore, tmp_path: Path) -> None:
    url = f"embedded://{flights.path}/.featurekit/online?timeout=10s"
    with FeatureStore.from_registry(url, "flights", root=tmp_path) as store:
        row = store.online_reader(["route_stats:daily"]).read(("JFK", "LAX"))
    assert row.daily


def test_the_lines_that_the_quickstart_shows_run(flights: FeatureStore) -> None:
    assert "['AA', 'B6', 'DL', 'UA', 'VX']" in python(flights.path, "read.py")
