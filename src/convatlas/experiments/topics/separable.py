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
from convatlas.models.device import resolve_device
from convatlas.networks.mobilenet import Full, MobileNetSpec, Separable
from convatlas.runs.options import Execution, Runtime
from convatlas.spec import Layer, Layers, Scale
from convatlas.training import Request
from convatlas.training.step import to_memory_format

KERNEL = 3
DEPTHWISE, POINTWISE, FULL = ".depthwise.conv", ".pointwise.conv", ".full.conv"
QUICK_WIDTH = 0.25
"""The width that counts as alpha = 1 at the quick budget."""
SIDE = 64
"""From this size on the network has the paper's own stem. The stem for smaller images would change with rho."""
EPOCHS, BATCH, LR = 12, 32, 0.012
"""At quick. With small batches and a high rate the plain chain of 27 layers learns the digits in so few epochs."""
THIN_ALPHA = 0.75
"""Table 5: about as many MACs as the network with five layers fewer."""
THIN_GAIN = 1.0
"""Points of accuracy. Table 5: 3.1; a third of it."""
ALPHAS = (0.25, 0.5, 0.75, 1.0)
SIDES = (224, 192, 160, 128)
"""Those of Table 7."""
RHO_SIDES = (64, 80, 96)
"""Image sizes that are trained: 4/7, 5/7 and 6/7 of 112, the size at rho = 1, as Table 7's are of 224."""
RHO_ALPHA = 0.5
"""At quick, because larger images take longer."""
QUICK_TIMED_BATCH, FULL_TIMED_BATCH = 4, 64
"""A GPU needs more images to be busy."""
REPEATS = 5


def layers_of(name: str, alpha: float = 1.0, side: int = SIDES[0]) -> Layers:
    variant = atlas.find(name)
    return measure.layers_of(variant.network, variant.spec.scaled(width=alpha, resolution=side))


def separable_layers(layers: Layers) -> dict[str, tuple[Layer, Layer]]:
    """The depthwise and the pointwise convolution of each separable layer, by its name."""
    names = [row.name.removesuffix(DEPTHWISE) for row in layers if row.name.endswith(DEPTHWISE)]
    return {name: (layers[name + DEPTHWISE], layers[name + POINTWISE]) for name in names}


def cost(setting: Setting) -> Measurement:
    """The largest difference, over all layers, of the counted ratio from the paper's formula."""
    full = layers_of("mobilenet-conv")
    ratios, distances = {}, []
    for name, (depthwise, pointwise) in separable_layers(layers_of("mobilenet")).items():
        out_channels = pointwise.output_shape[0]
        ratio = Fraction(depthwise.macs + pointwise.macs, full[name + FULL].macs)
        ratios[f"{name}, {out_channels} channels"] = ratio
        distances.append(abs(ratio - Fraction(1, out_channels) - Fraction(1, KERNEL**2)))
    return Measurement(
        values=(float(max(distances)),),
        figures=tuple((name, f"{float(ratio):.4f} of the full MACs") for name, ratio in ratios.items()),
    )


def whole_network(setting: Setting) -> Measurement:
    macs = {name: layers_of(name).macs for name in ("mobilenet-conv", "mobilenet")}
    full, separable = macs.values()
    return Measurement(
        values=(full / separable,),
        figures=tuple((f"MACs of {name}", f"{number / 1e6:,.0f} million") for name, number in macs.items()),
    )


def multipliers(setting: Setting) -> Measurement:
    """The largest distance from equation 7 in MACs, over all layers and the sixteen networks of alpha and rho."""
    base = separable_layers(layers_of("mobilenet"))
    distances, totals = [], {}
    for alpha in ALPHAS:
        for side in SIDES:
            rho = Fraction(side, SIDES[0])
            scaled = layers_of("mobilenet", alpha, side)
            totals[alpha, side] = scaled.macs
            for name, (depthwise, pointwise) in separable_layers(scaled).items():
                in_channels, out_channels = (Fraction(alpha) * row.output_shape[0] for row in base[name])
                positions = (rho * base[name][1].output_shape[1]) ** 2
                printed = (KERNEL**2 * in_channels + in_channels * out_channels) * positions
                distances.append(abs(depthwise.macs + pointwise.macs - printed))
    one = totals[1.0, SIDES[0]]
    return Measurement(
        values=(float(max(distances)),),
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


class LayerShape(NamedTuple):
    """A separable layer of the network, as far as its cost depends on it."""

    in_channels: int
    out_channels: int
    side: int
    """Of its input, in pixels."""
    stride: int

    def __str__(self) -> str:
        return f"{self.in_channels}-{self.out_channels}, {self.side} px" + (
            f" / {self.stride}" if self.stride > 1 else ""
        )

    def macs(self, *, full: bool) -> int:
        """Section 3.1: of the full convolution, or of the two that replace it."""
        per_input = KERNEL**2 * self.out_channels if full else KERNEL**2 + self.out_channels
        return self.in_channels * per_input * (self.side // self.stride) ** 2


def layer_shapes(spec: MobileNetSpec) -> Counter[LayerShape]:
    """Those of the network's separable layers, and how many layers have each."""
    shapes: Counter[LayerShape] = Counter()
    in_channels, side = spec.conv1, spec.resolution // 2
    for number, stage in enumerate(spec.stages):
        for i, out_channels in enumerate(stage):
            shape = LayerShape(in_channels, out_channels, side, stride=2 if number and not i else 1)
            shapes[shape] += 1
            in_channels, side = out_channels, side // shape.stride
    return shapes


def time(setting: Setting) -> Measurement:
    """The separable layers' ratio of times to the full ones, over their ratio of MACs, for each round."""
    device = resolve_device(None)
    spec = atlas.find("mobilenet").spec
    assert isinstance(spec, MobileNetSpec), "it is the family's own"
    shapes = layer_shapes(spec)
    batch_size = QUICK_TIMED_BATCH if setting.quick else FULL_TIMED_BATCH

    def workload(kind: type[Separable | Full], shape: LayerShape) -> measure.Workload:
        execution = Execution(threads=torch.get_num_threads())
        layer = to_memory_format(kind(shape.in_channels, shape.out_channels, shape.stride).to(device).eval(), execution)
        inputs = torch.randn(batch_size, shape.in_channels, shape.side, shape.side, device=device)
        inputs = inputs.contiguous(memory_format=torch.channels_last)

        def forward() -> None:
            with torch.inference_mode():
                layer(inputs)

        return measure.Workload(forward, measure.torch_engine(device))

    kinds = (Separable, Full)
    workloads = {(kind, shape): workload(kind, shape) for shape in shapes for kind in kinds}
    timings = measure.time_in_turn(workloads, repeats=REPEATS)
    measurement = time_over_macs(
        shapes, *({shape: timings[kind, shape].durations_s for shape in shapes} for kind in kinds)
    )
    return replace(measurement, figures=(*measurement.figures, ("engine", measure.torch_engine(device))))


Durations = Mapping[LayerShape, tuple[float, ...]]
"""In seconds, for each shape one for each round."""


def time_over_macs(shapes: Counter[LayerShape], separable: Durations, full: Durations) -> Measurement:
    """The ratio of times over that of MACs, each layer as often as the network has it."""

    def total(of_shape: Mapping[LayerShape, float]) -> float:
        return sum(num * of_shape[shape] for shape, num in shapes.items())

    def in_round(number: int, durations: Durations) -> dict[LayerShape, float]:
        return {shape: durations[shape][number] for shape in shapes}

    macs, full_macs = ({shape: shape.macs(full=of_full) for shape in shapes} for of_full in (False, True))
    mac_ratios = {shape: macs[shape] / full_macs[shape] for shape in shapes}
    mac_ratio = total(macs) / total(full_macs)
    num_rounds = len(next(iter(full.values())))
    time_ratios = [total(in_round(i, separable)) / total(in_round(i, full)) for i in range(num_rounds)]
    ratios = {shape: statistics.median(separable[shape]) / statistics.median(full[shape]) for shape in shapes}
    chart = Bars(
        name="time",
        title="A separable layer over a full one: channels, input size / stride",
        y="separable / full",
        labels=tuple(map(str, shapes)),
        series=(
            Series("MACs", (), tuple(mac_ratios.values())),
            Series("time", (), tuple(ratios.values())),
        ),
    )
    return Measurement(
        values=tuple(time_ratio / mac_ratio for time_ratio in time_ratios),
        figures=(
            ("all together", f"{statistics.median(time_ratios):.3f} of the time, {mac_ratio:.3f} of the MACs"),
            *(
                (
                    f"{shape}" + (f", {num} layers" if num > 1 else ""),
                    f"{ratios[shape]:.3f} of the time, {mac_ratios[shape]:.3f} of the MACs",
                )
                for shape, num in shapes.items()
            ),
        ),
        charts=(chart,),
    )


@dataclass(frozen=True)
class Configuration:
    """A network of this family, its alpha relative to the budget's base, and its image size."""

    network: str = "mobilenet"
    alpha: float = 1.0
    side: int = SIDE

    def __str__(self) -> str:
        return f"{self.network}, alpha {self.alpha:g}, {self.side} px"

    def request(self, setting: Setting, seed: int) -> Request:
        if not setting.quick:
            scale = Scale(width=self.alpha, resolution=self.side)
            return Request(network=self.network, data="cifar10", scale=scale, seed=seed)
        return Request(
            network=self.network,
            data="digits",
            scale=Scale(width=self.alpha * QUICK_WIDTH, resolution=self.side),
            epochs=EPOCHS,
            batch_size=BATCH,
            lr=LR,
            seed=seed,
            runtime=Runtime(autotune=False),
        )


@dataclass(frozen=True)
class TrainedConfiguration:
    """The results of a configuration's trainings."""

    million_macs: float
    test: tuple[float, ...]
    """Test accuracies in percent, one for each seed."""
    training: float
    """The lowest of the seeds' accuracies on their training images, in percent."""

    def __str__(self) -> str:
        return (
            f"{statistics.fmean(self.test):.2f} % (training {self.training:.2f} %), "
            f"{self.million_macs:.2f} million MACs"
        )


Results = Mapping[Configuration, TrainedConfiguration]


def trained(setting: Setting, configurations: Sequence[Configuration]) -> dict[Configuration, TrainedConfiguration]:
    runs = setting.train_seeds({one: partial(one.request, setting) for one in configurations})
    return {
        one: TrainedConfiguration(
            measure.cost_of(atlas.find(one.network).network, each[0].spec).macs / 1e6,
            accuracies_of(each),
            training_accuracy(each),
        )
        for one, each in runs.items()
    }


def inconclusive(results: Results) -> str:
    return undertrained_reason({str(one): each.training for one, each in results.items()})


def difference(results: Results, otherwise: str = "") -> Measurement:
    """The first of two test accuracies minus the second; `otherwise` is the reason if both have learned."""
    first, second = results.values()
    return Measurement(
        values=differences(first.test, second.test),
        figures=tuple((f"test accuracy, {one}", str(each)) for one, each in results.items()),
        inconclusive=inconclusive(results) or otherwise,
    )


def full(setting: Setting) -> Measurement:
    return difference(trained(setting, (Configuration("mobilenet-conv"), Configuration())))


def thin(setting: Setting) -> Measurement:
    narrow, shallow = Configuration(alpha=THIN_ALPHA), Configuration("mobilenet-shallow")
    results = trained(setting, (narrow, shallow))
    left = 100 - statistics.fmean(results[shallow].test)
    no_room = (
        f"the shallow network leaves {left:.2f} points to gain, fewer than the threshold of {THIN_GAIN:g}; a test is "
        f"needed on which its error is at least {THIN_GAIN:g} %, as on CIFAR-10 at the full budget"
    )
    return difference(results, no_room if left < THIN_GAIN else "")


def along(
    setting: Setting, name: str, title: str, configurations: Sequence[Configuration], note: str = ""
) -> Measurement:
    """The correlation of accuracy with the logarithm of MACs, as Figure 4 draws them."""
    results = trained(setting, configurations)
    macs = [each.million_macs for each in results.values()]
    of_seeds = list(zip(*(each.test for each in results.values()), strict=True))
    chart = Lines(
        name=name,
        title=title,
        x="million MACs",
        y="test accuracy, %",
        log_x=True,
        series=(Series.mean_of_runs("accuracy", macs, of_seeds),),
    )
    return Measurement(
        values=tuple(correlation(np.log(macs), accuracies) for accuracies in of_seeds),
        figures=tuple((f"test accuracy, {one}", str(each)) for one, each in results.items()),
        charts=(chart,),
        note=note,
        inconclusive=inconclusive(results),
    )


def correlation(x: Sequence[float] | npt.NDArray[np.float64], y: Sequence[float]) -> float:
    """Pearson's; 0 where y is constant."""
    if np.ptp(y) == 0:
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])


def alpha(setting: Setting) -> Measurement:
    configurations = [Configuration(alpha=alpha) for alpha in ALPHAS]
    title = f"The width multiplier at {SIDE} px: alpha {ALPHAS[0]:g} to {ALPHAS[-1]:g}"
    return along(setting, "alpha", title, configurations)


def rho(setting: Setting) -> Measurement:
    alpha = RHO_ALPHA if setting.quick else 1.0
    title = f"The resolution multiplier at alpha {alpha:g}: {RHO_SIDES[0]} to {RHO_SIDES[-1]} px"
    pixels = 8 if setting.quick else 32
    note = (
        f"The images have {pixels}x{pixels} pixels and are enlarged, so this is the effect of smaller feature maps "
        "alone. The paper measured it together with the detail that smaller images lose."
    )
    return along(setting, "rho", title, [Configuration(alpha=alpha, side=side) for side in RHO_SIDES], note)


MIN_CORRELATION = 0.7
"""With MACs: half of the variance is explained. Tables 6 and 7 have 0.98 and more."""

TOPIC = Topic(
    id="separable",
    title="MobileNet: depthwise separable convolutions and two multipliers",
    summary="One filter for each channel, followed by a 1x1 convolution, costs 1/N + 1/D_K^2 of a full convolution and "
    "loses about a point of accuracy. Alpha and rho trade accuracy for cost smoothly. Thin networks are better than "
    "shallow ones.",
    source="Howard et al. 2017, sections 3.1 to 3.4 and 4.1, Tables 4 to 7, Figure 4",
    method="Every separable layer is compared with the full convolution that it replaces, at 224 px: its MACs are "
    "counted, and both are timed in turn, in single precision, with normalization and ReLU. Trained: quick with alpha "
    f"{QUICK_WIDTH:g} for the paper's 1, {EPOCHS} epochs of digits; full at the paper's width on CIFAR-10; both with "
    f"images of at least {SIDE} px.",
    limitations="Digits of 8x8 pixels are enlarged, so that rho removes positions and no detail. So few epochs favor "
    "networks that learn fast, as full convolutions and shallow networks do; the figures include training accuracies. "
    "ImageNet was not run.",
    minutes=(3, 90),
    statements=(
        Statement(
            id="cost",
            text="A separable layer costs 1/N + 1/D_K^2 of a full one.",
            statistic="largest difference of the counted ratio of MACs from 1/N + 1/D_K^2, over the thirteen layers",
            threshold=exactly(0),
            measure=cost,
        ),
        Statement(
            id="whole",
            text="The network needs 8 to 9 times less computation than with full convolutions.",
            statistic="MACs with full convolutions over those with separable ones, 224 px",
            threshold=Threshold(8, 9),
            measure=whole_network,
        ),
        Statement(
            id="multipliers",
            text="Both multipliers scale the cost of a layer as equation 7 says.",
            statistic="largest difference from equation 7, in MACs, over all layers at sixteen pairs of alpha and rho",
            threshold=exactly(0),
            measure=multipliers,
        ),
        Statement(
            id="time",
            text="Time falls as the MACs do.",
            statistic="ratio of the times of the separable layers to the full ones over the ratio of their MACs",
            # Separable layers save arithmetic, and no reads and writes of feature maps. Within twice the count a layer
            # is still four times as fast.
            threshold=at_most(2.0),
            measure=time,
        ),
        Statement(
            id="full",
            text="Separable layers lose about a point of accuracy.",
            statistic="test accuracy with full convolutions minus that with separable ones, at equal width, in points",
            # Table 4: 1.1 points; half as much again.
            threshold=at_most(1.65),
            measure=full,
        ),
        Statement(
            id="alpha",
            text="Accuracy rises smoothly with MACs along the width multiplier.",
            statistic="correlation of test accuracy with the logarithm of MACs, four values of alpha",
            threshold=at_least(MIN_CORRELATION),
            measure=alpha,
        ),
        Statement(
            id="rho",
            text="Accuracy rises smoothly with MACs along the resolution multiplier, which shrinks every feature map.",
            statistic="correlation of test accuracy with the logarithm of MACs, three values of rho",
            threshold=at_least(MIN_CORRELATION),
            measure=rho,
        ),
        Statement(
            id="thin",
            text="A thinner network is better than a shallower one of about equal MACs.",
            statistic=f"test accuracy at alpha {THIN_ALPHA:g} minus that with five layers fewer, in points",
            threshold=at_least(THIN_GAIN),
            measure=thin,
        ),
    ),
)
