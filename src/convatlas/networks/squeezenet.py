"""SqueezeNet (Iandola et al. 2016).

AlexNet's accuracy with fifty times fewer parameters, by three strategies: 1x1 filters in place of 3x3, few maps into
the 3x3 filters that stay, and pooling late, so that maps stay large. A Fire module does the first two: it squeezes its
input into few maps and expands these with both sizes of filter.

Departures, where the paper leaves something open or is departed from:
- The input has 227 pixels without padding, and pooling rounds up: what Table 1's sizes of 111, 55, 27 and 13 ask for.
- The beginning of the weights is not printed; here it is He et al.'s, and N(0, 0.01^2) in the last layer.
- The paper rectifies the squeeze and expand layers; the authors' release rectifies conv10 too. Here `squeezenet1.1`
  does, which is no paper's: the authors' later release with 2.4 times fewer operations.
- The paper leaves its recipe to the authors' configuration files, which place 227 of 256 pixels at random; here
  images are mirrored as well.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import ClassVar, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convatlas.errors import UserError
from convatlas.networks.blocks import Conv2d, ConvReLU, CrossEntropy, check_width, scale_channels, scale_stage
from convatlas.recipe import Augmentation, LinearDecay, Optimizer, Recipe
from convatlas.spec import Claim, Family, Layers, Paper, Spec, Variant, top_accuracies

SQUEEZENET_2016 = Paper(
    authors="F. N. Iandola, S. Han, M. W. Moskewicz, K. Ashraf, W. J. Dally, K. Keutzer",
    title="SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB model size",
    year=2016,
    venue="arXiv:1602.07360",
    url="https://arxiv.org/abs/1602.07360",
)


class Sizes(NamedTuple):
    """Maps of a Fire module."""

    s1x1: int
    e1x1: int
    e3x3: int


@dataclass(frozen=True, kw_only=True)
class SqueezeNetSpec(Spec):
    conv1: int
    kernel: int
    """Of the first convolution."""
    stages: tuple[tuple[Sizes, ...], ...]
    """Fire modules; max pooling comes before each stage."""
    bypass: bool = False
    """Around the modules that keep the number of maps (simple bypass)."""
    projected_bypass: bool = False
    """Around the others as well, through a 1x1 convolution (complex bypass)."""
    rectified_conv10: bool = False

    small_limits: ClassVar = (64, 33)
    small_stem: ClassVar = ("no pooling follows conv1", "it has stride 1 and is padded")

    def scaled(self, width: float = 1.0, depth: float = 1.0, resolution: int | None = None) -> Self:
        check_width(width, (self.conv1, *(maps for stage in self.stages for sizes in stage for maps in sizes)))
        return replace(
            self,
            conv1=scale_channels(self.conv1, width),
            stages=tuple(
                tuple(Sizes(*(scale_channels(n, width) for n in sizes)) for sizes in scale_stage(stage, depth))
                for stage in self.stages
            ),
            resolution=self.resolution if resolution is None else resolution,
        )


# Table 1: s1x1, e1x1, e3x3
TABLE_1 = (
    (
        Sizes(16,  64,  64),   # fire2
        Sizes(16,  64,  64),   # fire3
        Sizes(32, 128, 128),   # fire4
    ),
    (
        Sizes(32, 128, 128),   # fire5
        Sizes(48, 192, 192),   # fire6
        Sizes(48, 192, 192),   # fire7
        Sizes(64, 256, 256),   # fire8
    ),
    (
        Sizes(64, 256, 256),   # fire9
    ),
)  # fmt: skip


# The release 1.1: the same modules, pooled earlier.
FIRE2, FIRE3, FIRE4, FIRE5, FIRE6, FIRE7, FIRE8, FIRE9 = (sizes for stage in TABLE_1 for sizes in stage)
RELEASE_1_1 = ((FIRE2, FIRE3), (FIRE4, FIRE5), (FIRE6, FIRE7, FIRE8, FIRE9))


def designed(
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
    """The network of these metaparameters (section 5.1). Without arguments it is the paper's.

    Args:
        base_e: maps that the first module expands its squeezed ones to.
        incr_e: more of them after every `freq` modules.
        pct3x3: the part of them that 3x3 filters make.
        sr: squeeze ratio: maps that a module squeezes its input into, over those that it expands them to.
        conv1: maps of the first convolution, which the paper does not vary.
        stages: modules before, between and after the poolings; the same number of modules pooled earlier has as many
            parameters and smaller maps.
        resolution: side of the square input, in pixels.

    Raises:
        UserError: a number of which no network is made.
    """
    for name, count, least in (("base_e", base_e, 2), ("incr_e", incr_e, 0), ("freq", freq, 1), ("conv1", conv1, 1)):
        if count < least:
            raise UserError(f"{name} {count} makes no network; it must be at least {least}")
    for name, part in (("pct3x3", pct3x3), ("sr", sr)):
        if not 0 < part <= 1:
            raise UserError(f"{name} {part:g} is no part of the filters; it must be above 0 and at most 1")
    if not stages or min(stages) < 1:
        raise UserError(f"stages {stages} have no module between two poolings; each must have at least 1")

    def sizes(number: int) -> Sizes:
        expanded = base_e + incr_e * (number // freq)
        # The smallest part is still a filter, and so is what it leaves.
        e3x3 = min(max(round(pct3x3 * expanded), 1), expanded - 1)
        return Sizes(max(round(sr * expanded), 1), expanded - e3x3, e3x3)

    numbers = iter(range(sum(stages)))
    return SqueezeNetSpec(
        resolution=resolution,
        conv1=conv1,
        kernel=7,
        stages=tuple(tuple(sizes(next(numbers)) for _ in range(modules)) for modules in stages),
    )


class Fire(nn.Module):
    """Squeeze with 1x1, then expand with 1x1 and with 3x3 (Figure 1)."""

    def __init__(self, below: int, sizes: Sizes, spec: SqueezeNetSpec) -> None:
        super().__init__()
        s1x1, e1x1, e3x3 = sizes
        self.maps = e1x1 + e3x3
        self.squeeze = ConvReLU(Conv2d(below, s1x1, 1))
        self.expand1x1 = ConvReLU(Conv2d(s1x1, e1x1, 1))
        self.expand3x3 = ConvReLU(Conv2d(s1x1, e3x3, 3, padding=1))
        self.bypass: nn.Module | None = None
        if spec.bypass and below == self.maps:
            self.bypass = nn.Identity()
        elif spec.projected_bypass:
            self.bypass = Conv2d(below, self.maps, 1)

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
        self.conv1 = ConvReLU(Conv2d(spec.in_channels, spec.conv1, spec.kernel, stride, padding))
        self.stages = nn.ModuleList()
        below, number = spec.conv1, 2
        for fires in spec.stages:
            stage = nn.Sequential()
            if self.stages or not spec.num_skipped_downsamplings:
                stage.add_module("pool", nn.MaxPool2d(3, 2, ceil_mode=True))
            for sizes in fires:
                fire = Fire(below, sizes, spec)
                stage.add_module(f"fire{number}", fire)
                below, number = fire.maps, number + 1
            self.stages.append(stage)
        self.conv10 = Conv2d(below, spec.num_classes, 1)
        nn.init.normal_(self.conv10.weight, std=0.01)
        self.pool10 = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        for stage in self.stages:
            x = stage(x)
        x = self.conv10(F.dropout(x, 0.5, self.training))
        outputs: Tensor = self.pool10(F.relu(x) if self.spec.rectified_conv10 else x).flatten(1)
        return outputs


# Of AlexNet, which the paper compares with; 32 bits each.
ALEXNET_PARAMETERS = 60_965_224


def size_bytes(net: Layers) -> int:
    return net.weight_bytes(bits=32)


def filter_ratio(net: Layers) -> Fraction:
    """A filter of 3x3 over one of 1x1, in a module that has as many of both."""
    return Fraction(net["stages.0.fire2.expand3x3.conv"].macs, net["stages.0.fire2.expand1x1.conv"].macs)


RECIPE = Recipe(
    name="paper",
    optimizer=Optimizer.SGD,
    lr=0.04,
    schedule=LinearDecay(),
    batch_size=512,
    epochs=68,
    momentum=0.9,
    weight_decay=0.0002,
    # Any augmentation puts what is cut out of photographs at a random place.
    augmentation=Augmentation(flip=True),
    sources=(
        ("lr, schedule", "section 3.3.1"),
        ("optimizer, batch_size, momentum, weight_decay", "authors' configuration files, named in section 3.3.1"),
        ("epochs", "the same files: 170,000 iterations of 512, in 1.28 million images"),
    ),
)

SPEC = SqueezeNetSpec(resolution=227, conv1=96, kernel=7, stages=TABLE_1)

FAMILY = Family(
    name="SqueezeNet",
    paper=SQUEEZENET_2016,
    variants=(
        Variant(
            name="squeezenet",
            summary="Fire modules",
            paper=SQUEEZENET_2016,
            network=SqueezeNet,
            spec=SPEC,
            objective=CrossEntropy(),
            recipe=RECIPE,
            claims=(
                Claim("parameters", "1,248,424", "Table 1", lambda net: net.params),
                Claim("size at 32 bits", "4.8 MB", "Table 2", size_bytes),
                Claim(
                    "times smaller than AlexNet at 32 bits",
                    "50 times",
                    "Table 2",
                    lambda net: Fraction(ALEXNET_PARAMETERS, net.params),
                    about=10,
                ),
                Claim("times the weights of a 1x1 filter in a 3x3", "9 times", "section 3.1", filter_ratio),
                *top_accuracies("ImageNet", "57.5", "80.3", "Table 2"),
                Claim("size after Deep Compression to 8 bits, 33 % dense", "0.66 MB", "Table 2"),
                Claim("times smaller than AlexNet, 8 bits", "363 times", "Table 2"),
                Claim("size after Deep Compression to 6 bits, 33 % dense", "0.47 MB", "Table 2"),
                Claim("times smaller than AlexNet, 6 bits", "510 times", "Table 2"),
                *top_accuracies("ImageNet, 8 bits, 33 % dense", "57.5", "80.3", "Table 2"),
                *top_accuracies("ImageNet, 6 bits, 33 % dense", "57.5", "80.3", "Table 2"),
                Claim("size of AlexNet at 32 bits", "240 MB", "Table 2", lambda net: 4 * ALEXNET_PARAMETERS, about=10),
                Claim("times smaller than AlexNet, singular value decomposition", "5 times", "Table 2"),
                Claim("times smaller than AlexNet, Deep Compression of it", "35 times", "Table 2"),
                Claim("size of AlexNet after singular value decomposition", "48 MB", "Table 2"),
                *top_accuracies("ImageNet, AlexNet after singular value decomposition", "56.0", "79.4", "Table 2"),
                Claim("size of AlexNet after Deep Compression", "6.9 MB", "Table 2"),
                *top_accuracies("ImageNet, AlexNet after Deep Compression", "57.2", "80.3", "Table 2"),
            ),
        ),
        Variant(
            name="squeezenet1.1",
            summary="the authors' later release: a smaller first layer, earlier pooling",
            paper=SQUEEZENET_2016,
            network=SqueezeNet,
            spec=SqueezeNetSpec(conv1=64, kernel=3, stages=RELEASE_1_1, rectified_conv10=True),
            objective=CrossEntropy(),
            recipe=RECIPE,
        ),
        Variant(
            name="squeezenet-simple-bypass",
            summary="the input added around every second module",
            paper=SQUEEZENET_2016,
            network=SqueezeNet,
            spec=replace(SPEC, bypass=True),
            objective=CrossEntropy(),
            recipe=RECIPE,
            claims=(
                Claim("size at 32 bits", "4.8 MB", "Table 3", size_bytes),
                *top_accuracies("ImageNet", "60.4", "82.5", "Table 3"),
            ),
        ),
        Variant(
            name="squeezenet-complex-bypass",
            summary="a projection around the other modules as well",
            paper=SQUEEZENET_2016,
            network=SqueezeNet,
            spec=replace(SPEC, bypass=True, projected_bypass=True),
            objective=CrossEntropy(),
            recipe=RECIPE,
            claims=(
                Claim(
                    "size at 32 bits",
                    "7.7 MB",
                    "Table 3",
                    size_bytes,
                    sum=6_358_688,
                    note="four 1x1 convolutions add 12,416 + 33,024 + 98,688 + 197,120 = 341,248 parameters, and "
                    "4 x (1,248,424 + 341,248) = 6,358,688 bytes, 6.1 MB",
                ),
                *top_accuracies("ImageNet", "58.8", "82.0", "Table 3"),
            ),
        ),
    ),
)
