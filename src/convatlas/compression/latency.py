"""How long networks take for an image alone in its batch, on this machine's CPU."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Hashable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from convatlas import measure
from convatlas.compression.int8 import compiled, to_int8
from convatlas.compression.stages import TrainedModel
from convatlas.networks.blocks import fold_batch_norm
from convatlas.networks.low_bits import remove_fake_quant
from convatlas.spec import Spec

REPEATS = 25
"""Images over which a latency is the median."""


@torch.inference_mode()
def latency(network: nn.Module, spec: Spec) -> float:
    """The median of the seconds that an image takes, batch normalization fold_batch_norm, as engines run it."""
    deployed, image = fold_batch_norm(network), a_image(spec)
    return measure.seconds(lambda: deployed(image), REPEATS)


@torch.no_grad()
def latencies(models: Sequence[TrainedModel], *, compiling: bool = False, repeats: int = REPEATS) -> list[float]:
    """The same of each source, measured in turn; networks of the same layers take the same time and are measured once.

    Zeros, shared values and weights of few bits are multiplied in 32 bits like any others.

    Args:
        compiling: whether all networks are compiled; what has weights and inputs of 8 bits then computes in 8 bits.
        repeats: images over which each is the median.

    Raises:
        RuntimeError: see `compiled`.
    """
    works: dict[Hashable, Callable[[], Tensor]] = {}
    kinds: list[Hashable] = []
    for source in models:
        spec, low_bits = source.spec, source.model.card.quantization or ()
        eight = compiling and any(bits.input_low is not None for bits in low_bits)
        kinds.append((spec, eight))
        if kinds[-1] in works:
            continue
        network = to_int8(source.network, low_bits) if eight else remove_fake_quant(fold_batch_norm(source.network))
        image = a_image(spec)
        works[kinds[-1]] = partial(compiled(network, image) if compiling else network, image)
    times = measure.seconds_in_turn(works, repeats)
    return [statistics.median(times[kind]) for kind in kinds]


def a_image(spec: Spec) -> Tensor:
    """(1, channels, height, width)"""
    shape = 1, spec.in_channels, spec.resolution, spec.resolution
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))
