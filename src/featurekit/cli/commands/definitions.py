"""The commands `plan`, `apply` and `schema`, which work on definitions."""

from __future__ import annotations

import time

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
    progress_bars,
)
from featurekit.models import definitions_json_schema, repo_json_schema
from featurekit.repo import FeatureStore
from featurekit.repo.deletion import DeletedValues, retired_names
from featurekit.runtime.load import Progress

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
@click.option(
    "--delete-retired",
    is_flag=True,
    help="Delete the values of removed fields, views and entities now.",
)
def apply_command(
    context: CliContext, yes: bool, allow_breaking: bool, take_prefix: bool, delete_retired: bool
) -> None:
    """Update the registry from the definitions.

    Prints the changes and applies exactly these, to one online store. Stored values are not
    touched: the values of a removed field stay until they expire, or until the next batch write of
    the entity deletes them. --delete-retired deletes them now, also those of earlier applies, in a
    paced scan that may be interrupted and repeated. Stop stream workers first that still write
    them.
    """
    with context.open_store() as store:
        changes = store.plan()
        if not context.json:
            _print_changes(changes)
        if _needs_confirmation(changes, allow_breaking=allow_breaking):
            action = f"apply changes that remove something or break to {store.address}"
            confirm(context, action, yes=yes)
        store.apply(changes, allow_breaking=allow_breaking, take_prefix=take_prefix)
        if changes and not context.json:
            print_line(Styled("applied", GREEN), f" to {store.address}")
            _print_views_to_load(store, changes)
        deleted = _delete_retired(context, store, yes=yes) if delete_retired else None
    if context.json:
        document = changes.to_dict() | {"store": store.address}
        context.print_json(document | ({"deleted": deleted} if deleted else {}))


def _print_views_to_load(store: FeatureStore, changes: Changes) -> None:
    """Say which batch views need a load before their values can be read."""
    views = {view.name: view for view in store.compiled.views}
    loadable = [name for name in changes.views_to_load if views[name].source is not None]
    if loadable:
        command = f"featurekit materialize {' '.join(loadable)}"
        print_note("note", f"not loaded yet: {', '.join(loadable)}; run `{command}`", YELLOW)
    for name in changes.views_to_load:
        if name not in loadable:
            problem = f"not loaded yet: {name}; it has no source, write it with write_batch() or"
            print_note("note", f"{problem} `featurekit write {name}`", YELLOW)


def _delete_retired(context: CliContext, store: FeatureStore, *, yes: bool) -> DeletedValues:
    """Delete the values of what is no longer declared, and print how many."""
    names = retired_names(store.compiled)
    if not names:
        deleted = DeletedValues()
    else:
        action = f"delete all values of {', '.join(names)} of project {store.project} in {store.address}"
        confirm(context, action, yes=yes)
        deleted = _delete_with_progress(store)
    if not context.json:
        entities = pluralize(deleted.entities, "entity", "entities")
        print_line(f"{pluralize(deleted.values, 'value')} of {entities} deleted")
    return deleted


def _delete_with_progress(store: FeatureStore) -> DeletedValues:
    start, count = time.monotonic(), 0
    try:
        with progress_bars() as on_progress:

            def on_page(values: int) -> None:
                nonlocal count
                count = values
                if on_progress is not None:
                    elapsed_s = time.monotonic() - start
                    on_progress(Progress("values deleted", values, 0, elapsed_s))

            return store.delete_retired(on_page)
    except KeyboardInterrupt:
        print_note(
            "note", f"{pluralize(count, 'value')} deleted so far; repeat the command", YELLOW
        )
        raise


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
