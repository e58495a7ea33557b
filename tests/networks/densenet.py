"""DenseNet (Huang et al. 2017).

Every layer of a block reads the outputs of all layers before it, concatenated instead of summed, and adds few channels
of its own: k, the growth rate. What was found once need not be found again, so that narrow layers do, and every layer
has a short way to the loss. Transitions between blocks halve the side.

Departures, where the paper leaves something open or is departed from:
- The normalization and ReLU after the first convolution for ImageNet and before the last pooling are not in Table 1;
  here they are as in the authors' release.
- The dropout that the paper adds for sets without augmentation (section 4.2) is left out.
- In a scaled network a transition passes on the same fraction of channels, rounded down.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import accumulate
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convatlas.networks.blocks import CrossEntropy, KaimingConv2d, check_width, scale_channels, scale_stage
from convatlas.spec import Claim, Family, Layers, Paper, Spec, Variant

DENSENET_2017 = Paper(
    authors="G. Huang, Z. Liu, L. van der Maaten, K. Q. Weinberger",
    title="Densely connected convolutional networks",
    year=2017,
    venue="CVPR 2017, arXiv:1608.06993",
    url="https://arxiv.org/abs/1608.06993",
)

LayerChannels = tuple[int, ...]
"""Output channels of a layer's convolutions: one of 3x3, or a bottleneck of 1x1 and one of 3x3. The last ones are what
the layer adds."""


@dataclass(frozen=True, kw_only=True)
class DenseNetSpec(Spec):
    stem: int
    blocks: tuple[tuple[LayerChannels, ...], ...]
    transitions: tuple[int, ...]
    """Channels that each block passes on to the next."""
    cifar: bool = False
    """A 3x3 first convolution and no pooling, for images of 32 pixels."""

    small_stem: ClassVar = ("no pooling follows the first convolution", "it has stride 1")

    @property
    def small_limits(self) -> tuple[int, ...]:  # type: ignore[override]
        return () if self.cifar else (64, 33)

    def scaled(self, width: float = 1.0, depth: float = 1.0, resolution: int | None = None) -> Self:
        check_width(width, (self.stem, *(num for block in self.blocks for layer in block for num in layer)))
        stem = scale_channels(self.stem, width)
        blocks = tuple(
            tuple(tuple(scale_channels(num, width) for num in layer) for layer in scale_stage(block, depth))
            for block in self.blocks
        )
        transitions = []
        before, scaled = self.stem, stem
        for block, block_scaled, passed_on in zip(self.blocks, blocks, self.transitions, strict=False):
            scaled = max((scaled + added(block_scaled)) * passed_on // (before + added(block)), 1)
            before = passed_on
            transitions.append(scaled)
        return replace(
            self,
            stem=stem,
            blocks=blocks,
            transitions=tuple(transitions),
            resolution=self.resolution if resolution is None else resolution,
        )


def added(block: tuple[LayerChannels, ...]) -> int:
    """How many channels a block adds to its input."""
    return sum(layer[-1] for layer in block)


class DenseLayer(nn.Module):
    """Its input, concatenated with what normalization, ReLU and convolution make of it (equation 2)."""

    def __init__(self, in_channels: int, channels: LayerChannels) -> None:
        super().__init__()
        kernels = (3,) if len(channels) == 1 else (1, 3)
        self.norms = nn.ModuleList(nn.BatchNorm2d(num) for num in (in_channels, *channels[:-1]))
        self.convs = nn.ModuleList(
            KaimingConv2d(read, made, kernel, padding=kernel // 2, bias=False)
            for read, made, kernel in zip((in_channels, *channels), channels, kernels, strict=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for norm, conv in zip(self.norms, self.convs, strict=True):
            y = conv(F.relu(norm(y)))
        return torch.cat([x, y], dim=1)


class Transition(nn.Module):
    """Between two blocks: a 1x1 convolution, and pooling that halves the side."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(in_channels)
        self.conv = KaimingConv2d(in_channels, out_channels, 1, bias=False)
        self.pool = nn.AvgPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.pool(self.conv(F.relu(self.norm(x))))
        return outputs


class DenseNet(nn.Module):
    """Figure 2, Table 1, and section 3 for CIFAR-10."""

    def __init__(self, spec: DenseNetSpec) -> None:
        super().__init__()
        self.spec = spec
        kernel, stride = (3, 1) if spec.cifar else (7, 1 if spec.num_skipped_downsamplings > 1 else 2)
        self.conv1 = KaimingConv2d(spec.in_channels, spec.stem, kernel, stride, kernel // 2, bias=False)
        self.norm1 = nn.Identity() if spec.cifar else nn.BatchNorm2d(spec.stem)
        self.pool1 = nn.Identity() if spec.cifar or spec.num_skipped_downsamplings else nn.MaxPool2d(3, 2, padding=1)
        self.blocks, self.transitions = nn.ModuleList(), nn.ModuleList()
        channels = spec.stem
        for block, passed_on in zip(spec.blocks, (*spec.transitions, None), strict=True):
            *inputs, out = accumulate((layer[-1] for layer in block), initial=channels)
            self.blocks.append(nn.Sequential(*(DenseLayer(*both) for both in zip(inputs, block, strict=True))))
            if passed_on is not None:
                self.transitions.append(Transition(out, passed_on))
            channels = out if passed_on is None else passed_on
        self.norm = nn.BatchNorm2d(channels)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, spec.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        x = x if self.spec.cifar else self.pool1(F.relu(self.norm1(x)))
        x = self.blocks[0](x)
        for transition, block in zip(self.transitions, self.blocks[1:], strict=True):
            x = block(transition(x))
        outputs: Tensor = self.fc(self.pool(F.relu(self.norm(x))).flatten(1))
        return outputs


# Table 1, DenseNet-121: side of the feature maps and number of layers of each dense block, at k = 32
TABLE_1 = (
    (56,  6),
    (28, 12),
    (14, 24),
    ( 7, 16),
)  # fmt: skip


def imagenet() -> DenseNetSpec:
    """DenseNet-BC: bottlenecks of 4k channels, 2k into the first block, transitions that halve their number."""
    k = 32
    blocks = tuple(((4 * k, k),) * layers for _, layers in TABLE_1)
    passed_on, transitions = 2 * k, []
    for block in blocks[:-1]:
        passed_on = (passed_on + added(block)) // 2
        transitions.append(passed_on)
    return DenseNetSpec(stem=2 * k, blocks=blocks, transitions=tuple(transitions))


def cifar(layers: int, k: int) -> DenseNetSpec:
    """Three blocks of (layers - 4) / 3 without bottlenecks, 16 channels into the first; transitions pass all on."""
    block = ((k,),) * ((layers - 4) // 3)
    transitions = (16 + added(block), 16 + 2 * added(block))
    return DenseNetSpec(
        num_classes=10, resolution=32, stem=16, blocks=(block,) * 3, transitions=transitions, cifar=True
    )


def with_weights(net: Layers) -> int:
    """How many layers the network has, as their authors count them."""
    return len(net.of_kind("Conv2d")) + len(net.of_kind("Linear"))


def block_side(number: int) -> Claim:
    name = f"blocks.{number - 1}.0.convs.0"
    printed, _ = TABLE_1[number - 1]
    return Claim(
        f"side of the feature maps in block {number}", f"{printed}", "Table 1", lambda net: net[name].output_shape[-1]
    )


def error(setting: str, percent: str, source: str) -> Claim:
    return Claim(f"test error on {setting}", f"{percent} %", source)


FAMILY = Family(
    name="DenseNet",
    paper=DENSENET_2017,
    variants=(
        Variant(
            name="densenet121",
            summary="k = 32, bottlenecks, transitions that pass on half of the channels",
            paper=DENSENET_2017,
            network=DenseNet,
            spec=imagenet(),
            objective=CrossEntropy(),
            claims=(
                Claim("layers", "121", "Table 1", with_weights),
                *map(block_side, (1, 2, 3, 4)),
                Claim("top-1 error on ImageNet validation, one crop", "25.02 %", "Table 3"),
                Claim("top-5 error on ImageNet validation, one crop", "7.71 %", "Table 3"),
                Claim("top-1 error on ImageNet validation, 10 crops", "23.61 %", "Table 3"),
                Claim("top-5 error on ImageNet validation, 10 crops", "6.66 %", "Table 3"),
            ),
        ),
        Variant(
            name="densenet40-cifar",
            summary="k = 12, 40 layers without bottlenecks",
            paper=DENSENET_2017,
            network=DenseNet,
            spec=cifar(40, k=12),
            objective=CrossEntropy(),
            claims=(
                Claim("layers", "40", "Table 2", with_weights),
                Claim("parameters", "1.0 million", "Table 2", lambda net: net.params),
                error("CIFAR-10", "5.24", "Table 2"),
                error("CIFAR-10, without augmentation", "7.00", "Table 2"),
                error("CIFAR-100", "24.42", "Table 2"),
                error("CIFAR-100, without augmentation", "27.55", "Table 2"),
                error("SVHN", "1.79", "Table 2"),
            ),
        ),
    ),
)
