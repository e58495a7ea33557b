"""How strongly the layers of a network respond (He et al. 2015, section 4.2, Figure 7)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def response_stds(network: nn.Module, inputs: Tensor) -> list[tuple[str, float]]:
    """The standard deviation of each batch normalization's outputs, before the activation or the addition.

    Args:
        network: in evaluation mode, to normalize with the running statistics.
        inputs: (batch, channels, height, width).

    Returns:
        (the layer's name, the standard deviation over all of its outputs), in order of execution.
    """
    stds: list[tuple[str, float]] = []

    def note(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda layer, given, output: stds.append((name, float(output.std())))

    hooks = [
        layer.register_forward_hook(note(name))
        for name, layer in network.named_modules()
        if isinstance(layer, nn.BatchNorm2d)
    ]
    try:
        with torch.inference_mode():
            network(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return stds
