"""How strongly the loss answers to each layer, and how each layer stretches what passes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


def gradient_norms(network: nn.Module, loss: Callable[[Any], Tensor], inputs: Tensor) -> list[tuple[str, float]]:
    """The length of the loss's gradient at the output of each convolution and fully connected layer.

    Parameters and their gradients stay as they are.

    Args:
        loss: of what the network gives, a single number.
        inputs: (batch, ...).

    Returns:
        (the layer's name, the norm over all of its outputs), in the order in which they compute. A layer that does not
        reach the loss has 0.
    """
    seen: list[tuple[str, Tensor]] = []

    def keep(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda layer, given, output: seen.append((name, output))

    hooks = [
        layer.register_forward_hook(keep(name))
        for name, layer in network.named_modules()
        if isinstance(layer, (nn.Conv2d, nn.Linear))
    ]
    try:
        with torch.enable_grad():
            value = loss(network(inputs))
            found = torch.autograd.grad(value, [output for _, output in seen], allow_unused=True)
    finally:
        for hook in hooks:
            hook.remove()
    return [
        (name, 0.0 if gradient is None else length(gradient)) for (name, _), gradient in zip(seen, found, strict=True)
    ]


def length(values: Tensor) -> float:
    """The Euclidean norm, also where the squares would be too small or too large for numbers."""
    largest = float(values.abs().max())
    return largest * float((values / largest).norm()) if largest else 0.0


def jacobian(part: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The derivatives (outputs, inputs) of a part of a network at one input without a batch dimension, flattened."""
    derivatives: Tensor = torch.func.jacrev(part)(x)
    return derivatives.detach().reshape(-1, x.numel())


def product(jacobians: Sequence[Tensor]) -> Tensor:
    """The chain rule: the Jacobian of parts that follow one another, given in their order."""
    whole = jacobians[0]
    for following in jacobians[1:]:
        whole = following @ whole
    return whole
