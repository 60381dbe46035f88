"""Engines that run loads on other machines: Apache Spark.

An engine reads a source and writes its rows with `runtime.partition.write_partition` in its tasks. The
driver of the load, in `repo`, holds the lock, adds up the reports and records the load.
"""
