"""`featurekit doctor`."""

from __future__ import annotations

from featurekit.cli.context import Session, session_command
from featurekit.cli.output import BAD, GOOD, ODD, Styled, show_json, show_line, show_table
from featurekit.repo import FeatureStore

STYLES = {"ok": GOOD, "warn": ODD, "fail": f"bold {BAD}"}


@session_command("doctor")
def command(session: Session) -> int:
    """Find out whether everything here works together.

    Looks at the definitions, the server and its settings, the registry, the loads, and a sample of
    the hashes. Exits with 1 if anything fails.
    """
    with FeatureStore(session.repo) as store:
        findings = store.doctor()
    levels = [finding.level for finding in findings]
    if session.json:
        show_json({"ok": "fail" not in levels, "findings": findings})
    else:
        rows = [
            (
                Styled(finding.level, STYLES[finding.level]),
                finding.subject,
                finding.message + (f"\n→ {finding.hint}" if finding.hint else ""),
            )
            for finding in findings
        ]
        show_table(("", "", ""), rows)
        show_line(
            ", ".join(f"{levels.count(level)} {level}" for level in STYLES if level in levels)
        )
    return 1 if "fail" in levels else 0
