"""The context of a command: `--repo`, `--json`, option types, and confirmation."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click
from typing_extensions import override

from featurekit.errors import RequestError, ValueRefusedError
from featurekit.printable import printable

if TYPE_CHECKING:
    from featurekit.repo import FeatureStore

Command = Callable[..., int | None]
"""A command's function: takes the context and its options, returns the exit code, `None` for 0."""

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(slots=True)
class CliContext:
    """Options and state shared by all commands.

    Attributes:
        repo: Where to search for `featurerepo.yaml`, upwards.
        url: The online store's URL; `None` for that of the environment or the file.
        json: Whether to print JSON and nothing else on standard output.
        json_lines: Whether JSON is printed as one document per line.
        has_printed_json: Whether a JSON document is printed.
    """

    repo: str = "."
    url: str | None = None
    json: bool = False
    json_lines: bool = False
    has_printed_json: bool = False

    def open_store(self) -> FeatureStore:
        """Return the repository's feature store."""
        from featurekit.repo import FeatureStore

        return FeatureStore(self.repo, url=self.url)

    def print_json(self, document: object) -> None:
        """Print the command's JSON document."""
        from featurekit.cli.output import print_json

        self.has_printed_json = True
        print_json(document)

    def print_error_json(self, document: Mapping[str, object]) -> None:
        """Print a failure as JSON, unless the command's one document is printed already."""
        if self.json_lines:
            from featurekit.cli.output import print_json_line

            print_json_line(document)
        elif not self.has_printed_json:
            self.print_json(document)


class CommandGroup(click.Group):
    """A group that prints its help when called without a command."""

    @override
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, args or ["--help"])


def _set_repo(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
    if value:
        ctx.ensure_object(CliContext).repo = value


def _set_url(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
    if value:
        ctx.ensure_object(CliContext).url = value


def _set_json(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    ctx.ensure_object(CliContext).json |= value


def repo_option(target: F, *, envvar: str | None = None) -> F:
    """Add `--repo`, stored in the context."""
    return click.option(
        "--repo",
        metavar="PATH",
        envvar=envvar,
        show_envvar=envvar is not None,
        expose_value=False,
        callback=_set_repo,
        help="Folder of featurerepo.yaml, or a folder below it.",
    )(target)


def url_option(target: F) -> F:
    """Add `--url`, stored in the context."""
    return click.option(
        "--url",
        metavar="URL",
        expose_value=False,
        callback=_set_url,
        help="URL of the online store, instead of FEATUREKIT_ONLINE_URL or featurerepo.yaml.",
    )(target)


def json_option(target: F) -> F:
    """Add `--json`, stored in the context."""
    return click.option(
        "--json",
        is_flag=True,
        expose_value=False,
        callback=_set_json,
        help="Print one JSON document.",
    )(target)


def cli_command(name: str, *, has_url: bool = True) -> Callable[[Command], click.Command]:
    """Turn a function that takes the context first into a command, with `--url` if it uses the store."""

    def decorate(function: Command) -> click.Command:
        command = click.command(name)(click.pass_obj(function))
        return json_option(repo_option(url_option(command) if has_url else command))

    return decorate


def duration_option(text: str) -> int:
    """Return an option such as `90s`, `24h` or `1h30m` in milliseconds."""
    from featurekit.models import parse_duration

    try:
        return parse_duration(text)
    except ValueRefusedError as error:
        raise click.BadParameter(error.message) from error


def named_duration_option(text: str) -> tuple[str, int]:
    """Return the name and the milliseconds of an option `NAME=DURATION`."""
    name, equals, duration = text.partition("=")
    if not (equals and name):
        raise click.BadParameter(f"'{text}' is not NAME=DURATION, for example user_activity=2m")
    return name, duration_option(duration)


def feature_argument(text: str) -> str | dict[str, object]:
    """Return a feature of a command line: a name, or a mapping as definitions have it, in braces."""
    if not text.startswith("{"):
        return text
    from featurekit.loader import read_document

    document = read_document("features", text.encode())
    if document.problems:
        raise click.BadParameter(f"{text}: {document.problems[0].message}")
    return document.data if isinstance(document.data, dict) else {}


def selected_features(
    store: FeatureStore, features: Sequence[str | dict[str, object]]
) -> str | list[str | dict[str, object]]:
    """Return the features of a command line: the name of a service, or a list."""
    services = {service.name for service in store.compiled.services}
    first = features[0]
    is_service = len(features) == 1 and isinstance(first, str) and first in services
    return first if is_service and isinstance(first, str) else list(features)


def confirm(context: CliContext, action: str, *, yes: bool) -> None:
    """Ask on a terminal before an action that deletes; elsewhere, require `--yes`.

    Raises:
        RequestError: The action is not confirmed.
    """
    if yes:
        return
    if context.json or not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise RequestError(f"cannot {action} without confirmation", hint="add --yes")
    if not click.confirm(printable(f"{action[:1].upper()}{action[1:]}?"), err=True):
        raise RequestError("not confirmed; nothing was changed")
