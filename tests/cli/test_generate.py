"""`featurekit generate` writes files, and says whether they are up to date."""

from __future__ import annotations

from pathlib import Path

from tests.cli.running import replace, run, run_json
from tests.servers import Server, patient


def test_a_generated_file_is_up_to_date_until_the_definitions_change(folder: Path) -> None:
    command = ("generate", "python", "-o", "code/features.py")
    missing = run(*command, "--check")
    assert missing.exit_code == 1
    assert "code/features.py does not exist" in missing.stderr
    assert not Path("code").exists()
    assert run_json(*command)["written"] == ["code/features.py"]
    assert run(*command, "--check").output == "up to date: 1 file\n"
    assert run_json(*command) == {"files": ["code/features.py"], "written": []}
    replace(folder / "features/users.yaml", "signed_up: date", "signed_up: int64")
    stale = run(*command, "--check")
    assert stale.exit_code == 1
    assert "run `featurekit generate python` without --check" in stale.stderr


def test_code_is_generated_from_the_applied_registry_if_asked_for(folder: Path) -> None:
    command = ("generate", "python", "-o", "features.py", "--applied")
    assert "nothing is applied yet" in run(*command).stderr
    assert run("apply").exit_code == 0
    replace(folder / "features/users.yaml", "signed_up: date", "signed_on: date")
    assert run(*command).exit_code == 0
    assert "signed_up" in Path("features.py").read_text()
    assert run(*command[:-1]).exit_code == 0
    assert "signed_on" in Path("features.py").read_text()


def test_code_is_generated_from_a_registry_in_the_store_without_definitions(
    folder: Path, valkey: Server
) -> None:
    file = folder / "featurerepo.yaml"
    file.write_text(file.read_text().replace(".featurekit/registry.json", "online"))
    assert run("apply").exit_code == 0
    text = file.read_text()
    project = next(x.split()[1] for x in text.splitlines() if x.startswith("project:"))
    file.unlink()
    arguments = ("generate", "python", "-o", "features.py", "--project", project)
    assert run(*arguments, "--url", patient(valkey.url)).exit_code == 0
    assert "signed_up" in Path("features.py").read_text()


def test_a_module_of_a_package_is_deleted_with_its_definition(folder: Path) -> None:
    command = ("generate", "python", "-o", "code")
    assert "code/__init__.py" in run_json(*command)["written"]
    own = Path("code/own.py")
    own.write_text("# Not generated.\n")
    old = run_json(*command)["files"]
    file = folder / "features/users.yaml"
    file.write_text(file.read_text().replace("user_activity", "user_events"))
    stale = run(*command, "--check")
    assert stale.exit_code == 1
    assert "and 4 other files too" in stale.stderr
    done = run_json(*command)
    assert done["deleted"] == ["code/user_activity.py"]
    assert [path for path in old if not Path(path).exists()] == ["code/user_activity.py"]
    assert own.exists()
    assert run(*command, "--check").exit_code == 0
