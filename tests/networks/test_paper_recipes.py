"""The papers' own recipes, against figures written down here from the papers and not from the families' files."""

from dataclasses import fields, replace

import pytest
import torch

import convatlas as ca
from convatlas.recipe import Augmentation, Decayed, Optimizer, Recipe
from convatlas.spec import Variant
from convatlas.training import optimizers

TRAINED = [variant for variant in ca.variants() if variant.recipe is not None]
IMAGENET, CIFAR = 1_281_167, 50_000

# Optimizer, rate, images a batch, epochs, momentum, weight decay.
PRINTED = {
    "alexnet": ("sgd", 0.01, 128, 90, 0.9, 5e-4),
    "alexnet-owt": ("sgd", 0.01, 128, 90, 0.9, 5e-4),
    "vgg16": ("sgd", 1e-2, 256, 74, 0.9, 5e-4),
    "vgg16-bn": ("sgd", 1e-2, 256, 74, 0.9, 5e-4),
    "googlenet": ("sgd", 0.01, 32, 250, 0.9, 2e-4),
    "resnet50": ("sgd", 0.1, 256, 120, 0.9, 1e-4),
    "plain34": ("sgd", 0.1, 256, 120, 0.9, 1e-4),
    "resnet20-cifar": ("sgd", 0.1, 128, 164, 0.9, 1e-4),
    "plain110-cifar": ("sgd", 0.1, 128, 164, 0.9, 1e-4),
    "resnet164-preact-cifar": ("sgd", 0.1, 128, 164, 0.9, 1e-4),
    "squeezenet": ("sgd", 0.04, 512, 68, 0.9, 2e-4),
    "mobilenet": ("rmsprop", 0.045, 32, 100, 0.9, 4e-5),
    "efficientnet-b7": ("rmsprop", 0.256, 4096, 350, 0.9, 1e-5),
}  # fmt: skip


def recipe_of(name: str) -> Recipe:
    recipe = ca.find(name).recipe
    assert recipe is not None
    return recipe


@pytest.mark.at_once("name", PRINTED)
def test_the_values_are_the_papers(name: str) -> None:
    recipe = recipe_of(name)
    values = (recipe.optimizer, recipe.lr, recipe.batch_size, recipe.epochs, recipe.momentum, recipe.weight_decay)
    assert values == PRINTED[name]


@pytest.mark.at_once(
    ("name", "num_steps", "rates"),
    [
        # Iterations from 0: the last at a rate, and the first at the next.
        ("alexnet", 90, {0: 0.01, 22: 0.01, 23: 1e-3, 44: 1e-3, 45: 1e-4, 67: 1e-4, 68: 1e-5, 89: 1e-5}),
        ("alexnet-owt", 8, {1: 0.01, 2: 0.01 / 6.299605, 4: 0.01 / 39.68503, 6: 0.01 / 250}),
        ("vgg16", 370_000, {92_499: 1e-2, 92_500: 1e-3, 185_000: 1e-4, 277_500: 1e-5, 369_999: 1e-5}),
        ("googlenet", 250, {7: 0.01, 8: 0.0096, 16: 0.009216, 249: 0.00282103}),
        ("resnet50", 600_000, {149_999: 0.1, 150_000: 0.01, 300_000: 1e-3, 450_000: 1e-4}),
        ("resnet20-cifar", 64_000, {0: 0.1, 31_999: 0.1, 32_000: 0.01, 47_999: 0.01, 48_000: 1e-3, 63_999: 1e-3}),
        ("resnet110-cifar", 64_000, {0: 0.01, 399: 0.01, 400: 0.1, 31_999: 0.1, 32_000: 0.01, 48_000: 1e-3}),
        ("resnet1202-cifar", 64_000, {399: 0.01, 400: 0.1}),
        ("resnet110-preact-cifar", 64_000, {399: 0.01, 400: 0.1, 32_000: 0.01, 48_000: 1e-3}),
        ("squeezenet", 170_000, {0: 0.04, 85_000: 0.02, 127_500: 0.01}),
        ("mobilenet", 100, {1: 0.045, 2: 0.0423, 99: 0.045 * 0.94**49}),
        # 313 batches of 4,096 in an epoch; 240 epochs are 100 stairs.
        ("efficientnet-b0", 350 * 313, {782: 0.128, 240 * 313 - 1: 0.256 * 0.97**99, 240 * 313: 0.256 * 0.97**100}),
    ],
)
def test_the_rate_is_the_papers_at_each_iteration(name: str, num_steps: int, rates: dict[int, float]) -> None:
    recipe = recipe_of(name)
    assert {step: recipe.lr_at(step, num_steps) for step in rates} == pytest.approx(rates, rel=1e-5)


@pytest.mark.at_once(
    ("name", "iterations", "images"),
    [
        ("vgg16", 370_000, IMAGENET),
        ("googlenet", 10_000_000, IMAGENET),
        ("resnet50", 600_000, IMAGENET),
        ("resnet20-cifar", 64_000, CIFAR),
        ("squeezenet", 170_000, IMAGENET),
    ],
)
def test_iterations_of_a_batch_are_the_epochs(name: str, iterations: int, images: int) -> None:
    recipe = recipe_of(name)
    assert recipe.epochs == round(iterations * recipe.batch_size / images)


def test_on_cifar_each_rate_holds_for_its_part_of_the_batches_that_there_are() -> None:
    recipe = recipe_of("resnet20-cifar")
    num_steps = recipe.epochs * 391
    rates = [recipe.lr_at(step, num_steps) for step in range(num_steps)]
    assert [rates.count(rate) for rate in (0.1, 0.01, 0.001)] == [32_062, 16_031, 16_031]


def test_images_are_changed_as_the_papers_say() -> None:
    assert recipe_of("alexnet").augmentation == Augmentation(flip=True, lighting=0.1)
    assert recipe_of("vgg19").augmentation == Augmentation(flip=True, lighting=0.1)
    assert recipe_of("googlenet").augmentation == Augmentation(crop=0.08, aspect=4 / 3, flip=True)
    resnet = recipe_of("resnet152").augmentation
    assert resnet == Augmentation(crop=resnet.crop, flip=True, lighting=0.1)
    # 224 pixels of at most 480.
    assert 480 * resnet.crop**0.5 == pytest.approx(224)
    # 4 of 32 pixels.
    assert recipe_of("resnet56-cifar").augmentation == Augmentation(shift=0.125, flip=True)
    assert recipe_of("squeezenet").augmentation == Augmentation(flip=True)


def test_what_only_rmsprop_has_is_the_papers() -> None:
    mobilenet, efficientnet = recipe_of("mobilenet"), recipe_of("efficientnet-b0")
    assert (mobilenet.alpha, mobilenet.eps, mobilenet.max_norm) == (0.9, 1.0, 2.0)
    assert mobilenet.decayed is Decayed.NOT_DEPTHWISE
    # The release adds 0.001 to the mean square, PyTorch the root of it to the root of that.
    assert (efficientnet.alpha, efficientnet.eps) == (0.9, pytest.approx(0.0316228))


def test_networks_without_a_recipe_are_those_whose_paper_prints_none() -> None:
    without = [variant.name for variant in ca.variants() if variant.recipe is None]
    lenets = ["lenet1989", "lenet5-modern", "lenet-300", "lenet-300-100"]
    assert without == [*lenets, "alexnet-cifar", "alexnet-cifar-tanh", "alexnet-cifar-lrn"]


def test_networks_of_110_layers_and_more_are_warmed_up() -> None:
    on_cifar = [variant for variant in TRAINED if "-cifar" in variant.name]
    for variant in on_cifar:
        deep = any(f"{layers}-" in variant.name for layers in (110, 164, 1202))
        assert variant.recipe.lr_at(0, 64_000) == pytest.approx(0.01 if deep else 0.1), variant.name
    assert len(on_cifar) == 23


@pytest.mark.at_once("variant", TRAINED)
def test_every_row_of_sources_names_values_that_the_recipe_sets(variant: Variant) -> None:
    recipe = variant.recipe
    values = {
        field.name: getattr(part, field.name) != field.default
        for part in (recipe, recipe.augmentation)
        for field in fields(part)
    }
    named = [what for group, _ in recipe.sources for what in group.split(", ")]
    assert len(named) == len(set(named))
    assert all(values[what] for what in named)
    assert all(where for _, where in recipe.sources)
    assert recipe.name == "paper"


def tiny(variant: Variant) -> tuple[torch.nn.Module, torch.Tensor]:
    """A narrow, shallow network and four images for it."""
    torch.manual_seed(0)
    spec = variant.spec.scaled(width=0.25, depth=0.1, resolution=variant.spec.smallest_resolution)
    spec = replace(spec, num_classes=4)
    return variant.network(spec), torch.randn(4, spec.in_channels, spec.resolution, spec.resolution)


@pytest.mark.at_once("variant", TRAINED)
def test_the_optimizer_has_every_parameter_at_the_recipes_rate(variant: Variant) -> None:
    network, _ = tiny(variant)
    optimizer = optimizers.build(variant.recipe, network)
    groups = optimizer.param_groups
    held = [value for group in groups for value in group["params"]]
    assert {id(value) for value in held} == {id(value) for value in network.parameters()}
    assert len(held) == len(list(network.parameters()))
    assert {group["lr"] for group in groups} == {variant.recipe.lr}
    if variant.recipe.optimizer is not Optimizer.LEVENBERG_MARQUARDT:
        assert {group["momentum"] for group in groups} == {variant.recipe.momentum}
        assert variant.recipe.weight_decay in {group["weight_decay"] for group in groups}


DISTINCT = list({id(variant.recipe): variant for variant in TRAINED}.values())


@pytest.mark.parametrize("variant", DISTINCT, ids=lambda variant: variant.name)
def test_a_step_at_the_highest_rate_changes_all_weights_and_keeps_them_numbers(variant: Variant) -> None:
    network, images = tiny(variant)
    targets = torch.eye(4)
    optimizer = optimizers.build(variant.recipe, network)
    if isinstance(optimizer, optimizers.DiagonalLevenbergMarquardt):
        optimizer.estimate_curvature(network, variant.objective, images, targets)
    before = [value.detach().clone() for value in network.parameters()]
    variant.objective.losses(network(images), targets).mean().backward()
    if variant.recipe.max_norm:
        torch.nn.utils.clip_grad_norm_(network.parameters(), variant.recipe.max_norm)
    optimizer.step()
    for (name, value), old in zip(network.named_parameters(), before, strict=True):
        assert value.isfinite().all(), name
        # Gradients of what stands before a normalization may be lost beside ones and zeros.
        assert value.dim() == 1 or not value.equal(old), name
