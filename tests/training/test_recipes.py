"""Which recipe trains what: by its name, the network's layers, and the kind and size of the images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from convatlas import atlas, measure
from convatlas.data import Dataset, Split
from convatlas.errors import UserError
from convatlas.networks.lenet import RECIPE_1998
from convatlas.recipe import Recipe
from convatlas.runs.options import InitFrom, WeightConstraint
from convatlas.training import recipes
from convatlas.training.fine_tuning import FEW_IMAGES


def images(*, side: int = 28, own: int | None = 28, ink: bool = False) -> Dataset:
    """Images with that side in pixels, which had the side `own` before; None: many sizes."""
    split = Split(np.zeros((2, 1, side, side), np.uint8), np.arange(2))
    return Dataset(name="some", classes=("a", "b"), train=split, test=split, native_side=own, is_light_on_dark=ink)


DIGITS = images(ink=True)


UNFROZEN = InitFrom(path="weights")
FROZEN = InitFrom(path="weights", freeze=True)
CONSTRAINED = InitFrom(path="weights", constraint=WeightConstraint.ZEROS)


def find(recipe: str, name: str, of: Dataset = DIGITS, *, init_from: InitFrom | None = None, **scale: float) -> Recipe:
    variant = atlas.find(name)
    layers = measure.layers_of(variant.network, variant.spec.scaled(**scale))
    return recipes.find(recipe, variant, layers, of, init_from=init_from)


def test_a_recipe_is_found_by_its_name() -> None:
    assert find("default", "lenet5") is recipes.CHARACTERS
    assert find("paper", "lenet5") is RECIPE_1998


def test_a_variant_without_a_paper_recipe_says_so() -> None:
    with pytest.raises(UserError, match="no paper recipe of lenet1989"):
        find("paper", "lenet1989")


def test_an_unknown_recipe_suggests_the_nearest_name() -> None:
    with pytest.raises(UserError, match="did you mean paper"):
        find("papre", "lenet5")


@pytest.mark.parametrize("name", ["alexnet", "vgg11", "googlenet", "squeezenet"])
def test_deep_networks_without_normalization_train_at_a_lower_learning_rate(name: str) -> None:
    assert find("default", name).lr == recipes.DEEP_LR < recipes.DEFAULT.lr
    # Nothing else differs.
    assert replace(find("default", name), lr=recipes.DEFAULT.lr) == find("default", "lenet5")


@pytest.mark.parametrize("name", ["lenet5-modern", "alexnet-bn", "vgg11-bn", "plain18", "mobilenet", "efficientnet-b0"])
def test_shallow_and_normalized_networks_train_at_the_full_learning_rate(name: str) -> None:
    assert find("default", name).lr == recipes.DEFAULT.lr


def test_a_network_scaled_deep_counts_as_deep() -> None:
    assert find("default", "lenet5-modern", depth=10).lr == recipes.DEEP_LR


@pytest.mark.parametrize("name", ["lenet5-modern", "alexnet", "efficientnet-b0"])
@pytest.mark.parametrize("of", [images(ink=True), images(side=128, own=128)], ids=["digits", "photographs"])
@pytest.mark.parametrize("init_from", [UNFROZEN, CONSTRAINED], ids=["new head", "constrained"])
def test_trained_weights_learn_at_a_lower_rate_and_no_longer(name: str, of: Dataset, init_from: InitFrom) -> None:
    new, old = find("default", name, of), find("default", name, of, init_from=init_from)
    assert old.lr < recipes.DEFAULT.lr
    assert old.epochs_for(500) <= new.epochs_for(500)
    # Of few images small batches and other changes, and nothing else differs.
    given = (new.batch_size, new.augmentation) if init_from is UNFROZEN else (old.batch_size, old.augmentation)
    length = replace(old, lr=new.lr, epochs=new.epochs, epochs_of=new.epochs_of)
    assert replace(length, batch_size=given[0], augmentation=given[1]) == new


def test_few_images_are_fine_tuned_in_small_batches() -> None:
    few, many = (recipes.for_fine_tuning(recipes.SMALL_IMAGES, num) for num in (FEW_IMAGES - 1, FEW_IMAGES))
    assert few.batch_size < many.batch_size == recipes.SMALL_IMAGES.batch_size
    assert replace(few, batch_size=many.batch_size) == many


def test_a_few_photographs_are_cropped_less_mixed_in_every_batch_and_trained_longer() -> None:
    few, many = (recipes.for_fine_tuning(recipes.PHOTOGRAPHS, num) for num in (FEW_IMAGES - 1, FEW_IMAGES))
    assert many.augmentation == recipes.PHOTOGRAPHS.augmentation
    assert few.augmentation.mixup + few.augmentation.cutmix == 1
    assert few.augmentation.crop > many.augmentation.crop
    assert few.augmentation.flip
    assert few.epochs_for(900) == 32
    assert few.epochs_for(900) == 2 * many.epochs_for(900)
    # What is not cropped is neither cropped nor mixed then.
    of_characters = recipes.for_fine_tuning(recipes.CHARACTERS, 100)
    assert of_characters.augmentation == recipes.CHARACTERS.augmentation
    assert of_characters.epochs == many.epochs


def test_a_head_alone_has_the_same_recipe_for_any_network() -> None:
    one, other = (find("default", name, init_from=FROZEN) for name in ("alexnet", "resnet18"))
    assert one == other
    assert (one.lr, one.epochs_for(900)) == (recipes.HEAD_LR, recipes.HEAD_EPOCHS)


def test_deep_networks_without_normalization_are_fine_tuned_as_others() -> None:
    one, other = (find("default", name, init_from=UNFROZEN) for name in ("vgg16", "resnet18"))
    assert one == other


def test_a_paper_recipe_is_the_same_for_fine_tuning() -> None:
    assert find("paper", "lenet5", init_from=UNFROZEN) is RECIPE_1998


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        (images(ink=True), recipes.CHARACTERS),
        # Characters stay characters, however large they are drawn.
        (images(side=224, own=224, ink=True), recipes.CHARACTERS),
        (images(), recipes.SMALL_IMAGES),
        (images(own=63), recipes.SMALL_IMAGES),
        (images(own=64), recipes.PHOTOGRAPHS),
        # Their original size counts, not the one to which they were enlarged for a network.
        (images(side=224, own=32), recipes.SMALL_IMAGES),
        # Of many sizes: the one that they were resized to.
        (images(side=32, own=None), recipes.SMALL_IMAGES),
        (images(side=64, own=None), recipes.PHOTOGRAPHS),
    ],
)
def test_the_default_recipe_fits_the_kind_and_size_of_the_images(of: Dataset, expected: Recipe) -> None:
    assert find("default", "resnet20-cifar", of) is expected


def test_characters_are_never_flipped_or_mixed() -> None:
    changes = recipes.CHARACTERS.augmentation
    assert not changes.flip
    assert changes.mixup == changes.cutmix == 0


@pytest.mark.parametrize("name", ["resnet18", "squeezenet", "mobilenet", "efficientnet-b0"])
def test_networks_with_global_pooling_train_on_photographs_smaller_than_they_are_tested_on(name: str) -> None:
    assert fitted(name, 128) is recipes.PHOTOGRAPHS
    assert recipes.PHOTOGRAPHS.augmentation.side < 1


@pytest.mark.parametrize("name", ["lenet5-modern", "alexnet", "vgg16", "googlenet"])
def test_networks_whose_weights_fit_one_size_train_on_that_size(name: str) -> None:
    recipe = fitted(name, 128)
    assert recipe.augmentation.side == 1
    whole = replace(recipes.PHOTOGRAPHS.augmentation, side=1.0)
    assert recipe == replace(recipes.PHOTOGRAPHS, augmentation=whole)


def test_no_network_trains_on_images_smaller_than_it_takes() -> None:
    assert fitted("resnet18", 28).augmentation.side == 1


def fitted(name: str, resolution: int) -> Recipe:
    variant = atlas.find(name)
    return recipes.fitted(recipes.PHOTOGRAPHS, variant, variant.spec.scaled(resolution=resolution))
