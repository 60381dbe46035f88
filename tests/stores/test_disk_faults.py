"""Folders and files that cannot be read or written: one error that names them."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from featurekit.errors import StoreError
from featurekit.stores.embedded_server import EmbeddedServer
from tests.cli.running import run
from tests.promise.repos import applied
from tests.servers import PATIENT_YAML, Server

VIEW = """
entities: [{name: user, join_keys: {user_id: string}}]
feature_views:
  - name: profile
    entity: user
    batch: {refresh: 1h, source: {type: csv, path: rows.csv}}
    fields: {age: int64}
"""


def make_folder(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir()


def make_loop(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(path)


def make_file(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("", make_file, "cannot create the folder"),
        ("", make_loop, "cannot create the folder"),
        ("lock", make_folder, "cannot be locked: Is a directory"),
        ("valkey.log", make_folder, "does not start"),
        ("valkey.sock", make_folder, "does not start"),
        ("appendonlydir", make_file, "does not start"),
    ],
)
def test_a_folder_without_a_server_says_why(
    folder: Path, name: str, make: Callable[[Path], None], message: str
) -> None:
    store = folder / "online"
    make(store / name if name else store)
    with pytest.raises(StoreError, match=message) as caught:
        EmbeddedServer(store).ensure_running()
    assert str(store) in caught.value.message


AS_NOBODY = """
import os, sys
from pathlib import Path
from featurekit.errors import StoreError
from featurekit.stores.embedded_server import EmbeddedServer
os.setgid(65534)
os.setuid(65534)
for action in (EmbeddedServer.ensure_running, EmbeddedServer.stop, EmbeddedServer.status):
    try:
        action(EmbeddedServer(Path(sys.argv[1])))
    except StoreError as error:
        print(error.message)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_folder_that_may_not_be_written_says_so(folder: Path) -> None:
    store = folder / "online"
    make_file(store / "lock")
    for path in (folder, store):
        path.chmod(0o755)
    (store / "lock").chmod(0o444)
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, str(store)], capture_output=True, text=True, check=False
    )
    assert (
        done.stdout.splitlines() == [f"the folder {store} cannot be locked: Permission denied"] * 3
    ), done.stderr


@pytest.mark.parametrize("make", [make_folder, make_loop, make_file])
@pytest.mark.parametrize("name", ["registry.json", "registry.lock", ""])
def test_a_registry_that_cannot_be_used_is_one_error_and_stays(
    tmp_path: Path, valkey: Server, make: Callable[[Path], None], name: str
) -> None:
    (tmp_path / "featurerepo.yaml").write_text(
        "project: p\ndefinitions: [f.yaml]\nregistry: .featurekit/registry.json\n"
        f"online_store: {{url: '{valkey.url}', {PATIENT_YAML}}}\n"
    )
    (tmp_path / "f.yaml").write_text(VIEW)
    path = tmp_path / ".featurekit" / name if name else tmp_path / ".featurekit"
    if (name, make) in [("", make_folder), ("registry.lock", make_file)]:
        return
    make(path)
    result = run("--repo", str(tmp_path), "apply", "--yes")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr
    assert not (tmp_path / ".featurekit" / "registry.json").is_file() or name == "registry.json"


def test_a_full_disk_leaves_the_registry_as_it_was(tmp_path: Path, valkey: Server) -> None:
    with applied(tmp_path, valkey.url, VIEW):
        before = (tmp_path / "registry.json").read_bytes()
        (tmp_path / "features.yaml").write_text(
            VIEW.replace("age: int64", "age: int64, name: string")
        )
        command = [sys.executable, "-m", "featurekit", "--repo", str(tmp_path), "apply", "--yes"]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, preexec_fn=limit_files
        )
    assert done.returncode == 1
    assert "registry.json: the file cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "registry.json").read_bytes() == before
    assert not list(tmp_path.glob("*.new"))


def limit_files() -> None:
    """Let no file of this process grow beyond 10 bytes, as a full disk does."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, resource.RLIM_INFINITY))


@pytest.mark.parametrize("make", [make_folder, make_loop])
def test_a_source_that_cannot_be_opened_is_one_error(
    tmp_path: Path, valkey: Server, make: Callable[[Path], None]
) -> None:
    with applied(tmp_path, valkey.url, VIEW):
        make(tmp_path / "rows.csv")
        result = run("--repo", str(tmp_path), "materialize")
    assert result.exit_code == 1
    assert "rows.csv" in result.stderr
    assert "did you mean" not in result.stderr
