"""SqueezeNet (Iandola et al. 2016).

AlexNet's accuracy with fifty times fewer parameters, by three strategies: 1x1 filters in place of 3x3, few input
channels for the 3x3 filters that stay, and late pooling, so that feature maps stay large. A Fire module does the first
two: it squeezes its input into few channels and expands these with filters of both sizes.

Departures, where the paper leaves something open or is departed from:
- The input has 227 pixels without padding, and pooling rounds up: Table 1's sizes of 111, 55, 27 and 13 need this.
- The initialization is not printed; here it is He et al.'s, and N(0, 0.01^2) in the last layer.
- The paper has ReLU after the squeeze and expand layers; the authors' releases also after conv10. Here their first one,
  `squeezenet1.0-caffe`, has it, and pads conv10, so that a frame of its biases counts in the mean; and their later one,
  `squeezenet1.1`, which is no paper's and has 2.4 times fewer operations. `squeezenet1.0-pytorch` is torchvision's,
  which leaves out that padding.
- For the recipe the paper refers to the authors' configuration files, which cut out 227 of 256 pixels at random places;
  here images are mirrored as well.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convatlas.errors import UserError
from convatlas.networks.blocks import ConvReLU, CrossEntropy, KaimingConv2d, check_width, scale_channels, scale_stage
from convatlas.networks.claims.squeezenet import CLAIMS
from convatlas.recipe import Augmentation, LinearDecay, Optimizer, Recipe
from convatlas.spec import Family, Paper, Spec, Variant

SQUEEZENET_2016 = Paper(
    authors="F. N. Iandola, S. Han, M. W. Moskewicz, K. Ashraf, W. J. Dally, K. Keutzer",
    title="SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB model size",
    year=2016,
    venue="arXiv:1602.07360",
    url="https://arxiv.org/abs/1602.07360",
)


class FireChannels(NamedTuple):
    """Output channels of the squeeze layer and the two expand layers of a Fire module."""

    s1x1: int
    e1x1: int
    e3x3: int


@dataclass(frozen=True, kw_only=True)
class SqueezeNetSpec(Spec):
    conv1: int
    """Output channels of the first convolution."""
    kernel: int
    """Its kernel size."""
    stages: tuple[tuple[FireChannels, ...], ...]
    """Fire modules; max pooling comes before each stage."""
    bypass: bool = False
    """The input is added to the output of modules that keep the number of channels (simple bypass)."""
    projected_bypass: bool = False
    """A 1x1 convolution of the input is added to the output of the others as well (complex bypass)."""
    rectified_conv10: bool = False
    """ReLU after the last convolution."""
    padded_conv10: bool = False
    """The last convolution, which is 1x1, is padded by a pixel of zeros."""

    small_limits: ClassVar = (64, 33)
    small_stem: ClassVar = ("no pooling follows conv1", "it has stride 1 and is padded")

    def scaled(self, width: float = 1.0, depth: float = 1.0, resolution: int | None = None) -> Self:
        check_width(width, (self.conv1, *(num for stage in self.stages for module in stage for num in module)))
        return replace(
            self,
            conv1=scale_channels(self.conv1, width),
            stages=tuple(
                tuple(FireChannels(*(scale_channels(num, width) for num in fire)) for fire in scale_stage(stage, depth))
                for stage in self.stages
            ),
            resolution=self.resolution if resolution is None else resolution,
        )


# Table 1: s1x1, e1x1, e3x3
TABLE_1 = (
    (
        FireChannels(16,  64,  64),   # fire2
        FireChannels(16,  64,  64),   # fire3
        FireChannels(32, 128, 128),   # fire4
    ),
    (
        FireChannels(32, 128, 128),   # fire5
        FireChannels(48, 192, 192),   # fire6
        FireChannels(48, 192, 192),   # fire7
        FireChannels(64, 256, 256),   # fire8
    ),
    (
        FireChannels(64, 256, 256),   # fire9
    ),
)  # fmt: skip


# The authors' release 1.1: the same modules, pooled earlier.
FIRE2, FIRE3, FIRE4, FIRE5, FIRE6, FIRE7, FIRE8, FIRE9 = (fire for stage in TABLE_1 for fire in stage)
RELEASE_1_1 = ((FIRE2, FIRE3), (FIRE4, FIRE5), (FIRE6, FIRE7, FIRE8, FIRE9))


def from_metaparameters(
    *,
    base_e: int = 128,
    incr_e: int = 128,
    pct3x3: float = 0.5,
    freq: int = 2,
    sr: float = 0.125,
    conv1: int = 96,
    stages: tuple[int, ...] = (3, 4, 1),
    resolution: int = 227,
) -> SqueezeNetSpec:
    """The network of these metaparameters (section 5.1). The defaults are the paper's network.

    Args:
        base_e: expand channels (1x1 and 3x3 together) of the first module.
        incr_e: how many more there are after every `freq` modules.
        pct3x3: the fraction of expand channels with 3x3 filters.
        sr: squeeze ratio: squeeze channels of a module over its expand channels.
        conv1: output channels of the first convolution, which the paper does not vary.
        stages: number of modules before, between and after the poolings. Modules that are pooled earlier have as many
            parameters and smaller feature maps.
        resolution: side of the square input, in pixels.

    Raises:
        UserError: a value out of range.
    """
    for name, count, least in (("base_e", base_e, 2), ("incr_e", incr_e, 0), ("freq", freq, 1), ("conv1", conv1, 1)):
        if count < least:
            raise UserError(f"{name} {count} makes no network; it must be at least {least}")
    for name, part in (("pct3x3", pct3x3), ("sr", sr)):
        if not 0 < part <= 1:
            raise UserError(f"{name} {part:g} is not a fraction of the filters; it must be above 0 and at most 1")
    if not stages or min(stages) < 1:
        raise UserError(f"stages {stages} have no module between two poolings; each must have at least 1")

    def fire(number: int) -> FireChannels:
        expanded = base_e + incr_e * (number // freq)
        # At least one filter of each size.
        e3x3 = min(max(round(pct3x3 * expanded), 1), expanded - 1)
        return FireChannels(max(round(sr * expanded), 1), expanded - e3x3, e3x3)

    numbers = iter(range(sum(stages)))
    return SqueezeNetSpec(
        resolution=resolution,
        conv1=conv1,
        kernel=7,
        stages=tuple(tuple(fire(next(numbers)) for _ in range(modules)) for modules in stages),
    )


class Fire(nn.Module):
    """Squeeze with 1x1, then expand with 1x1 and with 3x3 (Figure 1)."""

    def __init__(self, in_channels: int, channels: FireChannels, spec: SqueezeNetSpec) -> None:
        super().__init__()
        s1x1, e1x1, e3x3 = channels
        self.out_channels = e1x1 + e3x3
        self.squeeze = ConvReLU(KaimingConv2d(in_channels, s1x1, 1))
        self.expand1x1 = ConvReLU(KaimingConv2d(s1x1, e1x1, 1))
        self.expand3x3 = ConvReLU(KaimingConv2d(s1x1, e3x3, 3, padding=1))
        self.bypass: nn.Module | None = None
        if spec.bypass and in_channels == self.out_channels:
            self.bypass = nn.Identity()
        elif spec.projected_bypass:
            self.bypass = KaimingConv2d(in_channels, self.out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        squeezed = self.squeeze(x)
        outputs = torch.cat([self.expand1x1(squeezed), self.expand3x3(squeezed)], dim=1)
        return outputs if self.bypass is None else outputs + self.bypass(x)


class SqueezeNet(nn.Module):
    """Figure 2: plain, with simple bypass, with complex bypass."""

    def __init__(self, spec: SqueezeNetSpec) -> None:
        super().__init__()
        self.spec = spec
        stride, padding = (1, spec.kernel // 2) if spec.num_skipped_downsamplings > 1 else (2, 0)
        self.conv1 = ConvReLU(KaimingConv2d(spec.in_channels, spec.conv1, spec.kernel, stride, padding))
        self.stages = nn.ModuleList()
        channels, number = spec.conv1, 2
        for modules in spec.stages:
            stage = nn.Sequential()
            if self.stages or not spec.num_skipped_downsamplings:
                stage.add_module("pool", nn.MaxPool2d(3, 2, ceil_mode=True))
            for module in modules:
                fire = Fire(channels, module, spec)
                stage.add_module(f"fire{number}", fire)
                channels, number = fire.out_channels, number + 1
            self.stages.append(stage)
        self.conv10 = KaimingConv2d(channels, spec.num_classes, 1, padding=int(spec.padded_conv10))
        nn.init.normal_(self.conv10.weight, std=0.01)
        self.pool10 = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        for stage in self.stages:
            x = stage(x)
        x = self.conv10(F.dropout(x, 0.5, self.training))
        outputs: Tensor = self.pool10(F.relu(x) if self.spec.rectified_conv10 else x).flatten(1)
        return outputs


RECIPE = Recipe(
    name="paper",
    optimizer=Optimizer.SGD,
    lr=0.04,
    schedule=LinearDecay(),
    batch_size=512,
    epochs=68,
    momentum=0.9,
    weight_decay=0.0002,
    # Any augmentation of photographs cuts out a random place.
    augmentation=Augmentation(flip=True),
    sources=(
        ("lr, schedule", "section 3.3.1"),
        ("optimizer, batch_size, momentum, weight_decay", "authors' configuration files, named in section 3.3.1"),
        ("epochs", "the same files: 170,000 iterations of 512, in 1.28 million images"),
    ),
)

SPEC = SqueezeNetSpec(resolution=227, conv1=96, kernel=7, stages=TABLE_1)


def variant(name: str, summary: str, spec: SqueezeNetSpec, released: bool = False) -> Variant:
    return Variant(
        name=name,
        summary=summary,
        paper=SQUEEZENET_2016,
        network=SqueezeNet,
        spec=spec,
        objective=CrossEntropy(),
        recipe=RECIPE,
        claims=CLAIMS.get(name, ()),
        released=released,
    )


FAMILY = Family(
    name="SqueezeNet",
    paper=SQUEEZENET_2016,
    variants=(
        variant("squeezenet", "Fire modules", SPEC),
        variant(
            "squeezenet1.0-pytorch",
            "as torchvision has it: ReLU after conv10",
            replace(SPEC, rectified_conv10=True),
            released=True,
        ),
        variant(
            "squeezenet1.0-caffe",
            "as the authors released it: ReLU after conv10, which is padded",
            replace(SPEC, rectified_conv10=True, padded_conv10=True),
            released=True,
        ),
        variant(
            "squeezenet1.1",
            "the authors' later release: a smaller first layer, earlier pooling",
            SqueezeNetSpec(conv1=64, kernel=3, stages=RELEASE_1_1, rectified_conv10=True),
        ),
        variant(
            "squeezenet-simple-bypass",
            "the input added around every second module",
            replace(SPEC, bypass=True),
        ),
        variant(
            "squeezenet-complex-bypass",
            "a projection around the other modules as well",
            replace(SPEC, bypass=True, projected_bypass=True),
        ),
    ),
)
