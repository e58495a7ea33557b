"""GoogLeNet, or Inception v1 (Szegedy et al. 2014).

A module looks at its input with filters of several sizes at once and lets the next one choose. 1x1 convolutions before
the larger filters reduce the channels that these read, so that 22 layers cost a tenth of VGG's. Two auxiliary
classifiers in the middle give the lower layers a shorter way to the loss in training, and are left out afterwards.

Departures, where the paper leaves something open or is departed from:
- The constants of the response normalization and the initialization are not printed. Here they are those of
  contemporaries (Caffe's n = 5, k = 1, alpha = 1e-4 over n, beta = 0.75; He et al. 2015 for convolutions) and PyTorch's
  own for fully connected layers.
- Pooling rounds sizes up, and so may reach a pixel beyond the edge: this gives the sizes of Table 1.
- Scaled in depth, the auxiliary classifiers stay after the first and after four fifths of the modules of stage 4.
- `googlenet-bn` and `googlenet-bn-3x3` are no paper's: batch normalization in place of biases and response
  normalization. The latter, with 3x3 filters where 5x5 should be and 2x2 pooling before stage 5, is the network whose
  weights other libraries publish. (In training they drop a fifth of the last layer's inputs, this one two fifths.) Both
  take the paper's recipe.
- The paper does not print the initial rate, batch size, weight decay or length of training; here they are those of
  Caffe's reproduction. The span of the Polyak averaging and mirroring are ours; photometric distortions and random
  interpolation are left out. Gradients come one after another, not from asynchronous replicas.
"""

from __future__ import annotations

import string
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convatlas.errors import UserError
from convatlas.networks.blocks import (
    ConvReLU,
    CrossEntropy,
    KaimingConv2d,
    LocalResponseNorm,
    check_width,
    conv_output_size,
    scale_channels,
    scale_stage,
)
from convatlas.networks.claims.googlenet import claims_of
from convatlas.recipe import Augmentation, Optimizer, Recipe, Staircase
from convatlas.spec import Claim, Family, Paper, Spec, Variant

GOOGLENET_2014 = Paper(
    authors="C. Szegedy, W. Liu, Y. Jia, P. Sermanet, S. Reed, D. Anguelov, D. Erhan, V. Vanhoucke, A. Rabinovich",
    title="Going deeper with convolutions",
    year=2014,
    venue="CVPR 2015, arXiv:1409.4842",
    url="https://arxiv.org/abs/1409.4842",
)


class InceptionChannels(NamedTuple):
    """A row of Table 1. 0: no such filters, or no reduction or projection, as in Figure 2(a)."""

    n1x1: int
    r3x3: int
    n3x3: int
    r5x5: int
    n5x5: int
    pool_proj: int


# Table 1: #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj
TABLE_1 = (
    (
        InceptionChannels(64,   96, 128, 16,  32,  32),   # 3a
        InceptionChannels(128, 128, 192, 32,  96,  64),   # 3b
    ),
    (
        InceptionChannels(192,  96, 208, 16,  48,  64),   # 4a
        InceptionChannels(160, 112, 224, 24,  64,  64),   # 4b
        InceptionChannels(128, 128, 256, 24,  64,  64),   # 4c
        InceptionChannels(112, 144, 288, 32,  64,  64),   # 4d
        InceptionChannels(256, 160, 320, 32, 128, 128),   # 4e
    ),
    (
        InceptionChannels(256, 160, 320, 32, 128, 128),   # 5a
        InceptionChannels(384, 192, 384, 48, 128, 128),   # 5b
    ),
)  # fmt: skip


def letters(i: int) -> str:
    """What Table 1 calls the module at place `i` of a stage: a to z, then aa to zz."""
    return string.ascii_lowercase[i % 26] * (i // 26 + 1)


@dataclass(frozen=True, kw_only=True)
class GoogLeNetSpec(Spec):
    stem: tuple[int, int, int] = (64, 64, 192)
    """Output channels of the first convolution, of the 1x1 reduction and of the 3x3 convolution after it."""
    stages: tuple[tuple[InceptionChannels, ...], ...] = TABLE_1
    auxiliary: tuple[int, int] = (128, 1024)
    """Output channels of the convolution and units of the first fully connected layer of each auxiliary classifier."""
    batch_norm: bool = False
    """Batch normalization after every convolution, in place of biases and response normalization."""
    five: int = 5
    """Kernel size of the 5x5 branch."""
    pool4: int = 3
    """Kernel size of the pooling before stage 5."""
    pooled: bool = True
    """Whether the modules have a pooling branch."""
    supervised: bool = True
    """Whether there are auxiliary classifiers, which help to train the lower layers (section 5)."""

    # Stage 4 needs at least 5x5 places for the pooling of the auxiliary classifiers.
    small_limits: ClassVar = (79, 39)
    small_stem: ClassVar = ("no pooling follows convolution 1", "it has stride 1")

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(not (self.pooled or n1x1 or n3x3 or n5x5) for s in self.stages for n1x1, _, n3x3, _, n5x5, _ in s):
            raise UserError("a module without filters and without pooling has no output")

    @property
    def auxiliary_feature_size(self) -> int:
        """Side of the feature maps of the auxiliary classifiers, after their pooling."""
        conv1 = self.resolution if self.num_skipped_downsamplings > 1 else (self.resolution + 1) // 2
        stage4 = conv1 // (4 if self.num_skipped_downsamplings else 8)
        return conv_output_size(stage4, 5, stride=3)

    def scaled(self, width: float = 1.0, depth: float = 1.0, resolution: int | None = None) -> Self:
        c1, c2_reduce, c2 = self.stem
        channels, units = self.auxiliary
        in_modules = (num for stage in self.stages for module in stage for num in module if num)
        check_width(width, (*self.stem, *self.auxiliary, *in_modules))
        return replace(
            self,
            stem=(scale_channels(c1, width), scale_channels(c2_reduce, width), scale_channels(c2, width)),
            stages=tuple(
                tuple(
                    InceptionChannels(*(scale_channels(num, width) if num else 0 for num in module)) for module in stage
                )
                for stage in (scale_stage(stage, depth) for stage in self.stages)
            ),
            auxiliary=(scale_channels(channels, width), scale_channels(units, width)),
            resolution=self.resolution if resolution is None else resolution,
        )


def convolution(in_channels: int, out_channels: int, kernel: int, spec: GoogLeNetSpec, stride: int = 1) -> ConvReLU:
    conv = KaimingConv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=not spec.batch_norm)
    return ConvReLU(conv, nn.BatchNorm2d(out_channels, eps=1e-3) if spec.batch_norm else None)


class Inception(nn.Module):
    """Figure 2(b), and 2(a) where nothing is reduced."""

    def __init__(self, in_channels: int, channels: InceptionChannels, spec: GoogLeNetSpec) -> None:
        super().__init__()
        n1x1, r3x3, n3x3, r5x5, n5x5, pool_proj = channels

        def reduced(reduction: int, out_channels: int, kernel: int) -> nn.Sequential:
            layers = [("reduce", convolution(in_channels, reduction, 1, spec))] if reduction else []
            layers.append(("conv", convolution(reduction or in_channels, out_channels, kernel, spec)))
            return nn.Sequential(OrderedDict(layers))

        self.one = convolution(in_channels, n1x1, 1, spec) if n1x1 else None
        self.three = reduced(r3x3, n3x3, 3) if n3x3 else None
        self.five = reduced(r5x5, n5x5, spec.five) if n5x5 else None
        self.pool = nn.MaxPool2d(3, stride=1, padding=1) if spec.pooled else None
        self.project = convolution(in_channels, pool_proj, 1, spec) if pool_proj and spec.pooled else nn.Identity()
        self.out_channels = n1x1 + n3x3 + n5x5 + ((pool_proj or in_channels) if spec.pooled else 0)

    def forward(self, x: Tensor) -> Tensor:
        outputs = [branch(x) for branch in (self.one, self.three, self.five) if branch is not None]
        if self.pool is not None:
            outputs.append(self.project(self.pool(x)))
        return torch.cat(outputs, dim=1)


class Auxiliary(nn.Module):
    """A classifier on the output of a module in the middle (section 5)."""

    def __init__(self, in_channels: int, spec: GoogLeNetSpec) -> None:
        super().__init__()
        channels, units = spec.auxiliary
        self.pool = nn.AvgPool2d(5, stride=3)
        self.conv = convolution(in_channels, channels, 1, spec)
        self.fc1 = nn.Linear(channels * spec.auxiliary_feature_size**2, units)
        self.fc2 = nn.Linear(units, spec.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(self.pool(x)).flatten(1)
        x = F.dropout(F.relu(self.fc1(x)), 0.7, self.training)
        outputs: Tensor = self.fc2(x)
        return outputs


def lettered(modules: list[Inception]) -> nn.Sequential:
    return nn.Sequential(OrderedDict((letters(i), module) for i, module in enumerate(modules)))


class GoogLeNet(nn.Module):
    """Figure 3. In training it returns a tuple: its own outputs, then those of the classifiers on 4a and on 4d."""

    def __init__(self, spec: GoogLeNetSpec) -> None:
        super().__init__()
        self.spec = spec

        def lrn() -> nn.Module:
            return nn.Identity() if spec.batch_norm else LocalResponseNorm(k=1.0, alpha=1e-4 / 5)

        def pool(kernel: int = 3) -> nn.MaxPool2d:
            return nn.MaxPool2d(kernel, stride=2, ceil_mode=True)

        c1, c2_reduce, c2 = spec.stem
        self.conv1 = convolution(spec.in_channels, c1, 7, spec, stride=1 if spec.num_skipped_downsamplings > 1 else 2)
        self.pool1 = nn.Identity() if spec.num_skipped_downsamplings else pool()
        self.lrn1 = lrn()
        self.conv2_reduce = convolution(c1, c2_reduce, 1, spec)
        self.conv2 = convolution(c2_reduce, c2, 3, spec)
        self.lrn2 = lrn()
        self.pool2 = pool()
        channels = c2
        stages: list[list[Inception]] = []
        for table in spec.stages:
            stages.append([])
            for module in table:
                stages[-1].append(Inception(channels, module, spec))
                channels = stages[-1][-1].out_channels
        self.inception3, self.inception4, self.inception5 = map(lettered, stages)
        self.pool3 = pool()
        self.pool4 = pool(spec.pool4)
        self.pool5 = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, spec.num_classes)
        _, stage4, _ = stages
        self.last_auxiliary = -(-4 * len(stage4) // 5) - 1
        if spec.supervised:
            self.auxiliary_4a = Auxiliary(stage4[0].out_channels, spec)
            self.auxiliary_4d = Auxiliary(stage4[self.last_auxiliary].out_channels, spec)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        x = self.lrn1(self.pool1(self.conv1(x)))
        x = self.pool2(self.lrn2(self.conv2(self.conv2_reduce(x))))
        x = self.pool3(self.inception3(x))
        middle = []
        for module in self.inception4:
            x = module(x)
            middle.append(x)
        x = self.pool5(self.inception5(self.pool4(x))).flatten(1)
        outputs: Tensor = self.fc(F.dropout(x, 0.4, self.training))
        if not (self.training and self.spec.supervised):
            return outputs
        return outputs, self.auxiliary_4a(middle[0]), self.auxiliary_4d(middle[self.last_auxiliary])


@dataclass(frozen=True)
class DiscountedAuxiliaries(CrossEntropy):
    """Cross-entropy, plus that of each auxiliary classifier times `weight` (section 5)."""

    weight: float = 0.3

    def losses(self, outputs: Tensor | tuple[Tensor, ...], targets: Tensor) -> Tensor:
        if isinstance(outputs, Tensor):
            return super().losses(outputs, targets)
        own, *auxiliary = (super(DiscountedAuxiliaries, self).losses(part, targets) for part in outputs)
        return own + self.weight * torch.stack(auxiliary).sum(0)


# Figure 2(a): every filter reads all channels, and pooling passes all on.
NAIVE = tuple(tuple(module._replace(r3x3=0, r5x5=0, pool_proj=0) for module in stage) for stage in TABLE_1)


RECIPE = Recipe(
    name="paper",
    optimizer=Optimizer.SGD,
    lr=0.01,
    schedule=Staircase(factor=0.96, every=8, of=250),
    batch_size=32,
    epochs=250,
    momentum=0.9,
    weight_decay=0.0002,
    ema=0.02,
    augmentation=Augmentation(crop=0.08, aspect=4 / 3, flip=True),
    sources=(
        ("optimizer, schedule, momentum", "section 6"),
        ("ema", "section 6; not over how long"),
        ("crop, aspect", "section 6"),
    ),
)


def variant(name: str, summary: str, spec: GoogLeNetSpec, claims: tuple[Claim, ...] = ()) -> Variant:
    return Variant(
        name=name,
        summary=summary,
        paper=GOOGLENET_2014,
        network=GoogLeNet,
        spec=spec,
        objective=DiscountedAuxiliaries(),
        recipe=RECIPE,
        claims=claims,
    )


FAMILY = Family(
    name="GoogLeNet",
    paper=GOOGLENET_2014,
    variants=(
        variant(
            "googlenet", "Inception modules, two auxiliary classifiers in training", GoogLeNetSpec(), claims_of(TABLE_1)
        ),
        variant("googlenet-naive", "modules without reductions, Figure 2(a)", GoogLeNetSpec(stages=NAIVE)),
        variant("googlenet-bn", "batch normalization", GoogLeNetSpec(batch_norm=True)),
        variant(
            "googlenet-bn-3x3",
            "batch normalization, 3x3 in the 5x5 branch: what other libraries ship",
            GoogLeNetSpec(batch_norm=True, five=3, pool4=2),
        ),
    ),
)
