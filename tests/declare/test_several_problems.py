"""Several problems: all are reported, except those that another one causes."""

from __future__ import annotations

from tests.declare.conftest import Problems
from tests.declare.test_problems import USER, VIEW


def test_all_problems_of_all_stages_are_reported_together(problems: Problems) -> None:
    text = VIEW.replace("entity: user", "entity: usr") + (
        "  fields: {a: {type: int64, default: x}, b: int46, c: {type: bool, ttl: 5}}\n"
        "feature_services:\n- name: s\n  features: [v, w]\n"
    )
    assert [problem.split(" | ")[0] for problem in problems(text, "project: X\ndefinitions: .\n")] == [
        "f.yaml:6:11: feature view 'v': unknown entity 'usr'",
        "f.yaml:8:38: field 'v:a': default: 'x' is not an int64",
        "f.yaml:8:45: field 'v:b': unknown type 'int46'",
        "f.yaml:8:73: field 'v:c': ttl: found 5, expected a duration such as 90s, 5m, 24h or 1h30m",
        "f.yaml:11:17: feature service 's': unknown feature view 'w'",
        "featurerepo.yaml:1:10: project: found 'X', expected a name of lower-case letters, digits "
        "and _ that starts with a letter",
    ]  # fmt: skip


def test_a_misspelled_key_is_not_missing_as_well(problems: Problems) -> None:
    text = "entities:\n- nme: user\n  join_keys: {id: int64}\n"
    assert [p.split(" | ")[0] for p in problems(text)] == [
        "f.yaml:2:3: unknown key 'nme' in entity 1"
    ]


def test_an_unknown_key_hides_no_other_problem(problems: Problems) -> None:
    repo = "project: X\ndefinitions: []\nregistry: ''\nhttp: 1\n"
    assert len(problems("", repo)) == 4


def test_a_misspelled_list_is_read_as_the_one_it_means(problems: Problems) -> None:
    text = VIEW.replace("feature_views", "views") + "  fields: {a: int46}\n"
    assert [p.split(" | ")[0] for p in problems(text)] == [
        "f.yaml:4:1: unknown key 'views'",
        "f.yaml:8:15: field 'v:a': unknown type 'int46'",
    ]


def test_a_password_in_a_file_is_not_shown(problems: Problems) -> None:
    repo = "project: p\ndefinitions: f.yaml\nonline_store: redis://u:hunter2@h\n"
    assert "found 'redis://***@h', expected a mapping" in problems("", repo)[0]


def test_names_are_not_missed_while_a_file_does_not_parse(problems: Problems) -> None:
    repo = "project: fraud\ndefinitions: [f.yaml, g.yaml]\n"
    text = VIEW.removeprefix(USER) + "  fields: {a: int64}\n"
    assert problems(text, repo) == [
        "featurerepo.yaml:2:23: no definition file matches 'g.yaml'"
        " | did you mean 'f.yaml'? known: f.yaml"
    ]


def test_one_service_cannot_need_two_types_of_one_join_key(problems: Problems) -> None:
    text = (
        VIEW + "  fields: {a: int64}\n"
        "- name: w\n  entity: card\n  stream: {refresh: 1h}\n  fields: {b: int64}\n"
        "feature_services:\n- name: s\n  features: [v, w]\n"
    ).replace("entities:\n", "entities:\n- name: card\n  join_keys: {user_id: int64}\n")
    assert "join key 'user_id' is string in entity 'user' and int64 in entity" in problems(text)[0]


SEVERAL = """\
entities:
- name: user
  join_keys: {user_id: strng}
  hash_tag: {join_key: usr}
feature_views:
- name: prof
  entity: usr
  batch: {ttll: 24h}
  stream: {refresh: 1m, odering: arrival}
  fields:
    a: {type: int64, default: 1e3, ttll: 5m}
    b: int46
    c: {type: int64, min: 5, max: 1, ttl: 9}
- name: p2
  entity: user
  batch: {refresh: 1h, expirs: field}
  fields: {d: {type: int64, ttl: 5m}, b: string}
- name: p3
  entity: user
  batch: {refresh: 1h, source: {type: sql, qery: q, timstamp_field: t, created_timestamp_field: c}}
  fields: {user_id: string, b: bool}
feature_services:
- name: s
  features: [prof, 'prof:zzz', nope, a:b:c, prof, 'prof:b']
  ownr: x
"""


def test_a_problem_neither_hides_nor_causes_another(problems: Problems) -> None:
    assert [problem.split(" | ")[0] for problem in problems(SEVERAL)] == [
        "f.yaml:3:24: entity 'user': join_keys.user_id: found 'strng', expected a join key type",
        "f.yaml:4:24: entity 'user': hash_tag: unknown join key 'usr'",
        "f.yaml:7:11: feature view 'prof': unknown entity 'usr'",
        "f.yaml:8:10: key 'refresh' is missing in batch of feature view 'prof'",
        "f.yaml:8:11: unknown key 'ttll' in batch of feature view 'prof'",
        "f.yaml:9:3: feature view 'prof': found both 'batch' and 'stream', expected exactly one",
        "f.yaml:9:25: unknown key 'odering' in stream of feature view 'prof'",
        "f.yaml:11:31: field 'prof:a': default: 1e3 is not an int64",
        "f.yaml:11:36: unknown key 'ttll' in field 'prof:a'",
        "f.yaml:12:8: field 'prof:b': unknown type 'int46'",
        "f.yaml:13:35: field 'prof:c': max: 1 is below min 5",
        "f.yaml:13:43: field 'prof:c': ttl: found 9, expected a duration such as 90s, 5m, 24h or "
        "1h30m",
        "f.yaml:16:24: unknown key 'expirs' in batch of feature view 'p2'",
        "f.yaml:20:44: unknown key 'qery' in batch.source of feature view 'p3'",
        "f.yaml:20:53: unknown key 'timstamp_field' in batch.source of feature view 'p3'",
        "f.yaml:21:12: field 'p3:user_id' has the name of a join key of entity 'user'",
        "f.yaml:21:29: field 'p3:b': feature view 'p2' (f.yaml:17:39) already declares 'b' for "
        "entity 'user'",
        "f.yaml:24:20: feature service 's': unknown field 'zzz' in feature view 'prof'",
        "f.yaml:24:32: feature service 's': unknown feature view 'nope'",
        "f.yaml:24:38: feature service 's': features[4]: found 'a:b:c', expected view:field, or "
        "view for all its fields",
        "f.yaml:24:45: feature service 's': 'prof' is listed twice",
        "f.yaml:25:3: unknown key 'ownr' in feature service 's'",
    ]


def test_a_misspelled_name_is_known_to_others(problems: Problems) -> None:
    text = VIEW.replace("name: user", "nme: user") + "  fields: {a: int64}\n"
    assert len(problems(text)) == 1
    assert len(problems(text.replace("entity: user", "entity: usr"))) == 2
