"""Diagnostics of a feature store: what is stored, how old it is, and why a value is missing.

Nothing here writes, except that `doctor` writes one probe key.
"""

from __future__ import annotations

from featurekit.repo.diagnostics.check_result import CheckResult
from featurekit.repo.diagnostics.diagnostics import Diagnostics
from featurekit.repo.diagnostics.doctor import run_checks
from featurekit.repo.diagnostics.evidence import Evidence
from featurekit.repo.diagnostics.explain import Explanation, explain, explain_field
from featurekit.repo.diagnostics.inspect import InspectedField, Inspection, inspect_entity
from featurekit.repo.diagnostics.observation import Observation
from featurekit.repo.diagnostics.overview import EntityCount, Overview, ServerInfo, ViewCount
from featurekit.repo.diagnostics.sampling import Sample, ids_from_keys
from featurekit.repo.diagnostics.stream_lag import StreamLag
from featurekit.repo.diagnostics.view_status import StreamFreshness, ViewState, ViewStatus

__all__ = [
    "CheckResult",
    "Diagnostics",
    "EntityCount",
    "Evidence",
    "Explanation",
    "InspectedField",
    "Inspection",
    "Observation",
    "Overview",
    "Sample",
    "ServerInfo",
    "StreamFreshness",
    "StreamLag",
    "ViewCount",
    "ViewState",
    "ViewStatus",
    "explain",
    "explain_field",
    "ids_from_keys",
    "inspect_entity",
    "run_checks",
]
