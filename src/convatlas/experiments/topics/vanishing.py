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
from convatlas.experiments.engine.estimate import counted, repeated
from convatlas.experiments.engine.statement import Measurement, Role, Statement, Topic
from convatlas.experiments.engine.verdict import Threshold, at_least, at_most

UNITS = 64
"""In each layer: as many as a digit has pixels (8x8), so that images need no input layer."""
IMAGES = 256
DEPTH = 50
DEPTHS = (5, 10, 20, 35, 50, 70, 100)
CHAINS = f"fully connected chains of {UNITS} units before training, {IMAGES} digits"
LOWEST_SHOWN = 1e-20
"""Of a gradient: far below it, how much farther says nothing. Lines fall out of a chart there."""

Activation = Callable[[Tensor], Tensor]
# Standard deviations of the weights of a layer with UNITS inputs and outputs.
SMALL = 0.01
"""Krizhevsky et al. 2012, section 5."""
XAVIER = math.sqrt(1 / UNITS)
"""Glorot and Bengio 2010, equation 12."""
HE = math.sqrt(2 / UNITS)
"""He et al. 2015 (Delving deep into rectifiers), equation 10."""
LARGE = 2 * HE
WEIGHT_STDS = {"small": SMALL, "Xavier": XAVIER, "He": HE, "large": LARGE}
ACTIVATIONS: dict[str, Activation] = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "ReLU": F.relu}


@dataclass(frozen=True, kw_only=True)
class ChainSpec:
    """How the layers of a chain are made."""

    activation: Activation
    weight_std: float
    """Of the initial weights."""
    norm: bool = False
    shortcuts: bool = False


class Chain(nn.Module):
    """Layers of equal width, one after the other."""

    def __init__(self, depth: int, spec: ChainSpec) -> None:
        super().__init__()
        self.spec = spec
        self.layers = nn.ModuleList(nn.Linear(UNITS, UNITS) for _ in range(depth))
        self.norms = nn.ModuleList(nn.BatchNorm1d(UNITS) if spec.norm else nn.Identity() for _ in range(depth))
        self.head = nn.Linear(UNITS, 10)
        for layer in self.layers:
            nn.init.normal_(layer.get_parameter("weight"), std=spec.weight_std)
            nn.init.zeros_(layer.get_parameter("bias"))

    def apply_layer(self, number: int, x: Tensor) -> Tensor:
        """The output of one layer for the output of the layer before."""
        y = self.spec.activation(self.norms[number](self.layers[number](x)))
        return x + y if self.spec.shortcuts else y

    def body(self, x: Tensor) -> Tensor:
        """All layers but the head."""
        for number in range(len(self.layers)):
            x = self.apply_layer(number, x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.body(x))
        return outputs


def digits() -> tuple[Tensor, Tensor]:
    """Images (n, 64), every pixel with mean 0 and all together with standard deviation 1, and their labels (n,)."""
    split = data.find("digits").load(8, seed=0).train
    images = torch.from_numpy(split.images[:IMAGES]).double().flatten(1)
    images = images - images.mean(0)
    return images / images.std(), torch.from_numpy(split.labels[:IMAGES])


def chain(depth: int, spec: ChainSpec, seed: int) -> Chain:
    """In double precision: the product of a hundred small factors underflows in single precision."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Chain(depth, spec).double()


def gradient_norms(depth: int, spec: ChainSpec, seed: int) -> list[float]:
    """Norms of the loss's gradient at each layer from the first to the last, without the head."""
    images, labels = digits()
    norms = measure.gradient_norms(chain(depth, spec, seed), lambda out: F.cross_entropy(out, labels), images)
    return [norm for _, norm in norms[:-1]]


def factor_per_layer(spec: ChainSpec, seed: int, depth: int = DEPTH) -> float:
    """What one layer multiplies the gradient norm by on the way back: the slope of a line through the logarithms."""
    slope = np.polyfit(np.arange(depth), np.log(gradient_norms(depth, spec, seed)), 1)[0]
    return math.exp(-slope)


def jacobians(depth: int, spec: ChainSpec, seed: int) -> tuple[list[Tensor], Tensor]:
    """Those of each layer of a chain at one image, and that of all layers together, as autograd gives it."""
    network = chain(depth, spec, seed).eval()
    x = digits()[0][0]
    whole = measure.jacobian(network.body, x)
    of_layers = []
    for number in range(depth):
        layer = partial(network.apply_layer, number)
        of_layers.append(measure.jacobian(layer, x))
        x = layer(x).detach()
    return of_layers, whole


def bed(setting: Setting) -> str:
    """What a chart rests on."""
    return f"{CHAINS}, n = {len(setting.seeds)}: geometric mean and standard deviation"


def chart_of(name: str, title: str, x: str, y: str, lines: tuple[Series, ...], setting: Setting) -> Lines:
    """Of gradients, a line for each chain."""
    cut = min(min(line.y) for line in lines) < LOWEST_SHOWN
    lowest_y = LOWEST_SHOWN if cut else None
    return Lines(name=name, title=title, subtitle=bed(setting), x=x, y=y, log_y=True, lowest_y=lowest_y, series=lines)


def by_layer(name: str, chains: str, specs: dict[str, ChainSpec], setting: Setting) -> Lines:
    """The gradient norm at each layer."""
    title = f"{chains}: the gradient by layer, {DEPTH} layers"
    lines = tuple(
        Series.geometric_mean_of_runs(
            label, range(1, DEPTH + 1), [gradient_norms(DEPTH, spec, seed) for seed in setting.seeds]
        )
        for label, spec in specs.items()
    )
    return chart_of(name, title, "layer, from the input", "gradient norm", lines, setting)


def by_depth(name: str, chains: str, specs: dict[str, ChainSpec], setting: Setting) -> Lines:
    """The gradient norm at the first layer over that at the last, against depth."""
    title = f"{chains}: how much of the gradient reaches the first layer"

    def ratio(depth: int, spec: ChainSpec, seed: int) -> float:
        first, *_, last = gradient_norms(depth, spec, seed)
        return first / last

    lines = tuple(
        Series.geometric_mean_of_runs(
            label, DEPTHS, [[ratio(depth, spec, seed) for depth in DEPTHS] for seed in setting.seeds]
        )
        for label, spec in specs.items()
    )
    return chart_of(name, title, "layers", "gradient norm, first layer / last layer", lines, setting)


def compared(
    setting: Setting, statistic: Callable[[dict[str, float]], float], specs: dict[str, ChainSpec], *charts: Lines
) -> Measurement:
    """The statistic of the chains' factors per layer, for each seed; the mean factors are further figures."""
    factors = [{label: factor_per_layer(spec, seed) for label, spec in specs.items()} for seed in setting.seeds]
    cut = {chart.title: min(min(line.y) for line in chart.series) for chart in charts if chart.lowest_y is not None}
    return Measurement(
        estimate=repeated([statistic(of_seed) for of_seed in factors]),
        figures=tuple(
            (f"factor per layer, {label}", f"{np.mean([of_seed[label] for of_seed in factors]):.3g}") for label in specs
        ),
        charts=charts,
        note=" ".join(f"{title}: lines fall out of the chart, down to {lowest:.0e}." for title, lowest in cut.items()),
    )


def each_scale(activation: Activation, *, norm: bool = False) -> dict[str, ChainSpec]:
    """Chains with weights of every scale."""
    return {
        f"{name} weights": ChainSpec(activation=activation, weight_std=std, norm=norm)
        for name, std in WEIGHT_STDS.items()
    }


def each_activation(weight_std: float) -> dict[str, ChainSpec]:
    return {name: ChainSpec(activation=each, weight_std=weight_std) for name, each in ACTIVATIONS.items()}


def sigmoid(setting: Setting) -> Measurement:
    specs = each_scale(torch.sigmoid)
    return compared(
        setting,
        lambda factors: factors["Xavier weights"],
        specs,
        by_layer("sigmoid-by-layer", "Sigmoid", specs, setting),
        by_depth("sigmoid-by-depth", "Sigmoid", specs, setting),
    )


def small(setting: Setting) -> Measurement:
    return compared(setting, lambda factors: max(factors.values()), each_activation(SMALL))


def large(setting: Setting) -> Measurement:
    specs = each_activation(LARGE)
    chart = by_depth("large-by-depth", "Large weights", specs, setting)
    return compared(setting, lambda factors: factors["ReLU"], specs, chart)


def he(setting: Setting) -> Measurement:
    specs = each_scale(F.relu)
    return compared(
        setting,
        lambda factors: factors["He weights"],
        specs,
        by_layer("relu-by-layer", "ReLU", specs, setting),
        by_depth("relu-by-depth", "ReLU", specs, setting),
    )


def xavier_relu(setting: Setting) -> Measurement:
    specs = {"ReLU": ChainSpec(activation=F.relu, weight_std=XAVIER)}
    return compared(setting, lambda factors: factors["ReLU"], specs)


def xavier_tanh(setting: Setting) -> Measurement:
    specs = each_scale(torch.tanh)
    return compared(
        setting,
        lambda factors: factors["Xavier weights"],
        specs,
        by_layer("tanh-by-layer", "tanh", specs, setting),
        by_depth("tanh-by-depth", "tanh", specs, setting),
    )


def normalized(setting: Setting) -> Measurement:
    specs = each_scale(F.relu, norm=True)
    chart = by_layer("norm-by-layer", "ReLU with batch normalization", specs, setting)
    return compared(setting, lambda factors: max(factors.values()) / min(factors.values()), specs, chart)


def norm_factor(setting: Setting) -> Measurement:
    specs = {"ReLU, batch normalization": ChainSpec(activation=F.relu, weight_std=HE, norm=True)}
    return compared(setting, lambda factors: next(iter(factors.values())), specs)


def unnormalized_shortcuts(setting: Setting) -> Measurement:
    specs = {"ReLU, He weights, with shortcuts": ChainSpec(activation=F.relu, weight_std=HE, shortcuts=True)}
    chart = by_depth("he-shortcuts-by-depth", "He weights, shortcuts, no normalization", specs, setting)
    return compared(setting, lambda factors: next(iter(factors.values())), specs, chart)


def shortcuts(setting: Setting) -> Measurement:
    specs = {
        f"{name}, {words}": ChainSpec(activation=activation, weight_std=SMALL, shortcuts=on)
        for name, activation in ACTIVATIONS.items()
        for words, on in (("plain", False), ("with shortcuts", True))
    }
    chart = by_depth("shortcuts-by-depth", "Small weights", specs, setting)
    return compared(
        setting,
        lambda factors: min(factor for label, factor in factors.items() if "shortcuts" in label),
        specs,
        chart,
    )


def chain_rule(setting: Setting) -> Measurement:
    def difference(spec: ChainSpec, depth: int, seed: int) -> float:
        of_layers, whole = jacobians(depth, spec, seed)
        return float((measure.jacobian_product(of_layers) - whole).norm() / whole.norm())

    specs = [
        ChainSpec(activation=activation, weight_std=std, shortcuts=on)
        for activation in ACTIVATIONS.values()
        for std in (XAVIER, HE)
        for on in (False, True)
    ]
    worst = max(difference(spec, depth, seed) for spec in specs for depth in (5, 20, 50) for seed in setting.seeds)
    return Measurement(estimate=counted(worst))


def singular_values(setting: Setting) -> Measurement:
    """A gradient of random direction is stretched by the root mean square of a layer's singular values."""
    specs = each_activation(XAVIER)
    worst_ratios = []
    for seed in setting.seeds:
        ratios = []
        for spec in specs.values():
            of_layers, _ = jacobians(DEPTH, spec, seed)
            log_stretch = np.mean([math.log(float(layer.norm()) / math.sqrt(UNITS)) for layer in of_layers])
            ratios.append(factor_per_layer(spec, seed) / math.exp(log_stretch))
        worst_ratios.append(max(ratios, key=lambda ratio: abs(math.log(ratio))))

    of_seeds = {name: [jacobians(DEPTH, spec, seed)[0] for seed in setting.seeds] for name, spec in specs.items()}

    def largest(layers: list[Tensor]) -> list[float]:
        products = (measure.jacobian_product(layers[: number + 1]) for number in range(DEPTH))
        return [float(torch.linalg.svdvals(product)[0]) for product in products]

    of_one = Lines(
        name="layer-spectrum",
        title="Singular values of the first layer's Jacobian, Xavier weights",
        subtitle=f"{CHAINS}, n = {len(setting.seeds)}: mean and standard deviation",
        x="index, largest first",
        y="singular value",
        series=tuple(
            Series.mean_of_runs(name, range(1, UNITS + 1), [torch.linalg.svdvals(one[0]).tolist() for one in each])
            for name, each in of_seeds.items()
        ),
    )
    of_products = Lines(
        name="singular-values",
        title="Largest singular value of the first layers' Jacobians, multiplied",
        subtitle=f"Xavier weights; {bed(setting)}",
        x="layers multiplied",
        y="largest singular value",
        log_y=True,
        series=tuple(
            Series.geometric_mean_of_runs(name, range(1, DEPTH + 1), [largest(layers) for layers in each])
            for name, each in of_seeds.items()
        ),
    )
    return Measurement(estimate=repeated(worst_ratios), charts=(of_one, of_products))


TOPIC = Topic(
    id="vanishing",
    title="Gradients vanish or explode: N layers, N derivatives multiplied",
    summary="Backpropagation through N layers multiplies the gradient by N Jacobians. Unless each roughly keeps the "
    "gradient's norm, the gradient vanishes or explodes with depth.",
    source="Hochreiter 1991; Bengio, Simard and Frasconi 1994; Glorot and Bengio 2010, section 4.2; He et al. 2015 "
    "(Delving deep into rectifiers), section 2.2; He et al. 2015 (ResNet), section 1",
    method=f"Chains of {DEPTHS[0]} to {DEPTHS[-1]} fully connected layers of {UNITS} units, before training, on "
    f"{IMAGES} digits, in double precision. Measured are the norm of the loss's gradient at each layer and each "
    "layer's Jacobian at one image. The factor per layer is the slope of a line through the logarithms of the norms "
    f"over {DEPTH} layers. All budgets measure the same.",
    limitations="The networks are untrained, fully connected and of one width. How such networks train is the subject "
    "of other topics.",
    minutes_quick=0.5,
    minutes_full=0.5,
    statements=(
        Statement(
            id="sigmoid",
            text="With sigmoids the gradient vanishes: their derivative is at most a quarter.",
            statistic="factor per layer, sigmoid, Xavier weights",
            threshold=at_most(0.5),
            test_bed=CHAINS,
            measure=sigmoid,
        ),
        Statement(
            id="small",
            text="With small weights the gradient vanishes, whatever the activation.",
            statistic="largest factor per layer among sigmoid, tanh and ReLU, weights with a standard deviation of "
            "0.01",
            threshold=at_most(0.2),
            test_bed=CHAINS,
            measure=small,
        ),
        Statement(
            id="large",
            text="With large weights the gradient explodes where the activation does not saturate.",
            statistic="factor per layer, ReLU, weights twice as large as He's",
            threshold=at_least(1.5),
            test_bed=CHAINS,
            measure=large,
        ),
        Statement(
            id="he",
            text="He's initialization keeps the gradient through ReLUs.",
            statistic="factor per layer, ReLU, He weights",
            threshold=Threshold(0.9, 1.1),
            test_bed=CHAINS,
            measure=he,
        ),
        Statement(
            id="xavier-relu",
            text="With Xavier's initialization each ReLU layer halves the square of the gradient.",
            statistic="factor per layer, ReLU, Xavier weights; 0.707 halves the square",
            threshold=Threshold(0.65, 0.77),
            test_bed=CHAINS,
            measure=xavier_relu,
        ),
        Statement(
            id="xavier-tanh",
            text="Xavier's initialization keeps the gradient through tanh.",
            statistic="factor per layer, tanh, Xavier weights",
            threshold=Threshold(0.9, 1.1),
            test_bed=CHAINS,
            measure=xavier_tanh,
        ),
        Statement(
            id="norm",
            text="With batch normalization the gradient does not depend on the scale of the initial weights.",
            statistic="largest over smallest factor per layer among small, Xavier, He and large weights, ReLU",
            threshold=at_most(1.02),
            test_bed=CHAINS,
            measure=normalized,
        ),
        Statement(
            id="norm-factor",
            text="Batch normalization at initialization does not keep the gradient: each layer multiplies it by 1.21.",
            statistic="factor per layer, ReLU, batch normalization, He weights; theory: sqrt(pi / (pi - 1)) = 1.211",
            paper="1.21 (Yang et al. 2019, section 3)",
            threshold=Threshold(1.15, 1.27),
            test_bed=CHAINS,
            measure=norm_factor,
        ),
        Statement(
            id="shortcuts-he",
            text="Shortcuts with He's weights and no normalization explode.",
            statistic="factor per layer, ReLU, He weights, with shortcuts",
            threshold=at_least(1.2),
            test_bed=CHAINS,
            measure=unnormalized_shortcuts,
        ),
        Statement(
            id="shortcuts",
            text="With shortcuts the gradient does not vanish, even with small weights.",
            statistic="smallest factor per layer among sigmoid, tanh and ReLU with shortcuts, weights with a standard "
            "deviation of 0.01",
            threshold=at_least(0.95),
            test_bed=CHAINS,
            measure=shortcuts,
        ),
        Statement(
            id="chain-rule",
            text="The Jacobian of the whole chain is the product of the layers' Jacobians.",
            statistic="largest relative difference between the two, over activations, weights, depths and seeds",
            threshold=at_most(1e-9),
            role=Role.COUNT,
            measure=chain_rule,
        ),
        Statement(
            id="singular-values",
            text="The layers' singular values determine how fast the gradient vanishes.",
            statistic="factor per layer over the root mean square of a layer's singular values, the worst of three "
            "activations, Xavier weights",
            threshold=Threshold(0.9, 1.1),
            test_bed=CHAINS,
            measure=singular_values,
        ),
    ),
)
