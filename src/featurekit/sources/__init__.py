"""Batch sources: files, queries, Python functions and Arrow data, all read by DuckDB.

Every source becomes rows that DuckDB can read twice in the same order (`session`), a selection of
what a view takes from them (`selection`), and a stream of the newest row of each entity (`newest`).
DuckDB and pyarrow are imported where a source is read, not where it is named.
"""

from featurekit.sources.arrow import ArrowSource
from featurekit.sources.open import open_source

__all__ = ["ArrowSource", "open_source"]
