"""The session: what every command takes, `--repo` and `--json`, before or after its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click
from typing_extensions import override

Run = Callable[..., int | None]
"""What a command does: its session and parameters in, its exit code out, `None` for 0."""

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(slots=True)
class Session:
    """What was said once for the whole call.

    Attributes:
        repo: Where to look for `featurerepo.yaml`, from there upwards.
        json: Whether to print one JSON document and nothing else.
    """

    repo: str = "."
    json: bool = False


class Group(click.Group):
    """A group that, called alone, tells what it has."""

    @override
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, args or ["--help"])


def _repo(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
    if value:
        ctx.ensure_object(Session).repo = value


def _json(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    ctx.ensure_object(Session).json |= value


def repo_option(target: F, *, envvar: str | None = None) -> F:
    """Add `--repo`, kept in the session."""
    return click.option(
        "--repo",
        metavar="PATH",
        envvar=envvar,
        show_envvar=envvar is not None,
        expose_value=False,
        callback=_repo,
        help="Folder of featurerepo.yaml, or one below it.",
    )(target)


def json_option(target: F) -> F:
    """Add `--json`, kept in the session."""
    return click.option(
        "--json",
        is_flag=True,
        expose_value=False,
        callback=_json,
        help="Print one JSON document.",
    )(target)


def session_command(name: str) -> Callable[[Run], click.Command]:
    """Make a function a command that takes the session first."""

    def decorate(run: Run) -> click.Command:
        made = click.command(name)(click.pass_obj(run))
        return json_option(repo_option(made))

    return decorate
