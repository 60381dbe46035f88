"""Changes as people read them: one line each, its kind as a sign and a colour."""

from __future__ import annotations

from featurekit.changes import Changes
from featurekit.cli.formatting import counted
from featurekit.cli.output import BAD, DIM, GOOD, ODD, Styled, show_line, show_table

SIGNS = {
    "add": Styled("+ add", GOOD),
    "remove": Styled("- remove", BAD),
    "ttl": Styled("~ ttl", ODD),
    "compatible": Styled("~ compatible", "cyan"),
    "breaking": Styled("! breaking", f"bold {BAD}"),
}


def show_changes(changes: Changes) -> None:
    """Print what an apply changes, or that it changes nothing."""
    if not changes:
        show_line("no changes")
        return
    rows = [(SIGNS[c.kind], c.subject, Styled(c.detail, DIM)) for c in changes]
    show_table(("", "", ""), rows)
    kinds = [change.kind for change in changes]
    told = ", ".join(f"{kinds.count(kind)} {kind}" for kind in SIGNS if kind in kinds)
    show_line(f"{counted(len(kinds), 'change')}: {told}")
