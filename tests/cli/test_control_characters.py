"""Control characters of stored text never reach the terminal."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from featurekit.printable import printable, printable_json
from featurekit.server.run import Options, uvicorn_config
from tests.cli.running import run
from tests.promise.repos import applied
from tests.servers import Server

CLIPBOARD, TITLE, CLEAR = "\x1b]52;c;ZXZpbA==\x07", "\x1b]0;evil\x1b\\", "\x1b[2J\x1b[H"
HOSTILE = f"{CLIPBOARD}{TITLE}{CLEAR}\x9b2J\x90q\x9c\x08\x7f\r\x0b\x0c\u202eevil\u2066\u2028\ufeff"
UNSAFE = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]"
)
DEFINITIONS = """
entities: [{name: user, join_keys: {user_id: string}, description: DESCRIBED}]
feature_views:
  - name: profile
    entity: user
    description: DESCRIBED
    tags: {a: DESCRIBED}
    batch: {refresh: 12h, source: {type: csv, path: DESCRIBED}}
    fields:
      country: {type: string, description: DESCRIBED}
      extra: json
      names: array<string>
  - name: activity
    entity: user
    stream: {refresh: 1m, source: {type: redis_stream, stream: events}}
    fields: {device: string}
feature_services: [{name: all, features: [profile, activity], owner: DESCRIBED}]
""".replace("DESCRIBED", json.dumps(HOSTILE.replace("\x00", "")))


@pytest.fixture
def repo(tmp_path: Path, valkey: Server) -> Iterator[str]:
    with applied(tmp_path, valkey.url, DEFINITIONS, registry="online") as store:
        row = {"country": HOSTILE, "extra": {HOSTILE: HOSTILE}, "names": [HOSTILE]}
        store.write_batch("profile", {"u1": row, HOSTILE: row})
        with valkey.client() as client:
            client.hset("fs:user:u1", mapping={HOSTILE: HOSTILE, "device": b"\x9b2J\xff"})
            client.hset(f"fs:user:{HOSTILE}x", mapping={"extra": HOSTILE})
            client.xadd("events:dead", {"reason": HOSTILE, HOSTILE: HOSTILE, "user_id": HOSTILE})
        yield str(tmp_path)


COMMANDS = [
    ["get", "all", "--entity", "user_id=u1"],
    ["get", "all", "--entity", "user_id=u1", "--entity", f"user_id={HOSTILE}"],
    ["get", "profile:country", "--entity", f"user_id={HOSTILE}", "--entity", "user_id=u1"],
    ["get", HOSTILE, "--entity", "user_id=u1"],
    ["inspect", "user", "u1"],
    ["inspect", "user", HOSTILE],
    ["inspect", HOSTILE, "u1"],
    ["list", "entities"],
    ["list", "views"],
    ["list", "services"],
    ["list", "fields"],
    ["list", "loads"],
    ["list", "applies"],
    ["describe", "user"],
    ["describe", "profile"],
    ["describe", "all"],
    ["describe", "profile:country"],
    ["describe", HOSTILE],
    ["status"],
    ["doctor"],
    ["plan"],
    ["validate"],
    ["materialize"],
    ["materialize", "profile"],
    ["stream", "dead", "activity"],
    ["stream", "dead", "activity", "--entity", HOSTILE],
    ["why", "user", "u1"],
    ["why", "user", f"{HOSTILE}x"],
    ["why", "user", HOSTILE, HOSTILE],
    ["delete", "user", HOSTILE, f"{HOSTILE}x"],
    ["delete", "user", f"{HOSTILE}x", "--yes"],
    ["reset"],
    [HOSTILE],
]


@pytest.mark.parametrize("more", [[], pytest.param(["--json"], marks=pytest.mark.slow)])
def test_no_command_prints_control_characters(repo: str, more: list[str]) -> None:
    for arguments in COMMANDS:
        result = run("--repo", repo, *arguments, *more)
        for text in (result.stdout, result.stderr):
            found = UNSAFE.search(text)
            assert found is None, (arguments, text[max(0, found.start() - 80) :][:160])
        if more and result.stdout:
            json.loads(result.stdout)


def test_json_keeps_the_text(repo: str) -> None:
    result = run("--repo", repo, "get", "profile:country", "--entity", "user_id=u1", "--json")
    assert json.loads(result.stdout)["features"]["country"] == [HOSTILE]


def test_each_control_character_is_escaped() -> None:
    for character in map(chr, (*range(32), *range(0x7F, 0xA0), 0x202E, 0x2028)):
        assert printable(character, one_line=True).isprintable()
        if character != "\n":
            text = printable_json(json.dumps({character: character}, ensure_ascii=False))
            assert (text.isprintable(), json.loads(text)) == (True, {character: character})


def test_other_characters_stay() -> None:
    text = "Ærøskøbing 日本 👩‍👩‍👧 עברית ~\n  second line"
    assert printable(text) == text
    assert printable("\udc80 \U000e0041") == "\\udc80 \\U000e0041"


def test_logs_of_the_server_have_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    uvicorn_config(Options(access_log=True), lambda: None)  # type: ignore[arg-type,return-value]
    error = ValueError(HOSTILE)
    logging.getLogger("featurekit.server").error("failed: %s", HOSTILE, exc_info=error)
    parts = (HOSTILE, "GET", "/", "1.1", 200)
    logging.getLogger("uvicorn.access").info('%s - "%s %s HTTP/%s" %d', *parts)
    text = capsys.readouterr().err
    assert text.count("evil") > 4
    assert UNSAFE.search(text) is None
