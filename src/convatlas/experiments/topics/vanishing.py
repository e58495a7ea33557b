"""Gradients vanish or explode: N layers, N derivatives multiplied."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convatlas import data, measure
from convatlas.draw import Lines, Series
from convatlas.experiments.engine.budget import Setting
from convatlas.experiments.engine.statement import Statement, Topic
from convatlas.experiments.engine.verdict import Measurement, Threshold, at_least, at_most

UNITS = 64
"""Of each layer: as many as a digit of 8x8 pixels has, so that the images enter without a layer more."""
IMAGES = 256
DEPTH = 50
DEPTHS = (5, 10, 20, 35, 50, 70, 100)

Activation = Callable[[Tensor], Tensor]
# Standard deviations of the weights of a layer with UNITS inputs and outputs.
SMALL = 0.01
"""Krizhevsky et al. 2012, section 5."""
XAVIER = math.sqrt(1 / UNITS)
"""Glorot and Bengio 2010, equation 12."""
HE = math.sqrt(2 / UNITS)
"""He et al. 2015 (Delving deep into rectifiers), equation 10."""
LARGE = 2 * HE
SCALES = {"small": SMALL, "Xavier": XAVIER, "He": HE, "large": LARGE}
ACTIVATIONS: dict[str, Activation] = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "ReLU": F.relu}


@dataclass(frozen=True, kw_only=True)
class Kind:
    """How the layers of a chain are made."""

    activation: Activation
    deviation: float
    """Of the weights."""
    norm: bool = False
    shortcuts: bool = False


class Chain(nn.Module):
    """Layers of equal width, one after the other."""

    def __init__(self, depth: int, kind: Kind) -> None:
        super().__init__()
        self.kind = kind
        self.layers = nn.ModuleList(nn.Linear(UNITS, UNITS) for _ in range(depth))
        self.norms = nn.ModuleList(nn.BatchNorm1d(UNITS) if kind.norm else nn.Identity() for _ in range(depth))
        self.head = nn.Linear(UNITS, 10)
        for layer in self.layers:
            nn.init.normal_(layer.get_parameter("weight"), std=kind.deviation)
            nn.init.zeros_(layer.get_parameter("bias"))

    def step(self, number: int, x: Tensor) -> Tensor:
        """What one layer makes of the output of the one before."""
        y = self.kind.activation(self.norms[number](self.layers[number](x)))
        return x + y if self.kind.shortcuts else y

    def body(self, x: Tensor) -> Tensor:
        for number in range(len(self.layers)):
            x = self.step(number, x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.body(x))
        return outputs


def digits() -> tuple[Tensor, Tensor]:
    """Images (n, 64), each value with mean 0 and the whole with deviation 1, and their labels."""
    split = data.find("digits").load(8, seed=0).train
    images = torch.from_numpy(split.images[:IMAGES]).double().flatten(1)
    images = images - images.mean(0)
    return images / images.std(), torch.from_numpy(split.labels[:IMAGES])


def chain(depth: int, kind: Kind, seed: int) -> Chain:
    """In double precision: a hundred small factors are no number in single precision."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Chain(depth, kind).double()


def norms(depth: int, kind: Kind, seed: int) -> list[float]:
    """Of the loss's gradient at each layer from the first to the last, without the head."""
    images, labels = digits()
    found = measure.gradient_norms(chain(depth, kind, seed), lambda out: F.cross_entropy(out, labels), images)
    return [norm for _, norm in found[:-1]]


def factor(kind: Kind, seed: int, depth: int = DEPTH) -> float:
    """By how much the gradient is multiplied on its way down through one layer: a straight line through logarithms."""
    slope = np.polyfit(np.arange(depth), np.log(norms(depth, kind, seed)), 1)[0]
    return math.exp(-slope)


def jacobians(depth: int, kind: Kind, seed: int) -> tuple[list[Tensor], Tensor]:
    """Of each layer of a chain at one image, and from its end to its beginning as autograd gives it."""
    network = chain(depth, kind, seed).eval()
    x = digits()[0][0]
    whole = measure.jacobian(network.body, x)
    found = []
    for number in range(depth):
        layer = partial(network.step, number)
        found.append(measure.jacobian(layer, x))
        x = layer(x).detach()
    return found, whole


def by_layer(name: str, title: str, kinds: dict[str, Kind]) -> Lines:
    """The gradient's length at each layer, a line for each kind."""
    lines = (Series.of(label, range(1, DEPTH + 1), [norms(DEPTH, kind, 0)]) for label, kind in kinds.items())
    return Lines(
        name=name,
        title=title,
        x="layer, from the input",
        y="length of the gradient",
        log_y=True,
        series=tuple(lines),
    )


def by_depth(name: str, title: str, kinds: dict[str, Kind]) -> Lines:
    """What of the gradient at the last layer reaches the first, against depth."""

    def left(depth: int, kind: Kind) -> float:
        found = norms(depth, kind, 0)
        return found[0] / found[-1]

    lines = (Series.of(label, DEPTHS, [[left(depth, kind) for depth in DEPTHS]]) for label, kind in kinds.items())
    return Lines(
        name=name,
        title=title,
        x="layers",
        y="gradient at the first layer / at the last",
        log_y=True,
        series=tuple(lines),
    )


def compared(
    setting: Setting, statistic: Callable[[dict[str, float]], float], kinds: dict[str, Kind], *charts: Lines
) -> Measurement:
    """The statistic of the kinds' factors, for each seed, with the mean factors beside it."""
    found = [{label: factor(kind, seed) for label, kind in kinds.items()} for seed in setting.seeds]
    return Measurement(
        values=tuple(map(statistic, found)),
        figures=tuple((f"factor a layer, {label}", f"{np.mean([one[label] for one in found]):.3g}") for label in kinds),
        charts=charts,
    )


def of_scales(activation: Activation, *, norm: bool = False) -> dict[str, Kind]:
    return {
        f"{name} weights": Kind(activation=activation, deviation=scale, norm=norm) for name, scale in SCALES.items()
    }


def sigmoid(setting: Setting) -> Measurement:
    kinds = of_scales(torch.sigmoid)
    return compared(
        setting,
        lambda found: found["Xavier weights"],
        kinds,
        by_layer("sigmoid-by-layer", f"Sigmoid: the gradient by layer, {DEPTH} layers", kinds),
        by_depth("sigmoid-by-depth", "Sigmoid: what of the gradient reaches the first layer", kinds),
    )


def small(setting: Setting) -> Measurement:
    kinds = {name: Kind(activation=made, deviation=SMALL) for name, made in ACTIVATIONS.items()}
    return compared(setting, lambda found: max(found.values()), kinds)


def large(setting: Setting) -> Measurement:
    kinds = {name: Kind(activation=made, deviation=LARGE) for name, made in ACTIVATIONS.items()}
    chart = by_depth("large-by-depth", "Large weights: what of the gradient reaches the first layer", kinds)
    return compared(setting, lambda found: found["ReLU"], kinds, chart)


def he(setting: Setting) -> Measurement:
    kinds = of_scales(F.relu)
    return compared(
        setting,
        lambda found: found["He weights"],
        kinds,
        by_layer("relu-by-layer", f"ReLU: the gradient by layer, {DEPTH} layers", kinds),
        by_depth("relu-by-depth", "ReLU: what of the gradient reaches the first layer", kinds),
    )


def xavier_relu(setting: Setting) -> Measurement:
    return compared(setting, lambda found: found["ReLU"], {"ReLU": Kind(activation=F.relu, deviation=XAVIER)})


def xavier_tanh(setting: Setting) -> Measurement:
    kinds = of_scales(torch.tanh)
    return compared(
        setting,
        lambda found: found["Xavier weights"],
        kinds,
        by_layer("tanh-by-layer", f"tanh: the gradient by layer, {DEPTH} layers", kinds),
        by_depth("tanh-by-depth", "tanh: what of the gradient reaches the first layer", kinds),
    )


def normalized(setting: Setting) -> Measurement:
    kinds = of_scales(F.relu, norm=True)
    chart = by_layer("norm-by-layer", f"ReLU with batch normalization: the gradient by layer, {DEPTH} layers", kinds)
    return compared(setting, lambda found: max(found.values()) / min(found.values()), kinds, chart)


def shortcuts(setting: Setting) -> Measurement:
    kinds = {
        f"{name}, {words}": Kind(activation=made, deviation=SMALL, shortcuts=on)
        for name, made in ACTIVATIONS.items()
        for words, on in (("plain", False), ("with shortcuts", True))
    }
    chart = by_depth("shortcuts-by-depth", "Small weights: what of the gradient reaches the first layer", kinds)
    return compared(
        setting, lambda found: min(one for label, one in found.items() if "shortcuts" in label), kinds, chart
    )


def chain_rule(setting: Setting) -> Measurement:
    def difference(kind: Kind, depth: int, seed: int) -> float:
        found, whole = jacobians(depth, kind, seed)
        return float((measure.jacobian_product(found) - whole).norm() / whole.norm())

    kinds = [
        Kind(activation=made, deviation=scale, shortcuts=on)
        for made in ACTIVATIONS.values()
        for scale in (XAVIER, HE)
        for on in (False, True)
    ]
    worst = max(difference(kind, depth, seed) for kind in kinds for depth in (5, 20, 50) for seed in setting.seeds)
    return Measurement(values=(worst,))


def singular_values(setting: Setting) -> Measurement:
    """A gradient that points anywhere is stretched by the root mean square of a layer's singular values."""
    kinds = {name: Kind(activation=made, deviation=XAVIER) for name, made in ACTIVATIONS.items()}
    ratios = []
    for seed in setting.seeds:
        of_kinds = []
        for kind in kinds.values():
            found, _ = jacobians(DEPTH, kind, seed)
            stretch = np.mean([math.log(float(layer.norm()) / math.sqrt(UNITS)) for layer in found])
            of_kinds.append(factor(kind, seed) / math.exp(stretch))
        # The one that is farthest off.
        ratios.append(max(of_kinds, key=lambda ratio: abs(math.log(ratio))))

    first = {name: jacobians(DEPTH, kind, setting.seeds[0])[0] for name, kind in kinds.items()}

    def largest(layers: list[Tensor]) -> list[float]:
        return [
            float(torch.linalg.svdvals(measure.jacobian_product(layers[: number + 1]))[0]) for number in range(DEPTH)
        ]

    of_one = Lines(
        name="layer-spectrum",
        title="The singular values of the first layer's Jacobian, Xavier weights",
        x="singular value, from the largest",
        y="its size",
        series=tuple(
            Series.of(name, range(1, UNITS + 1), [torch.linalg.svdvals(layers[0]).tolist()])
            for name, layers in first.items()
        ),
    )
    of_products = Lines(
        name="singular-values",
        title="The largest singular value of the first layers' product, Xavier weights",
        x="layers multiplied",
        y="largest singular value",
        log_y=True,
        series=tuple(Series.of(name, range(1, DEPTH + 1), [largest(layers)]) for name, layers in first.items()),
    )
    return Measurement(values=tuple(ratios), charts=(of_one, of_products))


TOPIC = Topic(
    id="vanishing",
    title="Gradients vanish or explode: N layers, N derivatives multiplied",
    summary="Through N layers the gradient is a product of N Jacobians; unless each keeps lengths about, it vanishes or "
    "explodes with depth, whatever the depth at which that is felt.",
    source="Hochreiter 1991; Bengio, Simard and Frasconi 1994; Glorot and Bengio 2010, section 4.2; He et al. 2015 "
    "(Delving deep into rectifiers), section 2.2; He et al. 2015 (ResNet), section 1",
    method=f"Chains of 5 to 100 fully connected layers of {UNITS} units, before training, on {IMAGES} digits, in "
    "double precision: the length of the loss's gradient at each layer, and the Jacobian of each layer at one image. "
    "The factor a layer is the slope of a straight line through the logarithms over 50 layers. Both budgets measure "
    "the same.",
    limitations="Networks before their first step, fully connected, at one width; how they train is another claim.",
    minutes=(0.5, 0.5),
    statements=(
        Statement(
            id="sigmoid",
            text="Sigmoids let the gradient vanish: their derivative is a quarter at most.",
            statistic="factor a layer, sigmoid, Xavier weights",
            threshold=at_most(0.5),
            measure=sigmoid,
        ),
        Statement(
            id="small",
            text="Small weights let it vanish whatever the activation.",
            statistic="the largest factor a layer of sigmoid, tanh and ReLU, weights of deviation 0.01",
            threshold=at_most(0.2),
            measure=small,
        ),
        Statement(
            id="large",
            text="Large weights let it explode where nothing saturates.",
            statistic="factor a layer, ReLU, weights twice as large as He's",
            threshold=at_least(1.5),
            measure=large,
        ),
        Statement(
            id="he",
            text="He's weights keep it through rectifiers.",
            statistic="factor a layer, ReLU, He weights",
            threshold=Threshold(0.9, 1.1),
            measure=he,
        ),
        Statement(
            id="xavier-relu",
            text="Through rectifiers Xavier's weights lose half of its square a layer.",
            statistic="factor a layer, ReLU, Xavier weights; a half of the square is 0.707",
            threshold=Threshold(0.65, 0.77),
            measure=xavier_relu,
        ),
        Statement(
            id="xavier-tanh",
            text="Xavier's weights keep it through tanh.",
            statistic="factor a layer, tanh, Xavier weights",
            threshold=Threshold(0.9, 1.1),
            measure=xavier_tanh,
        ),
        Statement(
            id="norm",
            text="With batch normalization it does not depend on how large the weights began.",
            statistic="largest over smallest factor a layer of small, Xavier, He and large weights, ReLU",
            threshold=at_most(1.02),
            measure=normalized,
        ),
        Statement(
            id="shortcuts",
            text="With shortcuts it does not vanish even where small weights would make it.",
            statistic="the smallest factor a layer of sigmoid, tanh and ReLU, deviation 0.01, with shortcuts",
            threshold=at_least(0.95),
            measure=shortcuts,
        ),
        Statement(
            id="chain-rule",
            text="The gradient from end to end is the product of the layers' Jacobians.",
            statistic="largest relative difference of product and whole, over activations, weights, depths and seeds",
            threshold=at_most(1e-9),
            measure=chain_rule,
        ),
        Statement(
            id="singular-values",
            text="How fast it vanishes follows from the singular values of the layers.",
            statistic="factor a layer over the root mean square of a layer's singular values, the worst of three "
            "activations, Xavier weights",
            threshold=Threshold(0.9, 1.1),
            measure=singular_values,
        ),
    ),
)
