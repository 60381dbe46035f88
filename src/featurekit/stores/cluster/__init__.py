"""Stores on a cluster: several servers that share the slots of one key space.

`topology` knows which server has which slot. `routed_requests` and `retry` decide what is sent where
and when it is sent again, without I/O. `fan_out`, `node_pool` and `store` do the I/O from
threads, and are generated from their `_async` forms, which do it from an event loop; what waits
differently is in `exchanges` and `node_connections`. `pipelined_load` sends loads.
"""
