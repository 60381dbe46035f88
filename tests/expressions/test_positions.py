"""The place of a character of an expression in a YAML file."""

from __future__ import annotations

import pytest

from featurekit.expressions.positions import yaml_position
from featurekit.loader.document import read_document

SOURCES = {
    "plain": "a: amount / nullif(avgg, 0)\n",
    "in a mapping": "x: {a: amount / nullif(avgg, 0), b: 1}\n",
    "plain over lines": "a: amount\n  + avgg\n",
    "folded": "a: >\n  amount\n    / nullif(avgg,\n  0)\n",
    "literal": "# é\na: |-  # a comment\n  case when x > 1\n  then avgg end\n",
    "single quotes": "a: 'country = ''NO'' and avgg > 1'\n",
    "single quotes over lines": "a: 'country = ''NO''\n\n  and avgg > 1'\n",
    "double quotes": 'a: "amount + avgg"\n',
    "an anchor": "a: &ratio amount / avgg\nb: *ratio\n",
    "non-ASCII": "a: s = '😀é' and avgg\n",
    "CRLF": "a: amount +\r\n  avgg\r\n",
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_a_character_is_found_in_every_style(source: str) -> None:
    document = read_document("f.yaml", source.encode())
    path, value = next((p, _value(document.data, p)) for p in document.values if p[-1:] == ("a",))
    _, line, column = document.at_character(path, value, value.index("avgg"))
    assert source.split("\n")[line - 1][column - 1 :].startswith("avgg")


def _value(data: object, path: tuple[object, ...]) -> str:
    for key in path:
        data = data[key]  # type: ignore[index]
    return str(data)


def test_escapes_give_the_start_of_the_value() -> None:
    assert yaml_position('a: "x\\n+ y"', (1, 4), "x\n+ y", 4) == (1, 4)


def test_the_end_is_after_the_last_character() -> None:
    assert yaml_position("a: x +", (1, 4), "x +", 3) == (1, 7)
