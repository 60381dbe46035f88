"""Batch sources: files, SQL queries, Python functions and Arrow data, all read with DuckDB.

A source produces rows that can be read twice in the same order (`session`). `selection` builds
the expressions for what a view needs from them, and `newest` streams the newest row per entity;
`history` finds the rows of past moments.
DuckDB and pyarrow are imported when a source is first read.
"""

from featurekit.sources.arrow import ArrowSource
from featurekit.sources.corrected_rows import CorrectedRowsSource
from featurekit.sources.open import open_sampled, open_source

__all__ = ["ArrowSource", "CorrectedRowsSource", "open_sampled", "open_source"]
