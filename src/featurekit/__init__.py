"""featurekit: a declarative feature store on Redis or Valkey.

YAML files declare entities, feature views and feature services. `FeatureStore` loads views from
their sources, writes stream events, and reads features. All errors are in `featurekit.errors`.

The names below are imported at their first use, so that `import featurekit` is fast.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = (
    False  # type checkers take it as true; importing `typing` would cost more than this module
)
if TYPE_CHECKING:
    from featurekit.errors import (
        BadEventError,
        BadRowError,
        BreakingChangeError,
        DefinitionError,
        FeatureKitError,
        LockedError,
        MaterializeError,
        OlderRowsError,
        RegistryConflictError,
        SourceError,
        StoreError,
        StoreUnavailableError,
        UnknownNameError,
        ValueRefusedError,
    )
    from featurekit.lower.read import Status
    from featurekit.repo import FeatureStore
    from featurekit.repo.data_report import DataReport
    from featurekit.repo.data_tools import DataTools
    from featurekit.repo.definition_lists import Entity, Feature, FeatureService, FeatureView
    from featurekit.repo.estimate_report import EstimateReport
    from featurekit.repo.store_handle import embedded_server
    from featurekit.repo.store_identity import StoreState
    from featurekit.repo.streaming import StreamOptions
    from featurekit.runtime.load import MaterializeReport, Progress
    from featurekit.runtime.metrics import Metrics
    from featurekit.runtime.reader import OnlineReader
    from featurekit.runtime.request_id import request_id
    from featurekit.runtime.response import OnlineResponse
    from featurekit.runtime.worker import StreamReport, WorkerOptions
    from featurekit.runtime.write_report import WriteReport
    from featurekit.runtime.writer import StreamWriter
    from featurekit.training import (
        DriftBounds,
        DriftReport,
        ProfileReport,
        RetrievalJob,
        TrainingProgress,
        VerifyReport,
    )

    __version__: str

__all__ = [
    "BadEventError",
    "BadRowError",
    "BreakingChangeError",
    "DataReport",
    "DataTools",
    "DefinitionError",
    "DriftBounds",
    "DriftReport",
    "Entity",
    "EstimateReport",
    "Feature",
    "FeatureKitError",
    "FeatureService",
    "FeatureStore",
    "FeatureView",
    "LockedError",
    "MaterializeError",
    "MaterializeReport",
    "Metrics",
    "OlderRowsError",
    "OnlineReader",
    "OnlineResponse",
    "ProfileReport",
    "Progress",
    "RegistryConflictError",
    "RetrievalJob",
    "SourceError",
    "Status",
    "StoreError",
    "StoreState",
    "StoreUnavailableError",
    "StreamOptions",
    "StreamReport",
    "StreamWriter",
    "TrainingProgress",
    "UnknownNameError",
    "ValueRefusedError",
    "VerifyReport",
    "WorkerOptions",
    "WriteReport",
    "__version__",
    "embedded_server",
    "request_id",
]

_MODULES = {
    "DataReport": "featurekit.repo.data_report",
    "DataTools": "featurekit.repo.data_tools",
    "EstimateReport": "featurekit.repo.estimate_report",
    "ProfileReport": "featurekit.training",
    "DriftBounds": "featurekit.training",
    "DriftReport": "featurekit.training",
    "Entity": "featurekit.repo.definition_lists",
    "Feature": "featurekit.repo.definition_lists",
    "FeatureService": "featurekit.repo.definition_lists",
    "FeatureStore": "featurekit.repo",
    "FeatureView": "featurekit.repo.definition_lists",
    "MaterializeReport": "featurekit.runtime.load",
    "Metrics": "featurekit.runtime.metrics",
    "OnlineReader": "featurekit.runtime.reader",
    "OnlineResponse": "featurekit.runtime.response",
    "Progress": "featurekit.runtime.load",
    "RetrievalJob": "featurekit.training",
    "Status": "featurekit.lower.read",
    "StoreState": "featurekit.repo.store_identity",
    "StreamOptions": "featurekit.repo.streaming",
    "StreamReport": "featurekit.runtime.worker",
    "StreamWriter": "featurekit.runtime.writer",
    "TrainingProgress": "featurekit.training",
    "VerifyReport": "featurekit.training",
    "WorkerOptions": "featurekit.runtime.worker",
    "WriteReport": "featurekit.runtime.writer",
    "embedded_server": "featurekit.repo.store_handle",
    "request_id": "featurekit.runtime.request_id",
}
"""Where each name is defined, except the errors."""

if not TYPE_CHECKING:  # a type checker must not accept every name

    def __getattr__(name: str) -> object:
        if name == "__version__":
            return import_module("importlib.metadata").version("featurekit")
        if name not in __all__:
            raise AttributeError(f"module 'featurekit' has no attribute '{name}'")
        return getattr(import_module(_MODULES.get(name, "featurekit.errors")), name)


def __dir__() -> list[str]:
    return sorted(__all__)
