"""The default recipe, and the words by which a recipe is chosen."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from convatlas.data import Dataset
from convatlas.errors import UserError, unknown
from convatlas.measure.table import build_without_memory
from convatlas.recipe import Augmentation, Cosine, Decayed, Optimizer, Recipe
from convatlas.runs.options import InitFrom
from convatlas.spec import Layers, Spec, Variant
from convatlas.training.fine_tuning import FEW_IMAGES

DEFAULT = Recipe(
    name="default",
    optimizer=Optimizer.ADAMW,
    lr=4e-3,
    schedule=Cosine(warmup=0.1),
    batch_size=128,
    epochs=20,
    epochs_of=60000,
    weight_decay=0.02,
    decayed=Decayed.WEIGHTS,
    label_smoothing=0.1,
    ema=0.02,
)

CHARACTERS = replace(DEFAULT, augmentation=Augmentation(shift=0.07, scale=0.1, squeeze=0.08, shear=0.15, rotation=8.0))
"""Small distortions, like those of LeCun et al. 1998, section III.B. No flips: a mirrored digit is not a digit."""
SMALL_IMAGES = replace(DEFAULT, augmentation=Augmentation(shift=0.125, flip=True))
"""He et al. 2015, section 4.2: 4 of 32 pixels."""
PHOTOGRAPHS = replace(
    DEFAULT,
    batch_size=64,
    epochs=100,
    epochs_of=200_000,
    augmentation=Augmentation(crop=0.25, aspect=4 / 3, flip=True, side=0.75, mixup=0.25, cutmix=0.25),
)
"""Crops as Szegedy et al. 2014, section 6, from a quarter of the area instead of 8 %, and mixing in half of the
batches."""
PHOTOGRAPH_SIDE = 64
"""Images with at least this side in pixels are trained as photographs."""

RECIPES = ("default", "paper")

DEEP = 7
"""More layers with weights than that do not learn at the default rate unless something normalizes between them."""
DEEP_LR = 1e-3

FINE_TUNING_LR = 4e-4
"""Peak learning rate for fine-tuning, low so that the pretrained weights are not lost."""
FINE_TUNING_EPOCHS, FINE_TUNING_EPOCHS_OF = 10, 3_500
"""16 epochs of 900 images: what was learned before need not be learned again."""
FINE_TUNING_BATCH_SIZE = 32
"""Where there are few images: small batches make enough steps of few epochs."""
MIXED_EPOCHS, MIXED_CROP, MIXED_PART = 20, 0.35, 0.5
"""32 epochs of 900 photographs. All batches are mixed, half by mixup and half by CutMix, which pays in trainings that
long: half as long ones lose by it."""
CONSTRAINED_LR = 1e-3
HEAD_LR, HEAD_EPOCHS = 1e-3, 10
"""Of a head alone, which was fitted before."""


def find(name: str, variant: Variant, layers: Layers, images: Dataset, *, init_from: InitFrom | None = None) -> Recipe:
    """The recipe that `name` means for a variant, scaled so that it has these layers, on these images.

    Args:
        init_from: what training starts from.

    Raises:
        UserError: the name is unknown, or there is no recipe of the variant's paper.
    """
    if name == "default":
        deep = sum(layer.macs > 0 for layer in layers) > DEEP and not layers.of_kind(nn.BatchNorm2d.__name__)
        found = for_images(images)
        if init_from is None:
            return replace(found, lr=DEEP_LR) if deep else found
        if init_from.freeze:
            return replace(found, lr=HEAD_LR, epochs=HEAD_EPOCHS, epochs_of=None)
        if init_from.constraint is not None:
            return replace(found, lr=CONSTRAINED_LR, epochs=DEFAULT.epochs, epochs_of=DEFAULT.epochs_of)
        return for_fine_tuning(found, len(images.train))
    if name == "paper":
        if variant.recipe is None:
            raise UserError(
                f"there is no paper recipe of {variant.name}: {variant.paper.authors} print none; use the default one"
            )
        return variant.recipe
    raise unknown("recipe", name, RECIPES)


def for_fine_tuning(recipe: Recipe, num_images: int) -> Recipe:
    """A default for images of its kind, made for weights that know others: short, with low rates and, where there are
    few images, small batches. A few photographs are cropped less, mixed in every batch and trained longer."""
    recipe = replace(recipe, lr=FINE_TUNING_LR, epochs=FINE_TUNING_EPOCHS, epochs_of=FINE_TUNING_EPOCHS_OF)
    if num_images >= FEW_IMAGES:
        return recipe
    recipe = replace(recipe, batch_size=FINE_TUNING_BATCH_SIZE)
    given = recipe.augmentation
    if not given.crop:
        return recipe
    mixed = replace(given, crop=max(given.crop, MIXED_CROP), mixup=MIXED_PART, cutmix=MIXED_PART)
    return replace(recipe, epochs=MIXED_EPOCHS, augmentation=mixed)


def fitted(recipe: Recipe, variant: Variant, spec: Spec) -> Recipe:
    """The recipe, with training images at the full resolution if the network cannot be run at a smaller one."""
    side = recipe.augmentation.side_for(spec.resolution)
    if side >= spec.smallest_resolution:
        own, other = (
            {name: value.shape for name, value in build_without_memory(variant.network, at).state_dict().items()}
            for at in (spec, replace(spec, resolution=side))
        )
        if own == other:
            return recipe
    return replace(recipe, augmentation=replace(recipe.augmentation, side=1.0))


def for_images(images: Dataset) -> Recipe:
    """The default for images of this kind and size."""
    if images.is_light_on_dark:
        return CHARACTERS
    own = images.train.images.shape[-1] if images.native_side is None else images.native_side
    return PHOTOGRAPHS if own >= PHOTOGRAPH_SIDE else SMALL_IMAGES
