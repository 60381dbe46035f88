"""Commands and code that read the features of a page, to copy."""

from __future__ import annotations

import json
from collections.abc import Mapping

from featurekit.codegen.site.html import Html, code_block, el

_EXAMPLES: dict[str, object] = {"string": "ID", "date": "2026-01-31"}
"""An example of a join key, by type; the others are integers."""


def reading(features: str | list[str], keys: Mapping[str, str]) -> list[Html]:
    """Return how to read a service, or a list of features.

    Args:
        features: The name of a service, or features as in a list.
        keys: The join keys of a request, with their types.
    """
    entity = {name: _EXAMPLES.get(dtype, 1) for name, dtype in keys.items()}
    has_date = "date" in keys.values()
    names = [features] if isinstance(features, str) else features
    options = "".join(f" --entity {name}={value}" for name, value in entity.items())
    argument = json.dumps(features)
    python = (
        ("from datetime import date\n\n" if has_date else "")
        + "from featurekit import FeatureStore\n\n"
        "store = FeatureStore()\n"
        f"reader = store.online_reader({argument})\n"
        f"row = reader.read({_python_argument(entity, keys)})"
    )
    body: dict[str, object] = {} if isinstance(features, str) else {"features": features}
    path = f"/v1/services/{features}/read" if isinstance(features, str) else "/v1/features/read"
    request = json.dumps(body | {"entities": [entity]}, ensure_ascii=False).replace("'", "'\\''")
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


def _python_argument(entity: Mapping[str, object], keys: Mapping[str, str]) -> str:
    values = {
        name: "date(2026, 1, 31)" if keys[name] == "date" else json.dumps(value)
        for name, value in entity.items()
    }
    if len(values) == 1:
        return next(iter(values.values()))
    return "{" + ", ".join(f'"{name}": {value}' for name, value in values.items()) + "}"


def folded(summary: str, *children: Html) -> Html:
    """Return what is shown after a click."""
    return el("details", {"class": "source"}, el("summary", None, summary), *children)
