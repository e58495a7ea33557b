"""The default recipe, and the words by which a recipe is chosen."""

from __future__ import annotations

import math
from dataclasses import replace

from torch import nn

from convatlas.errors import UserError, unknown
from convatlas.spec import Augmentation, Layers, Optimiser, Recipe, Variant

DEFAULT = Recipe(
    name="default",
    optimiser=Optimiser.ADAMW,
    lr=4e-3,
    batch_size=128,
    epochs=20,
    epochs_of=60000,
    weight_decay=0.02,
    warm_up=0.1,
    # Small, as the distortions of LeCun et al. 1998, section III.B: shifts, scaling, squeezing, shear.
    augmentation=Augmentation(shift=0.07, scale=0.1, squeeze=0.08, shear=0.15, rotation=8.0),
)

RECIPES = ("default", "paper")

DEEP = 7
"""More layers with weights than that do not learn at the default rate unless something normalises between them."""
DEEP_LR = 1e-3


def find(name: str, variant: Variant, layers: Layers) -> Recipe:
    """The recipe that `name` means for a variant, scaled so that it has these layers.

    Raises:
        UserError: the name is unknown, or there is no recipe of the variant's paper.
    """
    if name == "default":
        deep = sum(layer.macs > 0 for layer in layers) > DEEP
        return DEFAULT if layers.of_kind(nn.BatchNorm2d.__name__) or not deep else replace(DEFAULT, lr=DEEP_LR)
    if name == "paper":
        if variant.recipe is None:
            raise UserError(f"there is no paper recipe of {variant.name} yet; use the default one")
        return variant.recipe
    raise unknown("recipe", name, RECIPES)


def rate(recipe: Recipe, steps_per_epoch: int, num_steps: int, step: int) -> float:
    """The learning rate of a step."""
    if recipe.schedule:
        epoch = step // steps_per_epoch
        for passes, value in recipe.schedule:
            if epoch < passes:
                return value
            epoch -= passes
        return recipe.schedule[-1][1]
    done = step / num_steps
    if done < recipe.warm_up:
        return recipe.lr * (step + 1) / (recipe.warm_up * num_steps + 1)
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * (done - recipe.warm_up) / (1 - recipe.warm_up)))
