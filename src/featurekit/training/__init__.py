"""Training sets: for each label, the features that a read at its time would have returned.

`labels` reads the labels. For each view, `features` encodes the rows of its history (of
`ports.HistorySource`) as a load does, and `columns` decodes them as a reader does. `build` puts
these into temporary files, and `output` writes them to a folder. `job` is what a caller has.
`verify` compares what is served with the history, and `drift` with a training set.
"""

from featurekit.training.build import TrainingRequest
from featurekit.training.drift import DriftBounds
from featurekit.training.drift_report import DriftReport
from featurekit.training.features import stored_values
from featurekit.training.job import RetrievalJob
from featurekit.training.profile_report import ProfileReport
from featurekit.training.progress import OnTrainingProgress, TrainingProgress
from featurekit.training.verify import VerifyReport

__all__ = [
    "DriftBounds",
    "DriftReport",
    "OnTrainingProgress",
    "ProfileReport",
    "RetrievalJob",
    "TrainingProgress",
    "TrainingRequest",
    "VerifyReport",
    "stored_values",
]
