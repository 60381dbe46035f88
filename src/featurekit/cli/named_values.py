"""The values of options such as `--entity origin=JFK,dest=LAX`: names and values, parted by commas."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence

from featurekit.errors import RequestError, ValueRefusedError, name_hint
from featurekit.types import DType, codec_of

_NEXT_NAME = re.compile(r",(?=\s*[^\W\d][\w.:-]*\s*=)")
_DECODER = json.JSONDecoder()


def parse_named_values(
    dtypes: Mapping[str, DType], texts: Sequence[str], *, option: str, what: str
) -> dict[str, object]:
    """Return the values of an option by name.

    A comma ends a value only if a name and `=` follow, and not in a JSON array, object or string. So a
    text that has such a part is written in double quotes: `note="a,b=c"`.

    Args:
        dtypes: The type of each value that may be given.
        texts: What was given, one text for each time that the option was.
        option: The option.
        what: What a value is, for messages.

    Raises:
        RequestError: A text is not NAME=VALUE, or a name is unknown or given twice.
        ValueRefusedError: A value is not of its type.
    """
    values: dict[str, object] = {}
    for name, text in (pair for each in texts for pair in _pairs(each)):
        if text is None:
            example = ",".join(f"{name}=…" for name in dtypes)
            raise RequestError(
                f"'{name}' is not NAME=VALUE", where=option, hint=f"for example {example}"
            )
        if name not in dtypes:
            hint = name_hint(name, dtypes)
            if values:
                hint += "; write a text with a comma and = in double quotes"
            raise RequestError(f"unknown {what} '{name}'", where=option, hint=hint)
        if name in values:
            raise RequestError(f"{what} '{name}' is given twice", where=option)
        try:
            values[name] = codec_of(dtypes[name]).parse(_unquoted(dtypes[name], text))
        except ValueRefusedError as error:
            raise ValueRefusedError(
                error.message, where=f"{option} {name}", hint=error.hint
            ) from error
    return values


def _pairs(text: str) -> Iterator[tuple[str, str | None]]:
    """Yield each name with the text of its value; `None` if there is no `=`."""
    rest: str | None = text
    while rest is not None:
        name, equals, value = rest.partition("=")
        if not equals:
            yield rest, None
            return
        end = _json_end(value)
        if end is None:
            found = _NEXT_NAME.search(value)
            end = found.start() if found else len(value)
        yield name.strip(), value[:end]
        rest = value[end + 1 :] if end < len(value) else None


def _json_end(text: str) -> int | None:
    """Return where a JSON array, object or string ends that is the whole value; else `None`."""
    if not text.startswith(("[", "{", '"')):
        return None
    try:
        _, end = _DECODER.raw_decode(text)
    except (ValueError, RecursionError):
        return None
    return end if end == len(text) or _NEXT_NAME.match(text, end) else None


def _unquoted(dtype: DType, text: str) -> str:
    """Return a text without its double quotes."""
    is_text = codec_of(dtype).python_type == "str"
    if not is_text or not text.startswith('"') or _json_end(text) != len(text):
        return text
    value: str = json.loads(text)
    return value
