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
    flown = flights.copy()
    start = pd.to_datetime(flown["time_hour"]) + pd.to_timedelta(flown["minute"], unit="m")
    flown["departed"] = start + pd.to_timedelta(flown["dep_delay"], unit="m")
    flown["known"] = flown["departed"].fillna(start)
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


def last_month(flown: pd.DataFrame) -> pd.DataFrame:
    """Return the flights of the last snapshot, by the times when they were known."""
    age = pd.Timestamp("2014-01-01 08:00Z") - flown["known"]
    return flown[(age >= pd.Timedelta(0)) & (age <= pd.Timedelta(days=30))]


def test_plane_stats_are_those_of_pandas(flights: FeatureStore, flown: pd.DataFrame) -> None:
    planes = flown[flown["tailnum"].notna()]
    month = last_month(planes).groupby("tailnum")["dep_delay"].agg(["size", "mean", "max"])
    every = planes.groupby("tailnum").agg(first=("known", "min"))
    expected = every.join(month)
    rows = stored(flights, "plane_stats", expected.index.to_frame())
    assert_floats(rows["flights_30d"], expected["size"].fillna(0))
    assert_floats(rows["mean_dep_delay_30d"], expected["mean"])
    assert_floats(rows["max_dep_delay_30d"], expected["max"])


def test_planes_have_their_entries_in_the_registry(flights: FeatureStore) -> None:
    expected = table("planes")
    rows = stored(flights, "plane_model", expected[["tailnum"]])
    assert_floats(rows["built"], expected["year"])
    assert_floats(rows["seats"], expected["seats"])
    assert list(rows["manufacturer"]) == list(expected["manufacturer"])


def test_a_training_set_sees_the_snapshot_of_its_day(
    flights: FeatureStore, flown: pd.DataFrame
) -> None:
    noon = pd.Timestamp("2013-07-04 12:00Z")
    known = flown["known"]
    since = noon.normalize() + pd.Timedelta(hours=8)
    july = flown[(known <= since) & (known >= since - pd.Timedelta(days=30))]
    expected = july.groupby(["origin", "dest"])["dep_delay"].agg(["size", "median"]).reset_index()
    job = flights.get_historical_features(
        expected[["origin", "dest"]].assign(event_timestamp=noon),
        ["route_stats:flights_30d", "route_stats:median_dep_delay_30d"],
    )
    assert_floats(job.to_df()["flights_30d"], expected["size"])
    assert_floats(job.to_df()["median_dep_delay_30d"], expected["median"])


def test_the_newest_flight_of_a_plane_wins(flights: FeatureStore, flown: pd.DataFrame) -> None:
    arrived = flown[flown["tailnum"].notna() & flown["arr_time"].notna()]
    newest = arrived.sort_values("departed").groupby("tailnum").tail(1)
    rows = stored(flights, "plane_last_flight", newest[["tailnum"]])
    assert list(rows["last_dest"]) == list(newest["dest"])
    assert_floats(rows["last_arr_delay"], newest["arr_delay"])


def test_other_views_of_a_plane_expire_field_by_field(flights: FeatureStore) -> None:
    seen = flights.inspect("plane", "N516JB")
    ttls = {f.name: f.ttl_ms for f in seen.fields}
    assert lives(ttls["last_dest"], hours=6)
    assert lives(ttls["seats"], hours=48)
    assert ttls["flights_30d"] is None
    assert lives(seen.key_ttl_ms, hours=48)


def test_route_stats_are_those_of_pandas(flights: FeatureStore, flown: pd.DataFrame) -> None:
    expected = (
        last_month(flown)
        .groupby(["origin", "dest"], as_index=False)
        .agg(
            flights=("year", "size"),
            median=("dep_delay", "median"),
            cancelled=("dep_time", lambda times: times.isna().mean()),
            carriers=("carrier", lambda carriers: sorted(set(carriers))),
        )
    )
    rows = stored(flights, "route_stats", expected[["origin", "dest"]])
    assert list(rows["flights_30d"]) == list(expected["flights"])
    assert list(rows["carriers_30d"]) == list(expected["carriers"])
    assert_floats(rows["median_dep_delay_30d"], expected["median"])
    assert_floats(rows["cancelled_share_30d"], expected["cancelled"])
    unnamed = set(rows.loc[rows["dest_name"] == "unknown", "dest"])
    assert unnamed == {"BQN", "PSE", "SJU", "STT"}


def test_one_request_spans_a_plane_a_route_and_two_airports(flights: FeatureStore) -> None:
    reader = flights.online_reader("delay_v1")
    keys = {"tailnum": "N516JB", "origin": "EWR", "dest": "LGA"}
    row = reader.read(keys)
    assert row.built == 2000
    assert row.median_dep_delay_30d is None  # its one flight was in July, and never left
    assert row.distance_miles == 17
    assert row.origin__departures == 1
    assert row.destination__mean_arr_delay is None  # LGA had only departures in its last hour


def test_an_arrival_is_known_a_while_after_the_flight_left(flights: FeatureStore) -> None:
    frame = pd.read_parquet(flights.path / "data" / "flights.parquet")
    flown = frame["arrived_at"] - frame["departed_at"]
    on_the_ground = flown - pd.to_timedelta(frame["air_time"], unit="m")
    minutes = on_the_ground.dropna() / pd.Timedelta(minutes=1)
    assert minutes.between(5, 240).all()
    assert len(minutes) == 327_346


def test_flights_are_served_from_the_registry_alone(flights: FeatureStore, tmp_path: Path) -> None:
    url = f"embedded://{flights.path}/.featurekit/online?timeout=10s"
    with FeatureStore.from_registry(url, "flights", root=tmp_path) as store:
        row = store.online_reader(["route_stats:daily"]).read(("JFK", "LAX"))
    assert row.daily


def test_the_lines_that_the_quickstart_shows_run(flights: FeatureStore) -> None:
    assert python(flights.path, "read.py").startswith("26.0 2000 -4\n")


def test_training_and_serving_give_a_model_the_same_features(flights: FeatureStore) -> None:
    labels = pd.read_parquet(flights.path / "data" / "labels.parquet").tail(2000)
    labels["event_timestamp"] = pd.Timestamp("2014-01-03", tz="UTC")
    trained = flights.get_historical_features(labels, "delay_v1").to_df()
    keys = labels[["tailnum", "origin", "dest"]].to_dict("records")
    served = flights.get_online_features("delay_v1", keys).to_arrow()
    names = [name for name in trained.columns if name not in labels.columns]
    assert names == [name for name in served.schema.names if name not in keys[0]]
    for name in names:
        assert trained[name].astype(object).where(trained[name].notna(), None).tolist() == (
            served[name].to_pylist()
        )
