"""Lower plans to functions that build request bytes and decode replies.

This package does no I/O and reads no clock. Each generated or columnar function has a plain
reference, and a test compares the two: `encoders.field_encoder`, `rows.row_encoder`,
`write_group.batch_write_group` and `read.decode_cell`.
"""
