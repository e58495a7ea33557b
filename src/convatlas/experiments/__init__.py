"""The claims that made the networks famous, each re-run with a verdict: one file a claim."""

from convatlas.errors import unknown
from convatlas.experiments.engine.experiment import Budget as Budget
from convatlas.experiments.engine.experiment import Experiment as Experiment
from convatlas.experiments.engine.experiment import Part as Part
from convatlas.experiments.engine.experiment import PartResult as PartResult
from convatlas.experiments.engine.experiment import Result as Result
from convatlas.experiments.engine.experiment import Verdict as Verdict
from convatlas.experiments.engine.ledger import read as read
from convatlas.experiments.engine.ledger import run as run
from convatlas.experiments.topics import (
    compound,
    degradation,
    fewer_parameters,
    filter_sizes,
    separable,
    shortcuts,
    small_filters,
    two_towers,
    vanishing,
    zip_codes,
)

EXPERIMENTS: tuple[Experiment, ...] = (
    zip_codes.EXPERIMENT,
    two_towers.EXPERIMENT,
    small_filters.EXPERIMENT,
    filter_sizes.EXPERIMENT,
    vanishing.EXPERIMENT,
    degradation.EXPERIMENT,
    shortcuts.EXPERIMENT,
    fewer_parameters.EXPERIMENT,
    separable.EXPERIMENT,
    compound.EXPERIMENT,
)
"""In the order of their papers."""

BUDGETS = {str(budget): budget for budget in Budget}


def find(name: str) -> Experiment:
    """The experiment of that id.

    Raises:
        UserError: there is none; the message gives the nearest.
    """
    rows = {experiment.id: experiment for experiment in EXPERIMENTS}
    if name not in rows:
        raise unknown("experiment", name, rows)
    return rows[name]
