"""Names and docstrings of generated Python."""

from __future__ import annotations


def class_name(name: str) -> str:
    """Return the name of a class for a definition.

    Examples:
        >>> class_name("fraud_v1")
        'FraudV1'
    """
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


def docstring(text: str) -> str:
    """Return any text as a docstring on one line."""
    words = " ".join(text.split())
    shown = "".join(c if c.isprintable() and c not in '"\\' else repr(c)[1:-1] for c in words)
    return '"""' + shown.replace('"', '\\"') + '"""'
