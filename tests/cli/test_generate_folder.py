"""`featurekit generate` keeps a folder of generated files up to date."""

from __future__ import annotations

import re
from pathlib import Path

from tests.cli.running import run, run_json


def test_the_pages_of_definitions_that_are_gone_are_deleted_and_other_files_are_kept(
    folder: Path,
) -> None:
    command = ("generate", "docs", "-o", "site")
    assert "site/views/user_activity.html" in run_json(*command)["written"]
    assert run(*command, "--check").output.startswith("up to date")
    own = Path("site/views/own.html")
    own.write_text("<p>by hand</p>")
    file = folder / "features/users.yaml"
    text = file.read_text()
    file.write_text(
        re.sub(
            r"  - name: user_activity\n.*?(?=\nfeature_services)", "", text, flags=re.DOTALL
        ).replace(", user_activity]", "]")
    )
    stale = run(*command, "--check")
    assert stale.exit_code == 1
    assert run_json(*command)["deleted"] == ["site/views/user_activity.html"]
    assert own.exists()
    Path("other").mkdir()
    Path("other/index.html").write_text("<p>by hand</p>")
    refused = run("generate", "docs", "-o", "other")
    assert refused.exit_code == 1
    assert "other/index.html exists and was not written by" in refused.stderr
    assert [path.name for path in Path("other").iterdir()] == ["index.html"]


def test_a_path_that_cannot_be_written_is_an_error(folder: Path) -> None:
    Path("file").write_text("by hand")
    Path("file.py").write_text("by hand")
    for arguments, message in (
        (("docs", "-o", "file"), "file is a file, expected a folder"),
        (("typescript", "-o", "features"), "cannot read features: Is a directory"),
        (("python", "-o", "file.py"), "file.py exists and was not written by"),
        (("typescript", "-o", "file"), "file exists and was not written by"),
        (("contract", "-o", "file/contracts"), "file/contracts"),
    ):
        failed = run("generate", *arguments)
        assert failed.exit_code == 1
        assert message in failed.stderr
    assert Path("file").read_text() == Path("file.py").read_text() == "by hand"
