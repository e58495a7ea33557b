"""Validation: which epoch's weights are kept, and when to stop."""

from __future__ import annotations

import numpy as np
import torch

from convatlas import data
from convatlas.data.batches import derived_seed
from convatlas.data.dataset import num_drawn
from convatlas.errors import UserError
from convatlas.files import SILENT, ProgressCallback
from convatlas.models.evaluation import evaluate, evaluation_batches
from convatlas.runs.options import Validation
from convatlas.runs.run import Run
from convatlas.training.checkpoint import LoopState, TrainState
from convatlas.training.distribution import Processes


def split_validation(
    split: data.Split, validation: Validation, seed: int, progress: ProgressCallback = SILENT
) -> tuple[data.Split, data.Split]:
    """The training images and the validation images, of which the seed draws a part of each class.

    Raises:
        UserError: a class has one image only, or would have none left for training.
    """
    check_validation(split, validation)
    # These words are part of the seed: others would draw other images.
    train, val = split.stratified_split(validation.val_split, np.random.default_rng(derived_seed(seed, "held out")))
    return train, val.exact(progress)


def check_validation(split: data.Split, validation: Validation) -> None:
    """
    Raises:
        UserError: see `split_validation`.
    """
    fewest = int(np.unique(split.labels, return_counts=True)[1].min())
    if fewest < 2:
        raise UserError("a class with one training image leaves none for validation; add images to it")
    if num_drawn(validation.val_split, fewest) == fewest:
        raise UserError(f"`val_split` {validation.val_split:g} leaves no image of a class for training; choose less")


def validate(train_state: TrainState, run: Run, split: data.Split, device: torch.device, processes: Processes) -> None:
    """Evaluate the epoch that just ended on validation images, and keep its weights if none before were better."""
    processes.sync_state(train_state.evaluated)
    batches = evaluation_batches(run.card, split, device, processes.shard)
    evaluation = evaluate(train_state.evaluated, run.variant.objective, batches, processes.all_reduce_sum)
    metrics = train_state.state.metrics[-1]
    metrics["val_loss"], metrics["val_accuracy"] = evaluation.loss, evaluation.accuracy
    best = train_state.state.best_epoch
    # Of equal epochs the later: it was trained longer.
    if not best or evaluation.accuracy >= train_state.state.metrics[best - 1]["val_accuracy"]:
        train_state.state.best_epoch = len(train_state.state.metrics)
        train_state.keep_best()


def should_stop(state: LoopState, validation: Validation | None, stop_at_error: float | None) -> bool:
    """Whether the last epoch reached the training error, or as many as the patience have passed without a better one.

    Args:
        stop_at_error: the training error as a fraction; None: there is none to reach.
    """
    # 1e-9: an accuracy of 0.7 is an error of 0.3, whatever binary fractions say.
    if stop_at_error is not None and state.metrics and 1 - state.metrics[-1]["accuracy"] <= stop_at_error + 1e-9:
        return True
    if validation is None or validation.patience is None or not state.best_epoch:
        return False
    return len(state.metrics) - state.best_epoch >= validation.patience
