"""The run folder: written by training, opened by everyone after."""

from convatlas.models.device import device_named as device_named
from convatlas.models.evaluation import Evaluation as Evaluation
from convatlas.models.evaluation import evaluate as evaluate
from convatlas.runs.record import Execution as Execution
from convatlas.runs.record import Record as Record
from convatlas.runs.record import Results as Results
from convatlas.runs.run import CHECKPOINT as CHECKPOINT
from convatlas.runs.run import METRICS as METRICS
from convatlas.runs.run import Prediction as Prediction
from convatlas.runs.run import Run as Run
from convatlas.runs.run import load as load
