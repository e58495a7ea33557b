"""How gradients pass through a network: their norms at every layer, and the Jacobians of its parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


def gradient_norms(network: nn.Module, loss: Callable[[Any], Tensor], inputs: Tensor) -> list[tuple[str, float]]:
    """The norm of the loss's gradient at the output of each convolution and fully connected layer.

    Parameters and their gradients stay as they are.

    Args:
        loss: from the network's output to a scalar.
        inputs: (batch, ...).

    Returns:
        (the layer's name, the Euclidean norm over all of its outputs), in order of execution. A layer that does not
        reach the loss has 0.
    """
    calls: list[tuple[str, Tensor]] = []

    def note(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda layer, given, output: calls.append((name, output))

    hooks = [
        layer.register_forward_hook(note(name))
        for name, layer in network.named_modules()
        if isinstance(layer, (nn.Conv2d, nn.Linear))
    ]
    try:
        with torch.enable_grad():
            value = loss(network(inputs))
            gradients = torch.autograd.grad(value, [output for _, output in calls], allow_unused=True)
    finally:
        for hook in hooks:
            hook.remove()
    return [
        (name, 0.0 if gradient is None else euclidean_norm(gradient))
        for (name, _), gradient in zip(calls, gradients, strict=True)
    ]


def euclidean_norm(values: Tensor) -> float:
    """The Euclidean norm, also where squares would underflow or overflow."""
    largest = float(values.abs().max())
    return largest * float((values / largest).norm()) if largest else 0.0


def jacobian(part: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The Jacobian (outputs, inputs) of a part of a network at one input.

    Args:
        part: from one input to its output, both without a batch dimension; both are flattened in the result.
    """
    derivatives: Tensor = torch.func.jacrev(part)(x)
    return derivatives.detach().reshape(-1, x.numel())


def jacobian_product(jacobians: Sequence[Tensor]) -> Tensor:
    """The Jacobian (outputs, inputs) of consecutive parts, by the chain rule; the first part comes first."""
    whole = jacobians[0]
    for following in jacobians[1:]:
        whole = following @ whole
    return whole
