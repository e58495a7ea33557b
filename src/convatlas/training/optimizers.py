"""The optimizers of recipes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from convatlas.data import Batches
from convatlas.recipe import Decayed, Optimizer, Recipe
from convatlas.spec import Objective


@dataclass(frozen=True)
class ParamGroup:
    """Parameters with one learning rate."""

    parameters: dict[str, Tensor]
    """By the names that they have in the network."""
    factor: float = 1.0
    """Of the recipe's learning rate."""


def build(recipe: Recipe, network: nn.Module, groups: Sequence[ParamGroup] | None = None) -> torch.optim.Optimizer:
    """The recipe's optimizer; its parameter groups hold their `factor` of the learning rate.

    Args:
        groups: the parameters with their factors; without them, all have the recipe's learning rate.
    """
    if recipe.optimizer is Optimizer.LEVENBERG_MARQUARDT:
        return DiagonalLevenbergMarquardt(network.parameters(), lr=recipe.lr)
    with_decay = decayed(recipe.decayed, network)
    options: list[dict[str, Any]] = []
    for group in groups or [ParamGroup(dict(network.named_parameters()))]:
        for decay in (True, False):
            parameters = [value for name, value in group.parameters.items() if (name in with_decay) == decay]
            if parameters:
                weight_decay = recipe.weight_decay if decay else 0.0
                options.append({"params": parameters, "factor": group.factor, "weight_decay": weight_decay})
    match recipe.optimizer:
        case Optimizer.SGD:
            return torch.optim.SGD(options, lr=recipe.lr, momentum=recipe.momentum, fused=True)
        case Optimizer.RMSPROP:
            return torch.optim.RMSprop(
                options, lr=recipe.lr, alpha=recipe.alpha, eps=recipe.eps, momentum=recipe.momentum
            )
        case Optimizer.ADAMW:
            return torch.optim.AdamW(options, lr=recipe.lr, eps=recipe.eps, fused=True)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("factor", 1.0)


def before_epoch(
    optimizer: torch.optim.Optimizer, network: nn.Module, objective: Objective, batches: Batches
) -> Callable[[int], None]:
    """What to call with the number of each epoch before its first step; most optimizers need nothing."""
    if not isinstance(optimizer, DiagonalLevenbergMarquardt):
        return lambda epoch: None

    def estimate(epoch: int) -> None:
        sample = batches.sample(epoch, optimizer.NUM_IMAGES)
        optimizer.estimate_curvature(network, objective, sample.inputs, sample.targets)

    return estimate


def decayed(which: Decayed, network: nn.Module) -> set[str]:
    """The names of the parameters that have weight decay."""
    if which is Decayed.ALL:
        return {name for name, _ in network.named_parameters()}
    spared = {
        f"{name}.weight"
        for name, layer in network.named_modules()
        if which is Decayed.NOT_DEPTHWISE and isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels > 1
    }
    weights = {name for name, value in network.named_parameters() if name.endswith("weight") and value.dim() > 1}
    return weights - spared


class DiagonalLevenbergMarquardt(torch.optim.Optimizer):
    """Gradient descent with a learning rate for each weight, lr / (mu + h) with h its curvature (1998, Appendix C).

    Departure: the paper back-propagates second derivatives in the Gauss-Newton approximation; here h is the mean
    square of the gradients of single images, which has the same expectation for a log-likelihood.
    """

    MU = 0.02
    """Section III.B."""
    NUM_IMAGES = 500
    """From which h is estimated before each epoch; section III.B."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, {"lr": lr})

    def estimate_curvature(self, network: nn.Module, objective: Objective, inputs: Tensor, targets: Tensor) -> None:
        """Estimate h from inputs (n, channels, height, width) and their target probabilities (n, classes)."""
        parameters = {name: value.detach() for name, value in network.named_parameters()}

        def loss(values: dict[str, Tensor], image: Tensor, target: Tensor) -> Tensor:
            outputs = torch.func.functional_call(network, values, (image[None],))
            return objective.losses(outputs, target[None]).sum()

        gradients = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(parameters, inputs, targets)
        for name, value in network.named_parameters():
            self.state[value]["curvature"] = gradients[name].square().mean(0)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for value in group["params"]:
                value.addcdiv_(value.grad, self.state[value]["curvature"] + self.MU, value=-group["lr"])
