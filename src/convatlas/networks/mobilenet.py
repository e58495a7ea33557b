"""MobileNet (Howard et al. 2017).

A convolution filters and combines at once. A depthwise separable one does it in two steps, a 3x3 filter for each
channel and then a 1x1 convolution, for 1/N + 1/9 of the multiplications. Two multipliers trade accuracy for cost:
alpha thins every layer, rho shrinks the input. In this package they are `width` and `resolution`.

Departures, where the paper leaves something open:
- The initialization is not printed; here it is He et al.'s, in the fully connected layer PyTorch's.
- Table 1 gives the last depthwise convolution stride 2 and yet an output as large as its input; here it has stride 1.
- Training is "similar to Inception V3" (section 3.2), whose paper has 50 asynchronous replicas with 32 images each
  (Szegedy et al. 2016, section 8); here one batch of 32 comes after another. Momentum and weight decay are those of the
  code that Google released for both. The span of the weight average, the smallest cut and mirroring are ours.
- `mobilenet-tf` has what Google's release and Keras have: ReLU6, TensorFlow's `same` padding, which puts more zeros
  right and below where the stride is 2, and 1e-3 as the epsilon of the normalization. Before maps of an odd side Keras
  pads a depthwise convolution of stride 2 right and below alone, and TensorFlow all around: they agree at multiples of
  32, for which Keras has weights. `mobilenet-relu6`, which timm trained, has ReLU6 alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import ClassVar, Self

import torch.nn.functional as F
from torch import Tensor, nn

from convatlas.networks.blocks import Activation, ConvNorm, CrossEntropy, check_width, scale_channels, scale_stage
from convatlas.recipe import Augmentation, Decayed, Optimizer, Recipe, Staircase
from convatlas.spec import Claim, Family, Layers, Paper, Scale, Spec, Variant, layers_deep

MOBILENETS_2017 = Paper(
    authors="A. G. Howard, M. Zhu, B. Chen, D. Kalenichenko, W. Wang, T. Weyand, M. Andreetto, H. Adam",
    title="MobileNets: efficient convolutional neural networks for mobile vision applications",
    year=2017,
    venue="arXiv:1704.04861",
    url="https://arxiv.org/abs/1704.04861",
)


@dataclass(frozen=True, kw_only=True)
class MobileNetSpec(Spec):
    conv1: int = 32
    """Output channels of the first convolution."""
    stages: tuple[tuple[int, ...], ...]
    """Output channels of the layers after it. The first layer of each stage but the first has stride 2; `depth` repeats
    the others."""
    separable: bool = True
    """Depthwise 3x3 and pointwise 1x1 convolutions; if not, full 3x3 ones."""
    relu6: bool = False
    """ReLUs stop at 6."""
    same_padding: bool = False
    """Convolutions of stride 2 are padded as TensorFlow does; if not, alike on all sides."""
    eps: float = 1e-5
    """What batch normalization adds to the variance."""

    small_limits: ClassVar = (64, 33)
    small_stem: ClassVar = ("the first convolution has stride 1", "stage 2 has stride 1")

    def scaled(self, width: float = 1.0, depth: float = 1.0, resolution: int | None = None) -> Self:
        check_width(width, (self.conv1, *(channels for stage in self.stages for channels in stage)))
        return replace(
            self,
            conv1=scale_channels(self.conv1, width),
            stages=tuple(
                tuple(scale_channels(channels, width) for channels in (*strided, *scale_stage(repeated, depth)))
                for strided, repeated in (
                    (stage[: min(i, 1)], stage[min(i, 1) :]) for i, stage in enumerate(self.stages)
                )
            ),
            resolution=self.resolution if resolution is None else resolution,
        )


# Table 1: output channels
STAGES = (
    (64,),
    (128, 128),
    (256, 256),
    (512, 512, 512, 512, 512, 512),
    (1024, 1024),
)
# Table 5: "the 5 layers of separable filters with feature size 14 x 14 x 512 are removed".
SHALLOW = (*STAGES[:3], (512,), STAGES[4])


def convolution(
    in_channels: int, out_channels: int, kernel: int, spec: MobileNetSpec, stride: int = 1, groups: int = 1
) -> ConvNorm:
    return ConvNorm(in_channels, out_channels, kernel, stride, groups, eps=spec.eps, same_padding=spec.same_padding)


def activation(spec: MobileNetSpec) -> Activation:
    return F.relu6 if spec.relu6 else F.relu


class Separable(nn.Module):
    """A 3x3 filter for each channel, then a 1x1 convolution that combines them (Figure 3, right)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, spec: MobileNetSpec) -> None:
        super().__init__()
        self.depthwise = convolution(in_channels, in_channels, 3, spec, stride, groups=in_channels)
        self.pointwise = convolution(in_channels, out_channels, 1, spec)
        self.activation = activation(spec)

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.activation(self.pointwise(self.activation(self.depthwise(x))))
        return outputs


class Full(nn.Module):
    """A 3x3 convolution, which does both at once (Figure 3, left)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, spec: MobileNetSpec) -> None:
        super().__init__()
        self.full = convolution(in_channels, out_channels, 3, spec, stride)
        self.activation = activation(spec)

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.activation(self.full(x))
        return outputs


class MobileNet(nn.Module):
    """Table 1."""

    def __init__(self, spec: MobileNetSpec) -> None:
        super().__init__()
        self.spec = spec
        layer_class = Separable if spec.separable else Full
        self.conv1 = convolution(
            spec.in_channels, spec.conv1, 3, spec, stride=1 if spec.num_skipped_downsamplings else 2
        )
        self.activation = activation(spec)
        self.stages = nn.ModuleList()
        in_channels = spec.conv1
        for number, stage in enumerate(spec.stages, 1):
            layers = nn.Sequential()
            halves = number > (2 if spec.num_skipped_downsamplings > 1 else 1)
            for channels in stage:
                layers.append(layer_class(in_channels, channels, 2 if halves and not layers else 1, spec))
                in_channels = channels
            self.stages.append(layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(in_channels, spec.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.conv1(x))
        for stage in self.stages:
            x = stage(x)
        outputs: Tensor = self.fc(self.pool(x).flatten(1))
        return outputs


def macs(printed: str, source: str, figure: str = "MACs", scale: Scale | None = None) -> Claim:
    return Claim(figure, printed, source, lambda net: net.macs, at=scale or Scale())


def params(printed: str, source: str, scale: Scale | None = None) -> Claim:
    return Claim("parameters", printed, source, lambda net: net.params, at=scale or Scale())


def accuracy(percent: str, source: str, scale: str = "") -> Claim:
    return Claim(f"top-1 accuracy on ImageNet{scale}", f"{percent} %", source)


def percent_of_macs(ending: str, net: Layers) -> Fraction:
    """The percentage of all MACs that is in the layers whose names end so."""
    return Fraction(100 * sum(layer.macs for layer in net if layer.name.endswith(ending)), net.macs)


CLAIMS = (
    layers_deep(28, "section 3.2"),
    params("4.2 million", "Table 4"),
    macs("569 million", "Table 4"),
    accuracy("70.6", "Table 4"),
    # Table 6: alpha.
    *(
        claim
        for alpha, million_macs, million_params, percent in (
            (0.75, "325", "2.6", "68.4"),
            (0.5,  "149", "1.3", "63.7"),
            (0.25,  "41", "0.5", "50.6"),
        )
        for claim in (
            macs(f"{million_macs} million", "Table 6", scale=Scale(width=alpha)),
            params(f"{million_params} million", "Table 6", scale=Scale(width=alpha)),
            accuracy(percent, "Table 6", f", alpha {alpha:g}"),
        )
    ),
    # Table 7: rho.
    *(
        claim
        for resolution, million_macs, percent in (
            (192, "418", "69.1"),
            (160, "290", "67.2"),
            (128, "186", "64.4"),
        )
        for claim in (
            macs(f"{million_macs} million", "Table 7", scale=Scale(resolution=resolution)),
            accuracy(percent, "Table 7", f", {resolution} px"),
        )
    ),
    Claim("MACs in 1x1 convolutions", "94.86 %", "Table 2", lambda net: percent_of_macs("pointwise.conv", net)),
    Claim("MACs in depthwise convolutions", "3.06 %", "Table 2", lambda net: percent_of_macs("depthwise.conv", net)),
    Claim(
        "MACs in the first convolution",
        "1.19 %",
        "Table 2",
        lambda net: percent_of_macs("conv1.conv", net),
        sum=Fraction(100 * 10_838_016, 568_740_352),
        contradicts="Table 1",
        note="112 x 112 x 3 x 3 x 3 x 32 = 10,838,016 of 568,740,352 MACs are 1.91 %",
    ),
    Claim("MACs in the fully connected layer", "0.18 %", "Table 2", lambda net: percent_of_macs("fc", net)),
    # Table 9: alpha and rho at once.
    macs("76 million", "Table 9", scale=Scale(width=0.5, resolution=160)),
    Claim(
        "parameters",
        "1.32 million",
        "Table 9",
        lambda net: net.params,
        at=Scale(width=0.5, resolution=160),
        sum=1_331_592,
        note="without the 10,944 of batch normalization it is the printed figure: 1,331,592 - 10,944 = 1,320,648",
    ),
    accuracy("60.2", "Table 9", ", alpha 0.5, 160 px"),
    # Tan and Le 2019 scale it as they scale their own.
    macs("0.6 billion", "EfficientNet paper, Table 3"),
    macs("2.2 billion", "EfficientNet paper, Table 3", scale=Scale(width=2)),
    macs("2.2 billion", "EfficientNet paper, Table 3", scale=Scale(resolution=448)),
    macs("2.3 billion", "EfficientNet paper, Table 3", scale=Scale(width=1.2, depth=1.4, resolution=291)),
    accuracy("74.2", "EfficientNet paper, Table 3", ", width 2"),
    accuracy("72.7", "EfficientNet paper, Table 3", ", resolution 2"),
    accuracy("75.6", "EfficientNet paper, Table 3", ", depth 1.4, width 1.2, resolution 1.3"),
)  # fmt: skip

RECIPE = Recipe(
    name="paper",
    optimizer=Optimizer.RMSPROP,
    lr=0.045,
    schedule=Staircase(factor=0.94, every=2, of=100),
    batch_size=32,
    epochs=100,
    momentum=0.9,
    alpha=0.9,
    eps=1.0,
    weight_decay=0.00004,
    decayed=Decayed.NOT_DEPTHWISE,
    ema=0.02,
    max_norm=2.0,
    augmentation=Augmentation(crop=0.25, aspect=4 / 3, flip=True),
    sources=(
        ("optimizer, decayed", "section 3.2"),
        ("lr, schedule, epochs, alpha, eps, max_norm", "Szegedy et al. 2016, section 8"),
        ("batch_size", "Szegedy et al. 2016, section 8, of each replica"),
        ("ema", "Szegedy et al. 2016, section 8; not over how long"),
        ("crop", "section 3.2: larger than Inception's; not how large"),
        ("aspect", "Szegedy et al. 2014, section 6"),
    ),
)

FAMILY = Family(
    name="MobileNet",
    paper=MOBILENETS_2017,
    variants=(
        Variant(
            name="mobilenet",
            summary="depthwise separable convolutions; alpha is its width, rho its resolution",
            paper=MOBILENETS_2017,
            network=MobileNet,
            spec=MobileNetSpec(stages=STAGES),
            objective=CrossEntropy(),
            recipe=RECIPE,
            claims=CLAIMS,
        ),
        Variant(
            name="mobilenet-conv",
            summary="full convolutions",
            paper=MOBILENETS_2017,
            network=MobileNet,
            spec=MobileNetSpec(stages=STAGES, separable=False),
            objective=CrossEntropy(),
            recipe=RECIPE,
            claims=(
                params("29.3 million", "Table 4"),
                Claim(
                    "MACs",
                    "4,866 million",
                    "Table 4",
                    lambda net: net.macs,
                    sum=4_867_293_184,
                    note="without the last layer it is the printed figure, 4,867,293,184 - 1,024,000 = 4,866,269,184; "
                    "but the 569 million of the separable network have it",
                ),
                accuracy("71.7", "Table 4"),
            ),
        ),
        Variant(
            name="mobilenet-shallow",
            summary="five layers fewer",
            paper=MOBILENETS_2017,
            network=MobileNet,
            spec=MobileNetSpec(stages=SHALLOW),
            objective=CrossEntropy(),
            recipe=RECIPE,
            claims=(
                params("2.9 million", "Table 5"),
                macs("307 million", "Table 5"),
                accuracy("65.3", "Table 5"),
            ),
        ),
        Variant(
            name="mobilenet-tf",
            summary="as Google released it and Keras has it: ReLU6, uneven padding, epsilon 1e-3",
            paper=MOBILENETS_2017,
            network=MobileNet,
            spec=MobileNetSpec(stages=STAGES, relu6=True, same_padding=True, eps=1e-3),
            objective=CrossEntropy(),
            recipe=RECIPE,
            released=True,
        ),
        Variant(
            name="mobilenet-relu6",
            summary="as timm has it: ReLU6",
            paper=MOBILENETS_2017,
            network=MobileNet,
            spec=MobileNetSpec(stages=STAGES, relu6=True),
            objective=CrossEntropy(),
            recipe=RECIPE,
            released=True,
        ),
    ),
)
