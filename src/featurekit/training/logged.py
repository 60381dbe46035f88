"""Training sets of what was served: the log of a feature service, as it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow.compute as pc

from featurekit.plan import ReadPlan
from featurekit.training.columns import status_name

SERVED_AT = "served_at"


class LoggedTrainingSet:
    """The rows that a feature service has logged, for `write_training_set`.

    Args:
        plan: The features of the service.
        reader: A `pyarrow.RecordBatchReader` of its log.

    Attributes:
        schema: The columns of the log.
    """

    def __init__(self, plan: ReadPlan, reader: Any) -> None:
        self.schema = reader.schema
        self._plan = plan
        self._reader = reader
        self._rows = 0
        self._counts: dict[str, dict[str, int]] = {column.name: {} for column in plan.columns}

    @property
    def metadata(self) -> dict[str, Any]:
        """The features, and counts of the rows and statuses that `batches` has yielded."""
        return {
            "features": [
                {
                    "name": column.name,
                    "view": column.view,
                    "field": column.field.name,
                    "type": str(column.field.dtype),
                    "statuses": self._counts[column.name],
                }
                for column in self._plan.columns
            ],
            "request": self._plan.name,
            "registry": self._plan.fingerprint,
            "views": [
                {"name": view, "as_of": "served"}
                for view in dict.fromkeys(column.view for column in self._plan.columns)
            ],
            "labels": {"rows": self._rows, "timestamp_field": SERVED_AT},
        }

    def batches(self) -> Iterator[Any]:
        """Yield the rows of the log."""
        for batch in self._reader:
            self._rows += batch.num_rows
            for name, counts in self._counts.items():
                if status_name(name) not in self.schema.names:
                    continue  # no file has it yet
                for each in pc.value_counts(batch[status_name(name)]).to_pylist():
                    if each["values"] is not None:
                        counts[each["values"]] = counts.get(each["values"], 0) + each["counts"]
            yield batch
