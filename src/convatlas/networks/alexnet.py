"""AlexNet (Krizhevsky, Sutskever and Hinton 2012; Krizhevsky 2014).

Five convolutional and three fully connected layers with ReLU, trained on two graphics processors: each holds half of
the channels, and only the third convolution and the fully connected layers read both halves. Neighboring channels
compete through local response normalization, and pooling windows overlap. Dropout keeps the 60 million parameters from
overfitting.

Departures, where the papers leave something open or are departed from:
- The 2012 paper says 224 pixels; its arithmetic (55 x 55 after the first layer) is that of 227.
- `alexnet-owt` is the network of one tower, whose channels a footnote of 2014 prints; without response normalization,
  which it does not mention. `alexnet-owt-256`, with 256 channels in place of 384 in its fourth convolution, is no
  paper's: other libraries publish its weights. (In training they apply dropout before the fully connected layers; here
  it comes after them.)
- Scaled in width, weights are initialized with a standard deviation of 0.01 / sqrt(width): a layer that sums over fewer
  inputs then gives outputs as large as the paper's. With 0.01 a network an eighth as wide does not begin to learn.
- `alexnet-caffe` is Caffe's reproduction of `alexnet`: its response normalization sees both towers, with k = 1 and
  alpha over n. It takes the paper's recipe.
- `alexnet-bn` is no paper's: batch normalization after every convolution replaces response normalization.
- `alexnet-cifar` and `alexnet-cifar-tanh` are for 2012's Figure 1, of which the paper says "a four-layer convolutional
  neural network" and no more. They have the layers of layers-19pct.cfg in Krizhevsky's cuda-convnet, a network of four
  layers for CIFAR-10. He's weights for ReLU, Xavier's for tanh, and biases of 0 are ours: the file's deviations of
  0.0001 and 0.01 suit no tanh. The paper prints no recipe of them.
- `alexnet-cifar-lrn` adds the normalization of 2012's section 3.3, where `alexnet` has it. The 13 and 11 % that the
  section prints are probably another network's: layers-conv-local-13pct.cfg and -11pct.cfg, with two convolutions of 64
  channels and two layers of 32 that are connected locally, without shared weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch.nn.functional as F
from torch import Tensor, nn

from convatlas.errors import UserError
from convatlas.networks.blocks import (
    ConvReLU,
    CrossEntropy,
    LocalResponseNorm,
    check_width,
    conv_output_size,
    scale_channels,
    scale_stage,
)
from convatlas.recipe import Augmentation, Optimizer, Recipe, Staircase
from convatlas.spec import Claim, Family, Layers, Paper, Spec, Variant, layers_deep, top_errors

IMAGENET_2012 = Paper(
    authors="A. Krizhevsky, I. Sutskever, G. E. Hinton",
    title="ImageNet classification with deep convolutional neural networks",
    year=2012,
    venue="NIPS 2012, 1097-1105",
    url="https://papers.nips.cc/paper/4824-imagenet-classification-with-deep-convolutional-neural-networks",
)
ONE_WEIRD_TRICK_2014 = Paper(
    authors="A. Krizhevsky",
    title="One weird trick for parallelizing convolutional neural networks",
    year=2014,
    venue="arXiv:1404.5997",
    url="https://arxiv.org/abs/1404.5997",
)


@dataclass(frozen=True, kw_only=True)
class AlexNetSpec(Spec):
    resolution: int = 227
    convolutions: tuple[int, ...]
    """Output channels of the convolutions, over all towers. From the fifth on they are alike: `depth` repeats it."""
    fully: tuple[int, int]
    """Units of fc6 and fc7."""
    towers: int
    padding: int
    """Padding of the first convolution, in pixels."""
    lrn: bool = False
    """Local response normalization after the first two convolutions (2012, section 3.3)."""
    caffe_lrn: bool = False
    """It is Caffe's, over both towers, with k = 1 and alpha over n; if not, the paper's."""
    batch_norm: bool = False
    """Batch normalization after every convolution."""
    rectified: bool = True
    """ReLU; if not, tanh (2012, section 3.1)."""
    overlapping: bool = True
    """Pooling windows of 3 at a stride of 2; if not, of 2 (2012, section 3.4)."""
    dropout: float = 0.5
    """The fraction of the units of fc6 and fc7 that a training step leaves out (2012, section 4.2)."""
    deviation: float = 0.01
    """Standard deviation of the initial weights (2012, section 5)."""

    small_limits: ClassVar = (99, 45)
    small_stem: ClassVar = ("convolution 1 has stride 2 and padding 5", "no pooling follows it")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.dropout < 1:
            raise UserError(f"dropout {self.dropout:g} leaves nothing to learn; it must be from 0 to below 1")

    @property
    def conv1(self) -> tuple[int, int]:
        """Stride and padding of the first convolution."""
        return (2, 5) if self.num_skipped_downsamplings else (4, self.padding)

    @property
    def feature_size(self) -> int:
        """Side of the feature maps after the last pooling."""
        stride, padding = self.conv1
        size = conv_output_size(self.resolution, 11, stride, padding)
        for _ in range(2 if self.num_skipped_downsamplings > 1 else 3):
            size = conv_output_size(size, self.window, stride=2)
        return size

    @property
    def window(self) -> int:
        """Kernel size of the poolings."""
        return 3 if self.overlapping else 2

    def scaled(self, width: float = 1.0, depth: float = 1.0, resolution: int | None = None) -> Self:
        fc6, fc7 = self.fully
        check_width(width, (fc6, fc7, *(channels // self.towers for channels in self.convolutions)))
        convolutions = self.convolutions[:4] + scale_stage(self.convolutions[4:], depth)
        return replace(
            self,
            convolutions=tuple(self.towers * scale_channels(c // self.towers, width) for c in convolutions),
            fully=(scale_channels(fc6, width), scale_channels(fc7, width)),
            deviation=self.deviation / math.sqrt(width),
            resolution=self.resolution if resolution is None else resolution,
        )


def leave_uninitialized(layer: nn.Module) -> None:
    """The network initializes the weights: it knows their standard deviation."""


class UninitializedConv2d(nn.Conv2d):
    reset_parameters = leave_uninitialized


class UninitializedLinear(nn.Linear):
    reset_parameters = leave_uninitialized


class ConvTanh(ConvReLU):
    """The same with tanh, which the paper trains for comparison (2012, Figure 1)."""

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.norm(self.conv(x)).tanh()
        return outputs


class AlexNet(nn.Module):
    """2012, Figure 2. Convolutions that read their own tower only have the towers as groups."""

    def __init__(self, spec: AlexNetSpec) -> None:
        super().__init__()
        self.spec = spec

        def convolution(
            in_channels: int, out_channels: int, kernel: int, stride: int, padding: int, groups: int = 1
        ) -> ConvReLU:
            conv = UninitializedConv2d(in_channels, out_channels, kernel, stride, padding, groups=groups)
            activated = ConvReLU if spec.rectified else ConvTanh
            return activated(conv, nn.BatchNorm2d(out_channels) if spec.batch_norm else None)

        def pool() -> nn.MaxPool2d:
            return nn.MaxPool2d(spec.window, 2)

        def lrn() -> nn.Module:
            if not spec.lrn:
                return nn.Identity()
            if spec.caffe_lrn:
                return LocalResponseNorm(k=1.0, alpha=1e-4 / 5)
            return LocalResponseNorm(groups=spec.towers)

        c1, c2, c3, c4, *c5 = spec.convolutions
        self.conv1 = convolution(spec.in_channels, c1, 11, *spec.conv1)
        self.lrn1 = lrn()
        self.pool1 = nn.Identity() if spec.num_skipped_downsamplings > 1 else pool()
        self.conv2 = convolution(c1, c2, 5, 1, 2, spec.towers)
        self.lrn2 = lrn()
        self.pool2 = pool()
        self.conv3 = convolution(c2, c3, 3, 1, 1)
        self.conv4 = convolution(c3, c4, 3, 1, 1, spec.towers)
        conv5 = [convolution(before, own, 3, 1, 1, spec.towers) for before, own in zip([c4, *c5], c5, strict=False)]
        self.conv5 = nn.Sequential(*conv5)
        self.pool5 = pool()
        self.fc6 = UninitializedLinear(c5[-1] * spec.feature_size**2, spec.fully[0])
        self.fc7 = UninitializedLinear(*spec.fully)
        self.fc8 = UninitializedLinear(spec.fully[1], spec.num_classes)
        for layer in self.modules():
            if isinstance(layer, UninitializedConv2d | UninitializedLinear):
                nn.init.normal_(layer.weight, std=spec.deviation)
                nn.init.zeros_(layer.get_parameter("bias"))
        if not spec.rectified:
            return
        # 2012, section 5: biases of 1 give the ReLUs of these layers positive inputs at first.
        for layer in (self.conv2.conv, self.conv4.conv, *(unit.conv for unit in conv5), self.fc6, self.fc7):
            nn.init.ones_(layer.get_parameter("bias"))

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool1(self.lrn1(self.conv1(x)))
        x = self.pool2(self.lrn2(self.conv2(x)))
        x = self.pool5(self.conv5(self.conv4(self.conv3(x)))).flatten(1)
        for layer in (self.fc6, self.fc7):
            x = F.relu(layer(x)) if self.spec.rectified else layer(x).tanh()
            x = F.dropout(x, self.spec.dropout, self.training)
        outputs: Tensor = self.fc8(x)
        return outputs


@dataclass(frozen=True, kw_only=True)
class FourLayerSpec(Spec):
    num_classes: int = 10
    resolution: int = 32
    convolutions: tuple[int, ...] = (32, 32, 64)
    """Output channels of the convolutions. From the third on they are alike: `depth` repeats it."""
    lrn: bool = False
    """Local response normalization after the first two convolutions (2012, section 3.3)."""
    rectified: bool = True
    """ReLU; if not, tanh (2012, Figure 1)."""

    @property
    def feature_size(self) -> int:
        """Side of the feature maps after three poolings, each of which halves it."""
        return self.resolution // 8

    def scaled(self, width: float = 1.0, depth: float = 1.0, resolution: int | None = None) -> Self:
        check_width(width, self.convolutions)
        convolutions = self.convolutions[:2] + scale_stage(self.convolutions[2:], depth)
        return replace(
            self,
            convolutions=tuple(scale_channels(channels, width) for channels in convolutions),
            resolution=self.resolution if resolution is None else resolution,
        )


class FourLayerNetwork(nn.Module):
    """2012, Figure 1: three 5x5 convolutions, each pooled in overlapping windows, and a fully connected layer."""

    def __init__(self, spec: FourLayerSpec) -> None:
        super().__init__()
        self.spec = spec

        def convolution(in_channels: int, out_channels: int) -> ConvReLU:
            conv = UninitializedConv2d(in_channels, out_channels, 5, padding=2)
            return ConvReLU(conv) if spec.rectified else ConvTanh(conv)

        def average_pool() -> nn.AvgPool2d:
            # Runtimes disagree on whether what lies beyond the last pixel counts; here it does not.
            return nn.AvgPool2d(3, 2, ceil_mode=True, count_include_pad=False)

        c1, c2, *c3 = spec.convolutions
        self.conv1 = convolution(spec.in_channels, c1)
        self.lrn1 = LocalResponseNorm() if spec.lrn else nn.Identity()
        self.pool1 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv2 = convolution(c1, c2)
        self.lrn2 = LocalResponseNorm() if spec.lrn else nn.Identity()
        self.pool2 = average_pool()
        self.conv3 = nn.Sequential(*(convolution(before, own) for before, own in zip([c2, *c3], c3, strict=False)))
        self.pool3 = average_pool()
        self.fc = UninitializedLinear(c3[-1] * spec.feature_size**2, spec.num_classes)
        for layer in self.modules():
            if isinstance(layer, UninitializedConv2d | UninitializedLinear):
                if spec.rectified:
                    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                else:
                    nn.init.xavier_normal_(layer.weight)
                nn.init.zeros_(layer.get_parameter("bias"))

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool1(self.lrn1(self.conv1(x)))
        x = self.pool2(self.lrn2(self.conv2(x)))
        x = self.pool3(self.conv3(x))
        outputs: Tensor = self.fc(x.flatten(1))
        return outputs


def num_neurons(net: Layers) -> int:
    """Outputs of convolutions and fully connected layers."""
    return sum(math.prod(layer.output_shape) for layer in net if layer.macs)


def neurons_of(name: str) -> Callable[[Layers], int]:
    return lambda net: num_neurons(net.part(name))


RECIPE_2012 = Recipe(
    name="paper",
    optimizer=Optimizer.SGD,
    lr=0.01,
    schedule=Staircase(factor=0.1, every=22.5, of=90),
    batch_size=128,
    epochs=90,
    momentum=0.9,
    weight_decay=0.0005,
    # Section 4.1 also cuts out 224 of 256 pixels at a random place; so does any augmentation of photographs.
    augmentation=Augmentation(flip=True, lighting=0.1),
    sources=(
        ("optimizer, lr, batch_size, epochs, momentum, weight_decay", "section 5"),
        ("schedule", "section 5: three times, when the error stopped improving"),
        ("flip, lighting", "section 4.1"),
    ),
)
RECIPE_2014 = replace(
    RECIPE_2012,
    schedule=Staircase(factor=250 ** (-1 / 3), every=22.5, of=90),
    sources=(
        ("optimizer, schedule, epochs, momentum", "2014, section 5"),
        ("lr, batch_size, weight_decay", "2012, section 5"),
        ("flip, lighting", "2012, section 4.1"),
    ),
)

TWO_TOWERS = AlexNetSpec(convolutions=(96, 256, 384, 384, 256), fully=(4096, 4096), towers=2, padding=0, lrn=True)
ONE_TOWER = AlexNetSpec(resolution=224, convolutions=(64, 192, 384, 384, 256), fully=(4096, 4096), towers=1, padding=2)

FAMILY = Family(
    name="AlexNet",
    paper=IMAGENET_2012,
    variants=(
        Variant(
            name="alexnet",
            summary="two towers, response normalization, overlapping pooling",
            paper=IMAGENET_2012,
            network=AlexNet,
            spec=TWO_TOWERS,
            objective=CrossEntropy(),
            recipe=RECIPE_2012,
            claims=(
                Claim("parameters", "60 million", "abstract, page 1", lambda net: net.params),
                Claim("neurons", "650,000", "abstract, page 1", num_neurons, about=10_000),
                Claim(
                    "neurons of conv1",
                    "253,440",
                    "Figure 2",
                    lambda net: num_neurons(net.part("conv1")),
                    sum=290_400,
                    contradicts="section 3.5 and the same figure's drawing",
                    note="of both towers 2 x 55 x 55 x 48 = 290,400; the slip is probably 55 x 96 x 48 = 253,440",
                ),
                *(
                    Claim(f"neurons of {layer}", printed, "Figure 2", neurons_of(layer))
                    for layer, printed in (
                        ("conv2", "186,624"),
                        ("conv3", "64,896"),
                        ("conv4", "64,896"),
                        ("conv5", "43,264"),
                        ("fc6", "4,096"),
                        ("fc7", "4,096"),
                        ("fc8", "1,000"),
                    )
                ),
                layers_deep(8, "section 3"),
                Claim("convolutional layers", "5", "section 3.5", lambda net: len(net.of_kind("Conv2d"))),
                Claim("fully connected layers", "3", "section 3.5", lambda net: len(net.of_kind("Linear"))),
                *top_errors("ILSVRC-2010 test", "37.5", "17.0", "Table 1"),
                *top_errors("ILSVRC-2012 validation, one net", "40.7", "18.2", "Table 2"),
                *top_errors("ILSVRC-2012 validation, five nets", "38.1", "16.4", "Table 2"),
                *top_errors("ILSVRC-2012 validation, seven nets", "36.7", "15.4", "Table 2"),
                Claim("top-5 error on ILSVRC-2012 test, seven nets", "15.3 %", "Table 2"),
                Claim("top-1 error less by response normalization", "1.4 %", "section 3.3"),
                Claim("top-5 error less by response normalization", "1.2 %", "section 3.3"),
                Claim("top-1 error less by overlapping pooling", "0.4 %", "section 3.4"),
                Claim("top-5 error less by overlapping pooling", "0.3 %", "section 3.4"),
                Claim("days of training on two GTX 580, at least", "5", "section 1"),
                Claim("days of training on two GTX 580, at most", "6", "section 1"),
            ),
        ),
        Variant(
            name="alexnet-cifar",
            summary="four layers for small images",
            paper=IMAGENET_2012,
            network=FourLayerNetwork,
            spec=FourLayerSpec(),
            objective=CrossEntropy(),
            claims=(layers_deep(4, "Figure 1"),),
        ),
        Variant(
            name="alexnet-cifar-tanh",
            summary="four layers for small images, tanh in place of ReLU",
            paper=IMAGENET_2012,
            network=FourLayerNetwork,
            spec=FourLayerSpec(rectified=False),
            objective=CrossEntropy(),
            claims=(layers_deep(4, "Figure 1"),),
        ),
        Variant(
            name="alexnet-cifar-lrn",
            summary="four layers for small images, response normalization",
            paper=IMAGENET_2012,
            network=FourLayerNetwork,
            spec=FourLayerSpec(lrn=True),
            objective=CrossEntropy(),
        ),
        Variant(
            name="alexnet-owt",
            summary="one tower",
            paper=ONE_WEIRD_TRICK_2014,
            network=AlexNet,
            spec=ONE_TOWER,
            objective=CrossEntropy(),
            recipe=RECIPE_2014,
        ),
        Variant(
            name="alexnet-owt-256",
            summary="one tower as other libraries ship it, with 256 channels in the fourth convolution",
            paper=ONE_WEIRD_TRICK_2014,
            network=AlexNet,
            spec=replace(ONE_TOWER, convolutions=(64, 192, 384, 256, 256)),
            objective=CrossEntropy(),
            recipe=RECIPE_2014,
        ),
        Variant(
            name="alexnet-caffe",
            summary="as Caffe released it: response normalization over both towers",
            paper=IMAGENET_2012,
            network=AlexNet,
            spec=replace(TWO_TOWERS, caffe_lrn=True),
            objective=CrossEntropy(),
            recipe=RECIPE_2012,
            released=True,
        ),
        Variant(
            name="alexnet-bn",
            summary="two towers, batch normalization in place of response normalization",
            paper=IMAGENET_2012,
            network=AlexNet,
            spec=replace(TWO_TOWERS, lrn=False, batch_norm=True),
            objective=CrossEntropy(),
            recipe=RECIPE_2012,
        ),
    ),
)
