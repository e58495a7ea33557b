import torch
import torch.nn.functional as F
from torch import nn

from convatlas import atlas
from convatlas.networks.lenet import RECIPE_1998
from convatlas.training import optimisers
from convatlas.training.recipes import DEFAULT


def test_decay_is_for_weights_and_not_for_biases_or_coefficients() -> None:
    network = atlas.create("lenet5")
    decayed, spared = optimisers.build(DEFAULT, network).param_groups
    names = {value: name for name, value in network.named_parameters()}
    assert {names[value] for value in decayed["params"]} == {"c1.weight", "c3.weight", "c5.weight", "f6.weight"}
    assert len(decayed["params"]) + len(spared["params"]) == len(names)
    assert decayed["weight_decay"] == DEFAULT.weight_decay
    assert spared["weight_decay"] == 0.0


def test_curvature_is_the_mean_square_of_single_pictures_gradients() -> None:
    torch.manual_seed(0)
    variant = atlas.find("lenet1")
    network = variant.network(variant.spec)
    inputs = torch.rand(6, 1, 28, 28)
    targets = F.one_hot(torch.arange(6), 10).float()
    optimiser = optimisers.build(RECIPE_1998, network)
    assert isinstance(optimiser, optimisers.DiagonalLevenbergMarquardt)
    optimiser.estimate(network, variant.objective, inputs, targets)

    squares = [torch.zeros_like(value) for value in network.parameters()]
    for i in range(6):
        loss = variant.objective.losses(network(inputs[i : i + 1]), targets[i : i + 1]).sum()
        for square, gradient in zip(squares, torch.autograd.grad(loss, list(network.parameters())), strict=True):
            square += gradient**2 / 6
    for value, square in zip(network.parameters(), squares, strict=True):
        torch.testing.assert_close(optimiser.state[value]["curvature"], square)


def test_a_step_is_the_gradient_over_mu_plus_curvature() -> None:
    layer = nn.Linear(2, 1, bias=False)
    optimiser = optimisers.DiagonalLevenbergMarquardt(layer.parameters(), lr=0.1)
    before = layer.weight.detach().clone()
    layer.weight.grad = torch.tensor([[1.0, 2.0]])
    optimiser.state[layer.weight]["curvature"] = torch.tensor([[0.08, 0.18]])
    optimiser.step()
    torch.testing.assert_close(layer.weight.detach(), before - 0.1 * torch.tensor([[1.0 / 0.10, 2.0 / 0.20]]))
