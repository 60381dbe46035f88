"""Store URLs: parsing, errors, and secrets that must not be shown."""

from __future__ import annotations

import pickle
import traceback
from pathlib import Path

import pytest

from featurekit.errors import StoreError
from featurekit.models.config import OnlineStoreConfig, Tls
from featurekit.store_options import SCHEMES, STORE_OPTIONS, TLS_OPTIONS
from featurekit.stores.error_mapping import user_text
from featurekit.stores.url import StoreUrl


def parse_error(text: str) -> str:
    with pytest.raises(StoreError) as caught:
        StoreUrl.parse(text)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("redis://", "redis://localhost:6379"),
        ("redis://db.example", "redis://db.example:6379"),
        ("redis://db.example:7000/3", "redis://db.example:7000/3"),
        ("redis://db.example?db=3", "redis://db.example:6379/3"),
        ("redis://[::1]:7000", "redis://[::1]:7000"),
        ("redis://[::1]", "redis://[::1]:6379"),
        ("rediss://ann:pw@db.example", "rediss://ann@db.example:6379"),
        ("redis://:pw@db.example", "redis://db.example:6379"),
        ("unix:///run/redis.sock?db=2", "unix:///run/redis.sock/2"),
        ("unix://ann:pw@/run/redis.sock", "unix://ann@/run/redis.sock"),
        (
            "redis+cluster://ann:pw@a:7000,b,[::1]:7002",
            "redis+cluster://ann@a:7000,b:6379,[::1]:7002",
        ),
        ("rediss+cluster://a:7000/0", "rediss+cluster://a:7000"),
        ("redis+sentinel://:pw@a,b:7001/main", "redis+sentinel://a:26379,b:7001/main"),
        ("redis+sentinel://a/main/3?sentinel_password=pw", "redis+sentinel://a:26379/main/3"),
        ("embedded://.featurekit/online", "embedded://.featurekit/online"),
        ("memory://tests", "memory://tests"),
    ],
)
def test_a_url_is_shown_without_its_password(text: str, expected: str) -> None:
    url = StoreUrl.parse(text)
    assert str(url) == expected
    assert "pw" not in repr(url)


def test_a_password_may_hold_any_character() -> None:
    url = StoreUrl.parse("redis://ann:p%40%2F%3A%25@db.example")
    assert (url.username, url.password) == ("ann", "p@/:%")


def test_a_pickled_url_keeps_its_password() -> None:
    url = StoreUrl.parse("redis://:pw@db.example")
    assert pickle.loads(pickle.dumps(url)).password == "pw"


def test_options_are_parsed() -> None:
    url = StoreUrl.parse(
        "redis://h?timeout=30ms&connect_timeout=2s&load_timeout=1.5&retries=0&max_connections=4"
    )
    assert (url.timeout_s, url.connect_timeout_s, url.load_timeout_s) == (0.03, 2.0, 1.5)
    assert (url.retries, url.max_connections) == (0, 4)


def test_options_of_the_url_override_the_file() -> None:
    file = {"timeout": "30ms", "retries": "5", "read_from": "replica", "ssl_ca_certs": "file.pem"}
    url = StoreUrl.parse("rediss+cluster://h?retries=0&ssl_ca_certs=url.pem", file)
    assert (url.timeout_s, url.retries, url.read_from) == (0.03, 0, "replica")
    assert url.tls == (("ssl_ca_certs", "url.pem"),)


def test_options_of_the_file_that_the_scheme_lacks_are_ignored() -> None:
    file = {"read_from": "replica", "ssl_ca_certs": "ca.pem", "timeout": "1s"}
    assert StoreUrl.parse("embedded://x", file).tls == ()
    assert StoreUrl.parse("unix:///s", file).timeout_s == 1


def test_tls_options_of_the_file_require_an_encrypted_scheme() -> None:
    with pytest.raises(StoreError, match=r"has tls:, but redis\+cluster:// is not enc") as caught:
        StoreUrl.parse("redis+cluster://h", {"ssl_ca_certs": "ca.pem"})
    assert "rediss+cluster://" in caught.value.hint


def test_tls_options_are_parsed() -> None:
    url = StoreUrl.parse(
        "rediss://h?ssl_ca_certs=ca.pem&ssl_check_hostname=false"
    ).with_absolute_paths(Path("/repo"))
    assert url.tls == (("ssl_ca_certs", "/repo/ca.pem"), ("ssl_check_hostname", False))


def test_the_url_of_one_server_keeps_login_and_options() -> None:
    url = StoreUrl.parse("rediss+sentinel://ann:pw@a:1,b:2/main/3?read_from=replica&timeout=1s")
    assert (url.hosts, url.service, url.read_from) == ((("a", 1), ("b", 2)), "main", "replica")
    one = url.for_server("c", 6380)
    assert str(one) == "rediss://ann@c:6380/3"
    assert (one.password, one.timeout_s) == ("pw", 1.0)


def test_the_environment_has_a_separate_login_for_sentinels() -> None:
    env = {"FEATUREKIT_ONLINE_PASSWORD": "pw", "FEATUREKIT_SENTINEL_PASSWORD": "other"}
    url = StoreUrl.parse("redis+sentinel://a/main").with_secrets(env)
    assert (url.password, url.sentinel_username, url.sentinel_password) == ("pw", "", "other")
    assert "pw" not in repr(url)
    assert "other" not in repr(url)


def test_relative_paths_are_relative_to_the_root() -> None:
    root = Path("/repo")
    assert (
        StoreUrl.parse("embedded://.fk/online").with_absolute_paths(root).path
        == "/repo/.fk/online"
    )
    assert StoreUrl.parse("unix://run/s").with_absolute_paths(root).path == "/repo/run/s"
    assert StoreUrl.parse("unix:///run/s").with_absolute_paths(root).path == "/run/s"


def test_a_url_without_a_password_takes_it_from_the_environment() -> None:
    env = {"FEATUREKIT_ONLINE_USERNAME": "ann", "FEATUREKIT_ONLINE_PASSWORD": "pw"}
    url = StoreUrl.parse("redis://h").with_secrets(env)
    assert (url.username, url.password) == ("ann", "pw")
    assert StoreUrl.parse("redis://bob:mine@h").with_secrets(env).password == "mine"
    assert StoreUrl.parse("memory://x").with_secrets(env).password == ""


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("reddis://h", "did you mean 'redis'?"),
        ("localhost:6379", "has no scheme"),
        ("", "has no scheme"),
        ("redis+cluster://a:1,b:2/3", "a cluster has no database 3"),
        ("redis+cluster://a:1,b:two", "port is not a number"),
        ("redis+cluster://a?sentinel_password=x", "no option 'sentinel_password'"),
        ("redis+sentinel://a:1,b:2", "needs the name of the service"),
        ("redis+sentinel://a:1/main/one", "db is not a number"),
        ("redis://h?read_from=replica", "no option 'read_from'"),
        ("redis+cluster://h?read_from=nearest", "primary or replica"),
        ("redis://h?timout=1s", "did you mean 'timeout'?"),
        ("redis://h?ssl_ca_certs=x", "no option 'ssl_ca_certs'"),
        ("redis://h?timeout=soon", "timeout: 'soon' is not a duration"),
        ("redis://h?timeout=0", "timeout: '0' is not a duration"),
        ("redis://h?retries=-1", "retries is not a number"),
        ("redis://h:http", "port is not a number"),
        ("redis://h:99999", "an integer from 0 to 65535"),
        ("redis://h/users", "db is not a number"),
        ("rediss://h?ssl_cert_reqs=maybe", "required, optional or none"),
        ("rediss://h?ssl_check_hostname=maybe", "neither true nor false"),
        ("unix://", "needs the path of a socket"),
        ("embedded://", "needs a folder"),
    ],
)
def test_an_invalid_url_is_an_error(text: str, part: str) -> None:
    assert part in parse_error(text)


SECRET = "s3cR3t"


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    "rest",
    [
        *(
            ":SECRET",
            "user:SECRET",
            "SECRET@h",
            "SECRET@h:x",
            ":SECRET@h:x",
            "h:SECRET",
            "h:1/SECRET",
        ),
        *(
            "u:a/SECRET",
            "u:a?SECRET@h",
            "u:a?timeout=SECRET@h",
            "u:a?x=1&SECRET=2@h",
            ":SECRET@h/x",
        ),
        *("u:a?SECRET", "u:a?SECRET@h:1/0?timeout=1s", "u:SECRET@a@h:x", "u:a#SECRET@h:x"),
        *("u:SECRET@h?timout=1s", "u:SECRET@h?timeout=x", "u:SECRET%40@h:x", "h?password=SECRET"),
        *(
            "u:SECRET@h?a=b@c",
            "u:a:SECRET@h:x",
            "h1:1,u:SECRET",
            "u:%53SECRET@h:x",
            "u@SECRET@h:x",
        ),
        *("h?sentinel_password=SECRET&x=1", "h/s?sentinel_password=SECRET@&x=1", "u:a\nSECRET"),
        *(
            "h:SECRET1" + "1" * 5000,
            "[::1]:SECRET",
            "[SECRET",
            "h/s/SECRET",
            "u:a&SECRET",
            "u:a;SECRET",
        ),
    ],
)
def test_nothing_shows_a_password(scheme: str, rest: str) -> None:
    text = f"{scheme}://{rest.replace('SECRET', SECRET)}"
    try:
        url = StoreUrl.parse(text)
    except StoreError as error:
        trace = "".join(traceback.TracebackException.from_exception(error).format())
        shown = [trace, repr(error)]
    else:
        is_address = SECRET in f"{url.address} {url.service}"  # it stands where the host does
        shown = [] if is_address else [str(url), url.options_text]
    assert SECRET not in "".join(shown)


def test_a_name_without_a_password_is_not_shown() -> None:
    assert user_text(StoreUrl.parse(f"redis://{SECRET}@h")) == "user '***'"
    assert user_text(StoreUrl.parse("redis://ann:pw@h")) == "user 'ann'"


@pytest.mark.parametrize("text", [SECRET, f":{SECRET}@h", f"{SECRET}@h://x", f"{SECRET}://h"])
def test_an_error_of_the_scheme_does_not_show_a_password(text: str) -> None:
    assert SECRET not in parse_error(text)


def test_the_docs_list_every_option_and_scheme() -> None:
    page = (Path(__file__).parents[2] / "docs" / "stores.md").read_text()
    rows = ["| In the URL | In the file | Default | |", "|---|---|---|---|"]
    for option in STORE_OPTIONS.values():
        key, _, nested = (option.yaml_key or "").partition(".")
        in_file = f"`{key}: {{{nested}:}}`" if nested else f"`{key}`" if key else ""
        default = f"`{option.default_text}`" if option.default_text else ""
        rows.append(f"| `{option.name}` | {in_file} | {default} | {option.description} |")
    assert "\n".join([*rows, ""]) in page
    assert [scheme for scheme in SCHEMES if f"`{scheme}://" not in page] == []


def test_the_file_accepts_exactly_the_options_with_a_yaml_key() -> None:
    top = OnlineStoreConfig.model_fields.keys() - {"url", "key_prefix", "tls"}
    keys = top | {f"tls.{name}" for name in Tls.model_fields}
    assert keys == {option.yaml_key for option in STORE_OPTIONS.values() if option.yaml_key}


def test_a_url_without_options_has_the_defaults_of_the_table() -> None:
    url = StoreUrl.parse("redis://h")
    for option in STORE_OPTIONS.values():
        if option.default_text and option.name not in TLS_OPTIONS:
            explicit = StoreUrl.parse(f"redis+sentinel://h/s?{option.name}={option.default_text}")
            assert getattr(explicit, option.attribute) == getattr(url, option.attribute)
