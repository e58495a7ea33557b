"""LeNet (LeCun et al. 1989, 1990, 1998).

Convolutions with shared weights find local features wherever they are, and subsampling makes their exact place matter
less. Both are trained together with the classifier by back-propagation. Each feature map of a later layer reads only
some maps of the layer before, which saves connections and makes the maps differ.

Departures, where the papers leave something open:
- `lenet1989`: the paper does not print which 8 of the 12 maps of H1 a map of H2 reads. Here each third of H2 leaves out
  another third of H1.
- `lenet4`: neither connection table is printed. Here a map of C3 reads 4 of the 8 maps of S2, and the 120 units read
  4 or 5 of the 16 maps of S4 in turn, which gives both printed sums.
- `lenet5`: the constant j of the loss is not printed; 20 is ours. Figure 3 has 96 characters; beyond the ten digits
  classes get seeded random codes.
- `lenet1` and `lenet4` are trained as LeNet-5, whose learning rates alone are printed.
- `lenet5-modern` is what most people call LeNet-5 today and comes from no paper: ReLU, max pooling, softmax, and every
  map of C3 reads every map before it.
- `lenet-300` and `lenet-300-100`: their nonlinearity and loss are not printed; here they are those of the LeNets.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convatlas.networks.blocks import (
    CrossEntropy,
    PlaceCode,
    check_width,
    scale_channels,
    scale_depth,
    scale_stage,
)
from convatlas.networks.claims.lenet import CLAIMS
from convatlas.networks.codes import RBF, MaximumAPosteriori
from convatlas.networks.connections import (
    Channels,
    ConnectedConv2d,
    Table,
    initialize,
    num_channels,
    scale_connections,
)
from convatlas.recipe import Optimizer, Recipe, Steps
from convatlas.spec import Family, Paper, Spec, Variant

ZIP_CODES_1989 = Paper(
    authors="Y. LeCun, B. Boser, J. S. Denker, D. Henderson, R. E. Howard, W. Hubbard, L. D. Jackel",
    title="Backpropagation applied to handwritten zip code recognition",
    year=1989,
    venue="Neural Computation 1(4), 541-551",
    url="https://doi.org/10.1162/neco.1989.1.4.541",
)
DIGITS_1990 = Paper(
    authors="Y. LeCun, B. Boser, J. S. Denker, D. Henderson, R. E. Howard, W. Hubbard, L. D. Jackel",
    title="Handwritten digit recognition with a back-propagation network",
    year=1990,
    venue="NIPS 1989, 396-404",
    url="https://papers.nips.cc/paper/1989/hash/53c3bce66e43be4f209556518c2fcb54-Abstract.html",
)
DOCUMENTS_1998 = Paper(
    authors="Y. LeCun, L. Bottou, Y. Bengio, P. Haffner",
    title="Gradient-based learning applied to document recognition",
    year=1998,
    venue="Proceedings of the IEEE 86(11), 2278-2324",
    url="https://doi.org/10.1109/5.726791",
)


@dataclass(frozen=True, kw_only=True)
class LeNetSpec(Spec):
    """A LeNet in the symbols of 1998. The H1, H2 and H3 of 1989 are c1, c3 and c5; a layer of 0 is not there."""

    num_classes: int = 10
    in_channels: int = 1
    field: int
    """Side of the input in the paper, in pixels. Smaller images are padded to it."""
    c1: int
    s2: int
    c3: Channels
    same: int = 0
    """Number of convolutions after C3 with the same size and channels, which `depth` adds; the papers have none."""
    c5: Channels = 0
    f6: int = 0
    rbf: bool = False
    """Whether the output is the distance to a fixed code for each class."""

    @property
    def smallest_resolution(self) -> int:
        return min(self.field, 28)

    @property
    def feature_size(self) -> int:
        """Side of the feature maps of S4, after two 5x5 convolutions that are each followed by 2x2 subsampling."""
        return ((max(self.resolution, self.field) - 4) // 2 - 4) // 2

    def scaled(self, width: float = 1.0, depth: float = 1.0, resolution: int | None = None) -> Self:
        counts = (self.c1, self.s2, num_channels(self.c3), num_channels(self.c5), self.f6)
        check_width(width, filter(None, counts))
        s2 = scale_channels(self.s2, width)
        c3 = scale_connections(self.c3, width, self.s2, s2)
        return replace(
            self,
            c1=scale_channels(self.c1, width),
            s2=s2,
            c3=c3,
            same=scale_depth(1 + self.same, depth) - 1,
            c5=scale_connections(self.c5, width, num_channels(self.c3), num_channels(c3)),
            # The output's codes have 84 dots at any width.
            f6=self.f6 if self.rbf or not self.f6 else scale_channels(self.f6, width),
            resolution=self.resolution if resolution is None else resolution,
        )


# 1998, Table I: the maps of S2 that each of the 16 maps of C3 reads.
LENET5_C3: Table = (
    (0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5),
    (0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5),
    (0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5),
    (0, 1, 2, 3, 4, 5),
)  # fmt: skip
# 1990, Table 1: the maps of H2 that each of the 12 maps of H3 reads. Its counts of parameters and connections hold.
LENET1_C3: Table = ((0,), (0, 1), (0, 1), (1,), (0, 1), (0, 1), (2,), (2, 3), (2, 3), (3,), (2, 3), (2, 3))
# Not printed; see Departures.
LENET1989_H2: Table = tuple(tuple(m for m in range(12) if m // 4 != unread) for unread in (2, 0, 1) for _ in range(4))
LENET4_C3: Table = tuple(tuple(sorted((m + i) % 8 for i in range(4))) for m in range(16))
LENET4_F5: Table = tuple(tuple(sorted((m + 3 * i) % 16 for i in range(4 + m % 2))) for m in range(120))


def scaled_tanh(x: Tensor) -> Tensor:
    """A tanh(S x) with A = 1.7159 and S = 2/3 (1998, equation 6 and Appendix A): f(1) = 1, f(-1) = -1."""
    return 1.7159 * torch.tanh(x * (2 / 3))


class Subsampling(nn.Module):
    """The sum of 2x2 inputs, times a trainable coefficient, plus a bias, both one per channel (1998, section II.B).

    (batch, in_channels, h, w) to (batch, out_channels, h // 2, w // 2). With twice as many output channels each input
    channel is subsampled by two of them (LeNet-4).
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.coefficient = nn.Parameter(torch.empty(out_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(out_channels, 1, 1))
        initialize(self.coefficient, torch.tensor(4))

    def forward(self, x: Tensor) -> Tensor:
        # Four times their mean, the same bits as their sum: PyTorch's export to ONNX forgets the divisor of a sum.
        means = F.avg_pool2d(x, 2)
        if self.out_channels != self.in_channels:
            read = [m * self.in_channels // self.out_channels for m in range(self.out_channels)]
            means = means[:, read]
        return 4 * self.coefficient * means + self.bias


def fully_connected(in_features: int, out_features: int) -> nn.Linear:
    """A fully connected layer in the papers' initialization."""
    layer = nn.Linear(in_features, out_features)
    initialize(layer.weight, torch.tensor(in_features))
    nn.init.zeros_(layer.bias)
    return layer


def centered(x: Tensor, field: int, background: float) -> Tensor:
    """Images with a border of `background` around them, so that each side has at least `field` pixels."""
    missing = max(field - x.shape[-1], 0)
    if not missing:
        return x
    before, after = missing // 2, missing - missing // 2
    return F.pad(x, (before, after, before, after), value=background)


class LeNet1989(nn.Module):
    """The zip code network: strided convolutions with a bias for every unit, no subsampling (1989, Figure 3)."""

    background = -1.0

    def __init__(self, spec: LeNetSpec) -> None:
        super().__init__()
        self.spec = spec
        h2, h3 = num_channels(spec.c3), num_channels(spec.c5)
        size1 = math.ceil(spec.resolution / 2)
        size2 = math.ceil(size1 / 2)
        self.h1 = ConnectedConv2d(spec.in_channels, spec.c1, 5, stride=2, bias_size=(size1, size1))
        self.h2 = ConnectedConv2d(spec.c1, spec.c3, 5, stride=2, bias_size=(size2, size2))
        self.same = nn.ModuleList(ConnectedConv2d(h2, h2, 5) for _ in range(spec.same))
        self.h3 = fully_connected(h2 * size2 * size2, h3)
        self.output = fully_connected(h3, spec.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        # Connections beyond the edge read a virtual background (1989, section 3.3).
        for convolution in (self.h1, self.h2, *self.same):
            x = scaled_tanh(convolution(F.pad(x, (2, 2, 2, 2), value=self.background)))
        x = scaled_tanh(self.h3(x.flatten(1)))
        return scaled_tanh(self.output(x))


class LeNet(nn.Module):
    """LeNet-1, LeNet-4 and LeNet-5: convolutions and subsampling in turn (1998, Figure 2)."""

    background = -0.1

    def __init__(self, spec: LeNetSpec) -> None:
        super().__init__()
        self.spec = spec
        c3 = num_channels(spec.c3)
        self.c1 = ConnectedConv2d(spec.in_channels, spec.c1, 5)
        self.s2 = Subsampling(spec.c1, spec.s2)
        self.c3 = ConnectedConv2d(spec.s2, spec.c3, 5)
        self.same = nn.ModuleList(ConnectedConv2d(c3, c3, 5) for _ in range(spec.same))
        self.s4 = Subsampling(c3, c3)
        self.c5 = ConnectedConv2d(c3, spec.c5, spec.feature_size) if spec.c5 else None
        features = num_channels(spec.c5) or c3 * spec.feature_size**2
        self.f6 = fully_connected(features, spec.f6) if spec.f6 else None
        self.output = RBF(spec.num_classes) if spec.rbf else fully_connected(spec.f6 or features, spec.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = centered(x, self.spec.field, self.background)
        x = scaled_tanh(self.c1(x))
        x = scaled_tanh(self.s2(x))
        x = scaled_tanh(self.c3(x))
        for convolution in self.same:
            x = scaled_tanh(convolution(F.pad(x, (2, 2, 2, 2))))
        x = scaled_tanh(self.s4(x))
        if self.c5 is not None:
            x = scaled_tanh(self.c5(x))
        x = x.flatten(1)
        if self.f6 is not None:
            x = scaled_tanh(self.f6(x))
        outputs: Tensor = self.output(x)
        return outputs if self.spec.rbf else scaled_tanh(outputs)


class ModernLeNet(nn.Module):
    """LeNet-5's sizes with today's layers, in PyTorch's own initialization."""

    def __init__(self, spec: LeNetSpec) -> None:
        super().__init__()
        self.spec = spec
        c3, c5 = num_channels(spec.c3), num_channels(spec.c5)
        self.c1 = nn.Conv2d(spec.in_channels, spec.c1, 5)
        self.c3 = nn.Conv2d(spec.c1, c3, 5)
        self.same = nn.ModuleList(nn.Conv2d(c3, c3, 5, padding=2) for _ in range(spec.same))
        self.c5 = nn.Linear(c3 * spec.feature_size**2, c5)
        self.f6 = nn.Linear(c5, spec.f6)
        self.output = nn.Linear(spec.f6, spec.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = centered(x, self.spec.field, 0.0)
        # ReLU after pooling gives the same as before it, from a quarter of the numbers.
        x = F.relu(F.max_pool2d(self.c1(x), 2))
        x = self.c3(x)
        for convolution in self.same:
            x = convolution(F.relu(x))
        x = F.relu(F.max_pool2d(x, 2))
        x = F.relu(self.c5(x.flatten(1)))
        x = F.relu(self.f6(x))
        outputs: Tensor = self.output(x)
        return outputs


@dataclass(frozen=True, kw_only=True)
class FullyConnectedSpec(Spec):
    """A fully connected network that the LeNets are compared with (1998, section III.C)."""

    num_classes: int = 10
    in_channels: int = 1
    resolution: int = 28
    hidden: tuple[int, ...]
    """Units of each hidden layer; `depth` adds copies of the last."""

    @property
    def smallest_resolution(self) -> int:
        return 2

    def scaled(self, width: float = 1.0, depth: float = 1.0, resolution: int | None = None) -> Self:
        check_width(width, self.hidden)
        return replace(
            self,
            hidden=tuple(scale_channels(units, width) for units in scale_stage(self.hidden, depth)),
            resolution=self.resolution if resolution is None else resolution,
        )


class FullyConnected(nn.Module):
    """Hidden layers and an output layer, each followed by tanh."""

    def __init__(self, spec: FullyConnectedSpec) -> None:
        super().__init__()
        self.spec = spec
        sizes = (spec.in_channels * spec.resolution**2, *spec.hidden)
        self.hidden = nn.ModuleList(
            fully_connected(read, units) for read, units in zip(sizes, spec.hidden, strict=False)
        )
        self.output = fully_connected(sizes[-1], spec.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        for layer in self.hidden:
            x = scaled_tanh(layer(x))
        return scaled_tanh(self.output(x))


RECIPE_1998 = Recipe(
    name="paper",
    optimizer=Optimizer.LEVENBERG_MARQUARDT,
    lr=0.0005,
    schedule=Steps(((2, 0.0005), (3, 0.0002), (3, 0.0001), (4, 0.00005), (8, 0.00001))),
    batch_size=1,
    epochs=20,
    sources=(
        ("optimizer", "1998, Appendix C"),
        ("lr, schedule, epochs", "1998, section III.B"),
        ("batch_size", "1998, section III.B: stochastic gradient"),
    ),
)

# fmt: off
FAMILY = Family(
    name="LeNet",
    paper=DOCUMENTS_1998,
    variants=(
        Variant(
            name="lenet1989",
            summary="the zip code network: strided convolutions, a bias for every unit",
            paper=ZIP_CODES_1989,
            network=LeNet1989,
            spec=LeNetSpec(resolution=16, field=16, c1=12, s2=12, c3=LENET1989_H2, c5=30),
            objective=PlaceCode(),
            input_range=(-1.0, 1.0),
            claims=CLAIMS["lenet1989"],
        ),
        Variant(
            name="lenet1",
            summary="four maps, twelve maps, ten outputs",
            paper=DIGITS_1990,
            network=LeNet,
            spec=LeNetSpec(resolution=28, field=28, c1=4, s2=4, c3=LENET1_C3),
            objective=PlaceCode(),
            input_range=(-0.1, 1.175),
            recipe=RECIPE_1998,
            claims=CLAIMS["lenet1"],
        ),
        Variant(
            name="lenet4",
            summary="each map subsampled by two, and a layer of 120 units",
            paper=DOCUMENTS_1998,
            network=LeNet,
            spec=LeNetSpec(resolution=32, field=32, c1=4, s2=8, c3=LENET4_C3, c5=LENET4_F5),
            objective=PlaceCode(),
            input_range=(-0.1, 1.175),
            recipe=RECIPE_1998,
            claims=CLAIMS["lenet4"],
        ),
        Variant(
            name="lenet5",
            summary="trainable subsampling, a connection table, distances to fixed codes as outputs",
            paper=DOCUMENTS_1998,
            network=LeNet,
            spec=LeNetSpec(resolution=32, field=32, c1=6, s2=6, c3=LENET5_C3, c5=120, f6=84, rbf=True),
            objective=MaximumAPosteriori(j=20.0),
            input_range=(-0.1, 1.175),
            recipe=RECIPE_1998,
            claims=CLAIMS["lenet5"],
        ),
        Variant(
            name="lenet5-modern",
            summary="ReLU, max pooling, softmax: what most people call LeNet-5 today",
            paper=DOCUMENTS_1998,
            network=ModernLeNet,
            spec=LeNetSpec(resolution=32, field=32, c1=6, s2=6, c3=16, c5=120, f6=84),
            objective=CrossEntropy(),
        ),
        Variant(
            name="lenet-300",
            summary="for comparison: fully connected, one hidden layer",
            paper=DOCUMENTS_1998,
            network=FullyConnected,
            spec=FullyConnectedSpec(hidden=(300,)),
            objective=PlaceCode(),
            input_range=(-0.1, 1.175),
            claims=CLAIMS["lenet-300"],
        ),
        Variant(
            name="lenet-300-100",
            summary="for comparison: fully connected, two hidden layers",
            paper=DOCUMENTS_1998,
            network=FullyConnected,
            spec=FullyConnectedSpec(hidden=(300, 100)),
            objective=PlaceCode(),
            input_range=(-0.1, 1.175),
            claims=CLAIMS["lenet-300-100"],
        ),
    ),
)
