"""How strongly the layers of a network respond (He et al. 2015, section 4.2, Figure 7)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def responses(network: nn.Module, inputs: Tensor) -> list[tuple[str, float]]:
    """The standard deviation of each batch normalization's outputs, before what follows it.

    Args:
        network: in evaluation mode, where its statistics are those of training.
        inputs: (batch, channels, height, width).

    Returns:
        (the layer's name, the deviation over all of its outputs), in the order in which they compute.
    """
    seen: list[tuple[str, float]] = []

    def keep(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda layer, given, output: seen.append((name, float(output.std())))

    hooks = [
        layer.register_forward_hook(keep(name))
        for name, layer in network.named_modules()
        if isinstance(layer, nn.BatchNorm2d)
    ]
    try:
        with torch.inference_mode():
            network(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return seen
