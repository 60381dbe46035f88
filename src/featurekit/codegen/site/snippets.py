"""Commands and code that read the features of a page, to copy."""

from __future__ import annotations

import json
from collections.abc import Mapping

from featurekit.codegen.site.html import Html, code_block, el

_EXAMPLES: dict[str, object] = {
    "string": "ID",
    "date": "2026-01-31",
    "timestamp": "2026-01-31T12:00:00Z",
    "bool": True,
    "float64": 9.5,
    "float32": 9.5,
    "decimal": "9.50",
    "bytes": "aGk=",
}
"""An example of a join key or a value of a request, by type; the others are integers."""

_PYTHON = {
    "date": "date(2026, 1, 31)",
    "timestamp": "datetime(2026, 1, 31, 12, tzinfo=UTC)",
    "decimal": 'Decimal("9.50")',
    "bytes": 'b"hi"',
}
_IMPORTS = {
    "date": "from datetime import date",
    "timestamp": "from datetime import UTC, datetime",
    "decimal": "from decimal import Decimal",
}


def reading(
    features: str | list[str], keys: Mapping[str, str], sent: Mapping[str, str] | None = None
) -> list[Html]:
    """Return how to read a service, or a list of features.

    Args:
        features: The name of a service, or features as in a list.
        keys: The join keys of a request, with their types.
        sent: The values that a request sends along, with their types.
    """
    sent = sent or {}
    values = {name: _EXAMPLES.get(dtype, 1) for name, dtype in sent.items()}
    entity = {name: _EXAMPLES.get(dtype, 1) for name, dtype in keys.items()}
    types = {*keys.values(), *sent.values()}
    imports = "\n".join(line for name, line in _IMPORTS.items() if name in types)
    names = [features] if isinstance(features, str) else features
    options = "".join(f" --entity {name}={value}" for name, value in entity.items())
    options += "".join(f" --request {name}={_text(value)}" for name, value in values.items())
    argument = json.dumps(features)
    python = (
        (f"{imports}\n\n" if imports else "") + "from featurekit import FeatureStore\n\n"
        "store = FeatureStore()\n"
        f"reader = store.online_reader({argument})\n"
        f"row = reader.read({_python_argument(entity, keys)}{_python_request(values, sent)})"
    )
    body: dict[str, object] = {} if isinstance(features, str) else {"features": features}
    path = f"/v1/services/{features}/read" if isinstance(features, str) else "/v1/features/read"
    body |= {"entities": [entity]} | ({"request": values} if values else {})
    request = json.dumps(body, ensure_ascii=False).replace("'", "'\\''")
    return [
        code_block("Command line", f"featurekit get {' '.join(names)}{options}"),
        code_block("Python", python),
        code_block(
            "HTTP",
            f"curl -s http://127.0.0.1:6566{path} \\\n"
            "  -H 'Content-Type: application/json' \\\n"
            f"  -d '{request}'",
        ),
    ]


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _python_request(values: Mapping[str, object], types: Mapping[str, str]) -> str:
    if not values:
        return ""
    texts = (f'"{name}": {_literal(value, types[name])}' for name, value in values.items())
    return f", request={{{', '.join(texts)}}}"


def _python_argument(entity: Mapping[str, object], keys: Mapping[str, str]) -> str:
    values = {name: _literal(value, keys[name]) for name, value in entity.items()}
    if len(values) == 1:
        return next(iter(values.values()))
    return "{" + ", ".join(f'"{name}": {value}' for name, value in values.items()) + "}"


def _literal(value: object, dtype: str) -> str:
    return _PYTHON.get(dtype) or (repr(value) if isinstance(value, bool) else json.dumps(value))


def folded(summary: str, *children: Html) -> Html:
    """Return what is shown after a click."""
    return el("details", {"class": "source"}, el("summary", None, summary), *children)
