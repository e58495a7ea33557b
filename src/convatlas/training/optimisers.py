"""Optimisers from a recipe."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from convatlas.spec import Objective, Optimiser, Recipe


def build(recipe: Recipe, network: nn.Module) -> torch.optim.Optimizer:
    parameters: dict[str, Tensor] = dict(network.named_parameters())
    if recipe.optimiser is Optimiser.LEVENBERG_MARQUARDT:
        return DiagonalLevenbergMarquardt(parameters.values(), lr=recipe.lr)
    # Decay is for weights that multiply inputs, not for biases, norms and coefficients.
    decayed = {name for name, value in parameters.items() if name.endswith("weight") and value.dim() > 1}
    groups: list[dict[str, Any]] = [
        {"params": [value for name, value in parameters.items() if name in decayed]},
        {"params": [value for name, value in parameters.items() if name not in decayed], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)


class DiagonalLevenbergMarquardt(torch.optim.Optimizer):
    """Gradient descent with a rate for each weight, lr / (mu + h) with h its curvature (1998, Appendix C).

    Departure: the paper back-propagates second derivatives in the Gauss-Newton approximation; here h is the mean
    square of single pictures' gradients, which has the same expectation for the logarithm of a probability.
    """

    MU = 0.02
    """Section III.B."""
    NUM_PICTURES = 500
    """From which h is estimated anew before each pass; section III.B."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, {"lr": lr})

    def estimate(self, network: nn.Module, objective: Objective, inputs: Tensor, targets: Tensor) -> None:
        """Set the curvatures from pictures (n, ...) and their target probabilities (n, classes)."""
        parameters = {name: value.detach() for name, value in network.named_parameters()}

        def loss(values: dict[str, Tensor], picture: Tensor, target: Tensor) -> Tensor:
            outputs = torch.func.functional_call(network, values, (picture[None],))
            return objective.loss(outputs, target[None])

        gradients = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(parameters, inputs, targets)
        for name, value in network.named_parameters():
            self.state[value]["curvature"] = gradients[name].square().mean(0)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for value in group["params"]:
                value.addcdiv_(value.grad, self.state[value]["curvature"] + self.MU, value=-group["lr"])
