"""What every online store promises, held against clusters."""

from __future__ import annotations

from tests.stores import test_contract

TRANSACTIONS = {
    "test_a_command_that_is_refused_discards_its_transaction",
    "test_a_load_counts_the_lines_inside_a_transaction",
    "test_a_load_does_not_wait_for_lines_of_a_discarded_transaction",
    "test_an_error_inside_a_transaction_is_a_reply_too",
}
"""Promised of stores that take them; a cluster gets one command for each row."""

globals().update(
    {
        name: test
        for name, test in vars(test_contract).items()
        if name.startswith("test_") and name not in TRANSACTIONS
    }
)
