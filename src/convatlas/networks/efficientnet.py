"""EfficientNet (Tan and Le 2019).

Depth, width and resolution pay best when all three grow together: one number phi scales them by alpha^phi, beta^phi and
gamma^phi. The base network, B0, comes from a search for accuracy at few operations: inverted bottlenecks that expand
their input, filter it depthwise, weight its channels by squeeze-and-excitation and project it down again.

Departures, where the paper leaves something open:
- B1 to B7 are scaled by the multipliers of the authors' release, which the paper does not print and which are not
  alpha^phi, beta^phi and gamma^phi; for those, scale `efficientnet-b0` with phi.
- Rounding, dropout and the epsilon of the normalization are the release's. The initialization is He et al.'s, in the
  fully connected layer PyTorch's.
- Convolutions of stride 2 are padded alike on all sides. The release pads as TensorFlow does (`same`), with more zeros
  right and below; so do the `-tf` variants.
- `-pytorch` variants have PyTorch's 1e-5 as the epsilon of the normalization, as torchvision's B0 to B4 and timm's.
- `efficientnet-lite0` is the authors' release for small devices, which no paper prints: B0 without
  squeeze-and-excitation, ReLU6 for swish, and the release's padding.
- The paper prints neither batch size nor length of training. These, the warmup of the rate, RMSprop's epsilon (which
  the release adds under the root), which weights decay, the cuts and mirroring are the release's. Left out:
  AutoAugment, early stopping, and batch normalization's momentum of 0.99 (here 0.9, PyTorch's own).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from typing import ClassVar, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convatlas.errors import UserError
from convatlas.networks.blocks import (
    Activation,
    ConvNorm,
    CrossEntropy,
    KaimingConv2d,
    check_width,
    scale_channels,
    scale_depth,
)
from convatlas.recipe import Augmentation, Decayed, Optimizer, Recipe, Staircase
from convatlas.spec import Claim, Family, Layers, Paper, Scale, Spec, Variant

EFFICIENTNET_2019 = Paper(
    authors="M. Tan, Q. V. Le",
    title="EfficientNet: rethinking model scaling for convolutional neural networks",
    year=2019,
    venue="ICML 2019, arXiv:1905.11946",
    url="https://arxiv.org/abs/1905.11946",
)


class MBConvStage(NamedTuple):
    """A row of Table 1."""

    kernel: int
    stride: int
    """Of the first block; the others have 1."""
    out_channels: int
    blocks: tuple[tuple[int, int], ...]
    """For each MBConv its expanded and its squeezed channels; none squeezed: no squeeze-and-excitation."""


@dataclass(frozen=True, kw_only=True)
class EfficientNetSpec(Spec):
    stem: int
    """Output channels of the first convolution."""
    stages: tuple[MBConvStage, ...]
    head: int
    """Output channels of the last convolution."""
    dropout: float
    """Before the fully connected layer."""
    drop_connect: float = 0.2
    """The probability that training skips a block for an image: it grows from 0 at the first block to about this."""
    divisor: int = 8
    """Channel counts of a scaled network are multiples of it (the release's `depth_divisor`); 1 scales narrow networks
    evenly."""
    relu6: bool = False
    """ReLUs that stop at 6, in place of swish."""
    same_padding: bool = False
    """Convolutions of stride 2 are padded as TensorFlow does; if not, alike on all sides."""
    eps: float = 1e-3
    """What batch normalization adds to the variance."""

    small_limits: ClassVar = (64, 33)
    small_stem: ClassVar = ("the first convolution has stride 1", "the first stage of stride 2 has stride 1")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.divisor < 1:
            raise UserError(f"channels cannot be multiples of {self.divisor}; the divisor must be at least 1")

    def scaled(self, width: float = 1.0, depth: float = 1.0, resolution: int | None = None) -> Self:
        check_width(width, (self.stem, self.head, *(stage.out_channels for stage in self.stages)))
        scale = partial(scale_channels, width=width, rounded=partial(round_filters, divisor=self.divisor))
        stages = []
        before, before_scaled = self.stem, scale(self.stem)
        for kernel, stride, out_channels, blocks in self.stages:
            scaled = []
            for i in range(scale_depth(len(blocks), depth)):
                # A block expands and squeezes in proportion to its input, and so does a copy of the last.
                expanded, squeezed = blocks[min(i, len(blocks) - 1)]
                of = before if i == 0 or len(blocks) == 1 else out_channels
                scaled.append(
                    (max(before_scaled * expanded // of, 1), max(before_scaled * squeezed // of, min(squeezed, 1)))
                )
                before_scaled = scale(out_channels)
            stages.append(MBConvStage(kernel, stride, before_scaled, tuple(scaled)))
            before = out_channels
        return replace(
            self,
            stem=scale(self.stem),
            stages=tuple(stages),
            head=scale(self.head),
            resolution=self.resolution if resolution is None else resolution,
        )


def round_filters(exact: float, divisor: int = 8) -> int:
    """The nearest multiple of the divisor, never more than a tenth below."""
    channels = max(divisor, int(exact + divisor / 2) // divisor * divisor)
    return channels if channels >= 0.9 * exact else channels + divisor


# Table 1: expansion, kernel, stride, output channels, layers
TABLE_1 = (
    (1, 3, 1,  16, 1),
    (6, 3, 2,  24, 2),
    (6, 5, 2,  40, 2),
    (6, 3, 2,  80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)  # fmt: skip


def base(squeezes: bool = True) -> EfficientNetSpec:
    """B0: Table 1, squeezed to a quarter of each block's input channels."""
    in_channels, stages = 32, []
    for expansion, kernel, stride, out_channels, layers in TABLE_1:
        inputs = (in_channels,) + (out_channels,) * (layers - 1)
        blocks = tuple((expansion * num, num // 4 if squeezes else 0) for num in inputs)
        stages.append(MBConvStage(kernel, stride, out_channels, blocks))
        in_channels = out_channels
    return EfficientNetSpec(stem=32, stages=tuple(stages), head=1280, dropout=0.2)


class SqueezeExcitation(nn.Module):
    """Each channel times a weight between 0 and 1 that is computed from all channels (Hu, Shen and Sun 2018)."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.squeeze = KaimingConv2d(channels, squeezed, 1)
        self.excite = KaimingConv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        squeezed = F.silu(self.squeeze(self.pool(x)))
        return x * torch.sigmoid(self.excite(squeezed))


def convolution(
    in_channels: int, out_channels: int, kernel: int, spec: EfficientNetSpec, stride: int = 1, groups: int = 1
) -> ConvNorm:
    return ConvNorm(in_channels, out_channels, kernel, stride, groups, eps=spec.eps, same_padding=spec.same_padding)


def activation(spec: EfficientNetSpec) -> Activation:
    return F.relu6 if spec.relu6 else F.silu


class MBConv(nn.Module):
    """An inverted bottleneck (Sandler et al. 2018) with squeeze-and-excitation and swish.

    `drop` is the probability that training leaves the block out for an image (stochastic depth: Huang et al. 2016).
    """

    def __init__(
        self,
        in_channels: int,
        expanded: int,
        squeezed: int,
        out_channels: int,
        kernel: int,
        stride: int,
        drop: float,
        spec: EfficientNetSpec,
    ) -> None:
        super().__init__()
        self.expand = convolution(in_channels, expanded, 1, spec) if expanded != in_channels else None
        self.depthwise = convolution(expanded, expanded, kernel, spec, stride, groups=expanded)
        self.excitation = SqueezeExcitation(expanded, squeezed) if squeezed else nn.Identity()
        self.project = convolution(expanded, out_channels, 1, spec)
        self.activation = activation(spec)
        self.residual = stride == 1 and in_channels == out_channels
        self.drop = drop

    def forward(self, x: Tensor) -> Tensor:
        expanded = x if self.expand is None else self.activation(self.expand(x))
        y: Tensor = self.project(self.excitation(self.activation(self.depthwise(expanded))))
        if not self.residual:
            return y
        if self.training and self.drop:
            keep = 1 - self.drop
            y = y * (torch.rand(len(y), 1, 1, 1, device=y.device) < keep) / keep
        return x + y


class EfficientNet(nn.Module):
    """Table 1, at any scale."""

    def __init__(self, spec: EfficientNetSpec) -> None:
        super().__init__()
        self.spec = spec
        self.stem = convolution(spec.in_channels, spec.stem, 3, spec, stride=1 if spec.num_skipped_downsamplings else 2)
        self.activation = activation(spec)
        num_blocks = sum(len(stage.blocks) for stage in spec.stages)
        self.stages = nn.ModuleList()
        in_channels, num_before = spec.stem, 0
        # A spec of one's own may have no stage of stride 2.
        early = next((i for i, stage in enumerate(spec.stages) if stage.stride == 2), None)
        for i, (kernel, stride, out_channels, blocks) in enumerate(spec.stages):
            if spec.num_skipped_downsamplings > 1 and i == early:
                stride = 1
            stage = nn.Sequential()
            for expanded, squeezed in blocks:
                drop = spec.drop_connect * num_before / num_blocks
                step = 1 if stage else stride
                stage.append(MBConv(in_channels, expanded, squeezed, out_channels, kernel, step, drop, spec))
                in_channels, num_before = out_channels, num_before + 1
            self.stages.append(stage)
        self.head = convolution(in_channels, spec.head, 1, spec)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(spec.head, spec.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.stem(x))
        for stage in self.stages:
            x = stage(x)
        x = self.pool(self.activation(self.head(x))).flatten(1)
        outputs: Tensor = self.fc(F.dropout(x, self.spec.dropout, self.training))
        return outputs


# The authors' release: width, depth, resolution, dropout. The paper, Table 2: parameters in million, MACs in billion,
# top-1 accuracy in percent in its early version and in its late one, which stops early by 25,000 held-out images and
# drops layers; both use AutoAugment. And the MACs of the layers as we read them, where that is another number: the
# paper prints neither its multipliers nor the scaled layers.
ROWS = (
    (1.0, 1.0, 224, 0.2, "5.3", "0.39", "76.3", "77.1", None),
    (1.0, 1.1, 240, 0.2, "7.8", "0.70", "78.8", "79.1", 686_802_832),
    (1.1, 1.2, 260, 0.3, "9.2",  "1.0", "79.8", "80.1", None),
    (1.2, 1.4, 300, 0.3,  "12",  "1.8", "81.1", "81.6", None),
    (1.4, 1.8, 380, 0.4,  "19",  "4.2", "82.6", "82.9", 4_393_771_024),
    (1.6, 2.2, 456, 0.4,  "30",  "9.9", "83.3", "83.6", 10_266_384_752),
    (1.8, 2.6, 528, 0.5,  "43",   "19", "84.0", "84.0", None),
    (2.0, 3.1, 600, 0.5,  "66",   "37", "84.4", "84.3", None),
)  # fmt: skip


def macs(net: Layers) -> int:
    return net.macs


# Table 7: B0 in one dimension at a time, and in all.
SCALED_B0 = (
    Claim(
        "alpha beta^2 gamma^2, about",
        "2",
        "section 4, step 1",
        lambda net: Fraction("1.2") * Fraction("1.1") ** 2 * Fraction("1.15") ** 2,
    ),
    *(
        Claim(
            "MACs",
            f"{printed} billion",
            "Table 7",
            macs,
            at=scale,
            sum=sum_of_macs,
            note=f"{sum_of_macs:,} by our reading, in which the paper's factor scales every stage; a factor of about "
            f"{fitting} would give the printed figure",
        )
        for printed, scale, sum_of_macs, fitting in (
            ("1.8", Scale(depth=4), 1_575_132_640, 4.5),
            ("1.8", Scale(width=2), 1_449_958_848, 2.2),
            ("1.9", Scale(resolution=448), 1_537_537_408, 2.2),
        )
    ),
    Claim("MACs", "1.8 billion", "Table 7", macs, at=Scale(width=1.2, depth=1.4, resolution=291)),
)


RECIPE = Recipe(
    name="paper",
    optimizer=Optimizer.RMSPROP,
    lr=0.256,
    schedule=Staircase(factor=0.97, every=2.4, of=350, warmup=5),
    batch_size=4096,
    epochs=350,
    momentum=0.9,
    alpha=0.9,
    eps=0.001**0.5,
    weight_decay=0.00001,
    decayed=Decayed.WEIGHTS,
    augmentation=Augmentation(crop=0.08, aspect=4 / 3, flip=True),
    sources=(
        ("optimizer, lr, momentum, alpha, weight_decay", "section 5.2"),
        ("schedule", "section 5.2; not the warmup"),
    ),
)


def variant(
    name: str, summary: str, spec: EfficientNetSpec, claims: tuple[Claim, ...] = (), released: bool = True
) -> Variant:
    return Variant(
        name=name,
        summary=summary,
        paper=EFFICIENTNET_2019,
        network=EfficientNet,
        spec=spec,
        objective=CrossEntropy(),
        recipe=RECIPE,
        claims=claims,
        released=released,
    )


def variants() -> tuple[Variant, ...]:
    printed, tensorflow, pytorch = [], [], []
    b0 = base()
    for number, (width, depth, resolution, dropout, params, billion_macs, early, late, sum_of_macs) in enumerate(ROWS):
        name, summary = f"efficientnet-b{number}", f"width {width:g}, depth {depth:g}"
        spec = replace(b0.scaled(width, depth, resolution), dropout=dropout)
        claims = (
            Claim("parameters", f"{params} million", "Table 2", lambda net: net.params),
            Claim("MACs", f"{billion_macs} billion", "Table 2", macs, sum=sum_of_macs),
            Claim("top-1 accuracy on ImageNet, late version of the paper", f"{late} %", "Table 2"),
            Claim("top-1 accuracy on ImageNet, early version of the paper", f"{early} %", "Table 2"),
            *(SCALED_B0 if number == 0 else ()),
        )
        printed.append(variant(name, summary, spec, claims, released=False))
        tensorflow.append(variant(f"{name}-tf", "padded as the authors' release", replace(spec, same_padding=True)))
        if number <= 5:
            # Torchvision's B5 to B7 have the release's epsilon.
            pytorch.append(variant(f"{name}-pytorch", "epsilon 1e-5", replace(spec, eps=1e-5)))
    lite = variant(
        "efficientnet-lite0",
        "for small devices: ReLU6, no squeeze-and-excitation",
        replace(base(squeezes=False), relu6=True, same_padding=True),
    )
    return (*printed, *tensorflow, *pytorch, lite)


FAMILY = Family(name="EfficientNet", paper=EFFICIENTNET_2019, variants=variants())
