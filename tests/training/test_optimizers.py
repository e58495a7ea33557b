"""The optimizers of recipes: the textbooks' arithmetic, what has weight decay, and Levenberg-Marquardt's curvature."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convatlas import atlas
from convatlas.data import Batches, Split
from convatlas.images import Preprocessing
from convatlas.networks.lenet import RECIPE_1998
from convatlas.recipe import Decayed, Optimizer, Recipe
from convatlas.training import optimizers
from convatlas.training.optimizers import ParamGroup
from convatlas.training.recipes import DEFAULT

SGD = replace(DEFAULT, optimizer=Optimizer.SGD, lr=0.1, momentum=0.9, weight_decay=0.01, decayed=Decayed.ALL)
RMSPROP = replace(DEFAULT, optimizer=Optimizer.RMSPROP, lr=0.1, momentum=0.9, alpha=0.8, eps=0.5, weight_decay=0.01)
RMSPROP = replace(RMSPROP, decayed=Decayed.ALL)


def weights_after(recipe: Recipe, gradients: list[float], weight: float = 2.0) -> list[float]:
    """The only weight of a layer after each step."""
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, weight)
    optimizer = optimizers.build(recipe, layer)
    weights = []
    for gradient in gradients:
        layer.weight.grad = torch.tensor([[gradient]])
        optimizer.step()
        weights.append(layer.weight.item())
    return weights


def test_sgd_has_the_textbooks_momentum_and_weight_decay() -> None:
    weight, velocity, expected = 2.0, 0.0, []
    for gradient in (1.0, -3.0, 0.5):
        velocity = 0.9 * velocity + gradient + 0.01 * weight
        weight -= 0.1 * velocity
        expected.append(weight)
    assert weights_after(SGD, [1.0, -3.0, 0.5]) == pytest.approx(expected)


def test_rmsprop_divides_by_the_root_of_the_smoothed_square_plus_eps() -> None:
    weight, square, velocity, expected = 2.0, 0.0, 0.0, []
    for gradient in (1.0, -3.0, 0.5):
        decayed = gradient + 0.01 * weight
        square = 0.8 * square + 0.2 * decayed**2
        velocity = 0.9 * velocity + decayed / (square**0.5 + 0.5)
        weight -= 0.1 * velocity
        expected.append(weight)
    assert weights_after(RMSPROP, [1.0, -3.0, 0.5]) == pytest.approx(expected)


def test_adamw_decays_weights_apart_from_the_gradient_and_takes_the_recipes_eps() -> None:
    recipe = replace(DEFAULT, lr=0.1, weight_decay=0.01, eps=0.5, decayed=Decayed.ALL)
    # The first step is the gradient over its own size.
    assert weights_after(recipe, [3.0]) == pytest.approx([2.0 * (1 - 0.1 * 0.01) - 0.1 * 3.0 / (3.0 + 0.5)])


@pytest.mark.parametrize(
    ("which", "names"),
    [
        (Decayed.ALL, {"conv.weight", "conv.bias", "depthwise.weight", "norm.weight", "norm.bias", "fc.weight"}),
        (Decayed.WEIGHTS, {"conv.weight", "depthwise.weight", "fc.weight"}),
        (Decayed.NOT_DEPTHWISE, {"conv.weight", "fc.weight"}),
    ],
)
def test_weight_decay_is_for_the_parameters_that_the_recipe_names(which: Decayed, names: set[str]) -> None:
    network = nn.ModuleDict(
        {
            # A convolution with one input channel is not depthwise.
            "conv": nn.Conv2d(1, 4, 3),
            "depthwise": nn.Conv2d(4, 4, 3, groups=4, bias=False),
            "norm": nn.BatchNorm2d(4),
            "fc": nn.Linear(4, 2, bias=False),
        }
    )
    assert optimizers.decayed(which, network) == names
    of = {value: name for name, value in network.named_parameters()}
    groups = optimizers.build(replace(SGD, decayed=which), network).param_groups
    assert {of[value] for group in groups if group["weight_decay"] for value in group["params"]} == names
    # Every parameter is in one group.
    trained = [of[value] for group in groups for value in group["params"]]
    assert sorted(trained) == sorted(of.values())


@pytest.mark.parametrize("optimizer", [Optimizer.SGD, Optimizer.RMSPROP, Optimizer.ADAMW])
def test_groups_have_their_factor_of_the_learning_rate(optimizer: Optimizer) -> None:
    network = nn.ModuleDict({"body": nn.Linear(1, 1), "head": nn.Linear(1, 1), "frozen": nn.Linear(1, 1)})
    groups = [
        ParamGroup({f"{name}.{key}": value for key, value in network[name].named_parameters()}, factor)
        for name, factor in (("head", 1.0), ("body", 0.1))
    ]
    built = optimizers.build(replace(SGD, optimizer=optimizer, decayed=Decayed.WEIGHTS, alpha=0.9), network, groups)
    optimizers.set_lr(built, 0.5)
    of = {value: name for name, value in network.named_parameters()}
    lrs = {of[value]: group["lr"] for group in built.param_groups for value in group["params"]}
    assert lrs == pytest.approx({"head.weight": 0.5, "head.bias": 0.5, "body.weight": 0.05, "body.bias": 0.05})


def test_weight_decay_is_not_for_biases_or_coefficients() -> None:
    network = atlas.create("lenet5")
    decayed, others = optimizers.build(DEFAULT, network).param_groups
    names = {value: name for name, value in network.named_parameters()}
    assert {names[value] for value in decayed["params"]} == {"c1.weight", "c3.weight", "c5.weight", "f6.weight"}
    assert len(decayed["params"]) + len(others["params"]) == len(names)
    assert decayed["weight_decay"] == DEFAULT.weight_decay
    assert others["weight_decay"] == 0.0


def test_curvature_is_the_mean_square_of_single_images_gradients() -> None:
    torch.manual_seed(0)
    variant = atlas.find("lenet1")
    network = variant.network(variant.spec)
    inputs = torch.rand(6, 1, 28, 28)
    targets = F.one_hot(torch.arange(6), 10).float()
    optimizer = optimizers.build(RECIPE_1998, network)
    assert isinstance(optimizer, optimizers.DiagonalLevenbergMarquardt)
    optimizer.estimate_curvature(network, variant.objective, inputs, targets)

    squares = [torch.zeros_like(value) for value in network.parameters()]
    for i in range(6):
        loss = variant.objective.losses(network(inputs[i : i + 1]), targets[i : i + 1]).sum()
        for square, gradient in zip(squares, torch.autograd.grad(loss, list(network.parameters())), strict=True):
            square += gradient**2 / 6
    for value, square in zip(network.parameters(), squares, strict=True):
        torch.testing.assert_close(optimizer.state[value]["curvature"], square)


def test_a_step_is_the_gradient_over_mu_plus_curvature() -> None:
    layer = nn.Linear(2, 1, bias=False)
    optimizer = optimizers.DiagonalLevenbergMarquardt(layer.parameters(), lr=0.1)
    before = layer.weight.detach().clone()
    layer.weight.grad = torch.tensor([[1.0, 2.0]])
    optimizer.state[layer.weight]["curvature"] = torch.tensor([[0.08, 0.18]])
    optimizer.step()
    torch.testing.assert_close(layer.weight.detach(), before - 0.1 * torch.tensor([[1.0 / 0.10, 2.0 / 0.20]]))


def noise_batches(num_images: int) -> Batches:
    """Batches of noise, without augmentation."""
    noise = np.random.default_rng(0).integers(0, 256, (num_images, 1, 28, 28), dtype=np.uint8)
    return Batches(
        Split(noise, np.arange(num_images) % 10),
        Preprocessing(resize=28, crop=28, channels=1, mean=(0.5,), std=(0.25,)),
        num_classes=10,
        batch_size=4,
        device=torch.device("cpu"),
        seed=3,
    )


@pytest.mark.parametrize("num_images", [6, 9])
def test_levenberg_marquardt_estimates_its_curvature_from_other_images_before_each_epoch(
    num_images: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optimizers.DiagonalLevenbergMarquardt, "NUM_IMAGES", 6)
    torch.manual_seed(0)
    variant = atlas.find("lenet1")
    network, batches = variant.network(variant.spec), noise_batches(num_images)
    optimizer, by_hand = (optimizers.build(RECIPE_1998, network) for _ in range(2))
    assert isinstance(by_hand, optimizers.DiagonalLevenbergMarquardt)
    before_epoch = optimizers.before_epoch(optimizer, network, variant.objective, batches)
    # It is only prepared so far.
    assert not optimizer.state
    curvatures: list[list[Tensor]] = []
    for epoch in (0, 1):
        before_epoch(epoch)
        # The first six of the images in the order of the epoch, without augmentation.
        sample = batches.plain(batches.order(epoch)[:6])
        by_hand.estimate_curvature(network, variant.objective, sample.inputs, sample.targets)
        curvatures.append([optimizer.state[value]["curvature"] for value in network.parameters()])
        for value, curvature in zip(network.parameters(), curvatures[-1], strict=True):
            torch.testing.assert_close(curvature, by_hand.state[value]["curvature"])
    same = all(torch.allclose(one, other, rtol=1e-3) for one, other in zip(*curvatures, strict=True))
    # Six of six images are the same in every order.
    assert same == (num_images == 6)


@pytest.mark.parametrize("optimizer", [Optimizer.SGD, Optimizer.RMSPROP, Optimizer.ADAMW])
def test_other_optimizers_do_nothing_before_an_epoch(optimizer: Optimizer, monkeypatch: pytest.MonkeyPatch) -> None:
    variant = atlas.find("lenet1")
    network, batches = variant.network(variant.spec), noise_batches(6)
    monkeypatch.setattr(batches, "plain", lambda indices: pytest.fail("images were read"))
    built = optimizers.build(replace(SGD, optimizer=optimizer, alpha=0.9), network)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimizers.before_epoch(built, network, variant.objective, batches)(0)
    assert not built.state
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
