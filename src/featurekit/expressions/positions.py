"""Where a character of an expression is in the YAML file that holds it.

YAML folds lines and strips indentation, but keeps every character that is not white space, in order.
"""

from __future__ import annotations

import re

_HEADER = re.compile(r"(?:&\S+\s+)?(?:(?P<block>[|>][^\n]*\n)|(?P<quote>['\"])|)")


def yaml_position(source: str, start: tuple[int, int], value: str, offset: int) -> tuple[int, int]:
    r"""Return the line and column, from 1, of a character of a value.

    Args:
        source: The text of the file.
        start: The line and column at which the value starts, with its quote or block indicator.
        value: The value.
        offset: The character of the value; its length stands for the place after its last character.

    Returns:
        The position; the start of the value if it has escapes, such as `"\n"`.
    """
    lines = source.split("\n")
    begin = sum(len(line) + 1 for line in lines[: start[0] - 1]) + start[1] - 1
    header = _HEADER.match(source, begin)
    index = header.end() if header else begin
    quote = header["quote"] if header else None
    count = sum(not character.isspace() for character in value[:offset])
    for expected in [c for c in value if not c.isspace()][: count + 1]:
        while index < len(source) and source[index].isspace():
            index += 1
        if not source.startswith(expected, index):
            return start
        if count == 0:
            break
        count -= 1
        index += 2 if quote == expected == "'" else 1
    line = source.count("\n", 0, index) + 1
    return line, index - (source.rfind("\n", 0, index) + 1) + 1
