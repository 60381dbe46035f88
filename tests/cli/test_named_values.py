"""Names and values in an option, as in `--request amount=5,ip_country=NO`."""

from __future__ import annotations

import pytest

from featurekit.cli.named_values import parse_named_values
from featurekit.errors import RequestError
from featurekit.types import parse_dtype

TYPES = {"amount": "float64", "note": "string", "tags": "array<string>", "extra": "json"}
DTYPES = {name: parse_dtype(text) for name, text in TYPES.items()}


def parsed(*texts: str) -> dict[str, object]:
    return parse_named_values(DTYPES, texts, option="--request", what="request value")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("amount=5,note=x", {"amount": 5.0, "note": "x"}),
        ("amount=5, note=x", {"amount": 5.0, "note": "x"}),
        ("note=a,b,amount=5", {"note": "a,b", "amount": 5.0}),
        ("note=", {"note": ""}),
        ("note=,amount=5", {"note": "", "amount": 5.0}),
        ("note=x=1", {"note": "x=1"}),
        ('note="a,b=c",amount=5', {"note": "a,b=c", "amount": 5.0}),
        (r'note="\"a\""', {"note": '"a"'}),
        ('note="a" and "b"', {"note": '"a" and "b"'}),
        ('note="a', {"note": '"a'}),
        ('note=5" disk,amount=3', {"note": '5" disk', "amount": 3.0}),
        ("note=[a,amount=3", {"note": "[a", "amount": 3.0}),
        ('tags=["a,b=c"],amount=5', {"tags": ["a,b=c"], "amount": 5.0}),
        ('extra={"a": ",b=c"},amount=5', {"extra": {"a": ",b=c"}, "amount": 5.0}),
        ('extra="a,b=c"', {"extra": "a,b=c"}),
    ],
)
def test_a_comma_ends_a_value_only_before_a_name(text: str, expected: dict[str, object]) -> None:
    assert parsed(text) == expected


@pytest.mark.parametrize("name", ["amont", "Amount", "view.amount", "view:amount", "a-mount"])
def test_an_unknown_name_after_a_comma_is_refused(name: str) -> None:
    with pytest.raises(RequestError) as error:
        parsed(f"note=x,{name}=5")
    assert error.value.message == f"unknown request value '{name}'"
    assert error.value.hint.startswith("did you mean 'amount'?")
    assert error.value.hint.endswith("write a text with a comma and = in double quotes")


@pytest.mark.parametrize("texts", [["amount=1,amount=2"], ["amount=1", "amount=2"]])
def test_a_name_is_given_once(texts: list[str]) -> None:
    with pytest.raises(RequestError, match="request value 'amount' is given twice"):
        parsed(*texts)


@pytest.mark.parametrize("text", ["", "amount", "=5", ",amount=5"])
def test_a_text_without_a_name_is_refused(text: str) -> None:
    with pytest.raises(RequestError):
        parsed(text)
