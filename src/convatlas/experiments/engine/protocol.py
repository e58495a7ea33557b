"""How the standard budget trains networks on CIFAR-10, where a statement does not say otherwise."""

from __future__ import annotations

from dataclasses import replace

from convatlas.experiments.engine.rates import rates_from
from convatlas.recipe import Recipe
from convatlas.runs.options import Runtime
from convatlas.training.recipes import SMALL_IMAGES

DATA = "cifar10-held-out"
IMAGES = "CIFAR-10, 41,000 training and 10,000 test images"
"""The test images are the last 9,000 of the published training images and the first 1,000 of the test images: with
1,000 alone, differences below two points could not be told. The page says so."""
EPOCHS = 10
RATES = rates_from(1e-3)
"""Peak learning rates that each network tries."""
RUNTIME = Runtime()
"""The fastest that the machine has, as everywhere: bfloat16 takes half the time on many processors. Each training has
one thread, and several go on at once."""


def recipe(epochs: int = EPOCHS) -> Recipe:
    """The default recipe for small images: AdamW, warmup and cosine, random shifts and flips."""
    return replace(SMALL_IMAGES, epochs=epochs, epochs_of=None)
