"""Batch normalization folded into the convolutions before it, as engines run a network."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from convatlas.measure.trace import Trace


# Wherever the caller is: in inference mode operations come whole, and cannot be followed.
@torch.inference_mode(False)
@torch.no_grad()
def fold_batch_norm(network: nn.Module) -> nn.Module:
    """A copy in evaluation mode with the same outputs but for rounding, and faster (Jacob et al. 2018, section 3.2).

    Every batch normalization becomes part of the convolution that it follows. Normalization of anything else stays,
    as in networks that normalize before they convolve; so does that of an output which other layers read too.

    Args:
        network: one of the atlas; its `spec` gives the shape of its input.
    """
    copied = copy.deepcopy(network)
    names = {module: name for name, module in copied.named_modules()}
    pairs = folding_pairs(copied)
    copied.eval()
    for conv, norm in pairs:
        copied.set_submodule(names[conv], fuse_conv_bn_eval(conv, norm))
        copied.set_submodule(names[norm], nn.Identity().eval())
    return copied


def folding_pairs(network: nn.Module) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Convolutions whose output is read by one batch normalization, and by nothing else."""
    convolved: dict[int, nn.Conv2d] = {}
    normalized: dict[int, nn.BatchNorm2d] = {}

    def note_output(layer: nn.Conv2d, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        convolved[id(output)] = layer

    def note_input(layer: nn.BatchNorm2d, inputs: tuple[Tensor, ...]) -> None:
        normalized[id(inputs[0])] = layer

    hooks = [
        layer.register_forward_hook(note_output)
        if isinstance(layer, nn.Conv2d)
        else layer.register_forward_pre_hook(note_input)
        for layer in network.modules()
        if isinstance(layer, nn.Conv2d | nn.BatchNorm2d)
    ]
    spec: Any = network.spec
    images = next(network.parameters()).new_empty(0, spec.in_channels, spec.resolution, spec.resolution)
    # The trace keeps every tensor, so that an `id` stays one tensor's.
    with Trace() as trace, torch.random.fork_rng():
        # Auxiliary classifiers run in training only.
        returned = [frozen_outputs(network, images, training=training) for training in (False, True)]
    for hook in hooks:
        hook.remove()
    read = [tensor for operation in trace.operations for tensor in operation.inputs]
    reads = Counter(map(id, [*read, *(tensor for tensors in returned for tensor in tensors)]))
    pairs: set[tuple[nn.Conv2d | None, nn.BatchNorm2d | None]] = {
        (conv, normalized.get(output) if reads[output] == 1 else None) for output, conv in convolved.items()
    }
    pairs |= {(None, norm) for output, norm in normalized.items() if output not in convolved}
    # A layer that is called more than once must have the same partner each time.
    convs, norms = Counter(conv for conv, _ in pairs), Counter(norm for _, norm in pairs)
    return [
        (conv, norm)
        for conv, norm in pairs
        if conv is not None and norm is not None and convs[conv] == norms[norm] == 1
    ]


def frozen_outputs(network: nn.Module, images: Tensor, *, training: bool) -> tuple[Tensor, ...]:
    """All outputs in training or in evaluation mode; batch normalization uses its statistics and learns nothing."""
    network.train(training)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    outputs = network(images)
    return outputs if isinstance(outputs, tuple) else (outputs,)
