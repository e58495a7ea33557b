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
WORTH = 0.35
"""Points of accuracy that must be won to count: half of the least that Table 3 prints, 0.7 of ResNet-50, since MACs
grow about twice here in place of four times."""

Triple = tuple[float, float, float]
"""alpha, beta and gamma: factors of depth, width and resolution at phi = 1."""


def shared(depth: float, width: float, resolution: float) -> Triple:
    """The triple that doubles MACs, alpha beta^2 gamma^2 = 2, by these shares of their growth, which add up to 1."""
    return 2**depth, 2 ** (width / 2), 2 ** (resolution / 2)


SINGLE: dict[str, Triple] = {"depth": shared(1, 0, 0), "width": shared(0, 1, 0), "resolution": shared(0, 0, 1)}
PAPER: dict[str, Triple] = {"the paper's": (1.2, 1.1, 1.15)}
TOGETHER: dict[str, Triple] = PAPER | {
    "all alike": shared(1 / 3, 1 / 3, 1 / 3),
    "most depth": shared(1 / 2, 1 / 4, 1 / 4),
    "most width": shared(1 / 4, 1 / 2, 1 / 4),
}
"""The paper's has most resolution."""


@dataclass(frozen=True)
class Base:
    """A network before it grows."""

    network: str
    width: float
    """At quick."""
    side: int

    def spec(self, setting: Setting) -> Spec:
        spec = atlas.find(self.network).spec.scaled(resolution=self.side)
        if not setting.quick:
            return spec
        if isinstance(spec, EfficientNetSpec):
            # In steps of 8 maps, a network as narrow as that doubles its width or keeps it. Dropout is for trainings of
            # hundreds of epochs, and in so few would count against depth, with which it grows.
            spec = replace(spec, divisor=1, dropout=0.0, drop_connect=0.0)
        return spec.scaled(width=self.width)


B0 = Base("efficientnet-b0", 0.25, 68)
"""From 64 px on it has the paper's own stem; below, that for small images would change with the resolution. From 65
to 96 px the last maps keep their 3x3, so that no pixel more makes a leap of the cost."""
RESNET = Base("resnet20-cifar", 0.1875, 36)
"""From there the steps of its width, depth and resolution meet at about equal MACs."""


@cache
def grown(network: str, own: Spec, triple: Triple, times: int) -> Spec:
    """As the triple says, with about the MACs of the network `times` as deep.

    Depth grows by whole units, so that it is what the others are made equal to. What it leaves to be won is parted
    between width and resolution; one of the two is then moved to where the MACs come nearest.
    """
    variant = atlas.find(network)
    alpha, beta, gamma = triple
    depth = alpha ** math.log2(times)
    if beta == gamma == 1:
        return own.scaled(depth=depth)
    wanted = macs(variant, own.scaled(depth=times))
    left = math.log(wanted / macs(variant, own.scaled(depth=depth)))
    part = math.log(beta) / math.log(beta * gamma)
    width, factor = math.exp(left * part / 2), math.exp(left * (1 - part) / 2)

    def wider(width: float) -> Spec:
        return own.scaled(width, depth, round(own.resolution * factor))

    def larger(factor: float) -> Spec:
        return own.scaled(width, depth, round(own.resolution * factor))

    moved = [at_cost(variant, wanted, one, 1.0, float(times)) for one, by in ((wider, beta), (larger, gamma)) if by > 1]
    return min(moved, key=lambda spec: abs(macs(variant, spec) - wanted))


@dataclass(frozen=True)
class Scaled:
    """A base that has grown."""

    base: Base
    triple: Triple
    times: int
    """How many times as deep the network is whose MACs it has."""

    def spec(self, setting: Setting) -> Spec:
        own = self.base.spec(setting)
        return own if self.times == 1 else grown(self.base.network, own, self.triple, self.times)

    def request(self, setting: Setting, seed: int) -> Request:
        """A tenth of the training images is held out, to choose by."""
        asked = Request(network=self.base.network, spec=self.spec(setting), seed=seed, validation=Validation())
        if not setting.quick:
            return replace(asked, data="cifar10")
        return replace(asked, data="digits", epochs=EPOCHS, batch_size=BATCH, lr=LR, runtime=Runtime(autotune=False))

    def million_macs(self, setting: Setting) -> float:
        return macs(atlas.find(self.base.network), self.spec(setting)) / 1e6


def trained(setting: Setting, forms: Iterable[Scaled]) -> dict[Scaled, list[Run]]:
    return setting.train_seeds({form: partial(form.request, setting) for form in forms})


def val_loss(run: Run) -> float:
    """The least of its epochs: a loss tells more of a hundred images than how many of them were right."""
    return min(float(row["val_loss"]) for row in read_metrics(run))


def search(setting: Setting, forms: Mapping[str, Scaled]) -> dict[str, float]:
    """Held-out loss of each, of one training with the first seed, as a search is done before the rest."""
    requests = {name: form.request(setting, setting.seeds[0]) for name, form in forms.items()}
    setting.train_all(requests.values())
    return {name: val_loss(setting.train(request)) for name, request in requests.items()}


def best(losses: Mapping[str, float], names: Sequence[str]) -> str:
    return min(names, key=losses.__getitem__)


def won(setting: Setting, base: Base, together: Mapping[str, Triple], times: int) -> Measurement:
    """By how many points the chosen one of those that scale all three is ahead of the chosen one that scales one."""
    forms = {name: Scaled(base, triple, times) for name, triple in (SINGLE | dict(together)).items()}
    losses = search(setting, forms)
    chosen = [best(losses, list(names)) for names in (together, SINGLE)]
    found = trained(setting, (forms[name] for name in chosen))
    runs = {name: found[forms[name]] for name in chosen}
    accuracies = {name: accuracies_of(each) for name, each in runs.items()}
    all_three, one = accuracies.values()
    own = Scaled(base, (1.0, 1.0, 1.0), 1)
    costs = {name: form.million_macs(setting) for name, form in forms.items()}
    chart = Bars(
        name=f"{base.network}-times-{times}" + ("" if len(together) > 1 else "-paper"),
        title=f"{base.network} with the MACs of {times} times its depth: how it grew",
        y="loss on held-out images, one seed",
        labels=tuple(forms),
        series=(Series("loss", (), tuple(losses.values())),),
    )
    return Measurement(
        values=differences(all_three, one),
        figures=(
            *(
                (f"test accuracy, {name}, chosen", f"{statistics.fmean(each):.2f} %")
                for name, each in accuracies.items()
            ),
            (f"alpha, beta, gamma, {chosen[0]}", ", ".join(f"{factor:.3g}" for factor in together[chosen[0]])),
            ("the base", f"{own.million_macs(setting):.2f} million MACs, {own.spec(setting).resolution} px"),
            *(
                (
                    name,
                    f"held-out loss {losses[name]:.3f}, {costs[name]:.2f} million MACs, "
                    f"{form.spec(setting).resolution} px",
                )
                for name, form in forms.items()
            ),
        ),
        charts=(chart,),
        note=f"The most MACs are {100 * (max(costs.values()) / min(costs.values()) - 1):.1f} % above the least.",
        inconclusive=undertrained(runs),
    )


def doubling(setting: Setting) -> Measurement:
    """What the MACs of B0 are multiplied by in the step of phi that is farthest from doubling them."""
    variant = atlas.find("efficientnet-b0")
    costs = [macs(variant, variant.spec.compound(phi)) for phi in range(8)]
    steps = [after / before for before, after in pairwise(costs)]
    return Measurement(
        values=(max(steps, key=lambda step: abs(math.log2(step) - 1)),),
        figures=(
            *((f"MACs at phi {phi}", f"{cost / 1e6:,.0f} million") for phi, cost in enumerate(costs)),
            ("a step, the mean", f"times {(costs[-1] / costs[0]) ** (1 / len(steps)):.2f}"),
        ),
        note="The first step makes every stage a unit deeper, since parts of a unit count as one.",
    )


def saturation(setting: Setting) -> Measurement:
    """What the first doubling of depth, or its cost, wins less what the second does, the mean of three dimensions."""
    lines = {name: [Scaled(B0, triple, times) for times in (1, 2, 4)] for name, triple in (SINGLE | PAPER).items()}
    # The base is the same in all.
    bases = {forms[0]: Scaled(B0, SINGLE["depth"], 1) for forms in lines.values()}
    lines = {name: [bases[forms[0]], *forms[1:]] for name, forms in lines.items()}
    runs = trained(setting, dict.fromkeys(form for forms in lines.values() for form in forms))
    found = {form: accuracies_of(each) for form, each in runs.items()}
    chart = Lines(
        name="scaling",
        title="B0 scaled in one dimension, and in three",
        x="million MACs",
        y="test accuracy, %",
        log_x=True,
        series=tuple(
            Series.of(
                name,
                [form.million_macs(setting) for form in forms],
                list(zip(*(found[form] for form in forms), strict=True)),
            )
            for name, forms in lines.items()
        ),
    )
    bends = [[bend(values) for values in zip(*(found[form] for form in lines[name]), strict=True)] for name in SINGLE]
    return Measurement(
        values=tuple(map(statistics.fmean, zip(*bends, strict=True))),
        figures=tuple(
            (f"{name}, {form.million_macs(setting):.0f} million MACs", f"{statistics.fmean(found[form]):.2f} %")
            for name, forms in lines.items()
            for form in forms
        ),
        charts=(chart,),
    )


def bend(values: Sequence[float]) -> float:
    """What the first step wins less what the second does."""
    first, second, third = values
    return (second - first) - (third - second)


def compound(setting: Setting) -> Measurement:
    return won(setting, B0, PAPER, 2 if setting.quick else 4)


def search_b0(setting: Setting) -> Measurement:
    return won(setting, B0, TOGETHER, 2)


def search_resnet(setting: Setting) -> Measurement:
    return won(setting, RESNET, TOGETHER, 2)


TOPIC = Topic(
    id="compound",
    title="EfficientNet: scale width, depth and resolution together",
    summary="Scaling one dimension of a network saturates soon; scaling depth, width and resolution together by "
    "alpha^phi, beta^phi and gamma^phi, with alpha beta^2 gamma^2 = 2 about, is better at equal MACs, for older "
    "networks too.",
    source="Tan and Le 2019, sections 3 to 5, equations 2 and 3, Figures 3 and 8, Tables 3 and 7",
    method="B0 and, of the older families, ResNet-20 grow to the MACs of the network twice as deep (full: also four "
    "times), along each dimension and in four ways along all three. A search with one seed and a tenth of the "
    "training images held out chooses a way of each kind; both are then trained with every seed and compared on the "
    f"test images. Quick: B0 a quarter as wide from {B0.side} px, ResNet-20 three sixteenths from "
    f"{RESNET.side} px, without dropout, {EPOCHS} epochs of digits; full: the paper's width, CIFAR-10.",
    limitations="Digits have 8x8 pixels and are enlarged: a higher resolution adds positions and no detail, for which the "
    "paper scales it; what it wins here all the same, and which dimension is best, stands among the figures. The "
    "search is of one seed, with hardly more than a hundred images held out. A difference found here is of these "
    "small networks in a short training, in which what learns fast counts as much as what ends well, and says little "
    "about ImageNet. Depth grows by whole units, which at twice the MACs is most of it.",
    minutes=(5, 300),
    statements=(
        Statement(
            id="doubling",
            text="Each step of phi doubles the MACs, about.",
            statistic="factor of B0's MACs in the step of phi, from 0 to 7, that is farthest from 2",
            # The paper's constants give 1.92, rounded channels and blocks more or less.
            threshold=Threshold(1.7, 2.3),
            measure=doubling,
        ),
        Statement(
            id="saturation",
            text="Scaling one dimension saturates.",
            statistic="points won by the first doubling less those won by the second, mean of three dimensions",
            threshold=at_least(WORTH),
            measure=saturation,
            only_full="nearly all digits are answered rightly by a network that is trained to its end: there any "
            "accuracy levels off, whatever was scaled. It needs harder images and long trainings of four times the "
            "MACs, as --budget full has",
        ),
        Statement(
            id="compound",
            text="At equal MACs compound scaling with the paper's constants is better than any one dimension.",
            statistic="test accuracy of B0 with the paper's constants less that of the best dimension, in points",
            threshold=at_least(WORTH),
            measure=compound,
        ),
        Statement(
            id="search-b0",
            text="A search finds that all three should grow, for the B0 base.",
            statistic="test accuracy of the best way to grow all three less that of the best dimension, in points",
            threshold=at_least(WORTH),
            measure=search_b0,
        ),
        Statement(
            id="search-resnet",
            text="And for an older family.",
            statistic="the same of ResNet-20, in points",
            threshold=at_least(WORTH),
            measure=search_resnet,
        ),
    ),
)
