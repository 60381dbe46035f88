-- One row per plane: its last 30 days of 2013, and its entry in the aircraft registry.
WITH flown AS (
  SELECT *, scheduled_at > max(scheduled_at) OVER () - INTERVAL 30 DAY AS recent
  FROM 'data/flights.parquet'
  WHERE tailnum IS NOT NULL
)
SELECT
  tailnum,
  count(*) FILTER (recent) AS flights_30d,
  count(*) FILTER (recent AND dep_time IS NULL) AS cancelled_30d,
  avg(dep_delay) FILTER (recent) AS mean_dep_delay_30d,
  max(dep_delay) FILTER (recent) AS max_dep_delay_30d,
  max(departed_at) AS last_seen,
  list(DISTINCT carrier ORDER BY carrier) AS carriers,
  any_value(planes.manufacturer) AS manufacturer,
  any_value(planes.model) AS model,
  any_value(planes.year) AS built,
  any_value(planes.seats) AS seats,
  any_value(planes.engine IN ('Turbo-fan', 'Turbo-jet')) AS is_jet
FROM flown LEFT JOIN 'data/planes.parquet' AS planes USING (tailnum)
GROUP BY tailnum
