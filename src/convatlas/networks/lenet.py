"""LeNet (LeCun et al. 1989, 1990, 1998).

Convolutions with shared weights find local features wherever they stand, subsampling makes their exact place
matter less, and both are trained together with the classifier by back-propagation. Each map of a later layer
reads only some maps of the one before, which saves connections and forces the maps to differ.

Departures, where the papers leave something open:
- `lenet1989`: which 8 of the 12 maps of H1 a map of H2 reads is not printed; here thirds of H2 leave out
  one third of H1 each.
- `lenet4`: neither connection table is printed. Here a map of C3 reads 4 of the 8 maps of S2, and the 120
  units read 4 and 5 of the 16 maps of S4 in turn, which meets both printed sums.
- `lenet5`: the code bitmaps follow the reading of Figure 3 that public implementations share; it was not checked
  against the print, and single dots may differ. The constant j of the loss is not printed; 20 is ours.
- `lenet5-modern` is what most people call LeNet-5 today and is no paper's: ReLU, max pooling, every map of
  C3 reads every map, softmax.
- `lenet-300` and `lenet-300-100`: the nonlinearity and the loss of these networks are not printed; here they are
  those of the LeNets.
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
    scale_stage,
    scale_units,
)
from convatlas.networks.codes import RBF, MaximumAPosteriori
from convatlas.networks.connections import ConnectedConv2d, Maps, Table, initialize, num_maps, scale_maps
from convatlas.recipe import Optimizer, Recipe, Steps
from convatlas.spec import Claim, Family, Layer, Layers, Paper, Spec, Variant

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
    """A LeNet in the symbols of 1998; the H1, H2 and H3 of 1989 are c1, c3 and c5."""

    num_classes: int = 10
    in_channels: int = 1
    field: int
    """Side of the input that the paper draws; a smaller image is framed to it."""
    c1: int
    s2: int
    c3: Maps
    same: int = 0
    """Convolutions after C3 that keep its size: none in the papers, what `depth` adds."""
    c5: Maps = 0
    f6: int = 0
    rbf: bool = False

    @property
    def smallest_resolution(self) -> int:
        return min(self.field, 28)

    @property
    def side(self) -> int:
        """Of the maps of S4: two convolutions of 5x5, each followed by a halving."""
        return ((max(self.resolution, self.field) - 4) // 2 - 4) // 2

    def scaled(self, width: float = 1.0, depth: float = 1.0, resolution: int | None = None) -> Self:
        counts = (self.c1, self.s2, num_maps(self.c3), num_maps(self.c5), self.f6)
        check_width(width, filter(None, counts))
        c1 = scale_channels(self.c1, width)
        s2 = scale_channels(self.s2, width)
        c3 = scale_maps(self.c3, width, self.s2, s2)
        return replace(
            self,
            c1=c1,
            s2=s2,
            c3=c3,
            same=scale_units(1 + self.same, depth) - 1,
            c5=scale_maps(self.c5, width, num_maps(self.c3), num_maps(c3)),
            # The codes of the output are 84 dots, whatever the width.
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
    """The sum of 2x2 inputs, times a trainable coefficient, plus a bias, for each of `maps` maps (1998, II.B).

    Twice as many maps as below means that each map below is subsampled by a pair (LeNet-4).
    """

    def __init__(self, below: int, maps: int) -> None:
        super().__init__()
        self.below, self.maps = below, maps
        self.coefficient = nn.Parameter(torch.empty(maps, 1, 1))
        self.bias = nn.Parameter(torch.zeros(maps, 1, 1))
        initialize(self.coefficient, torch.tensor(4))

    def forward(self, x: Tensor) -> Tensor:
        summed = F.avg_pool2d(x, 2, divisor_override=1)
        if self.maps != self.below:
            summed = summed[:, [m * self.below // self.maps for m in range(self.maps)]]
        return self.coefficient * summed + self.bias


def linear(in_features: int, out_features: int) -> nn.Linear:
    layer = nn.Linear(in_features, out_features)
    initialize(layer.weight, torch.tensor(in_features))
    nn.init.zeros_(layer.bias)
    return layer


def framed(x: Tensor, field: int, background: float) -> Tensor:
    """Images in the middle of a field of at least `field` pixels a side."""
    missing = max(field - x.shape[-1], 0)
    if not missing:
        return x
    near, far = missing // 2, missing - missing // 2
    return F.pad(x, (near, far, near, far), value=background)


class LeNet1989(nn.Module):
    """The zip code network: strided convolutions with a bias for every unit, no subsampling (1989, Figure 3)."""

    background = -1.0

    def __init__(self, spec: LeNetSpec) -> None:
        super().__init__()
        self.spec = spec
        h2, h3 = num_maps(spec.c3), num_maps(spec.c5)
        side1 = math.ceil(spec.resolution / 2)
        side2 = math.ceil(side1 / 2)
        self.h1 = ConnectedConv2d(spec.in_channels, spec.c1, 5, stride=2, units=(side1, side1))
        self.h2 = ConnectedConv2d(spec.c1, spec.c3, 5, stride=2, units=(side2, side2))
        self.same = nn.ModuleList(ConnectedConv2d(h2, h2, 5) for _ in range(spec.same))
        self.h3 = linear(h2 * side2 * side2, h3)
        self.output = linear(h3, spec.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        # Connections that leave the plane read a virtual background (1989, section 3.3).
        around = (2, 2, 2, 2)
        x = scaled_tanh(self.h1(F.pad(x, around, value=self.background)))
        x = scaled_tanh(self.h2(F.pad(x, around, value=self.background)))
        for convolution in self.same:
            x = scaled_tanh(convolution(F.pad(x, around, value=self.background)))
        x = scaled_tanh(self.h3(x.flatten(1)))
        return scaled_tanh(self.output(x))


class LeNet(nn.Module):
    """LeNet-1, LeNet-4 and LeNet-5: convolution and subsampling in turn (1998, Figure 2)."""

    background = -0.1

    def __init__(self, spec: LeNetSpec) -> None:
        super().__init__()
        self.spec = spec
        c3 = num_maps(spec.c3)
        self.c1 = ConnectedConv2d(spec.in_channels, spec.c1, 5)
        self.s2 = Subsampling(spec.c1, spec.s2)
        self.c3 = ConnectedConv2d(spec.s2, spec.c3, 5)
        self.same = nn.ModuleList(ConnectedConv2d(c3, c3, 5) for _ in range(spec.same))
        self.s4 = Subsampling(c3, c3)
        self.c5 = ConnectedConv2d(c3, spec.c5, spec.side) if spec.c5 else None
        features = num_maps(spec.c5) or c3 * spec.side**2
        self.f6 = linear(features, spec.f6) if spec.f6 else None
        self.output = RBF(spec.num_classes) if spec.rbf else linear(spec.f6 or features, spec.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = framed(x, self.spec.field, self.background)
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
    """LeNet-5's sizes with today's parts, in PyTorch's own initialization."""

    def __init__(self, spec: LeNetSpec) -> None:
        super().__init__()
        self.spec = spec
        c3, c5 = num_maps(spec.c3), num_maps(spec.c5)
        self.c1 = nn.Conv2d(spec.in_channels, spec.c1, 5)
        self.c3 = nn.Conv2d(spec.c1, c3, 5)
        self.same = nn.ModuleList(nn.Conv2d(c3, c3, 5, padding=2) for _ in range(spec.same))
        self.c5 = nn.Linear(c3 * spec.side**2, c5)
        self.f6 = nn.Linear(c5, spec.f6)
        self.output = nn.Linear(spec.f6, spec.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = framed(x, self.spec.field, 0.0)
        # The maximum of the rectified is the rectified maximum, on a quarter of the numbers.
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
    """A network that the LeNets are compared with in 1998, section III.C."""

    num_classes: int = 10
    in_channels: int = 1
    resolution: int = 28
    hidden: tuple[int, ...]
    """Units of the hidden layers; `depth` adds copies of the last."""

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
    """Every unit reads all that is below."""

    def __init__(self, spec: FullyConnectedSpec) -> None:
        super().__init__()
        self.spec = spec
        sizes = (spec.in_channels * spec.resolution**2, *spec.hidden)
        self.hidden = nn.ModuleList(linear(below, units) for below, units in zip(sizes, spec.hidden, strict=False))
        self.output = linear(sizes[-1], spec.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        for layer in self.hidden:
            x = scaled_tanh(layer(x))
        return scaled_tanh(self.output(x))


def connections(net: Layers) -> int:
    """The papers' count: every use of a weight or a bias."""

    def of(layer: Layer) -> int:
        units = math.prod(layer.output_shape)
        if layer.kind == Subsampling.__name__:
            return (4 + 1) * units
        return layer.macs + (units if layer.params else 0)

    return sum(of(layer) for layer in net)


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
            pixels=(-1.0, 1.0),
            claims=(
                Claim("parameters", "9,760", "section 3.3", lambda net: net.params),
                Claim("connections", "64,660", "section 3.3", connections),
                Claim("test error on US zip codes", "5.0 %", "section 5"),
            ),
        ),
        Variant(
            name="lenet1",
            summary="four maps, twelve maps, ten outputs",
            paper=DIGITS_1990,
            network=LeNet,
            spec=LeNetSpec(resolution=28, field=28, c1=4, s2=4, c3=LENET1_C3),
            objective=PlaceCode(),
            pixels=(-0.1, 1.175),
            recipe=RECIPE_1998,
            claims=(
                Claim("parameters", "2,578", "section 3.3", lambda net: net.params),
                Claim("connections", "98,442", "section 3.3", connections),
                Claim("parameters, about", "2,600", "1998, section III.C", lambda net: net.params, about=100),
                Claim("test error on MNIST", "1.7 %", "1998, section III.C"),
            ),
        ),
        Variant(
            name="lenet4",
            summary="pairs of subsampling maps and a layer of 120",
            paper=DOCUMENTS_1998,
            network=LeNet,
            spec=LeNetSpec(resolution=32, field=32, c1=4, s2=8, c3=LENET4_C3, c5=LENET4_F5),
            objective=PlaceCode(),
            pixels=(-0.1, 1.175),
            recipe=RECIPE_1998,
            claims=(
                Claim("parameters, about", "17,000", "section III.C", lambda net: net.params, about=1000),
                Claim("connections, about", "260,000", "section III.C", connections, about=10000),
                Claim("test error on MNIST", "1.1 %", "section III.C"),
                Claim("test error on MNIST, three boosted nets", "0.7 %", "section III.C"),
            ),
        ),
        Variant(
            name="lenet5",
            summary="trainable subsampling, connection table, distance to fixed codes",
            paper=DOCUMENTS_1998,
            network=LeNet,
            spec=LeNetSpec(resolution=32, field=32, c1=6, s2=6, c3=LENET5_C3, c5=120, f6=84, rbf=True),
            objective=MaximumAPosteriori(j=20.0),
            pixels=(-0.1, 1.175),
            recipe=RECIPE_1998,
            claims=(
                Claim("parameters", "60,000", "section II.B", lambda net: net.params),
                Claim("connections", "340,908", "section II.B", connections),
                Claim("parameters of C1", "156", "section II.B", lambda net: net["c1"].params),
                Claim("parameters of S2", "12", "section II.B", lambda net: net["s2"].params),
                Claim("parameters of C3", "1,516", "section II.B", lambda net: net["c3"].params),
                Claim("parameters of S4", "32", "section II.B", lambda net: net["s4"].params),
                Claim("parameters of C5", "48,120", "section II.B", lambda net: net["c5"].params),
                Claim("parameters of F6", "10,164", "section II.B", lambda net: net["f6"].params),
                Claim("fixed weights of the output", "840", "section II.B", lambda net: net["output"].macs),
                Claim("test error on MNIST", "0.95 %", "section III.B"),
                Claim("test error on MNIST, with distortions", "0.8 %", "section III.B"),
            ),
        ),
        Variant(
            name="lenet5-modern",
            summary="ReLU, max pooling, softmax: what most people mean today",
            paper=DOCUMENTS_1998,
            network=ModernLeNet,
            spec=LeNetSpec(resolution=32, field=32, c1=6, s2=6, c3=16, c5=120, f6=84),
            objective=CrossEntropy(),
        ),
        Variant(
            name="lenet-300",
            summary="no LeNet: fully connected, one hidden layer, for comparison",
            paper=DOCUMENTS_1998,
            network=FullyConnected,
            spec=FullyConnectedSpec(hidden=(300,)),
            objective=PlaceCode(),
            pixels=(-0.1, 1.175),
            claims=(Claim("test error on MNIST", "4.7 %", "section III.C"),),
        ),
        Variant(
            name="lenet-300-100",
            summary="no LeNet: fully connected, two hidden layers, for comparison",
            paper=DOCUMENTS_1998,
            network=FullyConnected,
            spec=FullyConnectedSpec(hidden=(300, 100)),
            objective=PlaceCode(),
            pixels=(-0.1, 1.175),
            claims=(Claim("test error on MNIST", "3.05 %", "section III.C"),),
        ),
    ),
)
