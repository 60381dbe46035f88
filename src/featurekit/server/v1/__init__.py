"""Our own REST interface, under `/v1`: rows of values with their statuses, and the registry."""
