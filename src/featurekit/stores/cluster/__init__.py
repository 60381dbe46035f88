"""Stores on a cluster: several servers that share the slots of one key space.

`topology` knows which server has which slot. `routed_requests`, `retry` and `client` decide what is
sent where and when it is sent again, without I/O. `fan_out`, `nodes` and `store` do the I/O from
threads, and their `_async` twins from an event loop. `pipelined_load` sends loads.
"""
