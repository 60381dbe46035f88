"""Durations on the command line, as `90s`, `24h` or `1h30m`."""

from __future__ import annotations

import click

from featurekit.errors import ValueRefusedError
from featurekit.models import parse_duration


def duration(text: str) -> int:
    """The milliseconds of a duration."""
    try:
        return parse_duration(text)
    except ValueRefusedError as error:
        raise click.BadParameter(error.message) from error


def named_duration(text: str) -> tuple[str, int]:
    """The name and the milliseconds of `NAME=DURATION`."""
    name, equals, span = text.partition("=")
    if not (equals and name):
        raise click.BadParameter(f"'{text}' is not NAME=DURATION, as user_activity=2m")
    return name, duration(span)
