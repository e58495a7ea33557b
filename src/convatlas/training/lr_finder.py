"""The learning-rate finder: a short training whose rate rises until the loss does (Smith 2017, section 3.3)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from convatlas.data.batches import Shard
from convatlas.data.dataset import advice
from convatlas.models.device import resolve_device
from convatlas.runs.run import Run
from convatlas.training import optimizers
from convatlas.training.distribution import Processes
from convatlas.training.plan import SKIP_BAD, plan, training_batches
from convatlas.training.progress import Progress
from convatlas.training.request import Request
from convatlas.training.setup import TrainingSetup
from convatlas.training.step import to_memory_format

MIN_LR, MAX_LR = 1e-6, 10.0
NUM_STEPS = 100
SMOOTHING = 0.8
"""Of the moving average over the noisy losses."""
DIVERGED = 2.0
"""The search ends when the loss is that many times its lowest."""


@dataclass(frozen=True)
class LRFinding:
    """The loss at rising learning rates, and the rate that it suggests."""

    lrs: tuple[float, ...]
    """In rising order."""
    losses: tuple[float, ...]
    """The smoothed training loss at each of them."""

    @property
    def suggestion(self) -> float:
        """The learning rate at which the loss falls fastest, over the logarithm of the learning rate."""
        lowest = self.losses.index(min(self.losses))
        falls = [self.losses[i] - self.losses[i + 1] for i in range(max(lowest, 1))]
        return self.lrs[falls.index(max(falls))]


@advice(SKIP_BAD)
def find_lr(request: Request, progress: Progress | None = None) -> LRFinding:
    """Train with ever higher learning rates, and keep nothing of it.

    Args:
        progress: an object that is told how loading goes, and what of the data is not used; see `train`.

    Raises:
        UserError: what is asked for cannot be trained.
    """
    progress = progress or Progress()
    planned = plan(request, Processes(), progress.loading)
    for line in planned.dataset.remarks:
        progress.say(line)
    card, record = planned.card, planned.record
    device = resolve_device(record.device)
    batches = training_batches(card, record, planned.dataset.train, device, Shard())
    with torch.random.fork_rng():
        setup = TrainingSetup.of(Run(Path(), card, record))
        network, optimizer = setup.build(device)
        step = setup.step(to_memory_format(network, record.execution), batches, Processes())
        lrs: list[float] = []
        losses: list[float] = []
        mean = 0.0
        while len(lrs) < NUM_STEPS:
            for batch in batches.epoch(len(lrs) // len(batches)):
                lr = MIN_LR * (MAX_LR / MIN_LR) ** (len(lrs) / (NUM_STEPS - 1))
                optimizers.set_lr(optimizer, lr)
                optimizer.zero_grad(set_to_none=True)
                result = step.gradient(batch)
                mean = SMOOTHING * mean + (1 - SMOOTHING) * result.loss / result.num_images
                # Corrects the bias of early means to the 0 that they started from.
                smoothed = mean / (1 - SMOOTHING ** (len(lrs) + 1))
                if not result.is_finite or (losses and smoothed > DIVERGED * min(losses)):
                    return LRFinding(tuple(lrs), tuple(losses))
                lrs.append(lr)
                losses.append(smoothed)
                optimizer.step()
                if len(lrs) == NUM_STEPS:
                    break
    return LRFinding(tuple(lrs), tuple(losses))
