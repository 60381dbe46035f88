-- Daily snapshots: for each day, a row per route that was flown by then, about the 30 days before.
-- They are taken at 08:00 UTC, when almost nothing flies in New York. A flight counts once it has
-- left; a cancelled one, once it should have left. Four airports have no name.
WITH flown AS (
  SELECT
    *, coalesce(departed_at, scheduled_at) AS known_at, make_date(year, month, day) AS flown_on
  FROM 'data/flights.parquet'
),
snapshots AS (
  SELECT origin, dest, max(distance) AS miles, min(known_at) AS first_flight, unnest(range(
    TIMESTAMPTZ '2013-01-02 08:00Z', TIMESTAMPTZ '2014-01-02 08:00Z', INTERVAL 1 DAY
  )) AS event_timestamp
  FROM flown
  GROUP BY origin, dest
),
stats AS (
  SELECT
    snapshots.origin,
    snapshots.dest,
    event_timestamp,
    miles AS distance_miles,
    count(known_at) AS flights_30d,
    count(known_at) FILTER (departed_at IS NULL) / nullif(flights_30d, 0) AS cancelled_share_30d,
    median(dep_delay) AS median_dep_delay_30d,
    list(DISTINCT carrier ORDER BY carrier) FILTER (carrier IS NOT NULL) AS carriers_30d,
    count(DISTINCT flown_on) = 30 AS daily,
    max(departed_at) AS last_departure
  FROM snapshots
  LEFT JOIN flown ON flown.origin = snapshots.origin AND flown.dest = snapshots.dest
    AND known_at BETWEEN event_timestamp - INTERVAL 30 DAY AND event_timestamp
  WHERE first_flight <= event_timestamp
  GROUP BY ALL
)
SELECT stats.*, name AS dest_name
FROM stats LEFT JOIN 'data/airports.parquet' AS airports ON faa = dest
ORDER BY event_timestamp, origin, dest
