"""ResNet (He, Zhang, Ren and Sun 2015; 2016).

Plain networks get worse when they get deeper, in training too. A residual unit learns what to add to its input instead
of what to make of it. A shortcut carries the input past the unit's convolutions unchanged, so that doing nothing is
easy to learn, and a hundred layers train as well as twenty.

Departures, where the papers leave something open or are departed from:
- `-v1.5` has the stride of a bottleneck in its 3x3 convolution, as torchvision and timm do.
  It takes the recipe of 2015.
- `-keras` has what Keras's networks have: biases in its convolutions, and 1.001e-5 as the epsilon of the normalization.
- `-caffe` has what the authors' release has: its first pooling is not padded and rounds sizes up.
- The fully connected layer has PyTorch's own initialization.
- In `-preact` networks the shortcut of a unit that changes the shape starts after the first activation, as in the
  authors' release. The 110-layer network keeps option A of 2015; the bottlenecks of the 164-layer one project
  (option B).
- Recipe on ImageNet: the rate fell when the error stopped improving, how often is not printed; here it falls three
  times, after equal parts of training. Images were resized to a shorter side of 256 to 480 pixels before a 224x224
  crop; here the crop's area is a uniform fraction of the image's, from the same minimum to all of it.
- Recipe on CIFAR-10: 64,000 iterations are rounded to epochs. The warmup of 2015 ends when the training error is below
  80 %, after about 400 iterations; here after exactly 400, as in 2016.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch.nn.functional as F
from torch import Tensor, nn

from convatlas.networks.blocks import (
    ConvNorm,
    CrossEntropy,
    KaimingConv2d,
    ZeroPadded,
    check_width,
    scale_channels,
    scale_stage,
)
from convatlas.networks.claims.resnet import CLAIMS
from convatlas.recipe import Augmentation, Optimizer, Recipe, Staircase, Steps
from convatlas.spec import Family, Paper, Spec, Variant

RESIDUAL_2015 = Paper(
    authors="K. He, X. Zhang, S. Ren, J. Sun",
    title="Deep residual learning for image recognition",
    year=2015,
    venue="CVPR 2016, arXiv:1512.03385",
    url="https://arxiv.org/abs/1512.03385",
)
IDENTITY_2016 = Paper(
    authors="K. He, X. Zhang, S. Ren, J. Sun",
    title="Identity mappings in deep residual networks",
    year=2016,
    venue="ECCV 2016, arXiv:1603.05027",
    url="https://arxiv.org/abs/1603.05027",
)


class Shortcut(enum.StrEnum):
    """What carries the input past a unit (2015, section 4.1)."""

    NONE = "none"
    """A plain network."""
    A = "A"
    """The input itself; where the shape changes, every second pixel of it and zeros as further channels."""
    B = "B"
    """The input itself; where the shape changes, a projection."""
    C = "C"
    """A projection everywhere."""


UnitChannels = tuple[int, ...]
"""Output channels of a unit's convolutions: two of 3x3, or a bottleneck of 1x1, 3x3 and 1x1."""


@dataclass(frozen=True, kw_only=True)
class ResNetSpec(Spec):
    stem: int = 64
    """Output channels of the first convolution."""
    stages: tuple[tuple[UnitChannels, ...], ...]
    shortcut: Shortcut = Shortcut.B
    cifar: bool = False
    """A 3x3 first convolution and no pooling, for images of 32 pixels (2015, section 4.2)."""
    stride_in_3x3: bool = False
    """A bottleneck has its stride in the 3x3 convolution; if not, in the first 1x1."""
    preactivation: bool = False
    """Normalization and ReLU before each convolution (2016)."""
    bias: bool = False
    """The convolutions have biases, which the normalization after them makes useless."""
    eps: float = 1e-5
    """What batch normalization adds to the variance."""
    padded_pooling: bool = True
    """The first pooling is padded by a pixel; if not, it rounds sizes up, and sees one pixel further right and below.
    """

    small_stem: ClassVar = ("no pooling follows convolution 1", "it has stride 1")

    def __post_init__(self) -> None:
        super().__post_init__()
        Shortcut(self.shortcut)

    @property
    def small_limits(self) -> tuple[int, ...]:  # type: ignore[override]
        return () if self.cifar else (64, 33)

    @property
    def smallest_resolution(self) -> int:
        """The smallest resolution that works, in pixels."""
        # The CIFAR networks halve twice: 6x6 are left of 24.
        return 24 if self.cifar else super().smallest_resolution

    def scaled(self, width: float = 1.0, depth: float = 1.0, resolution: int | None = None) -> Self:
        check_width(width, (self.stem, *(num for stage in self.stages for unit in stage for num in unit)))
        return replace(
            self,
            stem=scale_channels(self.stem, width),
            stages=tuple(
                tuple(tuple(scale_channels(num, width) for num in unit) for unit in scale_stage(stage, depth))
                for stage in self.stages
            ),
            resolution=self.resolution if resolution is None else resolution,
        )


def convolutions(
    in_channels: int, unit: UnitChannels, stride: int, stride_in_3x3: bool
) -> list[tuple[int, int, int, int]]:
    """Input channels, output channels, kernel size and stride of each convolution of a unit."""
    kernels = (3, 3) if len(unit) == 2 else (1, 3, 1)
    strided = kernels.index(3) if stride_in_3x3 else 0
    strides = [stride if i == strided else 1 for i in range(len(unit))]
    return list(zip((in_channels, *unit), unit, kernels, strides, strict=False))


class ResidualUnit(nn.Module):
    """2015, Figure 5: convolutions, the shortcut added to them, and then ReLU."""

    def __init__(self, in_channels: int, unit: UnitChannels, stride: int, spec: ResNetSpec) -> None:
        super().__init__()
        sizes = convolutions(in_channels, unit, stride, spec.stride_in_3x3)
        self.layers = nn.ModuleList(ConvNorm(*size, eps=spec.eps, bias=spec.bias) for size in sizes)
        self.shortcut: nn.Module | None
        changes = stride != 1 or in_channels != unit[-1]
        if spec.shortcut == Shortcut.NONE:
            self.shortcut = None
        elif spec.shortcut == Shortcut.C or (spec.shortcut == Shortcut.B and changes):
            self.shortcut = ConvNorm(in_channels, unit[-1], 1, stride, eps=spec.eps, bias=spec.bias)
        else:
            self.shortcut = ZeroPadded(in_channels, unit[-1], stride) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        *layers, last = self.layers
        y = x
        for layer in layers:
            y = F.relu(layer(y))
        y = last(y)
        return F.relu(y if self.shortcut is None else y + self.shortcut(x))


class PreactivationUnit(nn.Module):
    """2016, Figure 4(e): normalization and ReLU before each convolution, and nothing after the sum.

    The first unit of a network activates its input before the shortcut leaves (2016, appendix), and so does one that
    changes the shape.
    """

    def __init__(self, in_channels: int, unit: UnitChannels, stride: int, spec: ResNetSpec, first: bool) -> None:
        super().__init__()
        self.first = first
        sizes = convolutions(in_channels, unit, stride, spec.stride_in_3x3)
        self.norms = nn.ModuleList(nn.BatchNorm2d(read) for read, _, _, _ in sizes)
        self.convs = nn.ModuleList(
            KaimingConv2d(read, made, kernel, step, kernel // 2, bias=False) for read, made, kernel, step in sizes
        )
        self.shortcut: nn.Module | None = None
        if stride != 1 or in_channels != unit[-1]:
            if spec.shortcut == Shortcut.A:
                self.shortcut = ZeroPadded(in_channels, unit[-1], stride)
            else:
                self.shortcut = KaimingConv2d(in_channels, unit[-1], 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        norm, *norms = self.norms
        conv, *convs = self.convs
        activated = F.relu(norm(x))
        y = conv(activated)
        for norm, conv in zip(norms, convs, strict=True):
            y = conv(F.relu(norm(y)))
        if self.shortcut is not None:
            x = self.shortcut(activated)
        elif self.first:
            x = activated
        outputs: Tensor = x + y
        return outputs


class ResNet(nn.Module):
    """2015, Table 1, and section 4.2 for CIFAR-10."""

    def __init__(self, spec: ResNetSpec) -> None:
        super().__init__()
        self.spec = spec
        kernel, stride = (3, 1) if spec.cifar else (7, 1 if spec.num_skipped_downsamplings > 1 else 2)
        self.conv1: nn.Module
        if spec.preactivation:
            self.conv1 = KaimingConv2d(spec.in_channels, spec.stem, kernel, stride, kernel // 2, bias=False)
        else:
            self.conv1 = ConvNorm(spec.in_channels, spec.stem, kernel, stride, eps=spec.eps, bias=spec.bias)
        self.pool1: nn.Module
        if spec.cifar or spec.num_skipped_downsamplings:
            self.pool1 = nn.Identity()
        elif spec.padded_pooling:
            self.pool1 = nn.MaxPool2d(3, 2, padding=1)
        else:
            self.pool1 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.stages = nn.ModuleList()
        channels = spec.stem
        for stage in spec.stages:
            units = nn.Sequential()
            for unit in stage:
                stride = 1 if units or not self.stages else 2
                if spec.preactivation:
                    first = not units and not self.stages
                    units.append(PreactivationUnit(channels, unit, stride, spec, first))
                else:
                    units.append(ResidualUnit(channels, unit, stride, spec))
                channels = unit[-1]
            self.stages.append(units)
        self.norm = nn.BatchNorm2d(channels) if spec.preactivation else nn.Identity()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, spec.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        x = self.pool1(x if self.spec.preactivation else F.relu(x))
        for stage in self.stages:
            x = stage(x)
        if self.spec.preactivation:
            x = F.relu(self.norm(x))
        outputs: Tensor = self.fc(self.pool(x).flatten(1))
        return outputs


# 2015, Table 1: the number of units in conv2_x to conv5_x, by layers
NUM_UNITS = {
    18:  (2, 2,  2, 2),
    34:  (3, 4,  6, 3),
    50:  (3, 4,  6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}  # fmt: skip


def imagenet(layers: int, shortcut: Shortcut = Shortcut.B, stride_in_3x3: bool = False) -> ResNetSpec:
    stages = []
    for channels, num_units in zip((64, 128, 256, 512), NUM_UNITS[layers], strict=True):
        unit = (channels, channels) if layers < 50 else (channels, channels, 4 * channels)
        stages.append((unit,) * num_units)
    return ResNetSpec(stages=tuple(stages), shortcut=shortcut, stride_in_3x3=stride_in_3x3)


def cifar(layers: int, shortcut: Shortcut = Shortcut.A, preactivation: bool = False) -> ResNetSpec:
    """6n + 2 layers (2015, section 4.2). With pre-activation and 164 or more, 9n + 2 in bottlenecks (2016)."""
    bottleneck = preactivation and layers >= 164
    n = (layers - 2) // (9 if bottleneck else 6)
    stages = tuple(((num, num, 4 * num) if bottleneck else (num, num),) * n for num in (16, 32, 64))
    return ResNetSpec(
        num_classes=10,
        resolution=32,
        stem=16,
        stages=stages,
        shortcut=shortcut,
        cifar=True,
        preactivation=preactivation,
    )


RECIPE_IMAGENET = Recipe(
    name="paper",
    optimizer=Optimizer.SGD,
    lr=0.1,
    schedule=Staircase(factor=0.1, every=30, of=120),
    batch_size=256,
    epochs=120,
    momentum=0.9,
    weight_decay=0.0001,
    augmentation=Augmentation(crop=224**2 / 480**2, flip=True, lighting=0.1),
    sources=(
        ("optimizer, lr, batch_size, momentum, weight_decay", "section 3.4"),
        ("schedule", "section 3.4: when the error plateaus"),
        ("epochs", "section 3.4: 600,000 iterations of 256, in 1.28 million images"),
        ("crop", "section 3.4: 224 of 256 to 480 pixels"),
        ("flip", "section 3.4"),
        ("lighting", "section 3.4, as Krizhevsky et al. 2012"),
    ),
)
RECIPE_CIFAR = Recipe(
    name="paper",
    optimizer=Optimizer.SGD,
    lr=0.1,
    schedule=Steps(((32_000, 0.1), (16_000, 0.01), (16_000, 0.001))),
    batch_size=128,
    epochs=164,
    momentum=0.9,
    weight_decay=0.0001,
    augmentation=Augmentation(shift=4 / 32, flip=True),
    sources=(
        ("optimizer", "section 3.4"),
        ("lr, schedule, batch_size, momentum, weight_decay", "section 4.2"),
        ("epochs", "section 4.2: 64,000 iterations of 128, in 50,000 images"),
        ("shift, flip", "section 4.2"),
    ),
)
WARMED_UP = Steps(((400, 0.01), (31_600, 0.1), (16_000, 0.01), (16_000, 0.001)))
RECIPE_CIFAR_110 = replace(RECIPE_CIFAR, schedule=WARMED_UP)
RECIPE_2016 = replace(
    RECIPE_CIFAR_110,
    sources=(
        ("lr, schedule, batch_size, momentum, weight_decay", "2016, appendix"),
        ("optimizer", "2015, section 3.4"),
        ("epochs", "2015, section 4.2: 64,000 iterations of 128, in 50,000 images"),
        ("shift, flip", "2016, appendix, as 2015, section 4.2"),
    ),
)


def recipe(spec: ResNetSpec) -> Recipe:
    if not spec.cifar:
        return RECIPE_IMAGENET
    if spec.preactivation:
        return RECIPE_2016
    layers = sum(len(unit) for stage in spec.stages for unit in stage) + 2
    return RECIPE_CIFAR if layers < 110 else RECIPE_CIFAR_110


def variant(name: str, summary: str, spec: ResNetSpec, released: bool = False) -> Variant:
    return Variant(
        name=name,
        summary=summary,
        paper=IDENTITY_2016 if spec.preactivation else RESIDUAL_2015,
        network=ResNet,
        spec=spec,
        objective=CrossEntropy(),
        recipe=recipe(spec),
        claims=CLAIMS.get(name, ()),
        released=released,
    )


A, B, C, NONE = Shortcut.A, Shortcut.B, Shortcut.C, Shortcut.NONE

FAMILY = Family(
    name="ResNet",
    paper=RESIDUAL_2015,
    variants=(
        variant("plain18", "no shortcuts", imagenet(18, NONE)),
        variant("plain34", "no shortcuts", imagenet(34, NONE)),
        variant("resnet18", "projections where the shape changes (option B)", imagenet(18)),
        variant("resnet18-a", "no parameters in shortcuts (option A)", imagenet(18, A)),
        variant("resnet18-c", "every shortcut projects (option C)", imagenet(18, C)),
        variant("resnet34", "option B", imagenet(34)),
        variant("resnet34-a", "option A", imagenet(34, A)),
        variant("resnet34-c", "option C", imagenet(34, C)),
        variant("resnet50", "bottlenecks, stride in the first 1x1", imagenet(50)),
        variant("resnet101", "bottlenecks", imagenet(101)),
        variant("resnet152", "bottlenecks", imagenet(152)),
        variant("resnet50-v1.5", "stride in the 3x3", imagenet(50, stride_in_3x3=True)),
        variant("resnet101-v1.5", "stride in the 3x3", imagenet(101, stride_in_3x3=True)),
        variant("resnet152-v1.5", "stride in the 3x3", imagenet(152, stride_in_3x3=True)),
        *(
            variant(
                f"resnet{layers}-keras",
                "as Keras has it: biases, epsilon 1.001e-5",
                replace(imagenet(layers), bias=True, eps=1.001e-5),
                released=True,
            )
            for layers in (50, 101, 152)
        ),
        *(
            variant(
                f"resnet{layers}-caffe",
                "as the authors released it: the first pooling rounds up",
                replace(imagenet(layers), padded_pooling=False),
                released=True,
            )
            for layers in (50, 101, 152)
        ),
        *(variant(f"plain{layers}-cifar", "no shortcuts", cifar(layers, NONE)) for layers in (20, 32, 44, 56, 110)),
        *(variant(f"resnet{layers}-cifar", "option A", cifar(layers)) for layers in (20, 32, 44, 56, 110, 1202)),
        *(
            variant(f"resnet{layers}-cifar-{option.lower()}", f"option {option}", cifar(layers, option))
            for layers in (20, 32, 44, 56, 110)
            for option in (B, C)
        ),
        variant(
            "resnet110-preact-cifar",
            "normalization and ReLU before convolutions",
            cifar(110, preactivation=True),
        ),
        variant(
            "resnet164-preact-cifar",
            "bottlenecks, normalization and ReLU before convolutions",
            cifar(164, B, preactivation=True),
        ),
    ),
)
