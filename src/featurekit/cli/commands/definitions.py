"""The commands `validate`, `plan`, `apply` and `schema`, which work on definitions."""

from __future__ import annotations

import click

from featurekit.changes import Changes
from featurekit.cli.context import CliContext, cli_command, confirm
from featurekit.cli.formatting import pluralize
from featurekit.cli.output import (
    DIM,
    GREEN,
    RED,
    YELLOW,
    Styled,
    print_line,
    print_note,
    print_table,
)
from featurekit.models import definitions_json_schema, repo_json_schema

HAS_CHANGES = 2
CHANGE_LABELS = {
    "add": Styled("+ add", GREEN),
    "remove": Styled("- remove", RED),
    "ttl": Styled("~ ttl", YELLOW),
    "compatible": Styled("~ compatible", "cyan"),
    "breaking": Styled("! breaking", f"bold {RED}"),
}
NEEDS_CONFIRMATION = {"remove", "breaking"}
SCHEMAS = {"repo": repo_json_schema, "definitions": definitions_json_schema}


@cli_command("validate", has_url=False)
def validate_command(context: CliContext) -> None:
    """Check the definitions and report all problems.

    Warnings report valid definitions that are probably mistakes; the exit code stays 0.
    """
    with context.open_store() as store:
        declared, warnings = store.declared, store.warnings
    entities, views = len(declared.entities), len(declared.feature_views)
    services = len(declared.feature_services)
    if context.json:
        counts = {"entities": entities, "feature_views": views, "feature_services": services}
        context.print_json({"ok": True, **counts, "warnings": warnings})
        return
    for warning in warnings:
        print_note("warning", str(warning), YELLOW)
    counted = [
        pluralize(entities, "entity", "entities"),
        pluralize(views, "view"),
        pluralize(services, "service"),
    ]
    print_line(Styled("ok", GREEN), f": {', '.join(counted)}")


@cli_command("plan")
@click.option("--detailed-exitcode", is_flag=True, help="Exit with 2 if there are changes.")
def plan_command(context: CliContext, detailed_exitcode: bool) -> int:
    """Show the changes that apply would make.

    Compares compiled plans, not text. A change is one of: add, remove, ttl (values written from
    now on live longer or shorter), compatible, or breaking (the meaning of stored bytes changes).
    """
    with context.open_store() as store:
        changes = store.plan()
    if context.json:
        context.print_json(changes.to_dict())
    else:
        _print_changes(changes)
    return HAS_CHANGES if changes and detailed_exitcode else 0


@cli_command("apply")
@click.option(
    "--yes", is_flag=True, help="Do not ask before changes that remove something or break."
)
@click.option("--allow-breaking", is_flag=True, help="Apply breaking changes too.")
@click.option("--take-prefix", is_flag=True, help="Take over the key prefix from another project.")
def apply_command(context: CliContext, yes: bool, allow_breaking: bool, take_prefix: bool) -> None:
    """Update the registry from the definitions.

    Prints the changes and applies exactly these, to one online store. Stored values are not
    touched: the values of a removed field stay until they expire, or until the next batch write of
    the entity deletes them.
    """
    with context.open_store() as store:
        changes = store.plan()
        if not context.json:
            _print_changes(changes)
        if _needs_confirmation(changes, allow_breaking=allow_breaking):
            action = f"apply changes that remove something or break to {store.address}"
            confirm(context, action, yes=yes)
        store.apply(changes, allow_breaking=allow_breaking, take_prefix=take_prefix)
    if context.json:
        context.print_json(changes.to_dict() | {"store": store.address})
    elif changes:
        print_line(Styled("applied", GREEN), f" to {store.address}")


def _needs_confirmation(changes: Changes, *, allow_breaking: bool) -> bool:
    """Return whether to ask; changes that apply refuses anyway need no question."""
    is_refused = changes.breaking and not allow_breaking
    return not is_refused and any(change.kind in NEEDS_CONFIRMATION for change in changes)


def _print_changes(changes: Changes) -> None:
    if not changes:
        print_line("no changes")
        return
    rows = [(CHANGE_LABELS[c.kind], c.subject, Styled(c.detail, DIM)) for c in changes]
    print_table(("", "", ""), rows)
    kinds = [change.kind for change in changes]
    counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in CHANGE_LABELS if kind in kinds)
    print_line(f"{pluralize(len(kinds), 'change')}: {counts}")


@cli_command("schema", has_url=False)
@click.argument("what", type=click.Choice(list(SCHEMAS)), default="definitions")
def schema_command(context: CliContext, what: str) -> None:
    """Print the JSON Schema of the YAML files, for editors.

    `repo` is the schema of featurerepo.yaml, `definitions` (the default) that of definition files.
    """
    context.print_json(SCHEMAS[what]())
