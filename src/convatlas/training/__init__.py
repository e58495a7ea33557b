"""Training: one explicit loop from a recipe, and the same loop again after any interruption."""

from convatlas.training.arguments import train as train
from convatlas.training.loop import DivergedError as DivergedError
from convatlas.training.loop import Interrupted as Interrupted
from convatlas.training.loop import resume as resume
from convatlas.training.loop import train_or_resume as train_or_resume
from convatlas.training.loop import train_request as train_request
from convatlas.training.progress import Progress as Progress
from convatlas.training.request import Request as Request
from convatlas.training.signals import Stopped as Stopped
