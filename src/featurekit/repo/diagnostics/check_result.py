"""The result of one check of `featurekit doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check.

    Attributes:
        level: `ok`, `warn` or `fail`.
        subject: What was checked.
        message: What the check found.
        hint: What to do about it; empty if nothing.
    """

    level: Level
    subject: str
    message: str
    hint: str = ""
