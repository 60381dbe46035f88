"""Consent: what destroys is asked about on a terminal, and needs --yes elsewhere."""

from __future__ import annotations

import sys

import click

from featurekit.cli.session import Session
from featurekit.errors import RequestError


def ask(session: Session, question: str, *, yes: bool) -> None:
    """Go on only if that is wanted.

    Raises:
        RequestError: It is not, or there is nobody to ask; nothing was done.
    """
    if yes:
        return
    if session.json or not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise RequestError(f"{question[:1].lower()}{question[1:]} Nobody is here to say so", hint="say it with --yes")
    if not click.confirm(question, err=True):
        raise RequestError("nothing was changed")
