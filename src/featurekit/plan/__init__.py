"""Plans: what to do for each entity, view, service and read, decided once by the compiler.

A plan is plain data. It can be printed, compared, and pickled to a worker. It knows nothing of
YAML, does no I/O, and reads no clock.
"""

from __future__ import annotations

from featurekit.plan.derived import (
    DerivedFeature,
    DerivedInput,
    DerivedViewPlan,
    FunctionPlan,
    RequestPlan,
)
from featurekit.plan.fields import (
    AggregateFunction,
    AggregatePlan,
    FieldPlan,
)
from featurekit.plan.reads import (
    Column,
    DerivedColumn,
    MarkPlan,
    ReadColumn,
    ReadGroup,
    ReadPlan,
    RequestColumn,
)
from featurekit.plan.repository import (
    EntityPlan,
    RemovedEntityPlan,
    RepoPlan,
    ServicePlan,
)
from featurekit.plan.sources import (
    CsvSourcePlan,
    FileSourcePlan,
    JsonlSourcePlan,
    KafkaTopicPlan,
    ParquetSourcePlan,
    PythonSourcePlan,
    RedisStreamPlan,
    SourceColumns,
    SourceFiles,
    SourcePlan,
    SqlSourcePlan,
    StreamPlan,
    StreamSettings,
    TableSourcePlan,
)
from featurekit.plan.views import (
    EVENT_TIMESTAMP,
    NO_LIMITS,
    EventLogColumns,
    LoadLimits,
    LogPlan,
    SchedulePlan,
    ViewPlan,
    WindowsPlan,
)

__all__ = [
    "EVENT_TIMESTAMP",
    "NO_LIMITS",
    "AggregateFunction",
    "AggregatePlan",
    "Column",
    "CsvSourcePlan",
    "DerivedColumn",
    "DerivedFeature",
    "DerivedInput",
    "DerivedViewPlan",
    "EntityPlan",
    "EventLogColumns",
    "FieldPlan",
    "FileSourcePlan",
    "FunctionPlan",
    "JsonlSourcePlan",
    "KafkaTopicPlan",
    "LoadLimits",
    "LogPlan",
    "MarkPlan",
    "ParquetSourcePlan",
    "PythonSourcePlan",
    "ReadColumn",
    "ReadGroup",
    "ReadPlan",
    "RedisStreamPlan",
    "RemovedEntityPlan",
    "RepoPlan",
    "RequestColumn",
    "RequestPlan",
    "SchedulePlan",
    "ServicePlan",
    "SourceColumns",
    "SourceFiles",
    "SourcePlan",
    "SqlSourcePlan",
    "StreamPlan",
    "StreamSettings",
    "TableSourcePlan",
    "ViewPlan",
    "WindowsPlan",
]
