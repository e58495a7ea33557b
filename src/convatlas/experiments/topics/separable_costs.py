"""What the layers of MobileNet cost: MACs and maps, counted, and time; and accuracy against MACs."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import NamedTuple

import torch

from convatlas import atlas, measure
from convatlas.draw import Bars, Lines, Series
from convatlas.experiments.engine.arms import TrainedArm
from convatlas.experiments.engine.budget import Setting
from convatlas.experiments.engine.estimate import counted, timed
from convatlas.experiments.engine.statement import Measurement
from convatlas.experiments.engine.timings import in_processes
from convatlas.experiments.topics.layers import layers_of
from convatlas.experiments.topics.timed_steps import inference
from convatlas.models.device import resolve_device
from convatlas.networks.mobilenet import Full, MobileNetSpec, Separable
from convatlas.runs.options import Execution
from convatlas.spec import Layer, Layers
from convatlas.training.step import to_memory_format

# --- what is counted -------------------------------------------------------------------------------------------------

KERNEL = 3
DEPTHWISE, POINTWISE, FULL = ".depthwise.conv", ".pointwise.conv", ".full.conv"
ALPHAS = (0.25, 0.5, 0.75, 1.0)
"""Those of Table 6."""
SIDES = (224, 192, 160, 128)
"""Those of Table 7."""


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
        estimate=counted(float(max(distances))),
        figures=tuple((name, f"{float(ratio):.4f} of the full MACs") for name, ratio in ratios.items()),
    )


def whole_network(setting: Setting) -> Measurement:
    macs = {name: layers_of(name).macs for name in ("mobilenet-conv", "mobilenet")}
    full, separable = macs.values()
    return Measurement(
        estimate=counted(full / separable),
        figures=tuple((f"MACs of {name}", f"{number / 1e6:,.0f} million") for name, number in macs.items()),
    )


def multipliers(setting: Setting) -> Measurement:
    """The largest distance from equation 7 in MACs, over all layers and the sixteen networks of alpha and rho."""
    base = separable_layers(layers_of("mobilenet"))
    distances, totals = [], {}
    for alpha in ALPHAS:
        for side in SIDES:
            rho = Fraction(side, SIDES[0])
            scaled = layers_of("mobilenet", width=alpha, resolution=side)
            totals[alpha, side] = scaled.macs
            for name, (depthwise, pointwise) in separable_layers(scaled).items():
                in_channels, out_channels = (Fraction(alpha) * row.output_shape[0] for row in base[name])
                positions = (rho * base[name][1].output_shape[1]) ** 2
                printed = (KERNEL**2 * in_channels + in_channels * out_channels) * positions
                distances.append(abs(depthwise.macs + pointwise.macs - printed))
    one = totals[1.0, SIDES[0]]
    return Measurement(
        estimate=counted(float(max(distances))),
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


def maps(setting: Setting) -> Measurement:
    """The largest difference of a map's side from rho times its side at 224 px, over all layers with maps."""
    sides = {side: map_sides(layers_of("mobilenet", resolution=side)) for side in SIDES}
    whole = sides[SIDES[0]]
    distances = [
        abs(found[name] - Fraction(side, SIDES[0]) * whole[name]) for side, found in sides.items() for name in whole
    ]
    return Measurement(
        estimate=counted(float(max(distances))),
        figures=tuple(
            (f"sides of the maps at {side} px", ", ".join(map(str, dict.fromkeys(found.values()))))
            for side, found in sides.items()
        ),
    )


def map_sides(layers: Layers) -> dict[str, int]:
    """The side in pixels of what each convolution gives."""
    return {row.name: row.output_shape[1] for row in layers.of_kind("Conv2d")}


# --- what is timed ---------------------------------------------------------------------------------------------------

NETWORKS = ("mobilenet", "mobilenet-conv")
QUICK_TIMED_BATCH, FULL_TIMED_BATCH = 4, 64
"""A GPU needs more images to be busy."""
REPEATS = 5


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


def mobilenet() -> MobileNetSpec:
    spec = atlas.find("mobilenet").spec
    assert isinstance(spec, MobileNetSpec), "it is the family's own"
    return spec


def layer_inference(kind: type[Separable | Full], shape: LayerShape, batch_size: int) -> measure.Workload:
    device = resolve_device(None)
    execution = Execution(threads=torch.get_num_threads())
    network = kind(shape.in_channels, shape.out_channels, shape.stride, mobilenet())
    layer = to_memory_format(network.to(device).eval(), execution)
    inputs = torch.randn(batch_size, shape.in_channels, shape.side, shape.side, device=device)
    inputs = inputs.contiguous(memory_format=torch.channels_last)

    def forward() -> None:
        with torch.inference_mode():
            layer(inputs)

    return measure.Workload(forward, measure.torch_engine(device))


class Times(NamedTuple):
    """Medians in seconds, in one process."""

    networks: dict[str, float]
    layers: dict[tuple[LayerShape, bool], float]
    """Of the full convolution (True), and of the two that replace it (False)."""
    engine: str


def times(batch_size: int) -> Times:
    """What one process does: time both networks in turn, and then their layers."""
    networks = {name: inference(atlas.find(name), atlas.find(name).spec, batch_size) for name in NETWORKS}
    layers = {
        (shape, of_full): layer_inference(Full if of_full else Separable, shape, batch_size)
        for shape in layer_shapes(mobilenet())
        for of_full in (False, True)
    }
    of_networks = measure.time_in_turn(networks, repeats=REPEATS)
    of_layers = measure.time_in_turn(layers, repeats=REPEATS)
    return Times(
        {name: timing.median_s for name, timing in of_networks.items()},
        {key: timing.median_s for key, timing in of_layers.items()},
        measure.torch_engine(resolve_device(None)),
    )


def time(setting: Setting) -> Measurement:
    return speedup(in_processes(times, FULL_TIMED_BATCH if setting.full else QUICK_TIMED_BATCH))


def speedup(processes: Sequence[Times]) -> Measurement:
    """How many times faster the separable network is, and the share of time of each of its layers."""
    separable, full = NETWORKS
    shapes = layer_shapes(mobilenet())
    of_macs = {shape: shape.macs(full=False) / shape.macs(full=True) for shape in shapes}
    of_time = {
        shape: statistics.median(each.layers[shape, False] / each.layers[shape, True] for each in processes)
        for shape in shapes
    }
    chart = Bars(
        name="time",
        title="A separable layer over a full one: channels, input size / stride",
        subtitle=f"MobileNet at 224 px, untrained, one layer at a time; median of {len(processes)} processes",
        y="separable / full",
        labels=tuple(map(str, shapes)),
        series=(
            Series("MACs, 1/N + 1/9", (), tuple(of_macs.values())),
            Series("time", (), tuple(of_time.values())),
        ),
    )
    return Measurement(
        estimate=timed([each.networks[full] / each.networks[separable] for each in processes]),
        figures=(
            *(
                (f"time of {name}", f"{1000 * statistics.median(each.networks[name] for each in processes):.0f} ms")
                for name in NETWORKS
            ),
            *(
                (
                    f"{shape}" + (f", {num} layers" if num > 1 else ""),
                    f"{of_time[shape]:.3f} of the time, {of_macs[shape]:.3f} of the MACs",
                )
                for shape, num in shapes.items()
            ),
            ("engine", processes[0].engine),
        ),
        charts=(chart,),
    )


# --- what trained networks cost ---------------------------------------------------------------------------------------


def accuracy_chart(
    trained: Mapping[str, TrainedArm], accuracies: Mapping[str, Sequence[float]], *, name: str, title: str, where: str
) -> Lines:
    """Accuracy against the logarithm of MACs, as Figure 4 draws them.

    Args:
        accuracies: of each network in percent, one for each seed.
        where: data set, network and image size.
    """
    first = next(iter(trained.values()))
    return Lines(
        name=name,
        title=title,
        subtitle=f"{where}, {first.runs[0].record.recipe.epochs} epochs, n = {len(first.runs)}",
        x="million MACs",
        y="test accuracy, %",
        log_x=True,
        series=(
            Series.mean_of_runs(
                "accuracy",
                [million_macs(arm) for arm in trained.values()],
                list(zip(*(accuracies[arm] for arm in trained), strict=True)),
            ),
        ),
    )


def million_macs(arm: TrainedArm) -> float:
    assert arm.runs[0].card.macs is not None, "training writes it"
    return arm.runs[0].card.macs / 1e6


def with_macs(measurement: Measurement, trained: Mapping[str, TrainedArm]) -> Measurement:
    costs = tuple((f"MACs, {name}", f"{million_macs(arm):.2f} million") for name, arm in trained.items())
    return replace(measurement, figures=measurement.figures + costs)
