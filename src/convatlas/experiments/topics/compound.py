"""EfficientNet: scale width, depth and resolution together."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import pairwise

from convatlas import atlas
from convatlas.draw import Bars, Lines, Series
from convatlas.experiments.engine.accuracy import accuracies_of, differences, undertrained
from convatlas.experiments.engine.budget import Setting
from convatlas.experiments.engine.statement import Statement, Topic
from convatlas.experiments.engine.verdict import Measurement, Threshold, at_least
from convatlas.experiments.topics.equal_cost import at_cost, macs
from convatlas.networks.efficientnet import EfficientNetSpec
from convatlas.runs.options import Runtime, Validation
from convatlas.runs.run import Run, read_metrics
from convatlas.spec import Spec
from convatlas.training import Request

EPOCHS, BATCH, LR = 5, 32, 0.006
"""At quick: about the shortest training in which the deeper networks learn, too."""
MIN_GAIN = 0.35
"""Points of accuracy that must be gained to count: half of the smallest gain in Table 3, 0.7 for ResNet-50, because
MACs grow about twofold here and fourfold there."""

Triple = tuple[float, float, float]
"""alpha, beta and gamma: factors of depth, width and resolution at phi = 1."""


def triple_of(depth: float, width: float, resolution: float) -> Triple:
    """The triple that doubles MACs, alpha beta^2 gamma^2 = 2, from each dimension's share of the growth.

    The shares add up to 1.
    """
    return 2**depth, 2 ** (width / 2), 2 ** (resolution / 2)


SINGLE: dict[str, Triple] = {
    "depth": triple_of(1, 0, 0),
    "width": triple_of(0, 1, 0),
    "resolution": triple_of(0, 0, 1),
}
PAPER: dict[str, Triple] = {"the paper's": (1.2, 1.1, 1.15)}
COMPOUND: dict[str, Triple] = PAPER | {
    "equal shares": triple_of(1 / 3, 1 / 3, 1 / 3),
    "most depth": triple_of(1 / 2, 1 / 4, 1 / 4),
    "most width": triple_of(1 / 4, 1 / 2, 1 / 4),
}
"""The paper's triple has most resolution."""


@dataclass(frozen=True)
class BaseNetwork:
    """A network before it is scaled."""

    network: str
    width: float
    """At quick."""
    side: int

    def spec(self, setting: Setting) -> Spec:
        spec = atlas.find(self.network).spec.scaled(resolution=self.side)
        if not setting.quick:
            return spec
        if isinstance(spec, EfficientNetSpec):
            # With channels in multiples of 8, so narrow a network doubles its width or keeps it. Dropout is for
            # trainings of hundreds of epochs; it grows with depth, and in so few epochs would count against it.
            spec = replace(spec, divisor=1, dropout=0.0, drop_connect=0.0)
        return spec.scaled(width=self.width)


B0 = BaseNetwork("efficientnet-b0", 0.25, 68)
"""From 64 px on it has the paper's own stem; the stem for smaller images would change with the resolution. From 65 to
96 px the last feature maps stay 3x3, so that no single pixel makes the cost jump."""
RESNET = BaseNetwork("resnet20-cifar", 0.1875, 36)
"""From this network the steps of width, depth and resolution lead to about equal MACs."""


@cache
def grown(network: str, base: Spec, triple: Triple, times: int) -> Spec:
    """The base scaled by the triple, with about the MACs of the network `times` as deep.

    Depth grows by whole units, so the other dimensions are fitted to it: the growth that it leaves is divided between
    width and resolution, and then one of the two is moved to where the MACs come nearest.
    """
    variant = atlas.find(network)
    alpha, beta, gamma = triple
    depth = alpha ** math.log2(times)
    if beta == gamma == 1:
        return base.scaled(depth=depth)
    target = macs(variant, base.scaled(depth=times))
    log_growth = math.log(target / macs(variant, base.scaled(depth=depth)))
    width_share = math.log(beta) / math.log(beta * gamma)
    width, factor = math.exp(log_growth * width_share / 2), math.exp(log_growth * (1 - width_share) / 2)

    def wider(width: float) -> Spec:
        return base.scaled(width, depth, round(base.resolution * factor))

    def larger(factor: float) -> Spec:
        return base.scaled(width, depth, round(base.resolution * factor))

    candidates = [
        at_cost(variant, target, spec_at, 1.0, float(times))
        for spec_at, growth in ((wider, beta), (larger, gamma))
        if growth > 1
    ]
    return min(candidates, key=lambda spec: abs(macs(variant, spec) - target))


@dataclass(frozen=True)
class ScaledNetwork:
    """A base network after scaling."""

    base: BaseNetwork
    triple: Triple
    times: int
    """It has the MACs of the base `times` as deep."""

    def spec(self, setting: Setting) -> Spec:
        base = self.base.spec(setting)
        return base if self.times == 1 else grown(self.base.network, base, self.triple, self.times)

    def request(self, setting: Setting, seed: int) -> Request:
        """A tenth of the training images are validation images, for the search."""
        full = Request(
            network=self.base.network, spec=self.spec(setting), data="cifar10", seed=seed, validation=Validation()
        )
        if not setting.quick:
            return full
        return replace(full, data="digits", epochs=EPOCHS, batch_size=BATCH, lr=LR, runtime=Runtime(autotune=False))

    def million_macs(self, setting: Setting) -> float:
        return macs(atlas.find(self.base.network), self.spec(setting)) / 1e6


def trained(setting: Setting, networks: Iterable[ScaledNetwork]) -> dict[ScaledNetwork, list[Run]]:
    return setting.train_seeds({network: partial(network.request, setting) for network in networks})


def val_loss(run: Run) -> float:
    """The lowest of its epochs. On a hundred images the loss says more than the accuracy."""
    return min(float(row["val_loss"]) for row in read_metrics(run))


def search(setting: Setting, networks: Mapping[str, ScaledNetwork]) -> dict[str, float]:
    """The validation loss of each network, trained once with the first seed, as a search would before anything else."""
    requests = {name: network.request(setting, setting.seeds[0]) for name, network in networks.items()}
    setting.train_all(requests.values())
    return {name: val_loss(setting.train(request)) for name, request in requests.items()}


def best(losses: Mapping[str, float], names: Sequence[str]) -> str:
    return min(names, key=losses.__getitem__)


def gain(setting: Setting, base: BaseNetwork, compound: Mapping[str, Triple], times: int) -> Measurement:
    """The test accuracy of the best compound scaling minus that of the best single dimension, both by the search."""
    networks = {name: ScaledNetwork(base, triple, times) for name, triple in (SINGLE | dict(compound)).items()}
    losses = search(setting, networks)
    chosen = [best(losses, list(names)) for names in (compound, SINGLE)]
    found = trained(setting, (networks[name] for name in chosen))
    runs = {name: found[networks[name]] for name in chosen}
    accuracies = {name: accuracies_of(each) for name, each in runs.items()}
    of_compound, of_single = accuracies.values()
    unscaled = ScaledNetwork(base, (1.0, 1.0, 1.0), 1)
    costs = {name: network.million_macs(setting) for name, network in networks.items()}
    chart = Bars(
        name=f"{base.network}-times-{times}" + ("" if len(compound) > 1 else "-paper"),
        title=f"{base.network} scaled to the MACs of {times} times its depth",
        y="validation loss, one seed",
        labels=tuple(networks),
        series=(Series("loss", (), tuple(losses.values())),),
    )
    return Measurement(
        values=differences(of_compound, of_single),
        figures=(
            *(
                (f"test accuracy, {name}, chosen", f"{statistics.fmean(each):.2f} %")
                for name, each in accuracies.items()
            ),
            (f"alpha, beta, gamma, {chosen[0]}", ", ".join(f"{factor:.3g}" for factor in compound[chosen[0]])),
            (
                "base network",
                f"{unscaled.million_macs(setting):.2f} million MACs, {unscaled.spec(setting).resolution} px",
            ),
            *(
                (
                    name,
                    f"validation loss {losses[name]:.3f}, {costs[name]:.2f} million MACs, "
                    f"{network.spec(setting).resolution} px",
                )
                for name, network in networks.items()
            ),
        ),
        charts=(chart,),
        note=f"The highest MACs are {100 * (max(costs.values()) / min(costs.values()) - 1):.1f} % above the lowest.",
        inconclusive=undertrained(runs),
    )


def doubling(setting: Setting) -> Measurement:
    """The growth of B0's MACs in the step of phi in which it is farthest from 2."""
    variant = atlas.find("efficientnet-b0")
    costs = [macs(variant, variant.spec.compound(phi)) for phi in range(8)]
    steps = [after / before for before, after in pairwise(costs)]
    return Measurement(
        values=(max(steps, key=lambda step: abs(math.log2(step) - 1)),),
        figures=(
            *((f"MACs at phi {phi}", f"{cost / 1e6:,.0f} million") for phi, cost in enumerate(costs)),
            ("mean factor of a step", f"{(costs[-1] / costs[0]) ** (1 / len(steps)):.2f}"),
        ),
        note="The first step makes every stage one unit deeper, because a fraction of a unit counts as one.",
    )


def saturation(setting: Setting) -> Measurement:
    """The gain of the first doubling of MACs minus that of the second, the mean of three dimensions."""
    lines = {
        name: [ScaledNetwork(B0, triple, times) for times in (1, 2, 4)] for name, triple in (SINGLE | PAPER).items()
    }
    # The base is the same for all.
    bases = {networks[0]: ScaledNetwork(B0, SINGLE["depth"], 1) for networks in lines.values()}
    lines = {name: [bases[networks[0]], *networks[1:]] for name, networks in lines.items()}
    runs = trained(setting, dict.fromkeys(network for networks in lines.values() for network in networks))
    accuracies = {network: accuracies_of(each) for network, each in runs.items()}
    of_seeds = {
        name: list(zip(*(accuracies[network] for network in networks), strict=True)) for name, networks in lines.items()
    }
    chart = Lines(
        name="scaling",
        title="B0 scaled in one dimension, and in three",
        x="million MACs",
        y="test accuracy, %",
        log_x=True,
        series=tuple(
            Series.mean_of_runs(name, [network.million_macs(setting) for network in networks], of_seeds[name])
            for name, networks in lines.items()
        ),
    )
    bends = [[bend(values) for values in of_seeds[name]] for name in SINGLE]
    return Measurement(
        values=tuple(map(statistics.fmean, zip(*bends, strict=True))),
        figures=tuple(
            (
                f"{name}, {network.million_macs(setting):.0f} million MACs",
                f"{statistics.fmean(accuracies[network]):.2f} %",
            )
            for name, networks in lines.items()
            for network in networks
        ),
        charts=(chart,),
    )


def bend(values: Sequence[float]) -> float:
    """The first step's gain minus the second's."""
    first, second, third = values
    return (second - first) - (third - second)


def compound(setting: Setting) -> Measurement:
    return gain(setting, B0, PAPER, 2 if setting.quick else 4)


def search_b0(setting: Setting) -> Measurement:
    return gain(setting, B0, COMPOUND, 2)


def search_resnet(setting: Setting) -> Measurement:
    return gain(setting, RESNET, COMPOUND, 2)


TOPIC = Topic(
    id="compound",
    title="EfficientNet: scale width, depth and resolution together",
    summary="Scaling one dimension of a network soon saturates. Scaling depth, width and resolution together by "
    "alpha^phi, beta^phi and gamma^phi, with alpha beta^2 gamma^2 of about 2, is better at equal MACs, for older "
    "networks too.",
    source="Tan and Le 2019, sections 3 to 5, equations 2 and 3, Figures 3 and 8, Tables 3 and 7",
    method="B0 and, of the older families, ResNet-20 are scaled to the MACs of the network twice as deep (full: also "
    "four times), along each dimension and in four ways along all three. A search with one seed and a tenth of the "
    "training images for validation chooses the best of each kind; both are then trained with every seed and compared "
    f"on the test images. Quick: B0 with a quarter of its width from {B0.side} px, ResNet-20 with three sixteenths "
    f"from {RESNET.side} px, without dropout, {EPOCHS} epochs of digits; full: the paper's width, CIFAR-10.",
    limitations="Digits of 8x8 pixels are enlarged: a higher resolution adds positions, but not the detail for which "
    "the paper scales it. Which dimension is best, and by how much, stands among the figures. The search has one seed "
    "and little more than a hundred validation images. The networks are small and trained briefly, so that learning "
    "fast counts as much as ending well; this says little about ImageNet. Depth grows by whole units, which is most of "
    "the growth at twice the MACs.",
    minutes=(5, 300),
    statements=(
        Statement(
            id="doubling",
            text="Each step of phi roughly doubles the MACs.",
            statistic="growth of B0's MACs in the step of phi, from 0 to 7, in which it is farthest from 2",
            # The paper's constants give 1.92; rounded channels and blocks more or less.
            threshold=Threshold(1.7, 2.3),
            measure=doubling,
        ),
        Statement(
            id="saturation",
            text="Scaling one dimension saturates.",
            statistic="points gained by the first doubling minus those by the second, mean of three dimensions",
            threshold=at_least(MIN_GAIN),
            measure=saturation,
            only_full="a network that is trained to the end classifies nearly all digits correctly, so that accuracy "
            "levels off whatever is scaled; harder images and long trainings at four times the MACs are needed, as in "
            "the full budget",
        ),
        Statement(
            id="compound",
            text="At equal MACs compound scaling with the paper's constants is better than any single dimension.",
            statistic="test accuracy of B0 with the paper's constants minus that of the best dimension, in points",
            threshold=at_least(MIN_GAIN),
            measure=compound,
        ),
        Statement(
            id="search-b0",
            text="A search finds that all three dimensions should grow, for B0.",
            statistic="test accuracy of the best compound scaling minus that of the best dimension, in points",
            threshold=at_least(MIN_GAIN),
            measure=search_b0,
        ),
        Statement(
            id="search-resnet",
            text="The same holds for an older family.",
            statistic="the same for ResNet-20, in points",
            threshold=at_least(MIN_GAIN),
            measure=search_resnet,
        ),
    ),
)
