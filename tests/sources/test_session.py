"""The memory limit of DuckDB sessions."""

from __future__ import annotations

import pytest

from featurekit.errors import SourceError
from featurekit.sources.session import MEMORY_VARIABLE, Session


def limit_of(session: Session) -> str:
    ((limit,),) = session.fetch_all("SELECT current_setting('memory_limit')")
    return str(limit)


@pytest.mark.parametrize(
    ("text", "limit"),
    [("", "152.5 MiB"), ("1GiB", "1.0 GiB"), (" 0.5 gb", "476.8 MiB"), ("100MB", "95.3 MiB")],
)
def test_the_memory_limit_is_a_setting(
    monkeypatch: pytest.MonkeyPatch, text: str, limit: str
) -> None:
    monkeypatch.setenv(MEMORY_VARIABLE, text)
    assert limit_of(Session()) == limit


def test_a_higher_limit_includes_what_wide_rows_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MEMORY_VARIABLE, "1GB")
    session = Session()
    session.limit_memory(200_000_000)
    assert limit_of(session) == "953.6 MiB"
    session.limit_memory(900_000_000)
    assert limit_of(session) == "1010.8 MiB"


def test_a_limit_that_is_set_is_not_exceeded(monkeypatch: pytest.MonkeyPatch) -> None:
    sql = "CREATE TABLE t AS SELECT list(i) FROM range(20000000) r(i)"
    monkeypatch.setenv(MEMORY_VARIABLE, "50MB")
    session = Session()
    with pytest.raises(SourceError, match="failed to allocate") as caught, session.errors("x"):
        session.run(lambda: session.execute(sql))
    assert f"raise {MEMORY_VARIABLE}" in str(caught.value.hint)


@pytest.mark.parametrize("text", ["500", "1 XB", "lots", "10MB", "-1GB"])
def test_a_wrong_memory_limit_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(MEMORY_VARIABLE, text)
    with pytest.raises(SourceError, match=MEMORY_VARIABLE):
        Session()
