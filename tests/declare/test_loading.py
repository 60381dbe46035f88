from __future__ import annotations

import glob
import os
from pathlib import Path

import pytest

from featurekit.errors import RepoNotFoundError
from featurekit.file_globs import matching_paths
from featurekit.loader import find_repo, load_repo
from featurekit.loader.files import matching_files
from tests.declare.conftest import REPO, Load, Problems

NUMBERS = """
entities:
- name: user
  join_keys: {user_id: string}
feature_views:
- name: v
  entity: user
  batch: {refresh: 1h}
  fields:
    f: {type: %s, default: %s}
"""


@pytest.mark.parametrize(
    ("dtype", "text", "value"),
    [
        ("string", "NO", "NO"),
        ("string", "1e3", "1e3"),
        ("string", "12:30", "12:30"),
        ("string", "2026-01-01", "2026-01-01"),
        ("string", "0123", "0123"),
        ("string", "true", "true"),
        ("string", "0x1F", "0x1F"),
        ("string", "'null'", "null"),
        ("string", "on", "on"),
        ("int64", "0123", 123),
        ("int64", "0o17", 15),
        ("int64", "0x1F", 31),
        ("int64", "+5", 5),
        ("float64", "1e3", 1000.0),
        ("float64", ".5", 0.5),
        ("float64", "3", 3),
        ("float64", "-.inf, allow_nan: true", "-inf"),
        ("bool", "True", True),
        ("date", "2026-01-01", "2026-01-01"),
        ("timestamp", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
        ("decimal", "1.10", "1.10"),
        ("array<string>", "[NO, 1]", ["NO", "1"]),
        ("array<int64>", "[1, 0x2]", [1, 2]),
        ("json", "{b: NO, a: [1, x, null]}", {"a": [1, "x", None], "b": "NO"}),
        ("vector<float32, 2>", "[1, 2.5]", [1, 2.5]),
    ],
)
def test_a_scalar_is_text_where_text_is_meant_and_yaml_1_2_elsewhere(
    load: Load, dtype: str, text: str, value: object
) -> None:
    view = load(NUMBERS % (f"'{dtype}'", text)).feature_views[0]
    assert view.fields_["f"].default == value


def test_texts_of_all_kinds_stay_as_written(load: Load) -> None:
    entity = load(
        """
        entities:
        - name: user
          join_keys: {user_id: string}
          tags: {tier: 1, on_call: NO, since: 2026-01-01}
          owner: 12:30
          deprecated: no
        """
    ).entities[0]
    assert entity.tags == {"tier": "1", "on_call": "NO", "since": "2026-01-01"}
    assert (entity.owner, entity.deprecated) == ("12:30", "no")


def test_join_keys_and_fields_keep_their_order(load: Load) -> None:
    loaded = load(
        """
        entities:
        - {name: e, join_keys: {z: string, a: int64}}
        feature_views:
        - {name: v, entity: e, batch: {refresh: 1h}, fields: {y: bool, b: bool}}
        """
    )
    assert list(loaded.entities[0].join_keys) == ["z", "a"]
    assert list(loaded.feature_views[0].fields_) == ["y", "b"]


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "entities:\nfeature_views:\n"])
def test_a_file_may_declare_nothing(load: Load, text: str) -> None:
    assert load(text).entities == ()


def test_aliases_are_spelled_out(load: Load) -> None:
    loaded = load(
        """
        entities:
        - {name: a, join_keys: &keys {id: string}}
        - {name: b, join_keys: *keys}
        """
    )
    assert loaded.entities[1].join_keys == {"id": "string"}


def test_the_repository_is_found_from_a_folder_below(tmp_path: Path) -> None:
    (tmp_path / "featurerepo.yaml").write_text(REPO)
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    assert find_repo(below) == find_repo(tmp_path / "featurerepo.yaml") == tmp_path


def test_no_repository_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RepoNotFoundError, match=r"no featurerepo.yaml in"):
        find_repo(tmp_path)


def test_files_come_from_names_folders_and_globs_each_once(tmp_path: Path) -> None:
    names = ["one.yaml", "d/two.yml", "d/e/three.yaml", "d/.hidden/four.yaml", "d/not.txt"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        entity = Path(name).stem
        (tmp_path / name).write_text(f"entities: [{{name: {entity}, join_keys: {{id: string}}}}]")
    patterns = "[one.yaml, d, '*.yaml', './one.yaml', 'd/**/*.yml']"
    (tmp_path / "featurerepo.yaml").write_text(f"project: p\ndefinitions: {patterns}\n")
    assert [e.name for e in load_repo(tmp_path, {}).entities] == ["one", "three", "two"]


def test_folders_that_link_to_each_other_are_entered_once(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / "d" / name).mkdir(parents=True)
        (tmp_path / "d" / name / f"{name}.yaml").write_text("")
        for other in "abc":
            (tmp_path / "d" / name / f"to_{other}").symlink_to(tmp_path / "d" / other)
            (tmp_path / "d" / name / f"up_{other}").symlink_to(tmp_path)
    (tmp_path / "d" / "broken").symlink_to("nowhere")
    for pattern in ("**/*.yaml", "d/**", "**", "./**/d/**/*.yaml", f"{tmp_path}/d/**/*.yaml"):
        names = {Path(name).name for name in matching_paths(tmp_path, pattern)}
        assert {"a.yaml", "b.yaml", "c.yaml"} <= names
        files = {path.resolve().name for path in matching_files(tmp_path, pattern)}
        assert files == {"a.yaml", "b.yaml", "c.yaml"}


@pytest.mark.parametrize(
    "pattern",
    [
        "**",
        "**/*",
        "a/**",
        "a/**/*.yaml",
        "**/b/*",
        "*/**/c*",
        "**/**/x.yaml",
        "a/**/b/**",
    ],
)
def test_without_links_globs_match_as_those_of_python(tmp_path: Path, pattern: str) -> None:
    for name in ("a/x.yaml", "a/b/x.yaml", "a/b/c/y.txt", "a/.h/x.yaml", ".h/x.yaml", "b/c.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    for text in (pattern, f"{tmp_path}/{pattern}"):
        expected = glob.glob(text, root_dir=tmp_path, recursive=True)  # noqa: PTH207
        names = [name.rstrip("/") for name in matching_paths(tmp_path, text)]
        assert sorted(names) == sorted({name.rstrip("/") for name in expected})


def test_the_whole_folder_may_be_named(tmp_path: Path) -> None:
    (tmp_path / "featurerepo.yaml").write_text("project: p\ndefinitions: .\n")
    (tmp_path / "a.yaml").write_text("entities: [{name: a, join_keys: {id: string}}]")
    assert len(load_repo(tmp_path, {}).entities) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_cannot_be_read_is_a_problem(problems: Problems, tmp_path: Path) -> None:
    (tmp_path / "g.yaml").write_text("")
    (tmp_path / "g.yaml").chmod(0)
    found = problems("", "project: p\ndefinitions: [f.yaml, g.yaml]\n")
    assert found == ["g.yaml: cannot be read: Permission denied"]


def test_a_query_file_becomes_its_query(load: Load, tmp_path: Path) -> None:
    (tmp_path / "q.sql").write_text("select 1")
    text = NUMBERS % ("bool", "true")
    view = load(text.replace("1h", "1h, source: {type: sql, query_file: q.sql}")).feature_views[0]
    source = view.batch.source if view.batch else None
    assert source is not None
    assert source.type == "sql"
    assert source.query == "select 1"


def test_a_query_file_that_is_not_there_is_a_problem(problems: Problems) -> None:
    text = NUMBERS % ("bool", "true")
    assert problems(text.replace("1h", "1h, source: {type: sql, query_file: q.sql}")) == [
        "f.yaml:8:56: feature view 'v': cannot read 'q.sql': No such file or directory"
    ]


URL = "project: p\ndefinitions: f.yaml\nonline_store: {url: '%s'}\n"


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("${URL}", "redis://x"),
        ("${NONE:-memory://}", "memory://"),
        ("${EMPTY:-memory://}", "memory://"),
        ("${NONE:-}memory://a", "memory://a"),
        ("memory://$${URL}", "memory://${URL}"),
        ("memory://$URL", "memory://$URL"),
    ],
)
def test_variables_are_filled_in(load: Load, text: str, url: str) -> None:
    loaded = load("", URL % text, {"URL": "redis://x", "EMPTY": ""})
    assert loaded.config.online_store.url == url


def test_a_variable_that_is_not_set_is_a_problem(problems: Problems) -> None:
    assert problems("", URL % "${URL}") == [
        "featurerepo.yaml:3:21: environment variable URL is not set"
        " | set it, or give a default: ${URL:-...}"
    ]


def test_variables_are_filled_in_nowhere_else(load: Load) -> None:
    text = "entities: [{name: user, join_keys: {id: string}, owner: '${HOME}'}]"
    assert load(text, env={"HOME": "x"}).entities[0].owner == "${HOME}"


def test_what_the_environment_holds_is_never_shown(problems: Problems, load: Load) -> None:
    repo = (
        "project: ${S}\ndefinitions: ['${S}']\nonline_store: {url: '${S}', key_prefix: '${S}'}\n"
    )
    assert "SECRET" not in "".join(problems("", repo, {"S": "SECRET {x"}))
    assert "SECRET" not in repr(load("", URL % "${S}", {"S": "redis://:SECRET@h"}).config)


@pytest.mark.parametrize(
    ("repo", "problem"),
    [
        ("", "featurerepo.yaml:1:1: key 'definitions' is missing"),
        (
            "project: p\ndefinitions: []\n",
            "featurerepo.yaml:2:14: definitions: found an empty value",
        ),
        (
            "project: p\ndefinitions: f.yaml\nregistry: ''\n",
            "featurerepo.yaml:3:11: registry: found",
        ),
        (
            URL % "rdis://:pw@h",
            "online_store.url: 'rdis' is not an online store's scheme | did you",
        ),
        (URL % "localhost", "online_store.url: expected a store URL, for example redis://"),
    ],
)
def test_a_wrong_repo_file_is_a_problem(problems: Problems, repo: str, problem: str) -> None:
    assert any(problem in line for line in problems("", repo))
    assert "pw" not in "".join(problems("", repo))


WARNED = """
entities:
- {name: user, join_keys: {user_id: string}}
feature_views:
- {name: b, entity: user, batch: {refresh: 1h, ttl: %s}, fields: {x_7d: int64}}
- {name: s, entity: user, stream: {refresh: 1m, ttl: %s}, fields: {y_5m: %s}}
"""


@pytest.mark.parametrize(
    ("batch_ttl", "stream_ttl", "spec", "warnings"),
    [
        ("2h", "5m", "int64", []),
        ("2h", "5m", "{type: int64, ttl: 2h}", []),
        ("10h", "10m", "int64", []),
        (
            "11h",
            "10m",
            "int64",
            [
                "f.yaml:5:53: feature view 'b': ttl 11h is more than ten times the refresh of 1h, so "
                "old values are served long after writes have stopped"
            ],
        ),
        (
            "90m",
            "5m",
            "int64",
            [
                "f.yaml:5:53: feature view 'b': ttl 1h30m is less than twice the refresh of 1h, so "
                "values expire after one late write"
            ],
        ),
        (
            "2h",
            "90s",
            "int64",
            [
                "f.yaml:6:54: feature view 's': ttl 1m30s is less than twice the refresh of 1m, so "
                "values expire after one late write",
                "f.yaml:6:69: field 's:y_5m' expires after 1m30s, before the window of 5m in its "
                "name",
            ],
        ),
        (
            "2h",
            "3h",
            "{type: int64, ttl: 4h}",
            [
                "f.yaml:6:54: feature view 's': ttl 3h is longer than the ttl of the key, 2h, "
                "which feature view 'b' sets",
                "f.yaml:6:54: feature view 's': ttl 3h is more than ten times the refresh of 1m, so "
                "old values are served long after writes have stopped",
                "f.yaml:6:93: field 's:y_5m': ttl 4h is longer than the ttl of the key, 2h, "
                "which feature view 'b' sets",
            ],
        ),
    ],
)
def test_a_probable_mistake_is_a_warning(
    load: Load, batch_ttl: str, stream_ttl: str, spec: str, warnings: list[str]
) -> None:
    loaded = load(WARNED % (batch_ttl, stream_ttl, spec))
    assert [f"{w.where}: {w.message}" for w in loaded.warnings] == warnings
