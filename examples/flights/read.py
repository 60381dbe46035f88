"""Read a plane, a route and two airports in one round trip, as typed attributes of one row."""

from featurekit import FeatureStore

store = FeatureStore()
reader = store.online_reader("delay_v1")  # compiled once; share it between threads
row = reader.read({"tailnum": "N516JB", "origin": "JFK", "dest": "LAX"})

print(row.mean_dep_delay_30d, row.built, row.last_arr_delay)
print(row.median_dep_delay_30d, row.origin__departures, row.destination__mean_arr_delay)
