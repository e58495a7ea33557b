"""Choices by images that are held out of the training set: which epoch's weights stay, and when to stop."""

from __future__ import annotations

import numpy as np
import torch

from convatlas import data
from convatlas.data.batches import derived_seed
from convatlas.errors import UserError
from convatlas.files import SILENT, ProgressCallback
from convatlas.runs import Run, evaluate
from convatlas.training.checkpoint import Learner, State
from convatlas.training.distribution import Processes

PART = 0.1
"""Of each class."""


def split_validation(
    split: data.Split, seed: int, progress: ProgressCallback = SILENT
) -> tuple[data.Split, data.Split]:
    """A seeded tenth of each class, at least one image, decoded exactly, apart from the rest: (rest, tenth).

    Raises:
        UserError: a class has one image only.
    """
    if min(np.unique(split.labels, return_counts=True)[1]) < 2:
        raise UserError("a class with one training image leaves none to hold out; train without --hold-out")
    rest, held_out = split.stratified_split(PART, np.random.default_rng(derived_seed(seed, "held out")))
    return rest, held_out.exact(progress)


def validate(learner: Learner, run: Run, held_out: data.Split, device: torch.device, processes: Processes) -> None:
    """Judge the epoch that just ended on the images that were held out, and keep its weights if none did better."""
    processes.sync_state(learner.judged)
    batches = run.judging(held_out, device, processes.shard)
    evaluation = evaluate(learner.judged, run.variant.objective, batches, processes.sum)
    metrics = learner.state.metrics[-1]
    metrics["val_loss"], metrics["val_accuracy"] = evaluation.loss, evaluation.accuracy
    best = learner.state.best_epoch
    # Of equals the later: it has learned longer.
    if not best or evaluation.accuracy >= learner.state.metrics[best - 1]["val_accuracy"]:
        learner.state.best_epoch = len(learner.state.metrics)
        learner.keep_best()


def should_stop(state: State, patience: int | None) -> bool:
    """Whether so many epochs have passed without a better one."""
    return patience is not None and bool(state.best_epoch) and len(state.metrics) - state.best_epoch >= patience
