"""Training sets: for each label, the features that a read at its time would have returned.

`labels` takes the table of labels, `features` the rows of a view and turns them into columns, and
`job` puts them together. The rows come from `ports.HistorySource`. `verify` compares them with what
is served.
"""

from featurekit.training.features import ViewFeatures
from featurekit.training.job import RetrievalJob, TrainingRequest
from featurekit.training.labels import Labels, read_labels
from featurekit.training.verify import VerifyReport

__all__ = [
    "Labels",
    "RetrievalJob",
    "TrainingRequest",
    "VerifyReport",
    "ViewFeatures",
    "read_labels",
]
