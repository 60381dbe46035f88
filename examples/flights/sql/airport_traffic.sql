-- A row per airport and hour with any flight from or to New York, known when the hour is over.
WITH movements AS (
  SELECT origin AS airport, departed_at AS moved_at, dep_delay, NULL AS arr_delay
  FROM 'data/flights.parquet'
  UNION ALL
  SELECT dest, arrived_at, NULL, arr_delay
  FROM 'data/flights.parquet'
)
SELECT
  airport,
  time_bucket(INTERVAL 1 HOUR, moved_at) + INTERVAL 1 HOUR AS hour_end,
  count(dep_delay) AS departures,
  avg(dep_delay) AS mean_dep_delay,
  count(*) - count(dep_delay) AS arrivals,
  avg(arr_delay) AS mean_arr_delay
FROM movements
WHERE moved_at IS NOT NULL
GROUP BY airport, hour_end
