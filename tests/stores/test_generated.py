"""The synchronous modules that are generated from asyncio modules."""

from __future__ import annotations

from pathlib import Path

import pytest

from featurekit.codegen import unasync


@pytest.mark.slow
def test_generated_modules_are_up_to_date() -> None:
    assert unasync.main(["--check"]) == 0


def test_a_stale_module_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = "async def call_async(pool: AsyncPool) -> None:\n    await pool.get()  # async\n"
    (tmp_path / "x_async.py").write_text(f"from __future__ import annotations\n\n{source}")
    monkeypatch.setattr(unasync, "PACKAGE", tmp_path)
    monkeypatch.setattr(unasync, "MODULES", {"x_async.py": unasync.SyncForm()})
    assert unasync.main(["--check"]) == 1
    assert "x.py is out of date" in capsys.readouterr().err
    assert unasync.main([]) == 0
    generated = (tmp_path / "x.py").read_text()
    assert "def call(pool: Pool) -> None:\n    pool.get()  # async\n" in generated
    assert unasync.main(["--check"]) == 0
