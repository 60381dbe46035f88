"""A table of invalid definitions and the problem that each one reports."""

from __future__ import annotations

import pytest

from tests.declare.conftest import Problems

USER = "entities:\n- name: user\n  join_keys: {user_id: string}\n"
VIEW = USER + "feature_views:\n- name: v\n  entity: user\n  batch: {refresh: 1h}\n"


def field(text: str) -> str:
    """Return a view with one field, in line 9, indented by four."""
    return f"{VIEW}  fields:\n    a: {text}\n"


WRONG_TEXT = {
    "duplicate key": (
        "entities: []\nentities: []\n",
        "f.yaml:2:1: duplicate key 'entities', first in line 1",
    ),
    "number as key": (
        "entities: []\n1: x\n",
        'f.yaml:2:1: found 1 as a key, expected text | quote the key: "1"',
    ),
    "list as key": ("[a]: b\n", "f.yaml:1:1: found a list as a key, expected text"),
    "merge key": (
        "entities:\n- <<: {a: 1}\n  name: a\n  join_keys: {b: string}\n",
        "f.yaml:2:3: the merge key '<<' is not supported"
        " | write the keys out, or give one value an anchor: join_keys: &keys {...}",
    ),
    "tag": ("entities: !!set {}\n", "f.yaml:1:11: the tag !!set is not supported"),
    "own tag": ("entities: !mine []\n", "f.yaml:1:11: the tag !mine is not supported"),
    "unknown alias": (
        "entities: *x\n",
        "f.yaml:1:11: undefined alias 'x' | quote text that starts with *",
    ),
    "alias of itself": (
        "entities: &a [*a]\n",
        "f.yaml:1:15: undefined alias 'a' | quote text that starts with *",
    ),
    "indentation": (
        "entities:\n- name: user\n   join_keys: {}\n",
        "f.yaml:3:13: unexpected key"
        " | the line above needs ': ' after its key, or another indentation",
    ),
    "less indentation": (
        "entities:\n  - name: user\n join_keys: {}\n",
        "f.yaml:3:2: wrong indentation | indent the line like the lines it belongs to",
    ),
    "open quote": (
        "entities:\n- name: 'user\n  join_keys: {}\n",
        "f.yaml:2:9: unclosed quote",
    ),
    "escape": (
        'entities:\n- owner: "C:\\data"\n',
        "f.yaml:2:13: unknown escape sequence"
        " | in double quotes, \\ starts an escape sequence: use single quotes",
    ),
    "glob": (
        "entities: [*.yaml]\n",
        "f.yaml:1:12: unquoted text cannot start with '*' | put the text in quotes",
    ),
    "other space": (
        "entities:\n- name:\xa0user\n  join_keys: {}\n",
        "f.yaml:2:8: found the space character U+00A0, expected a plain space",
    ),
    "UTF-16": (
        "entities: []".encode("utf-16-le").join([b"\xff\xfe", b""]),
        "f.yaml:1:1: found byte 0xff, expected UTF-8 | this is UTF-16: save the file as UTF-8",
    ),
    "mapping for a list": (
        "entities:\n  user: {join_keys: {}}\n",
        "f.yaml:2:3: entities: found a mapping, expected a list"
        " | start each item with a dash: - name: ...",
    ),
    "tab": ("entities:\n\t- a\n", "f.yaml:2:1: found a tab, expected spaces for indentation"),
    "two documents": (
        "entities: []\n---\nentities: []\n",
        "f.yaml:2:1: found a second document, expected one | remove the line '---'",
    ),
    "not UTF-8": (b"# \xc3\xa9\nentities: \xff\n", "f.yaml:2:11: found byte 0xff, expected UTF-8"),
    "control character": (
        "entities:\n  \x00\n",
        "f.yaml:2:3: found control character U+0000, expected printable text",
    ),
    "open bracket": (
        "entities: [1\nb: 2\n",
        "f.yaml:2:2: invalid YAML: did not find expected ',' or ']', "
        "while parsing a flow sequence that starts at 1:11",
    ),
    "colon": (
        "entities: b: c\n",
        "f.yaml:1:12: found a second ': ' in one line | quote text that contains ': '",
    ),
    "depth": ("[" * 900, "f.yaml:1:52: nested deeper than 50 levels"),
    "top": (
        "- a\n",
        "f.yaml:1:1: found a list, expected entities, requests, feature_views, feature_services"
        " | start with one of these keys, with its list below it",
    ),
    "unknown list": (
        "feature_vews: []\n",
        "f.yaml:1:1: unknown key 'feature_vews'"
        " | did you mean 'feature_views'? known: entities, feature_services, feature_views, "
        "requests",
    ),
    "no list": ("entities: 5\n", "f.yaml:1:11: entities: found 5, expected a list"),
    "no mapping": ("entities: [5]\n", "f.yaml:1:12: entity 1: found 5, expected a mapping"),
}

WRONG_VIEWS = {
    "reserved field name": (
        VIEW + "  fields: {a: int64, errors: int64}\n",
        "f.yaml:8:22: field 'v:errors' has a reserved name: it is an attribute or a "
        "key of rows and responses | rename the field",
    ),
    "service named like a view": (
        VIEW + "  fields: {a: int64}\nfeature_services: [{name: v, features: [v]}]\n",
        "f.yaml:9:27: feature service 'v' has the name of a feature view (f.yaml:5:9)"
        " | rename the service; a read could mean either",
    ),
    "unknown key": (
        VIEW + "  fields: {a: int64}\n  ownr: x\n",
        "f.yaml:9:3: unknown key 'ownr' in feature view 'v'"
        " | did you mean 'owner'? known: batch, deprecated, description, entity, fields, inputs, name, "
        "owner, stream, tags",
    ),
    "key of another level": (
        VIEW + "  fields: {a: int64}\n  ttl: 3h\n",
        "f.yaml:9:3: unknown key 'ttl' in feature view 'v' | 'ttl' belongs under 'batch'",
    ),
    "unknown entity": (
        VIEW.replace("entity: user", "entity: usr") + "  fields: {a: int64}\n",
        "f.yaml:6:11: feature view 'v': unknown entity 'usr' | did you mean 'user'? known: user",
    ),
    "neither kind": (
        USER + "feature_views:\n- name: v\n  entity: user\n  fields: {a: int64}\n",
        "f.yaml:5:3: feature view 'v': found neither 'batch' nor 'stream', expected exactly one",
    ),
    "no fields": (
        VIEW + "  fields: {}\n",
        "f.yaml:8:11: feature view 'v': fields: found an empty value, expected at least one"
        " | for example `fields: {country_iso: string, tx_count_7d: {type: int64, default: 0}}`",
    ),
    "fields as list": (
        VIEW + "  fields: [a]\n",
        "f.yaml:8:11: feature view 'v': fields: found a list, expected a mapping"
        " | for example `fields: {country_iso: string, tx_count_7d: {type: int64, default: 0}}`",
    ),
    "duration without unit": (
        VIEW.replace("1h", "5") + "  fields: {a: int64}\n",
        "f.yaml:7:20: feature view 'v': batch.refresh: found 5, expected a duration such as 90s, "
        "5m, 24h or 1h30m | write a unit: 5s, 5m, 5h or 5d",
    ),
    "choice": (
        VIEW.replace("1h", "1h, expires: keyy") + "  fields: {a: int64}\n",
        "f.yaml:7:33: feature view 'v': batch.expires: found 'keyy', expected key or field"
        " | did you mean 'key'? known: field, key",
    ),
    "source type": (
        VIEW.replace("1h", "1h, source: {type: parqet}") + "  fields: {a: int64}\n",
        "f.yaml:7:39: feature view 'v': batch.source: unknown source type 'parqet'"
        " | did you mean 'parquet'? known: csv, jsonl, parquet, python, sql, table",
    ),
    "source key": (
        VIEW.replace("1h", "1h, source: {type: csv, path: x, delimter: ;}")
        + "  fields: {a: int64}\n",
        "f.yaml:7:53: unknown key 'delimter' in batch.source of feature view 'v' | did you mean "
        "'delimiter'? known: columns, created_timestamp_field, date_partition_column, delimiter, "
        "encoding, hive_partitioning, null, path, static, timestamp_field, type",
    ),
    "source without type": (
        VIEW.replace("1h", "1h, source: {path: x}") + "  fields: {a: int64}\n",
        "f.yaml:7:32: key 'type' is missing in batch.source of feature view 'v'"
        " | for example `source: {type: parquet, path: data/users.parquet}`",
    ),
    "column of nothing": (
        VIEW.replace("1h", "1h, source: {type: csv, path: x, columns: {b: B}}")
        + "  fields: {a: int64}\n",
        "f.yaml:7:63: feature view 'v': columns: unknown field or join key 'b'"
        " | known: a, user_id",
    ),
    "join key as field": (
        VIEW + "  fields: {user_id: string}\n",
        "f.yaml:8:12: field 'v:user_id' has the name of a join key of entity 'user'"
        " | rename the field; join keys are already part of the key",
    ),
    "ttl that cannot act": (
        field("{type: int64, ttl: 5m}"),
        "f.yaml:9:22: field 'v:a': ttl has no effect, because the view expires with the "
        "entity's key"
        " | remove it, or set `expires: field` under `batch`",
    ),
    "dead letters that are the source": (
        VIEW.replace(
            "batch: {refresh: 1h}",
            "stream: {refresh: 1m, source: {type: redis_stream, stream: s, dead_letter: s}}",
        )
        + "  fields: {a: int64}\n",
        "f.yaml:7:78: feature view 'v': dead_letter 's' is the source of the view itself, so that"
        " a rejected event would be read again without end | name another one, or remove the key",
    ),
    "dead letters of a topic that are the source": (
        VIEW.replace(
            "batch: {refresh: 1h}",
            "stream: {refresh: 1m, source: {type: kafka, bootstrap_servers: b, topic: s,"
            " dead_letter: s}}",
        )
        + "  fields: {a: int64}\n",
        "f.yaml:7:92: feature view 'v': dead_letter 's' is the source of the view itself, so that"
        " a rejected event would be read again without end | name another one, or remove the key",
    ),
    "dead letters that another view returns": (
        VIEW.replace(
            "batch: {refresh: 1h}",
            "stream: {refresh: 1m, source: {type: redis_stream, stream: s}}",
        )
        + "  fields: {a: int64}\n"
        "- name: w\n  entity: user\n  stream: {refresh: 1m, source: {type: redis_stream,"
        " stream: 's:dead', dead_letter: s}}\n  fields: {b: int64}\n",
        "f.yaml:11:85: feature view 'w': dead_letter 's' leads back to the view's source through"
        " the dead letters of other views, so that a rejected event would be read again without end"
        " | name another one, or remove the key",
    ),
    "two owners": (
        VIEW + "  fields: {a: int64}\n"
        "- name: w\n  entity: user\n  batch: {refresh: 1h}\n  fields: {b: int64}\n",
        "f.yaml:11:10: feature view 'w' cannot set the TTL of entity 'user': feature view 'v' "
        "(f.yaml:7:10) already sets it"
        " | a key has one TTL; set `expires: field` under `batch` of one of the views",
    ),
    "field of two views": (
        VIEW + "  fields: {a: int64}\n"
        "- name: w\n  entity: user\n  stream: {refresh: 1h}\n  fields: {a: int64}\n",
        "f.yaml:12:12: field 'w:a': feature view 'v' (f.yaml:8:12) already declares 'a' for entity "
        "'user'"
        " | rename one of the fields; all views of an entity share one hash",
    ),
    "declared twice": (
        USER + "- name: user\n  join_keys: {id: int64}\n",
        "f.yaml:4:9: entity 'user' is declared twice, first at f.yaml:2:9",
    ),
    "name": (
        "entities:\n- name: User\n  join_keys: {id: int64}\n",
        "f.yaml:2:9: entity 'User': name: found 'User', expected a name of lower-case letters, "
        "digits and _ that starts with a letter",
    ),
    "name that others refer to": (
        VIEW.replace("name: user", "name: User") + "  fields: {a: int64}\n",
        "f.yaml:2:9: entity 'User': name: found 'User', expected a name of lower-case letters, "
        "digits and _ that starts with a letter",
    ),
    "key type": (
        USER.replace("string", "strng"),
        "f.yaml:3:24: entity 'user': join_keys.user_id: found 'strng', expected a join key type"
        " | did you mean 'string'? known: date, int32, int64, string",
    ),
    "hash tag of nothing": (
        USER + "  hash_tag: {join_key: usr_id}\n",
        "f.yaml:4:24: entity 'user': hash_tag: unknown join key 'usr_id'"
        " | did you mean 'user_id'? known: user_id",
    ),
    "hash tag with braces": (
        USER + "  hash_tag: {literal: '{x}'}\n",
        "f.yaml:4:23: entity 'user': hash_tag.literal: found '{x}', expected text without braces, "
        "spaces or control characters",
    ),
    "unknown view": (
        VIEW + "  fields: {a: int64}\nfeature_services:\n- name: s\n  features: [w]\n",
        "f.yaml:11:14: feature service 's': unknown feature view 'w' | known: v",
    ),
    "unknown field": (
        VIEW + "  fields: {abc: int64}\nfeature_services:\n- name: s\n  features: ['v:abd']\n",
        "f.yaml:11:14: feature service 's': unknown field 'abd' in feature view 'v'"
        " | did you mean 'abc'? known: abc",
    ),
    "mapping for a feature": (
        VIEW + "  fields: {a: int64}\nfeature_services:\n- name: s\n  features: [v: a]\n",
        "f.yaml:11:14: feature service 's': features[1]: found a mapping, expected view:field"
        " | remove the space after the colon: v:a",
    ),
    "no space after a colon": (
        VIEW + "  fields: {a:int64}\n",
        "f.yaml:8:12: field 'v:a:int64': found 'a:int64', expected a Python identifier that "
        "starts with a letter and is not a keyword"
        " | add a space after the colon: a: int64",
    ),
    "name that looks right": (
        VIEW.replace("entity: user", "entity: us\u200ber") + "  fields: {a: int64}\n",
        "f.yaml:6:11: feature view 'v': unknown entity 'us\\u200ber'"
        " | did you mean 'user'? known: user",
    ),
    "query file that is a folder": (
        VIEW.replace("1h", "1h, source: {type: sql, query_file: .}") + "  fields: {a: int64}\n",
        "f.yaml:7:56: feature view 'v': cannot read '.': Is a directory",
    ),
    "dot for a colon": (
        VIEW + "  fields: {a: int64}\nfeature_services:\n- name: s\n  features: [v.a]\n",
        "f.yaml:11:14: feature service 's': features[1]: found 'v.a', expected view:field, or view "
        "for all its fields",
    ),
    "empty service": (
        VIEW + "  fields: {a: int64}\nfeature_services:\n- name: s\n  features: []\n",
        "f.yaml:11:13: feature service 's': features: found an empty value, expected at least one"
        " | for example `features: [user_profile:tx_count_7d, user_activity]`",
    ),
}

TYPES_ELSEWHERE = {
    "datetime": "timestamp", "UnixTimestamp": "timestamp", "UNIX_TIMESTAMP": "timestamp",
    "datetime64[ns]": "timestamp", "double": "float64", "Double Precision": "float64",
    "Float32": "float32", "INT64": "int64", "bigint": "int64", "int": "int64", "String": "string",
    "VARCHAR(20)": "string", "Boolean": "bool", "Map": "json", "'list<string>'": "array<string>",
    "Array(Int64)": "array<int64>", "'List[double]'": "array<float64>",
    "UNIX_TIMESTAMP_LIST": "array<timestamp>", "'text[]'": "array<string>",
    "'vector<float, 8>'": "vector<float32, 8>",
}  # fmt: skip
"""Types as Feast, SQL and pandas spell them, and the type that the hint names."""


@pytest.mark.parametrize("written", TYPES_ELSEWHERE)
def test_a_type_of_another_system_is_refused_with_the_one_that_it_means_here(
    problems: Problems, written: str
) -> None:
    [problem] = problems(field(written))
    assert ": unknown type '" in problem
    assert f" | did you mean '{TYPES_ELSEWHERE[written]}'? known: array<T>, " in problem


def test_the_type_of_a_join_key_has_the_same_hints(problems: Problems) -> None:
    for written, hint in {"Int64": "int64", "String": "string", "datetime": ""}.items():
        [problem] = problems(USER.replace("user_id: string", f"user_id: {written}"))
        assert (f"did you mean '{hint}'?" in problem) == bool(hint)


WRONG_FIELDS = {
    "int46": (8, "unknown type 'int46' | did you mean 'int64'? known: array<T>, bool, bytes, "
              "date, decimal, float32, float64, int32, int64, json, string, timestamp, "
              "vector<float32, N>"),
    "[]": (
        8, "found a list, expected a mapping | for example `a: int64` or `a: {type: int64, default: 0}`"),
    "null": (
        8, "found null, expected a mapping | for example `a: int64` or `a: {type: int64, default: 0}`"),
    "{type: }": (15, "type: found nothing, expected text"),
    "{type: int64, default: '5'}": (31, "default: '5' is not an int64"),
    "{type: int64, default: 1e3}": (
        31,
        "default: 1e3 is not an int64 | write an integer without a point or exponent; "
        "in a `type: sql` source, CAST(column AS BIGINT)",
    ),
    "{type: int64, default: 12:30}": (31, "default: '12:30' is not an int64"),
    "{type: int32, default: 3000000000}": (31, "default: 3000000000 is outside int32"),
    "{type: bool, default: NO}": (30, "default: 'NO' is not a bool"),
    "{type: string, default: null}": (
        32, "default: found null, expected a value of type string"
        " | remove the key, or quote the value if it is text"),
    "{type: float64, default: .nan}": (33, "default: .nan is not finite; `allow_nan: true` allows it"),
    "{type: int64, default: 1, min: 2}": (31, "default: 1 is below min 2"),
    "{type: decimal, default: 2.5, max: 2.4}": (33, "default: 2.5 is above max 2.4"),
    "{type: int64, min: 5, max: 1}": (35, "max: 1 is below min 5"),
    "{type: int64, min: 1.5}": (27, "min: found 1.5, expected an int64"),
    "{type: string, min: 1}": (28, "min: applies only to a number, and the field is a string"),
    "{type: int64, pattern: a}": (
        31, "pattern: applies only to a string, and the field is an int64"),
    "{type: string, pattern: '['}": (
        32, "pattern: found '[', expected a regular expression: "
        "unterminated character set at position 0"),
    "{type: string, pattern: 'x{99999999999}'}": (
        32, "pattern: found 'x{99999999999}', expected a regular expression: "
        "the repetition number is too large"),
    "{type: string, pattern: '[[a]'}": (
        32, "pattern: found '[[a]', expected a regular expression: "
        "Possible nested set at position 1"),
    "{type: string, pattern: '(a+)+'}": (
        32, "pattern: '(a+)+' may take very long on some texts: "
        "the quantifier in `(a+)+` can divide one text in several ways"
        " | make each part begin with what the part before it cannot match"),
    "{type: string, default: b, pattern: a}": (
        32, "default: 'b' does not match pattern 'a'"),
    "{type: string, max_length: 0}": (
        35, "max_length: found 0, expected a whole number above 0"),
    "{type: string, default: abc, max_length: 2}": (
        32, "default: 'abc' has length 3, above max_length 2"),
    "{type: int64, allow_nan: true}": (
        33, "allow_nan: applies only to a float, and the field is an int64"),
    "{type: int64, required: yes}": (32, "required: found 'yes', expected true or false"),
    "{type: json, one_of: [a]}": (29, "one_of: applies only to a scalar, and the field is a JSON value"),
    "{type: int64, one_of: [1, x]}": (34, "one_of: 'x' is not an int64"),
    "{type: int64, one_of: [1, 1]}": (30, "one_of: 1 is listed twice"),
    "{type: string, default: NO, one_of: [SE]}": (32, "default: 'NO' is not one of SE"),
    "{type: array<int64>, default: [1, a]}": (38, "default: 'a' is not an int64"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "problem"), [*WRONG_TEXT.values(), *WRONG_VIEWS.values()],
                         ids=[*WRONG_TEXT, *WRONG_VIEWS])  # fmt: skip
def test_a_wrong_definition_is_one_clear_problem(
    problems: Problems, text: str | bytes, problem: str
) -> None:
    assert problems(text) == [problem]


@pytest.mark.parametrize(("text", "where", "fact"), [(t, *v) for t, v in WRONG_FIELDS.items()])
def test_a_wrong_field_is_one_clear_problem(
    problems: Problems, text: str, where: int, fact: str
) -> None:
    assert problems(field(text)) == [f"f.yaml:9:{where}: field 'v:a': {fact}"]


def test_aliases_that_expand_too_far_are_refused(problems: Problems) -> None:
    lines = ["a: &a [x,x,x,x,x,x,x,x,x,x]"]
    for this, last in zip("bcdefgh", "abcdefg", strict=True):
        lines.append(f"{this}: &{this} [{','.join([f'*{last}'] * 10)}]")
    assert problems("\n".join(lines))[0].endswith("more than 200000 values after alias expansion")


@pytest.mark.parametrize("value", ["[*a{}]", "{{k: *a{}}}", "[[], *a{}]", "{{*a{}: 1}}"])
def test_aliases_that_nest_too_deep_are_refused(problems: Problems, value: str) -> None:
    lines = ["a0: &a0 []", *(f"a{i}: &a{i} {value.format(i - 1)}" for i in range(1, 3000))]
    assert problems("\n".join(lines))[0].endswith("nested deeper than 50 levels")


def test_files_that_are_too_large_are_refused_while_they_are_read(
    problems: Problems, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("featurekit.loader.document._MAX_VALUES", 2000)
    [found] = problems("- {a: b}\n" * 1000)
    assert found.startswith("f.yaml:667:")
    assert found.endswith("more than 2000 values after alias expansion")
    assert problems("#" * 10_000_001) == ["f.yaml: cannot read the file: larger than 10 MB"]


ALIASES = """
entities:
  - {name: airport, join_keys: {airport: string}}
  - {name: route, join_keys: {origin: string, dest: string}}
  - {name: gate, join_keys: {gate: int64}}
feature_views:
  - {name: weather, entity: airport, batch: {refresh: 1h}, fields: {wind: float64}}
  - {name: delays, entity: route, batch: {refresh: 1h}, fields: {minutes: int64}}
  - {name: doors, entity: gate, batch: {refresh: 1h}, fields: {open: bool}}
feature_services:
  - name: flight
    features:
      - delays
"""


@pytest.mark.parametrize(
    ("item", "problem"),
    [
        (
            "{view: wether, as: o}",
            ":14:16: feature service 'flight': unknown feature view 'wether'",
        ),
        (
            "{view: weather, as: o, fields: [wnd]}",
            ":14:41: feature service 'flight': unknown field",
        ),
        (
            "{view: weather, join_keys: {airprt: o}}",
            ":14:36: feature service 'flight': unknown join",
        ),
        (
            "{view: delays, join_keys: {origin: dest}, as: o}",
            "two join keys would be named 'dest'",
        ),
        (
            "{view: weather, as: Origin}",
            "features[2].as: found 'Origin', expected a name of lower-",
        ),
        (
            "{view: weather, like: o}",
            "unknown key 'like' in features[2] of feature service 'flight'",
        ),
        ("{view: weather, as: o, fields: []}", "features[2].fields: found an empty value"),
        ("{as: o, view: }", "features[2].view: found nothing"),
        (
            "{view: weather, join_keys: airport}",
            "features[2].join_keys: found 'airport', expected a",
        ),
        (
            "{view: weather, as: delays}",
            "the alias 'delays' is the name of another view of the list",
        ),
        ("{view: weather, as: route}", "'route' would stand for two entities of one row"),
        ("{view: doors, as: o, join_keys: {gate: dest}}", "join key 'dest' is string in entity"),
        ("{view: delays, as: o}\n      - {view: delays, as: o}", "'delays as o' is listed twice"),
        (
            "{weather: wind}",
            "found a mapping, expected view:field | remove the space after the colon",
        ),
    ],
)
def test_an_aliased_view_of_a_service_is_checked(
    problems: Problems, item: str, problem: str
) -> None:
    found = problems(ALIASES + f"      - {item}\n")
    assert any(problem in each for each in found), found
    assert len(found) == 1, found
