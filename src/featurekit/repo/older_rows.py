"""Whether the rows of a load are older than what earlier loads wrote."""

from __future__ import annotations

from contextlib import suppress

from featurekit.errors import OlderRowsError, RegistryError, StoreError
from featurekit.ports import Correction
from featurekit.repo.history import History
from featurekit.repo.time_arguments import format_time_ms
from featurekit.runtime.load import MaterializeReport


def refuse_older(
    report: MaterializeReport,
    correction: Correction | None,
    newest_ms: int | None,
    history: History,
) -> None:
    """Refuse a load whose rows are all older than what earlier loads wrote.

    Corrected rows are compared one by one, except those that complete the last load: it would
    have written them if they had been right.

    Args:
        report: The load.
        correction: What its file of corrected rows says; `None` for other rows.
        newest_ms: The newest event time that loads of the view wrote before; `None` if not known.
        history: The history of loads.

    Raises:
        OlderRowsError: They are older.
    """
    which, own_ms = "newest", report.newest_event_ms
    if correction is not None:
        is_last = _is_last_load(history, report.view, correction.load_ms)
        which = "oldest"
        own_ms = correction.oldest_unsure_ms if is_last else correction.oldest_ms
    if newest_ms is None or own_ms is None:
        return
    if own_ms < newest_ms:
        raise OlderRowsError(
            f"the {which} row is of {format_time_ms(own_ms)}, and rows of up to "
            f"{format_time_ms(newest_ms)} were loaded before; nothing was written",
            where=report.view,
            hint="to overwrite newer values, load with allow_older (--allow-older); to fill in "
            "entities without values, load with missing_only (--missing-only)",
        )


def _is_last_load(history: History, view: str, load_ms: int | None) -> bool:
    """Return whether nothing but corrections of a load was written since it started."""
    with suppress(StoreError, RegistryError):
        for record in history.loads([view]):
            if record.started_ms == load_ms:
                return True
            has_written = record.rows_written or record.never_ended
            if has_written and (load_ms is None or record.corrects_ms != load_ms):
                return False
    return False
