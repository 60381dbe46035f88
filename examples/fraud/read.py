"""Read features of two users: one that was loaded, and one that nobody knows."""

from featurekit import FeatureStore

store = FeatureStore()
response = store.get_online_features(
    features="fraud_v1",
    entity_rows=[{"user_id": "u0001"}, {"user_id": "nobody"}],
)
print(response.found)
print(response.to_rows()[0])
print(response.statuses["tx_count_7d"], response.statuses["tx_count_5m"])
