"""Clusters: several servers that share the slots of one store.

`topology` knows which server has which slot. `errand` and `course` decide what is sent where, and
when again; they do no I/O. `rounds`, `nodes` and `flow` carry it, from threads; `store_aio` and
`nodes_aio` from an event loop.
"""
