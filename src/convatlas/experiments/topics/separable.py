"""MobileNet: depthwise separable convolutions and two multipliers."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from convatlas import atlas, measure
from convatlas.draw import Bars, Lines, Series
from convatlas.experiments.engine.accuracy import accuracies_of, differences, training_accuracy, undertrained_reason
from convatlas.experiments.engine.budget import Setting
from convatlas.experiments.engine.statement import Statement, Topic
from convatlas.experiments.engine.verdict import Measurement, Threshold, at_least, at_most, exactly
from convatlas.models.device import device_named
from convatlas.networks.mobilenet import Full, MobileNetSpec, Separable
from convatlas.runs.options import Execution, Runtime
from convatlas.spec import Layer, Layers, Scale
from convatlas.training import Request
from convatlas.training.step import arranged

KERNEL = 3
DEPTHWISE, POINTWISE, FULL = ".depthwise.conv", ".pointwise.conv", ".full.conv"
WIDTH = 0.25
"""At quick: alpha of what is called 1 there."""
SIDE = 64
"""From it on the network has the paper's own stem; below, that for small images would change with rho."""
EPOCHS, BATCH, LR = 12, 32, 0.012
"""At quick. With small batches and a high rate the plain chain of 27 layers learns the digits in so few epochs."""
THIN = 0.75
"""Table 5: about as many MACs as the network with five layers fewer."""
THIN_GAIN = 1.0
"""Points of accuracy. Table 5: 3.1; a third of it."""
ALPHAS = (0.25, 0.5, 0.75, 1.0)
SIDES = (224, 192, 160, 128)
"""Those of Table 7."""
RHOS = (64, 80, 96)
"""Sides that are trained; of 112, that of rho = 1, they are 4/7, 5/7 and 6/7, as Table 7's are of 224."""
RHO_ALPHA = 0.5
"""At quick, for the time that larger images take."""
TIMED, TIMED_FULL = 4, 64
"""Images in a batch that is timed: a GPU needs more to be busy."""
REPEATS = 5


def layers_of(name: str, alpha: float = 1.0, side: int = SIDES[0]) -> Layers:
    variant = atlas.find(name)
    return measure.layers_of(variant.network, variant.spec.scaled(width=alpha, resolution=side))


def pairs(layers: Layers) -> dict[str, tuple[Layer, Layer]]:
    """The depthwise and the pointwise convolution of each separable layer, by its name."""
    names = [row.name.removesuffix(DEPTHWISE) for row in layers if row.name.endswith(DEPTHWISE)]
    return {name: (layers[name + DEPTHWISE], layers[name + POINTWISE]) for name in names}


def cost(setting: Setting) -> Measurement:
    """The largest difference, over all layers, of the counted ratio to the printed one."""
    full = layers_of("mobilenet-conv")
    counted, off = {}, []
    for name, (depthwise, pointwise) in pairs(layers_of("mobilenet")).items():
        maps = pointwise.output_shape[0]
        counted[f"{name}, {maps} maps"] = Fraction(depthwise.macs + pointwise.macs, full[name + FULL].macs)
        off.append(abs(counted[f"{name}, {maps} maps"] - Fraction(1, maps) - Fraction(1, KERNEL**2)))
    return Measurement(
        values=(float(max(off)),),
        figures=tuple((name, f"{float(ratio):.4f} of the full MACs") for name, ratio in counted.items()),
    )


def whole(setting: Setting) -> Measurement:
    found = {name: layers_of(name).macs for name in ("mobilenet-conv", "mobilenet")}
    full, separable = found.values()
    return Measurement(
        values=(full / separable,),
        figures=tuple((f"MACs of {name}", f"{macs / 1e6:,.0f} million") for name, macs in found.items()),
    )


def multipliers(setting: Setting) -> Measurement:
    """MACs by which layers differ from equation 7, over all layers and the sixteen networks of alpha and rho."""
    base = pairs(layers_of("mobilenet"))
    off, totals = [], {}
    for alpha in ALPHAS:
        for side in SIDES:
            rho = Fraction(side, SIDES[0])
            scaled = layers_of("mobilenet", alpha, side)
            totals[alpha, side] = scaled.macs
            for name, (depthwise, pointwise) in pairs(scaled).items():
                below, maps = (Fraction(alpha) * row.output_shape[0] for row in base[name])
                positions = (rho * base[name][1].output_shape[1]) ** 2
                off.append(abs(depthwise.macs + pointwise.macs - (KERNEL**2 * below + below * maps) * positions))
    one = totals[1.0, SIDES[0]]
    return Measurement(
        values=(float(max(off)),),
        figures=(
            *(
                (f"all MACs at alpha {alpha:g}", f"{totals[alpha, SIDES[0]] / one:.3f}; alpha^2 is {alpha**2:.3f}")
                for alpha in ALPHAS
            ),
            *(
                (f"all MACs at {side} px", f"{totals[1.0, side] / one:.3f}; rho^2 is {(side / SIDES[0]) ** 2:.3f}")
                for side in SIDES
            ),
        ),
    )


class Place(NamedTuple):
    """Where a layer is: what reaches it, and what it makes of that."""

    below: int
    maps: int
    side: int
    """Of the maps that reach it."""
    stride: int

    def __str__(self) -> str:
        return f"{self.below}-{self.maps}, {self.side} px" + (f" / {self.stride}" if self.stride > 1 else "")

    def macs(self, *, full: bool) -> int:
        """Section 3.1: of the full convolution, or of the two that take its place."""
        of_one = KERNEL**2 * self.maps if full else KERNEL**2 + self.maps
        return self.below * of_one * (self.side // self.stride) ** 2


def places(spec: MobileNetSpec) -> Counter[Place]:
    """Those of the network's separable layers, and how often it has each."""
    found: Counter[Place] = Counter()
    below, side = spec.conv1, spec.resolution // 2
    for number, stage in enumerate(spec.stages):
        for i, maps in enumerate(stage):
            place = Place(below, maps, side, stride=2 if number and not i else 1)
            found[place] += 1
            below, side = maps, side // place.stride
    return found


def time(setting: Setting) -> Measurement:
    """How many times as long as counted the separable layers of the network take, over the full ones, in each turn."""
    device = device_named(None)
    spec = atlas.find("mobilenet").spec
    assert isinstance(spec, MobileNetSpec), "it is the family's own"
    found = places(spec)
    batch = TIMED if setting.quick else TIMED_FULL

    def work(made: type[Separable | Full], place: Place) -> measure.Workload:
        execution = Execution(threads=torch.get_num_threads())
        layer = arranged(made(place.below, place.maps, place.stride).to(device).eval(), execution)
        inputs = torch.randn(batch, place.below, place.side, place.side, device=device)
        inputs = inputs.contiguous(memory_format=torch.channels_last)

        def forward() -> None:
            with torch.inference_mode():
                layer(inputs)

        return measure.Workload(forward, measure.torch_engine(device))

    kinds = (Separable, Full)
    works = {f"{made.__name__} {place}": work(made, place) for place in found for made in kinds}
    timings = measure.time_in_turn(works, repeats=REPEATS)
    each = ({place: timings[f"{made.__name__} {place}"].durations_s for place in found} for made in kinds)
    measured = followed(found, *each)
    return replace(measured, figures=(*measured.figures, ("engine", measure.torch_engine(device))))


Times = Mapping[Place, tuple[float, ...]]
"""Of each place, one duration a turn."""


def followed(found: Counter[Place], separable: Times, full: Times) -> Measurement:
    """The ratio of times over that of MACs, each layer as often as the network has it."""

    def total(of: Mapping[Place, float]) -> float:
        return sum(number * of[place] for place, number in found.items())

    def at(turn: int, times: Times) -> dict[Place, float]:
        return {place: times[place][turn] for place in found}

    macs, full_macs = ({place: place.macs(full=full) for place in found} for full in (False, True))
    by_count = {place: macs[place] / full_macs[place] for place in found}
    counted = total(macs) / total(full_macs)
    num_turns = len(next(iter(full.values())))
    turns = [total(at(turn, separable)) / total(at(turn, full)) for turn in range(num_turns)]
    ratios = {place: statistics.median(separable[place]) / statistics.median(full[place]) for place in found}
    chart = Bars(
        name="time",
        title="A separable layer over a full one: maps, side of the input / stride",
        y="separable / full",
        labels=tuple(map(str, found)),
        series=(
            Series("MACs", (), tuple(by_count.values())),
            Series("time", (), tuple(ratios.values())),
        ),
    )
    return Measurement(
        values=tuple(turn / counted for turn in turns),
        figures=(
            ("all together", f"{statistics.median(turns):.3f} of the time, {counted:.3f} of the MACs"),
            *(
                (f"{place}, {number} times", f"{ratios[place]:.3f} of the time, {by_count[place]:.3f} of the MACs")
                for place, number in found.items()
            ),
        ),
        charts=(chart,),
    )


@dataclass(frozen=True)
class Form:
    """A network of this family, as a part of the budget's base in width, and the side of its images."""

    network: str = "mobilenet"
    alpha: float = 1.0
    side: int = SIDE

    def __str__(self) -> str:
        return f"{self.network}, alpha {self.alpha:g}, {self.side} px"

    def request(self, setting: Setting, seed: int) -> Request:
        if not setting.quick:
            return Request(
                network=self.network, data="cifar10", scale=Scale(width=self.alpha, resolution=self.side), seed=seed
            )
        return Request(
            network=self.network,
            data="digits",
            scale=Scale(width=self.alpha * WIDTH, resolution=self.side),
            epochs=EPOCHS,
            batch_size=BATCH,
            lr=LR,
            seed=seed,
            runtime=Runtime(autotune=False),
        )


@dataclass(frozen=True)
class Trained:
    """What the trainings of a form came to."""

    million_macs: float
    test: tuple[float, ...]
    """Accuracy in percent, one a seed."""
    training: float
    """The same of the images that were learned, the least of the seeds."""

    def __str__(self) -> str:
        return (
            f"{statistics.fmean(self.test):.2f} % (of what was learned {self.training:.2f} %), "
            f"{self.million_macs:.2f} million MACs"
        )


def trained(setting: Setting, forms: Sequence[Form]) -> dict[Form, Trained]:
    runs = setting.train_seeds({form: partial(form.request, setting) for form in forms})
    return {
        form: Trained(
            measure.cost_of(atlas.find(form.network).network, each[0].spec).macs / 1e6,
            accuracies_of(each),
            training_accuracy(each),
        )
        for form, each in runs.items()
    }


def doubt(found: Mapping[Form, Trained]) -> str:
    return undertrained_reason({str(form): each.training for form, each in found.items()})


def ahead(found: Mapping[Form, Trained], otherwise: str = "") -> Measurement:
    """By how many points the first of two is more accurate; `otherwise` is a doubt of those that have learned."""
    first, second = found.values()
    return Measurement(
        values=differences(first.test, second.test),
        figures=tuple((f"test accuracy, {form}", str(each)) for form, each in found.items()),
        inconclusive=doubt(found) or otherwise,
    )


def full(setting: Setting) -> Measurement:
    return ahead(trained(setting, (Form("mobilenet-conv"), Form())))


def thin(setting: Setting) -> Measurement:
    narrow, shallow = Form(alpha=THIN), Form("mobilenet-shallow")
    found = trained(setting, (narrow, shallow))
    left = 100 - statistics.fmean(found[shallow].test)
    no_room = (
        f"the shallow network leaves {left:.2f} points to be won, fewer than the {THIN_GAIN:g} of the threshold; "
        f"it needs images of which that network gets {THIN_GAIN:g} % wrong at least, as CIFAR-10 of --budget full"
    )
    return ahead(found, no_room if left < THIN_GAIN else "")


def along(setting: Setting, name: str, title: str, forms: Sequence[Form], note: str = "") -> Measurement:
    """The correlation of accuracy with the logarithm of MACs, as Figure 4 draws them."""
    found = trained(setting, forms)
    macs = [each.million_macs for each in found.values()]
    runs = list(zip(*(each.test for each in found.values()), strict=True))
    chart = Lines(
        name=name,
        title=title,
        x="million MACs",
        y="test accuracy, %",
        log_x=True,
        series=(Series.of("accuracy", macs, runs),),
    )
    return Measurement(
        values=tuple(correlation(np.log(macs), run) for run in runs),
        figures=tuple((f"test accuracy, {form}", str(each)) for form, each in found.items()),
        charts=(chart,),
        note=note,
        inconclusive=doubt(found),
    )


def correlation(x: Sequence[float] | npt.NDArray[np.float64], y: Sequence[float]) -> float:
    """0 where nothing varies."""
    if np.ptp(y) == 0:
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])


def alpha(setting: Setting) -> Measurement:
    forms = [Form(alpha=alpha) for alpha in ALPHAS]
    return along(setting, "alpha", f"The width multiplier at {SIDE} px: alpha {ALPHAS[0]:g} to {ALPHAS[-1]:g}", forms)


def rho(setting: Setting) -> Measurement:
    alpha = RHO_ALPHA if setting.quick else 1.0
    title = f"The resolution multiplier at alpha {alpha:g}: {RHOS[0]} to {RHOS[-1]} px"
    pixels = 8 if setting.quick else 32
    note = (
        f"The images have {pixels}x{pixels} pixels and are enlarged: this is what smaller maps cost. What the paper "
        "measured is that together with the detail that smaller images lose."
    )
    return along(setting, "rho", title, [Form(alpha=alpha, side=side) for side in RHOS], note)


RISES = 0.7
"""Of the correlation with MACs: half of the variance is explained. Tables 6 and 7 have 0.98 and more."""

TOPIC = Topic(
    id="separable",
    title="MobileNet: depthwise separable convolutions and two multipliers",
    summary="A filter for each map and then a 1x1 combination cost 1/N + 1/D_K^2 of a full convolution, for about a "
    "point of accuracy; alpha and rho trade accuracy for cost smoothly; thin networks are better than shallow ones.",
    source="Howard et al. 2017, sections 3.1 to 3.4 and 4.1, Tables 4 to 7, Figure 4",
    method="Every separable layer is counted against its full counterpart at 224 px, and timed against it, in turn, in "
    f"single precision, with its normalization and rectifiers. Trained: quick with alpha {WIDTH:g} for what the paper "
    f"calls 1, {EPOCHS} epochs of digits; full at the paper's width on CIFAR-10, both from {SIDE} px on.",
    limitations="Digits of 8x8 pixels are enlarged, so that rho takes positions away and no detail. So few epochs favor "
    "networks that learn fast, as full convolutions and shallow networks do; the figures tell what was learned. "
    "ImageNet was not run.",
    minutes=(3, 90),
    statements=(
        Statement(
            id="cost",
            text="A separable layer costs 1/N + 1/D_K^2 of a full one.",
            statistic="largest difference of the counted ratio of MACs to 1/N + 1/D_K^2, over the thirteen layers",
            threshold=exactly(0),
            measure=cost,
        ),
        Statement(
            id="whole",
            text="The network takes 8 to 9 times less computation than with full convolutions.",
            statistic="MACs with full convolutions over those with separable ones, 224 px",
            threshold=Threshold(8, 9),
            measure=whole,
        ),
        Statement(
            id="multipliers",
            text="Both multipliers scale what a layer costs as equation 7 says.",
            statistic="largest difference from equation 7, in MACs, over all layers at sixteen pairs of alpha and rho",
            threshold=exactly(0),
            measure=multipliers,
        ),
        Statement(
            id="time",
            text="The time follows.",
            statistic="ratio of the times of the separable layers to the full ones over the ratio of their MACs",
            # What is saved is arithmetic; reading and writing the maps is not. Within twice the count a layer is
            # still four times as fast.
            threshold=at_most(2.0),
            measure=time,
        ),
        Statement(
            id="full",
            text="Separable layers lose about a point of accuracy.",
            statistic="test accuracy with full convolutions less that with separable ones, at equal width, in points",
            # Table 4: 1.1 points; half as much again.
            threshold=at_most(1.65),
            measure=full,
        ),
        Statement(
            id="alpha",
            text="Accuracy rises smoothly with MACs along the width multiplier.",
            statistic="correlation of test accuracy with the logarithm of MACs, four values of alpha",
            threshold=at_least(RISES),
            measure=alpha,
        ),
        Statement(
            id="rho",
            text="And along the resolution multiplier, which shrinks the maps of every layer.",
            statistic="correlation of test accuracy with the logarithm of MACs, three values of rho",
            threshold=at_least(RISES),
            measure=rho,
        ),
        Statement(
            id="thin",
            text="Thinner is better than shallower at about equal MACs.",
            statistic=f"test accuracy at alpha {THIN:g} less that with five layers fewer, in points",
            threshold=at_least(THIN_GAIN),
            measure=thin,
        ),
    ),
)
