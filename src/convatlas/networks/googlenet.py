"""GoogLeNet, or Inception v1 (Szegedy et al. 2014).

A module looks at its input with filters of several sizes at once and lets the next one choose. 1x1 convolutions before
the larger filters reduce the maps that these must read, so that 22 layers cost a tenth of VGG's. Two
auxiliary classifiers in the middle give the lower layers a shorter way to the loss while training, and are left out
afterwards.

Departures, where the paper leaves something open or is departed from:
- Neither the values of the response normalization nor the beginning of the weights is printed; here they are those of
  the authors' contemporaries (Caffe's n = 5, k = 1, alpha = 1e-4 over n, beta = 0.75; He et al. 2015 for convolutions,
  PyTorch's own for fully connected layers).
- Pooling may reach beyond the map by a pixel (sizes are rounded up), which gives the sizes of Table 1.
- Deeper networks keep their auxiliary classifiers after the first and after four fifths of the modules of stage 4.
- `googlenet-bn` and `googlenet-bn-3x3` are no paper's: batch normalization in place of biases and response
  normalization. The latter, with 3x3 filters where 5x5 should be and 2x2 pooling before stage 5, is the network whose
  weights other libraries publish. (In training those drop a fifth of the last layer's inputs, this one two.) They take
  the paper's recipe.
- The paper prints no first rate, batch size, weight decay or length of training; here they are those of Caffe's
  reproduction. What Polyak averaging spans and that images are mirrored are ours; photometric distortions and random
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
    Conv2d,
    ConvReLU,
    CrossEntropy,
    LocalResponseNorm,
    check_width,
    scale_channels,
    scale_stage,
    side,
)
from convatlas.recipe import Augmentation, Optimizer, Recipe, Staircase
from convatlas.spec import Claim, Family, Layers, Paper, Spec, Variant

GOOGLENET_2014 = Paper(
    authors="C. Szegedy, W. Liu, Y. Jia, P. Sermanet, S. Reed, D. Anguelov, D. Erhan, V. Vanhoucke, A. Rabinovich",
    title="Going deeper with convolutions",
    year=2014,
    venue="CVPR 2015, arXiv:1409.4842",
    url="https://arxiv.org/abs/1409.4842",
)


class Sizes(NamedTuple):
    """A row of Table 1. Zeros: no reduction, no projection, as in Figure 2(a), or no such filters."""

    n1x1: int
    r3x3: int
    n3x3: int
    r5x5: int
    n5x5: int
    pool_proj: int


# Table 1: #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj
TABLE_1 = (
    (
        Sizes(64,   96, 128, 16,  32,  32),   # 3a
        Sizes(128, 128, 192, 32,  96,  64),   # 3b
    ),
    (
        Sizes(192,  96, 208, 16,  48,  64),   # 4a
        Sizes(160, 112, 224, 24,  64,  64),   # 4b
        Sizes(128, 128, 256, 24,  64,  64),   # 4c
        Sizes(112, 144, 288, 32,  64,  64),   # 4d
        Sizes(256, 160, 320, 32, 128, 128),   # 4e
    ),
    (
        Sizes(256, 160, 320, 32, 128, 128),   # 5a
        Sizes(384, 192, 384, 48, 128, 128),   # 5b
    ),
)  # fmt: skip


def letters(i: int) -> str:
    """What Table 1 calls the module at place `i` of a stage: a to z, then aa to zz."""
    return string.ascii_lowercase[i % 26] * (i // 26 + 1)


@dataclass(frozen=True, kw_only=True)
class GoogLeNetSpec(Spec):
    stem: tuple[int, int, int] = (64, 64, 192)
    """Maps of the first convolution, of the reduction and of the 3x3 convolution after it."""
    stages: tuple[tuple[Sizes, ...], ...] = TABLE_1
    auxiliary: tuple[int, int] = (128, 1024)
    """Maps and units of the auxiliary classifiers."""
    batch_norm: bool = False
    five: int = 5
    """Kernel of the branch that should have 5x5."""
    pool4: int = 3
    """Window of the pooling before stage 5."""
    pooled: bool = True
    """Whether the modules have a branch of pooling."""
    supervised: bool = True
    """Whether auxiliary classifiers help to train the lower layers (section 5)."""

    # The auxiliary classifiers pool 5x5 in stage 4.
    small_limits: ClassVar = (79, 39)
    small_stem: ClassVar = ("no pooling follows convolution 1", "it has stride 1")

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(not (self.pooled or n1x1 or n3x3 or n5x5) for s in self.stages for n1x1, _, n3x3, _, n5x5, _ in s):
            raise UserError("a module without filters and without pooling gives nothing")

    @property
    def auxiliary_side(self) -> int:
        """Of the maps that the auxiliary classifiers see after their pooling."""
        conv1 = self.resolution if self.num_skipped_downsamplings > 1 else (self.resolution + 1) // 2
        stage4 = conv1 // (4 if self.num_skipped_downsamplings else 8)
        return side(stage4, 5, stride=3)

    def scaled(self, width: float = 1.0, depth: float = 1.0, resolution: int | None = None) -> Self:
        c1, c2_reduce, c2 = self.stem
        maps, units = self.auxiliary
        in_modules = (n for stage in self.stages for sizes in stage for n in sizes if n)
        check_width(width, (*self.stem, maps, units, *in_modules))
        return replace(
            self,
            stem=(scale_channels(c1, width), scale_channels(c2_reduce, width), scale_channels(c2, width)),
            stages=tuple(
                tuple(Sizes(*(scale_channels(n, width) if n else 0 for n in sizes)) for sizes in stage)
                for stage in (scale_stage(stage, depth) for stage in self.stages)
            ),
            auxiliary=(scale_channels(maps, width), scale_channels(units, width)),
            resolution=self.resolution if resolution is None else resolution,
        )


def convolution(below: int, maps: int, kernel: int, spec: GoogLeNetSpec, stride: int = 1) -> ConvReLU:
    conv = Conv2d(below, maps, kernel, stride, kernel // 2, bias=not spec.batch_norm)
    return ConvReLU(conv, nn.BatchNorm2d(maps, eps=1e-3) if spec.batch_norm else None)


class Inception(nn.Module):
    """Figure 2(b), and 2(a) where nothing is reduced."""

    def __init__(self, below: int, sizes: Sizes, spec: GoogLeNetSpec) -> None:
        super().__init__()
        n1x1, r3x3, n3x3, r5x5, n5x5, pool_proj = sizes

        def reduced(reduction: int, maps: int, kernel: int) -> nn.Sequential:
            layers = [("reduce", convolution(below, reduction, 1, spec))] if reduction else []
            layers.append(("conv", convolution(reduction or below, maps, kernel, spec)))
            return nn.Sequential(OrderedDict(layers))

        self.one = convolution(below, n1x1, 1, spec) if n1x1 else None
        self.three = reduced(r3x3, n3x3, 3) if n3x3 else None
        self.five = reduced(r5x5, n5x5, spec.five) if n5x5 else None
        self.pool = nn.MaxPool2d(3, stride=1, padding=1) if spec.pooled else None
        self.project = convolution(below, pool_proj, 1, spec) if pool_proj and spec.pooled else nn.Identity()
        self.maps = n1x1 + n3x3 + n5x5 + ((pool_proj or below) if spec.pooled else 0)

    def forward(self, x: Tensor) -> Tensor:
        outputs = [branch(x) for branch in (self.one, self.three, self.five) if branch is not None]
        if self.pool is not None:
            outputs.append(self.project(self.pool(x)))
        return torch.cat(outputs, dim=1)


class Auxiliary(nn.Module):
    """A classifier on the maps of a module in the middle (section 5)."""

    def __init__(self, below: int, spec: GoogLeNetSpec) -> None:
        super().__init__()
        maps, units = spec.auxiliary
        self.pool = nn.AvgPool2d(5, stride=3)
        self.conv = convolution(below, maps, 1, spec)
        self.fc1 = nn.Linear(maps * spec.auxiliary_side**2, units)
        self.fc2 = nn.Linear(units, spec.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(self.pool(x)).flatten(1)
        x = F.dropout(F.relu(self.fc1(x)), 0.7, self.training)
        outputs: Tensor = self.fc2(x)
        return outputs


def lettered(modules: list[Inception]) -> nn.Sequential:
    return nn.Sequential(OrderedDict((letters(i), module) for i, module in enumerate(modules)))


class GoogLeNet(nn.Module):
    """Figure 3. In training it gives a tuple: its outputs, then those of the classifiers on 4a and on 4d."""

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
        below = c2
        stages: list[list[Inception]] = []
        for table in spec.stages:
            stages.append([])
            for sizes in table:
                stages[-1].append(Inception(below, sizes, spec))
                below = stages[-1][-1].maps
        self.inception3, self.inception4, self.inception5 = map(lettered, stages)
        self.pool3 = pool()
        self.pool4 = pool(spec.pool4)
        self.pool5 = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(below, spec.num_classes)
        _, stage4, _ = stages
        self.last_auxiliary = -(-4 * len(stage4) // 5) - 1
        if spec.supervised:
            self.auxiliary_4a = Auxiliary(stage4[0].maps, spec)
            self.auxiliary_4d = Auxiliary(stage4[self.last_auxiliary].maps, spec)

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
    """Cross-entropy, with that of the auxiliary classifiers at `weight` (section 5)."""

    weight: float = 0.3

    def losses(self, outputs: Tensor | tuple[Tensor, ...], targets: Tensor) -> Tensor:
        if isinstance(outputs, Tensor):
            return super().losses(outputs, targets)
        own, *auxiliary = (super(DiscountedAuxiliaries, self).losses(part, targets) for part in outputs)
        return own + self.weight * torch.stack(auxiliary).sum(0)


# Table 1, the last two columns: parameters in K (1024) and operations in million, as printed
COSTS = {
    "conv1":        ("2.7",   "34"),
    "conv2":        ("112",  "360"),
    "inception3.a": ("159",  "128"),
    "inception3.b": ("380",  "304"),
    "inception4.a": ("364",   "73"),
    "inception4.b": ("437",   "88"),
    "inception4.c": ("463",  "100"),
    "inception4.d": ("580",  "119"),
    "inception4.e": ("840",  "170"),
    "inception5.a": ("1072",  "54"),
    "inception5.b": ("1388",  "71"),
    "fc":           ("1000",   "1"),
}  # fmt: skip


def arithmetic() -> dict[str, tuple[str, int, int, int]]:
    """The weights of each row from its sizes, as arithmetic and as a number; its biases; the side of its maps."""
    rows = {
        "conv1": ("7 x 7 x 3 x 64", 7 * 7 * 3 * 64, 64, 112),
        "conv2": ("64 x 64 + 9 x 64 x 192", 64 * 64 + 9 * 64 * 192, 64 + 192, 56),
    }
    below, places = 192, 28
    for number, stage in enumerate(TABLE_1, 3):
        for letter, sizes in zip(string.ascii_lowercase, stage, strict=False):
            n1x1, r3x3, n3x3, r5x5, n5x5, pool_proj = sizes
            rows[f"inception{number}.{letter}"] = (
                f"{below} x ({n1x1} + {r3x3} + {r5x5} + {pool_proj}) + 9 x {r3x3} x {n3x3} + 25 x {r5x5} x {n5x5}",
                below * (n1x1 + r3x3 + r5x5 + pool_proj) + 9 * r3x3 * n3x3 + 25 * r5x5 * n5x5,
                sum(sizes),
                places,
            )
            below = n1x1 + n3x3 + n5x5 + pool_proj
        places //= 2
    return rows | {"fc": ("1024 x 1000", 1024 * 1000, 1000, 1)}


def row(name: str, net: Layers) -> Layers:
    """The layers of a row of Table 1; its second convolution includes the reduction before it."""
    return Layers((*net.part(f"{name}_reduce"), *net.part(name)))


def claims_of_row(name: str, words: str, weights: int, biases: int, places: int) -> tuple[Claim, Claim]:
    params, macs = weights + biases, places * places * weights
    printed_params, printed_macs = COSTS[name]
    return (
        Claim(
            f"parameters of {name}",
            f"{printed_params} K",
            "Table 1",
            lambda net: row(name, net).params,
            sum=params,
            note=f"{words} + {biases} biases = {params:,}, {params / 1024:.2f} K",
        ),
        Claim(
            f"MACs of {name}",
            f"{printed_macs} million",
            "Table 1",
            lambda net: row(name, net).macs,
            sum=macs,
            note=f"{places} x {places} x ({words}) = {macs:,}",
        ),
    )


CLAIMS = (
    *(claim for name, sizes in arithmetic().items() for claim in claims_of_row(name, *sizes)),
    Claim("top-5 error on ILSVRC-2014 validation, one net, one crop", "10.07 %", "Table 3"),
    Claim("top-5 error on ILSVRC-2014 validation, one net, 144 crops", "7.89 %", "Table 3"),
    Claim("top-5 error on ILSVRC-2014 test, seven nets, 144 crops", "6.67 %", "Table 2"),
)

# Figure 2(a): every filter reads every map, and pooling passes all on.
NAIVE = tuple(tuple(sizes._replace(r3x3=0, r5x5=0, pool_proj=0) for sizes in stage) for stage in TABLE_1)


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
        variant("googlenet", "Inception modules, two auxiliary classifiers in training", GoogLeNetSpec(), CLAIMS),
        variant("googlenet-naive", "modules without reductions, Figure 2(a)", GoogLeNetSpec(stages=NAIVE)),
        variant("googlenet-bn", "batch normalization", GoogLeNetSpec(batch_norm=True)),
        variant(
            "googlenet-bn-3x3",
            "batch normalization, 3x3 in the 5x5 branch: what other libraries ship",
            GoogLeNetSpec(batch_norm=True, five=3, pool4=2),
        ),
    ),
)
