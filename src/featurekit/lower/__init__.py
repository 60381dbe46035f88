"""Lowering: from plans to functions that make request bytes and take replies apart.

No I/O here and no clock: what goes in are values and replies, what comes out are bytes and
rows. The plain form of each thing (`units`, `checks`) is the reference for its generated or
columnar form (`rows`, `columns`), and tests hold the two equal.
"""
