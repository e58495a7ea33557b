"""What the drawings of ideas move by: figures of small parts of networks, counted by the package."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import product
from typing import Any

from torch import nn

from convatlas import atlas, measure
from convatlas.experiments.topics.vanishing import ACTIVATIONS, WEIGHT_STDS, ChainSpec, gradient_norms
from convatlas.measure.receptive import ReceptiveField, field_after_window
from convatlas.measure.table import num_multiplications

CHANNELS = (16, 32, 64, 128, 256, 512)
"""In and out, of the filters that are compared."""
IN_CHANNELS, OUT_CHANNELS, KERNELS = (32, 128, 512), (32, 64, 128, 256, 512, 1024), (3, 5, 7)
"""Of a depthwise separable convolution."""
SHARES = (0.125, 0.25, 0.5, 0.75, 1.0)
"""Of a Fire module: squeezed channels over expanded ones."""
DEPTHS = (5, 10, 20, 50)
"""Of a chain of layers."""
BUDGETS = (0.4, 0.7, 1, 2, 4, 8, 16, 32)
"""Billion MACs, for networks between B0 and B7."""


def idea_data() -> dict[str, Any]:
    """All but the chains and the surface."""
    return {"filters": filters(), "separable": separable(), "inception": inception(), "fire": fire()}


def weights(in_channels: int, out_channels: int, kernel: int, groups: int = 1) -> int:
    """Weights of a convolution, which are its multiplications at one position of its output too."""
    return num_multiplications(nn.Conv2d(in_channels, out_channels, kernel, groups=groups, bias=False, device="meta"))


def filters() -> dict[str, Any]:
    """One filter of 7x7 against three of 3x3: weights for each number of channels, and how far each sees."""
    field, sees = ReceptiveField(1, 1), []
    for _ in range(3):
        field = field_after_window(field, 3, 1)
        sees.append(field.size)
    return {
        "channels": CHANNELS,
        "one": [weights(num, num, 7) for num in CHANNELS],
        "three": [[weights(num, num, 3) * layers for layers in (1, 2, 3)] for num in CHANNELS],
        "sees": sees,
    }


def separable() -> dict[str, Any]:
    """A convolution against a depthwise and a pointwise one: multiplications at one position."""
    return {
        "in": IN_CHANNELS,
        "out": OUT_CHANNELS,
        "kernel": KERNELS,
        "costs": [
            [weights(few, many, kernel), weights(few, few, kernel, groups=few), weights(few, many, 1)]
            for few, many, kernel in product(IN_CHANNELS, OUT_CHANNELS, KERNELS)
        ],
    }


def inception() -> dict[str, Any]:
    """The branches of each Inception module of GoogLeNet: what they give and cost, with and without 1x1 reductions.

    The module without reductions is the paper's Figure 2(a): filters of all sizes read the whole input, and pooling
    keeps all channels.
    """
    variant = atlas.find("googlenet")
    table, modules = measure.layers_of(variant.network, variant.spec), []
    for name in sorted({".".join(row.name.split(".")[:2]) for row in table if row.name.startswith("inception")}):
        module = table.part(name)
        in_channels, height, width = module[f"{name}.pool"].output_shape
        branches = []
        for branch, kernel in (("one", 1), ("three", 3), ("five", 5), ("project", 1)):
            part = module.part(f"{name}.{branch}")
            out_channels = part.rows[-1].output_shape[0]
            naive = weights(in_channels, out_channels, kernel) * height * width if branch != "project" else 0
            reduced = part.rows[0].output_shape[0] if len(part) > 1 else 0
            branches.append(
                [reduced, out_channels, part.macs, naive, in_channels if branch == "project" else out_channels]
            )
        modules.append(
            {
                "name": name.removeprefix("inception").replace(".", ""),
                "in": in_channels,
                "side": width,
                "branches": branches,
            }
        )
    return {"names": [one["name"] for one in modules], "modules": modules}


def fire() -> dict[str, Any]:
    """A Fire module of 256 expanded channels for 256 input channels: weights by how far it is squeezed."""
    channels, half = 256, 128
    squeezed = [int(channels * share) for share in SHARES]
    return {
        "squeezed": squeezed,
        "costs": [[weights(channels, few, 1), weights(few, half, 1), weights(few, half, 3)] for few in squeezed],
        "plain": weights(channels, channels, 3),
    }


def scaling_data(stops: Mapping[str, Any]) -> dict[str, Any]:
    """EfficientNet-B0 at every stop of its sliders, for the surface of compound scaling."""
    return {
        **{name: stops[name] for name in ("width", "depth", "resolution")},
        "macs": [one[1] for one in stops["figures"]],
        "budgets": BUDGETS,
    }


def gradient_data() -> dict[str, Any]:
    """Chains of fully connected layers before training: powers of ten of the gradient's norm at each layer.

    None where it is 0.
    """
    norms = []
    for depth, activation, std, norm, shortcuts in product(
        DEPTHS, ACTIVATIONS, WEIGHT_STDS, (False, True), (False, True)
    ):
        spec = ChainSpec(
            activation=ACTIVATIONS[activation], weight_std=WEIGHT_STDS[std], norm=norm, shortcuts=shortcuts
        )
        norms.append([round(math.log10(one), 2) if one else None for one in gradient_norms(depth, spec, seed=0)])
    return {"depth": DEPTHS, "activation": list(ACTIVATIONS), "init": list(WEIGHT_STDS), "norms": norms}
