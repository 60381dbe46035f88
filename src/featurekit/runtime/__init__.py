"""The runtime: carries plans out over ports, and decides nothing."""
