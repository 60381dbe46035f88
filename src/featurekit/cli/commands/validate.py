"""`featurekit validate`."""

from __future__ import annotations

from featurekit.cli.context import Session, session_command
from featurekit.cli.formatting import counted
from featurekit.cli.output import GOOD, ODD, Styled, show_json, show_line, show_note
from featurekit.repo import FeatureStore


@session_command("validate")
def command(session: Session) -> None:
    """Check the definitions and report all that is wrong.

    Warnings are about what is allowed and likely wrong; they leave the exit code at 0.
    """
    with FeatureStore(session.repo) as store:
        declared, warnings = store.declared, store.warnings
    entities, views = len(declared.entities), len(declared.feature_views)
    services = len(declared.feature_services)
    if session.json:
        counts = {"entities": entities, "feature_views": views, "feature_services": services}
        show_json({"ok": True, **counts, "warnings": warnings})
        return
    for warning in warnings:
        show_note("warning", str(warning), ODD)
    told = f"{counted(entities, 'entity', 'entities')}, {counted(views, 'view')}"
    show_line(Styled("ok", GOOD), f": {told}, {counted(services, 'service')}")
