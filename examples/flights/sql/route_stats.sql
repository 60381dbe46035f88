-- One row per route over the whole year. Four airports are unknown, and one flight never departed.
SELECT
  origin,
  dest,
  any_value(airports.name) AS dest_name,
  max(distance) AS distance_miles,
  count(*) AS flights,
  count(*) FILTER (dep_time IS NULL) / count(*) AS cancelled_share,
  median(dep_delay) AS median_dep_delay,
  list(DISTINCT carrier ORDER BY carrier) AS carriers,
  min(make_date(flights.year, month, day)) AS first_flight,
  max(departed_at) AS last_departure,
  count(DISTINCT (month, day)) = 365 AS daily
FROM 'data/flights.parquet' AS flights
LEFT JOIN 'data/airports.parquet' AS airports ON airports.faa = flights.dest
GROUP BY origin, dest
