"""Logs in Parquet files by hour: accepted events, and served features.

Needs the extra `batch`. `hourly_files` writes the files, `event_log` and `served_log` know the columns.
"""

from featurekit.logs.event_log import EventLog
from featurekit.logs.served_log import ServedLog, open_served_log

__all__ = ["EventLog", "ServedLog", "open_served_log"]
