"""The learning-rate finder: a short training whose rate climbs until the loss does too (Smith 2017, section 3.3)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from convatlas.data.batches import Shard
from convatlas.runs import Run, device_named
from convatlas.training import optimizers, plan
from convatlas.training.distribution import Processes
from convatlas.training.fine_tuning import TrainingSetup
from convatlas.training.plan import Request
from convatlas.training.step import arranged

LOWEST, HIGHEST = 1e-6, 10.0
STEPS = 100
SMOOTHING = 0.8
"""Of the moving average over the losses, which are noise otherwise."""
LOST = 2.0
"""The search ends where the loss is that many times its lowest."""


@dataclass(frozen=True)
class LRFinding:
    rates: tuple[float, ...]
    losses: tuple[float, ...]
    """Smoothed, of a training image, after each rate."""

    @property
    def suggestion(self) -> float:
        """The rate at which the loss falls fastest, over the logarithm of the rate."""
        lowest = self.losses.index(min(self.losses))
        falls = [self.losses[i] - self.losses[i + 1] for i in range(max(lowest, 1))]
        return self.rates[falls.index(max(falls))]


def find_lr(request: Request) -> LRFinding:
    """Train on ever higher rates; nothing is kept.

    Raises:
        UserError: what is asked for cannot be trained.
    """
    record, images = plan.planned(request, Processes())
    device = device_named(record.device)
    batches = plan.batches(record, images.train, device, Shard())
    with torch.random.fork_rng():
        lesson = TrainingSetup.of(Run(Path(), record))
        network, optimizer = lesson.begun(device)
        step = lesson.step(arranged(network, record.execution), batches, Processes())
        rates: list[float] = []
        losses: list[float] = []
        mean = 0.0
        while len(rates) < STEPS:
            for batch in batches.epoch(len(rates) // len(batches)):
                rate = LOWEST * (HIGHEST / LOWEST) ** (len(rates) / (STEPS - 1))
                optimizers.set_rate(optimizer, rate)
                optimizer.zero_grad(set_to_none=True)
                told = step.gradient(batch)
                mean = SMOOTHING * mean + (1 - SMOOTHING) * told.loss / told.num
                # Early means lean to the 0 that they began with.
                smoothed = mean / (1 - SMOOTHING ** (len(rates) + 1))
                if not told.finite or (losses and smoothed > LOST * min(losses)):
                    return LRFinding(tuple(rates), tuple(losses))
                rates.append(rate)
                losses.append(smoothed)
                optimizer.step()
                if len(rates) == STEPS:
                    break
    return LRFinding(tuple(rates), tuple(losses))
