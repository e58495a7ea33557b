"""EfficientNet: scale width, depth and resolution together."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from convatlas import atlas
from convatlas.draw import Lines, Series
from convatlas.experiments.equal_cost import at_cost, macs
from convatlas.experiments.experiment import Experiment, Measured, Part, Setting, Threshold, at_least
from convatlas.spec import Spec
from convatlas.training import Request

QUICK_WIDTH, QUICK_SIDE, QUICK_EPOCHS = 0.25, 28, 4
WORTH = 0.1
"""Points of accuracy that must be won to count; Table 3 has 0.7 to 2.5."""

Triple = tuple[float, float, float]
"""alpha, beta and gamma: factors of depth, width and resolution."""
# Each alpha * beta^2 * gamma^2 = 2, about.
SINGLE: dict[str, Triple] = {"depth": (2.0, 1.0, 1.0), "width": (1.0, 2**0.5, 1.0), "resolution": (1.0, 1.0, 2**0.5)}
TOGETHER: dict[str, Triple] = {"paper's": (1.2, 1.1, 1.15), "even": (2 ** (1 / 3), 2 ** (1 / 6), 2 ** (1 / 6))}


def base(setting: Setting, network: str) -> Spec:
    spec = atlas.find(network).spec
    return spec.scaled(width=QUICK_WIDTH, resolution=QUICK_SIDE) if setting.quick else spec.scaled(resolution=32)


@dataclass(frozen=True)
class Scaled:
    """A base whose MACs were multiplied in one direction."""

    network: str
    direction: Triple
    times: int

    def spec(self, setting: Setting) -> Spec:
        own, variant = base(setting, self.network), atlas.find(self.network)
        if self.times == 1:
            return own
        alpha, beta, gamma = self.direction
        along = partial(own.compound, alpha=alpha, beta=beta, gamma=gamma)
        return at_cost(variant, self.times * macs(variant, own), along, 0.0, 2.0 * self.times)

    def request(self, setting: Setting, seed: int) -> Request:
        return Request(
            network=self.network,
            spec=self.spec(setting),
            data="digits" if setting.quick else "cifar10",
            epochs=QUICK_EPOCHS if setting.quick else None,
            seed=seed,
            tune=not setting.quick,
        )

    def cost(self, setting: Setting) -> float:
        """In million MACs."""
        return macs(atlas.find(self.network), self.spec(setting)) / 1e6


def accuracies(setting: Setting, forms: Sequence[Scaled]) -> dict[Scaled, list[float]]:
    """Of the test pictures, in percent, a value a seed."""
    requests = {(form, seed): form.request(setting, seed) for form in forms for seed in setting.seeds}
    setting.train_all(requests.values())
    return {form: [100 * setting.train(requests[form, seed]).test_accuracy for seed in setting.seeds] for form in forms}


def doubling(setting: Setting) -> Measured:
    variant = atlas.find("efficientnet-b0")
    costs = [macs(variant, variant.spec.compound(phi)) for phi in (0, 1, 2, 3)]
    return Measured(
        values=(costs[1] / costs[0],),
        figures=tuple((f"MACs at phi {phi}", f"{cost / 1e6:,.0f} million") for phi, cost in enumerate(costs)),
    )


def saturation(setting: Setting) -> Measured:
    """What the first doubling of MACs wins less what the second does, over the three dimensions."""
    network = "efficientnet-b0"
    lines = {name: [Scaled(network, triple, times) for times in (1, 2, 4)] for name, triple in SINGLE.items()}
    lines["together"] = [Scaled(network, TOGETHER["paper's"], times) for times in (1, 2, 4)]
    found = accuracies(setting, list(dict.fromkeys(form for forms in lines.values() for form in forms)))
    chart = Lines(
        name="scaling",
        title="A small B0 scaled in one dimension, and in three",
        x="million MACs",
        y="test accuracy, %",
        log_x=True,
        series=tuple(
            Series.of(
                name,
                [form.cost(setting) for form in forms],
                list(zip(*(found[form] for form in forms), strict=True)),
            )
            for name, forms in lines.items()
        ),
    )

    def bend(seed: int) -> float:
        bends = []
        for name in SINGLE:
            first, second, third = (found[form][seed] for form in lines[name])
            bends.append((second - first) - (third - second))
        return statistics.fmean(bends)

    return Measured(
        values=tuple(map(bend, range(len(setting.seeds)))),
        figures=tuple(
            (
                f"{name}, MACs times {form.times}",
                f"{form.cost(setting):.2f} million, {statistics.fmean(found[form]):.2f} %",
            )
            for name, forms in lines.items()
            for form in forms
        ),
        charts=(chart,),
    )


def won(setting: Setting, network: str, together: dict[str, Triple], times: int) -> Measured:
    """By how many points the best of those that scale all dimensions is above the best that scales one."""
    forms = {name: Scaled(network, triple, times) for name, triple in (SINGLE | together).items()}
    found = accuracies(setting, list(forms.values()))

    def best(names: Sequence[str]) -> list[float]:
        return max((found[forms[name]] for name in names), key=statistics.fmean)

    return Measured(
        values=tuple(all_three - one for all_three, one in zip(best(list(together)), best(list(SINGLE)), strict=True)),
        figures=tuple(
            (name, f"{form.cost(setting):.2f} million MACs, {statistics.fmean(found[form]):.2f} %")
            for name, form in forms.items()
        ),
    )


def at_four_times(setting: Setting) -> Measured:
    return won(setting, "efficientnet-b0", {"paper's": TOGETHER["paper's"]}, 4)


def searched_b0(setting: Setting) -> Measured:
    return won(setting, "efficientnet-b0", TOGETHER, 2)


def searched_mobilenet(setting: Setting) -> Measured:
    return won(setting, "mobilenet", TOGETHER, 2)


EXPERIMENT = Experiment(
    id="compound",
    title="EfficientNet: scale width, depth and resolution together",
    claim="Scaling one dimension of a network saturates soon; scaling depth, width and resolution together by "
    "alpha^phi, beta^phi and gamma^phi, with alpha beta^2 gamma^2 = 2 about, is better at equal MACs, for older "
    "networks too.",
    source="Tan and Le 2019, sections 3 to 5, equations 2 and 3, Figures 3 and 8, Table 3",
    done="Small forms of B0 and of MobileNet are scaled to twice and four times their MACs along one dimension, "
    "along the paper's constants, and along even ones; the exponent is searched so that MACs are equal, as near as "
    f"rounded channels and whole blocks allow. Quick: a quarter of the width, {QUICK_SIDE} px, {QUICK_EPOCHS} epochs "
    "of digits; full: the paper's width at 32 px, CIFAR-10.",
    limits="Digits of 8x8 pixels are enlarged: resolution brings no information, so the dimension that the paper needs "
    "for its gain is empty here. Channels in steps of 8 make narrow networks grow in leaps. The verdict at quick says "
    "little about ImageNet.",
    minutes=(3, 200),
    parts=(
        Part(
            id="doubling",
            claim="Each step of phi doubles the MACs, about.",
            statistic="MACs of B0 at phi 1 over those at phi 0",
            # The paper's constants give 1.92, rounded channels and blocks more or less.
            threshold=Threshold(1.7, 2.3),
            measure=doubling,
        ),
        Part(
            id="saturation",
            claim="Scaling one dimension saturates.",
            statistic="points won by the first doubling of MACs less those won by the second, mean of three dimensions",
            threshold=at_least(WORTH),
            measure=saturation,
        ),
        Part(
            id="compound",
            claim="At equal MACs compound scaling is better than any one dimension.",
            statistic="test accuracy at four times the MACs with the paper's constants less that of the best "
            "dimension, in points",
            threshold=at_least(WORTH),
            measure=at_four_times,
        ),
        Part(
            id="search-b0",
            claim="A search finds that all three should grow, for the B0 base.",
            statistic="test accuracy at twice the MACs of the best triple that scales all less that of the best that "
            "scales one, in points",
            threshold=at_least(WORTH),
            measure=searched_b0,
        ),
        Part(
            id="search-mobilenet",
            claim="And for an older family.",
            statistic="the same for MobileNet, in points",
            threshold=at_least(WORTH),
            measure=searched_mobilenet,
        ),
    ),
)
