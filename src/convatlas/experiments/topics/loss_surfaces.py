"""The loss around trained weights, with shortcuts and without (Li, Xu, Taylor, Studer and Goldstein 2018)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from convatlas import measure
from convatlas.draw import Surface
from convatlas.experiments.engine.arms import TrainedArm
from convatlas.experiments.topics.degradation import PLAIN_DEEP, RESIDUAL_DEEP, describe
from convatlas.models.evaluation import evaluation_batches
from convatlas.runs.run import Run

IMAGES = 128
"""Training images on which responses and surfaces are measured."""
PLACES = tuple(np.linspace(-1, 1, 21).round(2).tolist())
"""Of a loss surface, along both directions."""
HIGHEST_LOSS = 100.0
"""That a surface shows. With the statistics of normalization as they were, losses far from the weights reach 1e15."""


def training_batch(run: Run) -> tuple[Tensor, Tensor]:
    """Inputs (IMAGES, channels, height, width) from the run's training images, and their labels (IMAGES,)."""
    batches = evaluation_batches(run.card, run.load_data().train, torch.device("cpu"))
    batch = batches.plain(torch.arange(IMAGES))
    return batch.inputs, batch.labels


def loss_surface(run: Run) -> npt.NDArray[np.float64]:
    """The loss around the trained weights of a run, on some of its training images."""
    inputs, labels = training_batch(run)
    return measure.loss_surface(run.network, lambda: float(F.cross_entropy(run.network(inputs), labels)), PLACES)


def surfaces(trained: Mapping[str, TrainedArm]) -> tuple[Surface, tuple[tuple[str, str], ...]]:
    """The losses around the deepest networks of the first seed, to look at; how often they curve downwards."""
    losses = {name: loss_surface(trained[name].runs[0]) for name in (PLAIN_DEEP, RESIDUAL_DEEP)}
    first = {name: TrainedArm(trained[name].runs[:1], trained[name].chosen) for name in losses}
    chart = Surface(
        name="surface",
        title="The loss around the weights",
        subtitle=f"{describe(first)}; {IMAGES} training images; losses above {HIGHEST_LOSS:g} as {HIGHEST_LOSS:g}",
        x="first direction",
        y="second direction",
        value="loss",
        places=PLACES,
        panels=tuple(
            (name, tuple(map(tuple, np.minimum(each, HIGHEST_LOSS).tolist()))) for name, each in losses.items()
        ),
    )
    figures = (
        (f"second differences of the loss that are negative, {name}", f"{100 * measure.negative_curvature(each):.0f} %")
        for name, each in losses.items()
    )
    return chart, tuple(figures)
