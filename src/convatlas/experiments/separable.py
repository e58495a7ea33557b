"""MobileNet: depthwise separable convolutions and two multipliers."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from convatlas import atlas, measure
from convatlas.draw import Bars, Lines, Series
from convatlas.experiments.experiment import Experiment, Measured, Part, Setting, at_least, at_most, exactly
from convatlas.networks.mobilenet import Full, Separable
from convatlas.spec import Layers
from convatlas.training import Request

KERNEL = 3
QUICK_WIDTH, QUICK_SIDE, QUICK_EPOCHS = 0.25, 28, 6
THIN = 0.75
"""Table 5: as many MACs as the network with five layers less."""
ALPHAS = (0.25, 0.5, 1.0)
RHOS = (1.0, 1.4, 2.0)
LAYERS = {"128 maps, 56 px": (128, 56), "256 maps, 28 px": (256, 28), "512 maps, 14 px": (512, 14)}
"""Of Table 1, those that keep their size."""
BATCH, REPEATS = 4, 5


def layers_of(name: str) -> Layers:
    variant = atlas.find(name)
    return measure.layers_of(variant.network, variant.spec)


def cost(setting: Setting) -> Measured:
    """The largest difference, over all layers, of the counted ratio to the printed one."""
    separable, full = layers_of("mobilenet"), layers_of("mobilenet-conv")
    rows = []
    for row in full:
        name, _, what = row.name.rpartition(".full.conv")
        if what or not name:
            continue
        depthwise, pointwise = (separable[f"{name}.{part}.conv"] for part in ("depthwise", "pointwise"))
        maps = pointwise.output_shape[0]
        counted = Fraction(depthwise.macs + pointwise.macs, row.macs)
        rows.append((name, maps, counted, abs(counted - (Fraction(1, maps) + Fraction(1, KERNEL**2)))))
    return Measured(
        values=(float(max(difference for *_, difference in rows)),),
        figures=tuple(
            (f"{name}, {maps} maps", f"{float(counted):.4f} of the full MACs") for name, maps, counted, _ in rows
        ),
    )


def time(setting: Setting) -> Measured:
    """How many times as long as the counted ratio says, once for each turn, over the layers."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        modules = {
            (name, kind): made(maps, maps, 1).eval()
            for name, (maps, _) in LAYERS.items()
            for kind, made in (("separable", Separable), ("full", Full))
        }
    channels_last = torch.channels_last
    for module in modules.values():
        module.to(memory_format=channels_last)  # type: ignore[call-overload]
    pictures = {
        name: torch.randn(BATCH, maps, side, side).contiguous(memory_format=channels_last)
        for name, (maps, side) in LAYERS.items()
    }

    def call(name: str, kind: str) -> None:
        with torch.inference_mode():
            modules[name, kind](pictures[name])

    works = {f"{name}/{kind}": partial(call, name, kind) for name, kind in modules}
    taken = measure.seconds_in_turn(works, REPEATS)
    counted = {name: 1 / maps + 1 / KERNEL**2 for name, (maps, _) in LAYERS.items()}
    ratios = {
        name: [one / other for one, other in zip(taken[f"{name}/separable"], taken[f"{name}/full"], strict=True)]
        for name in LAYERS
    }
    chart = Bars(
        name="time",
        title="A separable layer over a full one",
        y="ratio",
        labels=tuple(LAYERS),
        series=(
            Series("counted", (), tuple(counted.values())),
            Series("time", (), tuple(map(statistics.median, ratios.values()))),
        ),
    )
    turns = zip(*ratios.values(), strict=True)
    return Measured(
        values=tuple(
            statistics.geometric_mean([one / counted[name] for name, one in zip(LAYERS, turn, strict=True)])
            for turn in turns
        ),
        figures=tuple(
            (name, f"time ratio {statistics.median(ratios[name]):.3f}, counted {counted[name]:.3f}") for name in LAYERS
        ),
        charts=(chart,),
    )


@dataclass(frozen=True)
class Form:
    """A network of this family, at a part of the budget's base in width and resolution."""

    network: str = "mobilenet"
    alpha: float = 1.0
    rho: float = 1.0

    def __str__(self) -> str:
        scale = [f"{name} {value:g}" for name, value in (("alpha", self.alpha), ("rho", self.rho)) if value != 1]
        return ", ".join([self.network, *scale])

    def request(self, setting: Setting, seed: int) -> Request:
        return Request(
            network=self.network,
            data="digits" if setting.quick else "cifar10",
            width=self.alpha * (QUICK_WIDTH if setting.quick else 1.0),
            resolution=round(self.rho * (QUICK_SIDE if setting.quick else 32)),
            epochs=QUICK_EPOCHS if setting.quick else None,
            seed=seed,
            tune=not setting.quick,
        )


def accuracies(setting: Setting, forms: Sequence[Form]) -> dict[Form, list[float]]:
    """Of the test pictures, in percent, a value a seed."""
    setting.train_all(form.request(setting, seed) for seed in setting.seeds for form in forms)
    return {
        form: [100 * setting.train(form.request(setting, seed)).test_accuracy for seed in setting.seeds]
        for form in forms
    }


def ahead(setting: Setting, first: Form, second: Form) -> Measured:
    """By how many points the first is more accurate."""
    found = accuracies(setting, (first, second))
    return Measured(
        values=tuple(one - other for one, other in zip(*found.values(), strict=True)),
        figures=tuple((f"test accuracy, {form}", f"{statistics.fmean(each):.2f} %") for form, each in found.items()),
    )


def full(setting: Setting) -> Measured:
    return ahead(setting, Form("mobilenet-conv"), Form())


def thin(setting: Setting) -> Measured:
    return ahead(setting, Form(alpha=THIN), Form("mobilenet-shallow"))


def along(setting: Setting, name: str, title: str, forms: Sequence[Form]) -> Measured:
    """The correlation of accuracy with the logarithm of MACs, as Figure 4 draws them."""
    found = accuracies(setting, forms)
    macs = []
    for form in forms:
        record = setting.train(form.request(setting, setting.seeds[0])).record
        macs.append(measure.cost_of(atlas.find(form.network).network, record.spec).macs / 1e6)
    runs = list(zip(*found.values(), strict=True))
    chart = Lines(
        name=name,
        title=title,
        x="million MACs",
        y="test accuracy, %",
        log_x=True,
        series=(Series.of("accuracy", macs, runs),),
    )
    return Measured(
        values=tuple(correlation(np.log(macs), run) for run in runs),
        figures=tuple(
            (str(form), f"{cost:.2f} million MACs, {statistics.fmean(each):.2f} %")
            for (form, each), cost in zip(found.items(), macs, strict=True)
        ),
        charts=(chart,),
    )


def correlation(x: Sequence[float] | npt.NDArray[np.float64], y: Sequence[float]) -> float:
    """0 where nothing varies."""
    if np.ptp(y) == 0:
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])


def alpha(setting: Setting) -> Measured:
    return along(setting, "alpha", "The width multiplier", [Form(alpha=alpha) for alpha in ALPHAS])


def rho(setting: Setting) -> Measured:
    return along(setting, "rho", "The resolution multiplier", [Form(rho=rho) for rho in RHOS])


RISES = 0.7
"""Of the correlation with MACs: half of the variance is explained."""

EXPERIMENT = Experiment(
    id="separable",
    title="MobileNet: depthwise separable convolutions and two multipliers",
    claim="A filter for each map and then a 1x1 combination cost 1/N + 1/D_K^2 of a full convolution, for about a "
    "point of accuracy; alpha and rho trade accuracy for cost smoothly; thin networks are better than shallow ones.",
    source="Howard et al. 2017, sections 3.1 to 3.4 and 4.1, Tables 4 to 7, Figure 4",
    done="Every separable layer is counted against its full counterpart at 224 px. Layers of three sizes of Table 1 "
    f"are timed in turn, {BATCH} pictures, single precision. Trained: quick a quarter as wide, {QUICK_SIDE} px, "
    f"{QUICK_EPOCHS} epochs of digits; full at the paper's width on CIFAR-10 at 32 to 64 px.",
    limits="Digits are enlarged from 8x8 pixels: a higher resolution shows nothing more of them. At an eighth of a "
    "width multiplier layers have very few maps. ImageNet was not run.",
    minutes=(2, 60),
    parts=(
        Part(
            id="cost",
            claim="A separable layer costs 1/N + 1/D_K^2 of a full one.",
            statistic="largest difference of the counted ratio of MACs to 1/N + 1/D_K^2, over the thirteen layers",
            threshold=exactly(0),
            measure=cost,
        ),
        Part(
            id="time",
            claim="The time follows.",
            statistic="ratio of times over the counted ratio, geometric mean over three layers",
            # What is saved is arithmetic; reading and writing the maps is not. Within twice the count, it follows.
            threshold=at_most(2.0),
            measure=time,
        ),
        Part(
            id="full",
            claim="Separable layers lose about a point of accuracy.",
            statistic="test accuracy with full convolutions less that with separable ones, at equal width, in points",
            # Table 4: 1.1 points; half as much again.
            threshold=at_most(1.65),
            measure=full,
        ),
        Part(
            id="alpha",
            claim="Accuracy rises smoothly with MACs along the width multiplier.",
            statistic="correlation of test accuracy with the logarithm of MACs, three values of alpha",
            threshold=at_least(RISES),
            measure=alpha,
        ),
        Part(
            id="rho",
            claim="And along the resolution multiplier.",
            statistic="the same, three values of rho",
            threshold=at_least(RISES),
            measure=rho,
        ),
        Part(
            id="thin",
            claim="Thinner is better than shallower at about equal MACs.",
            statistic=f"test accuracy at alpha {THIN:g} less that with five layers less, in points",
            # Table 5: 3.1 points; a third of it.
            threshold=at_least(1.0),
            measure=thin,
        ),
    ),
)
