from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from featurekit.errors import RequestError
from featurekit.repo.time_arguments import to_ms, to_window


def test_a_time_is_milliseconds_a_datetime_a_date_or_text() -> None:
    moment = datetime(2026, 1, 1, 0, 0, 0, 5000, UTC)
    texts = "2026-01-01T00:00:00.005Z", "2026-01-01T05:30:00.005+05:30"
    for time in (1_767_225_600_005, moment, *texts):
        assert to_ms(time, where="start") == 1_767_225_600_005
    assert to_ms(date(2026, 1, 1), where="start") == to_ms("2026-01-01", where="start")


@pytest.mark.parametrize(
    "time", [True, 1.5, "now", "", 10**18, "0001-01-01T00:00:00+05:00", "2026-01-01T00:00"]
)
def test_anything_else_is_refused_as_a_time(time: object) -> None:
    with pytest.raises(RequestError, match=r"^start: "):
        to_window(time, None)  # type: ignore[arg-type]


def test_a_start_after_the_end_is_refused() -> None:
    with pytest.raises(RequestError, match="the start 2026-01-02 is after the end 2026-01-01"):
        to_window("2026-01-02", "2026-01-01")
