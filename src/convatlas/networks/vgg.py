"""VGG (Simonyan and Zisserman 2014).

Depth matters most, and small filters pay for it: two 3x3 convolutions see as much of the input as one of 5x5, three as
much as one of 7x7, with fewer parameters and more ReLUs between. Five stages of them, each followed by max pooling and
twice as wide as the one before, but for the last, then three fully connected layers. Nothing else.

Departures:
- Weights are initialized as Glorot and Bengio do, which the paper found afterwards to make its pre-training unnecessary
  (section 3.1).
- The networks with `-bn` are no paper's: batch normalization after every convolution, biases kept, as in the networks
  whose weights other libraries publish. They take the paper's recipe.
- In the paper the rate fell when the validation accuracy stopped rising; here it falls after equal parts of training.
  The training scale is 256; neither 384 nor scale jitter is here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple, Self

import torch.nn.functional as F
from torch import Tensor, nn

from convatlas.networks.blocks import (
    ConvReLU,
    CrossEntropy,
    LocalResponseNorm,
    check_width,
    scale_channels,
    scale_stage,
)
from convatlas.recipe import Augmentation, Optimizer, Recipe, Staircase
from convatlas.spec import Claim, Family, Paper, Spec, Variant, layers_deep, top_errors

VGG_2014 = Paper(
    authors="K. Simonyan, A. Zisserman",
    title="Very deep convolutional networks for large-scale image recognition",
    year=2014,
    venue="ICLR 2015, arXiv:1409.1556",
    url="https://arxiv.org/abs/1409.1556",
)


class ConvSize(NamedTuple):
    """The output channels of a convolution, and its kernel size."""

    channels: int
    kernel: int = 3


Stages = tuple[tuple[ConvSize, ...], ...]


@dataclass(frozen=True, kw_only=True)
class VGGSpec(Spec):
    stages: Stages
    fully: tuple[int, int] = (4096, 4096)
    """Units of fc6 and fc7."""
    lrn: bool = False
    """Local response normalization after the first stage."""
    batch_norm: bool = False
    """Batch normalization after every convolution."""

    small_limits: ClassVar = (64, 33)
    small_stem: ClassVar = ("no pooling follows stage 1", "nor stage 2")

    @property
    def pooled(self) -> tuple[bool, ...]:
        """Whether max pooling follows each stage."""
        return tuple(number > self.num_skipped_downsamplings for number in range(1, len(self.stages) + 1))

    @property
    def feature_size(self) -> int:
        """Side of the feature maps after the last pooling."""
        return self.resolution // (1 << sum(self.pooled))

    def scaled(self, width: float = 1.0, depth: float = 1.0, resolution: int | None = None) -> Self:
        fc6, fc7 = self.fully
        check_width(width, (fc6, fc7, *(channels for stage in self.stages for channels, _ in stage)))
        return replace(
            self,
            stages=tuple(
                tuple(ConvSize(scale_channels(channels, width), kernel) for channels, kernel in stage)
                for stage in (scale_stage(stage, depth) for stage in self.stages)
            ),
            fully=(scale_channels(fc6, width), scale_channels(fc7, width)),
            resolution=self.resolution if resolution is None else resolution,
        )


def stages(*channels: int, convolutions: str) -> Stages:
    """Stages of these output channels; each 3 or 1 in `convolutions` is the kernel size of one."""
    return tuple(
        tuple(ConvSize(width, int(kernel)) for kernel in kernels)
        for width, kernels in zip(channels, convolutions.split(), strict=True)
    )


# fmt: off
# Table 1: the kernel sizes of the convolutions in the five stages.
A = stages(64, 128, 256, 512, 512, convolutions=" 3  3   33   33   33")
B = stages(64, 128, 256, 512, 512, convolutions="33 33   33   33   33")
C = stages(64, 128, 256, 512, 512, convolutions="33 33  331  331  331")
D = stages(64, 128, 256, 512, 512, convolutions="33 33  333  333  333")
E = stages(64, 128, 256, 512, 512, convolutions="33 33 3333 3333 3333")
# fmt: on


def glorot(layer: nn.Conv2d | nn.Linear) -> None:
    """Weights uniform in plus and minus sqrt(6 / (fan-in + fan-out)) (Glorot and Bengio 2010)."""
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.get_parameter("bias"))


class GlorotConv2d(nn.Conv2d):
    reset_parameters = glorot


class GlorotLinear(nn.Linear):
    reset_parameters = glorot


class VGG(nn.Module):
    """A column of Table 1."""

    def __init__(self, spec: VGGSpec) -> None:
        super().__init__()
        self.spec = spec
        self.stages = nn.ModuleList()
        in_channels = spec.in_channels
        for stage, pooled in zip(spec.stages, spec.pooled, strict=True):
            layers = nn.Sequential()
            for channels, kernel in stage:
                conv = GlorotConv2d(in_channels, channels, kernel, padding=kernel // 2)
                layers.append(ConvReLU(conv, nn.BatchNorm2d(channels) if spec.batch_norm else None))
                in_channels = channels
            if spec.lrn and not self.stages:
                layers.append(LocalResponseNorm())
            if pooled:
                layers.append(nn.MaxPool2d(2))
            self.stages.append(layers)
        self.fc6 = GlorotLinear(in_channels * spec.feature_size**2, spec.fully[0])
        self.fc7 = GlorotLinear(*spec.fully)
        self.fc8 = GlorotLinear(spec.fully[1], spec.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.stages:
            x = stage(x)
        x = F.dropout(F.relu(self.fc6(x.flatten(1))), 0.5, self.training)
        x = F.dropout(F.relu(self.fc7(x)), 0.5, self.training)
        outputs: Tensor = self.fc8(x)
        return outputs


def layer_counts(convolutions: int) -> tuple[Claim, ...]:
    return (
        layers_deep(convolutions + 3, "Table 1"),
        Claim("convolutional layers", str(convolutions), "Table 1", lambda net: len(net.of_kind("Conv2d"))),
        Claim("fully connected layers", "3", "Table 1", lambda net: len(net.of_kind("Linear"))),
    )


def parameters(millions: int) -> Claim:
    return Claim("parameters", f"{millions} million", "Table 2", lambda net: net.params)


SINGLE_SCALE = "ILSVRC-2012 validation, single scale 256"
JITTERED = "ILSVRC-2012 validation, trained with scale jitter"
MULTI_SCALE = "ILSVRC-2012 validation, tested at several scales"

CLAIMS: Mapping[str, tuple[Claim, ...]] = {
    "vgg11": (*layer_counts(8), parameters(133), *top_errors(SINGLE_SCALE, "29.6", "10.4", "Table 3")),
    "vgg11-lrn": (parameters(133), *top_errors(SINGLE_SCALE, "29.7", "10.5", "Table 3")),
    "vgg13": (*layer_counts(10), parameters(133), *top_errors(SINGLE_SCALE, "28.7", "9.9", "Table 3")),
    "vgg16-1x1": (*layer_counts(13), parameters(134), *top_errors(SINGLE_SCALE, "28.1", "9.4", "Table 3")),
    "vgg16": (
        *layer_counts(13),
        parameters(138),
        *top_errors(SINGLE_SCALE, "27.0", "8.8", "Table 3"),
        *top_errors(JITTERED, "25.6", "8.1", "Table 3"),
        *top_errors(MULTI_SCALE, "24.8", "7.5", "Table 4"),
        Claim("top-5 error on ILSVRC-2014 test, the team's seven nets", "7.3 %", "Table 7"),
        Claim(
            "MACs",
            "15.3 billion",
            "ResNet paper, section 4.1",
            lambda net: net.macs,
            sum=15_470_264_320,
            note="without the fully connected layers it is the printed figure, 15,470,264,320 - 123,633,664 = "
            "15,346,630,656; but VGG-19's 19.6 billion has them",
        ),
    ),
    "vgg19": (
        *layer_counts(16),
        parameters(144),
        *top_errors(SINGLE_SCALE, "27.3", "9.0", "Table 3"),
        *top_errors(JITTERED, "25.5", "8.0", "Table 3"),
        *top_errors(MULTI_SCALE, "24.8", "7.5", "Table 4"),
        Claim("top-5 error on ILSVRC test, one net", "7.3 %", "section 4.2"),
        Claim("top-5 error on ILSVRC test, one net, multi-crop and dense", "7.0 %", "Table 7"),
        Claim("top-5 error on ILSVRC test, two nets, multi-crop and dense", "6.8 %", "Table 7"),
        Claim("MACs", "19.6 billion", "ResNet paper, section 3.3", lambda net: net.macs),
        Claim("weeks of training on four Titan Black, at least", "2", "section 3.3"),
        Claim("weeks of training on four Titan Black, at most", "3", "section 3.3"),
    ),
}


RECIPE = Recipe(
    name="paper",
    optimizer=Optimizer.SGD,
    lr=0.01,
    schedule=Staircase(factor=0.1, every=18.5, of=74),
    batch_size=256,
    epochs=74,
    momentum=0.9,
    weight_decay=0.0005,
    augmentation=Augmentation(flip=True, lighting=0.1),
    sources=(
        ("optimizer, lr, batch_size, epochs, momentum, weight_decay", "section 3.1"),
        ("schedule", "section 3.1: three times, when the accuracy stopped improving"),
        ("flip", "section 3.1"),
        ("lighting", "section 3.1, as Krizhevsky et al. 2012"),
    ),
)


def variant(name: str, summary: str, spec: VGGSpec) -> Variant:
    return Variant(
        name=name,
        summary=summary,
        paper=VGG_2014,
        network=VGG,
        spec=spec,
        objective=CrossEntropy(),
        recipe=RECIPE,
        claims=CLAIMS.get(name, ()),
    )


FAMILY = Family(
    name="VGG",
    paper=VGG_2014,
    variants=(
        variant("vgg11", "configuration A", VGGSpec(stages=A)),
        variant(
            "vgg11-lrn", "configuration A-LRN: response normalization after the first", VGGSpec(stages=A, lrn=True)
        ),
        variant("vgg13", "configuration B", VGGSpec(stages=B)),
        variant("vgg16-1x1", "configuration C: three convolutions are 1x1", VGGSpec(stages=C)),
        variant("vgg16", "configuration D", VGGSpec(stages=D)),
        variant("vgg19", "configuration E", VGGSpec(stages=E)),
        variant("vgg11-bn", "A with batch normalization", VGGSpec(stages=A, batch_norm=True)),
        variant("vgg13-bn", "B with batch normalization", VGGSpec(stages=B, batch_norm=True)),
        variant("vgg16-bn", "D with batch normalization", VGGSpec(stages=D, batch_norm=True)),
        variant("vgg19-bn", "E with batch normalization", VGGSpec(stages=E, batch_norm=True)),
    ),
)
