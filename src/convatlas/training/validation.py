"""Validation: which epoch's weights are kept, and when to stop."""

from __future__ import annotations

import math

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
        UserError: a class has one image only, or would have none left for training, or the groups cannot be split.
    """
    train, val = draw_validation(split, validation, seed)
    return train, val.exact(progress)


def draw_validation(split: data.Split, validation: Validation, seed: int) -> tuple[data.Split, data.Split]:
    """The same, before an image is decoded.

    Raises:
        UserError: see `split_validation`.
    """
    fewest = int(np.unique(split.labels, return_counts=True)[1].min())
    if fewest < 2:
        raise UserError("a class with one training image leaves none for validation; add images to it")
    if num_drawn(validation.val_split, fewest) == fewest:
        raise UserError(f"`val_split` {validation.val_split:g} leaves no image of a class for training; choose less")
    # These words are part of the seed: others would draw other images.
    return split.stratified_split(validation.val_split, np.random.default_rng(derived_seed(seed, "held out")))


def can_validate(split: data.Split, validation: Validation, seed: int) -> bool:
    """Whether every class has images for both."""
    try:
        draw_validation(split, validation, seed)
    except UserError:
        return False
    return True


def validate(train_state: TrainState, run: Run, split: data.Split, device: torch.device, processes: Processes) -> None:
    """Evaluate the weights on validation images, after an epoch or before the first with the fitted head, and keep them
    if they are good enough."""
    processes.sync_state(train_state.evaluated)
    batches = evaluation_batches(run.card, split, device, processes.shard)
    evaluation = evaluate(train_state.evaluated, run.variant.objective, batches, processes.all_reduce_sum)
    state = train_state.state
    least = least_accuracy(state, evaluation.num_images)
    if state.metrics:
        state.metrics[-1]["val_loss"], state.metrics[-1]["val_accuracy"] = evaluation.loss, evaluation.accuracy
    else:
        state.head_accuracy = evaluation.accuracy
    if evaluation.accuracy >= least:
        state.best_epoch = len(state.metrics)
        train_state.keep_best()


def least_accuracy(state: LoopState, num_images: int) -> float:
    """The accuracy on validation images from which the last epoch's weights are kept in place of those before: the
    best so far, for of equal epochs the later was trained longer.

    Fine-tuning is short and often has few images. The best of its epochs would be a matter of chance, and one from the
    middle, where the learning rate is still high. There the later counts as equal within one standard error of the best
    (as in Breiman et al. 1984, section 3.4.3), if it is no worse than the head alone.
    """
    best = max((row["val_accuracy"] for row in state.metrics if "val_accuracy" in row), default=0.0)
    if state.head_accuracy is None:
        return best
    best = max(best, state.head_accuracy)
    return max(best - math.sqrt(best * (1 - best) / num_images), state.head_accuracy)


def should_stop(state: LoopState, validation: Validation | None, stop_at_error: float | None) -> bool:
    """Whether the last epoch reached the training error, or as many as the patience have passed without a better one.

    Args:
        stop_at_error: the training error as a fraction; None: there is none to reach.
    """
    # 1e-9: an accuracy of 0.7 is an error of 0.3, whatever binary fractions say.
    if stop_at_error is not None and state.metrics and 1 - state.metrics[-1]["accuracy"] <= stop_at_error + 1e-9:
        return True
    if validation is None or validation.patience is None or not state.metrics:
        return False
    accuracies = [state.head_accuracy or 0.0, *(row["val_accuracy"] for row in state.metrics)]
    best = max(range(len(accuracies)), key=lambda epoch: (accuracies[epoch], epoch))
    return len(state.metrics) - best >= validation.patience
