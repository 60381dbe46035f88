"""Execute compiled plans: read features, write events, and load batches."""
