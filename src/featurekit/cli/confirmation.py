"""Consent: what destroys is asked about on a terminal, and needs --yes elsewhere."""

from __future__ import annotations

import sys

import click

from featurekit.cli.context import Session
from featurekit.errors import RequestError


def ask(session: Session, deed: str, *, yes: bool) -> None:
    """Go on only if the deed is wanted.

    Raises:
        RequestError: It is not, or there is nobody to ask; nothing was done.
    """
    if yes:
        return
    if session.json or not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise RequestError(f"asked to {deed}, with nobody here to confirm it", hint="add --yes")
    if not click.confirm(f"{deed[:1].upper()}{deed[1:]}?", err=True):
        raise RequestError("not confirmed; nothing was changed")
