"""How long networks take for one image (batch size 1), on this machine's CPU."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from convatlas import measure
from convatlas.compression.folding import fold_batch_norm
from convatlas.compression.int8 import compiled, to_int8
from convatlas.compression.stages import TrainedModel
from convatlas.measure import Timing, Workload
from convatlas.networks.quantization import remove_fake_quant
from convatlas.spec import Spec

REPEATS = 25
"""Timed images; a latency is their median."""


@torch.inference_mode()
def latency(network: nn.Module, spec: Spec) -> Timing:
    """The latency of a network, with batch normalization folded into the layers before it, as in deployment."""
    deployed, image = fold_batch_norm(network), example_image(spec)
    return measure.time_call(partial(deployed, image), measure.torch_engine(), repeats=REPEATS)


@torch.no_grad()
def latencies(models: Sequence[TrainedModel], *, compiling: bool = False, repeats: int = REPEATS) -> list[Timing]:
    """The latency of each model, timed in turn. Networks with the same layers are timed once and share the result.

    Zeros, shared values and weights of few bits are multiplied in 32 bits like any others.

    Args:
        compiling: compile all networks with `torch.compile`; those with 8-bit weights and inputs then compute in int8.
        repeats: timed images for each network.

    Raises:
        RuntimeError: see `compiled`.
    """
    workloads: dict[Hashable, Workload] = {}
    keys: list[Hashable] = []
    for model in models:
        spec, quantization = model.spec, model.model.card.quantization or ()
        int8 = compiling and any(layer.input_low is not None for layer in quantization)
        keys.append((spec, int8))
        if keys[-1] in workloads:
            continue
        image = example_image(spec)
        if int8:
            network = to_int8(model.network, quantization, image)
        else:
            network = remove_fake_quant(fold_batch_norm(model.network))
        workloads[keys[-1]] = Workload(
            partial(compiled(network, image) if compiling else network, image),
            measure.torch_engine(compiled=compiling, precision="int8" if int8 else "float32"),
        )
    timings = measure.time_in_turn(workloads, repeats=repeats)
    return [timings[key] for key in keys]


def example_image(spec: Spec) -> Tensor:
    """Gaussian noise (1, channels, height, width)."""
    shape = 1, spec.in_channels, spec.resolution, spec.resolution
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))
