-- Daily snapshots: for each day, a row per plane that has flown by then, about the 30 days before.
-- They are taken at 08:00 UTC, when almost nothing flies in New York. A flight counts once it has
-- left; a cancelled one, once it should have left.
WITH flown AS (
  SELECT *, coalesce(departed_at, scheduled_at) AS known_at
  FROM 'data/flights.parquet'
  WHERE tailnum IS NOT NULL
),
snapshots AS (
  SELECT tailnum, min(known_at) AS first_flight, unnest(range(
    TIMESTAMPTZ '2013-01-02 08:00Z', TIMESTAMPTZ '2014-01-02 08:00Z', INTERVAL 1 DAY
  )) AS event_timestamp
  FROM flown
  GROUP BY tailnum
)
SELECT
  snapshots.tailnum,
  event_timestamp,
  count(known_at) AS flights_30d,
  count(known_at) FILTER (departed_at IS NULL) AS cancelled_30d,
  avg(dep_delay) AS mean_dep_delay_30d,
  max(dep_delay) AS max_dep_delay_30d
FROM snapshots LEFT JOIN flown ON flown.tailnum = snapshots.tailnum
  AND known_at BETWEEN event_timestamp - INTERVAL 30 DAY AND event_timestamp
WHERE first_flight <= event_timestamp
GROUP BY ALL
ORDER BY event_timestamp, tailnum
