"""MobileNet: depthwise separable convolutions and two multipliers."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from operator import attrgetter
from typing import NamedTuple

import numpy as np
import torch

from convatlas import atlas, measure
from convatlas.draw import Bars, Lines, Series
from convatlas.experiments.engine import protocol
from convatlas.experiments.engine.answers import Answers
from convatlas.experiments.engine.arms import Arm, TrainedArm
from convatlas.experiments.engine.budget import Budget, Setting
from convatlas.experiments.engine.comparison import compare, failed_precondition, figures_of, weighted_errors
from convatlas.experiments.engine.estimate import Estimate, combined, counted, timed
from convatlas.experiments.engine.statement import Measurement, Role, Statement, Topic
from convatlas.experiments.engine.timings import in_processes
from convatlas.experiments.engine.verdict import Threshold, at_least, at_most, exactly
from convatlas.experiments.topics import imagenette_folds
from convatlas.experiments.topics.equal_cost import at_cost, macs
from convatlas.experiments.topics.timed_steps import inference
from convatlas.models.device import resolve_device
from convatlas.networks.mobilenet import Full, MobileNetSpec, Separable
from convatlas.recipe import Recipe
from convatlas.runs.options import Execution
from convatlas.spec import Layer, Layers
from convatlas.training import Request
from convatlas.training.recipes import PHOTOGRAPHS, SMALL_IMAGES
from convatlas.training.step import to_memory_format

# --- what is counted -------------------------------------------------------------------------------------------------

KERNEL = 3
DEPTHWISE, POINTWISE, FULL = ".depthwise.conv", ".pointwise.conv", ".full.conv"
ALPHAS = (0.25, 0.5, 0.75, 1.0)
"""Those of Table 6."""
SIDES = (224, 192, 160, 128)
"""Those of Table 7."""


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
            scaled = layers_of("mobilenet", alpha, side)
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
    sides = {side: map_sides(layers_of("mobilenet", side=side)) for side in SIDES}
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
    layer = to_memory_format(kind(shape.in_channels, shape.out_channels, shape.stride).to(device).eval(), execution)
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


# --- what is trained -------------------------------------------------------------------------------------------------

SEPARABLE, FULL_WIDTH, THINNED = "separable", "full convolutions", "full convolutions, thinned"
MAX_TRAINING_ERROR = 40.0
"""In percent: half-way from guessing to what a quarter of the width comes to in 8 epochs, about 20."""
THIN_ALPHA = 0.75
"""Table 5: about as many MACs as the network with five layers fewer."""


@dataclass(frozen=True, kw_only=True)
class Bed:
    """On what the networks are trained."""

    alpha: float
    """Of the largest network."""
    alphas: tuple[float, ...]
    """Of the width multiplier, the smallest first."""
    side: int
    data: str
    recipe: Recipe
    rates: tuple[float, ...] = ()

    @classmethod
    def of(cls, setting: Setting) -> Bed:
        return AT_FULL if setting.full else AT_STANDARD

    def spec(self, network: str, alpha: float) -> MobileNetSpec:
        spec = atlas.find(network).spec
        assert isinstance(spec, MobileNetSpec), "it is one of the family"
        return replace(spec.scaled(width=alpha, resolution=self.side), num_classes=10)

    def arm(self, network: str, spec: MobileNetSpec) -> Arm:
        def request(seed: int) -> Request:
            return Request(
                network=network, spec=spec, data=self.data, recipe=self.recipe, seed=seed, runtime=protocol.RUNTIME
            )

        return Arm(request=request, rates=self.rates)


AT_STANDARD = Bed(
    alpha=0.25,
    alphas=(0.125, 0.1875, 0.25),
    side=32,
    data=protocol.DATA,
    recipe=protocol.recipe(8),
    rates=protocol.RATES,
)
AT_FULL = Bed(alpha=1.0, alphas=ALPHAS, side=64, data="cifar10", recipe=SMALL_IMAGES)
"""From 64 px on the network has the paper's own stem."""


def both_convolutions(setting: Setting) -> dict[str, Arm]:
    bed = Bed.of(setting)
    return {
        SEPARABLE: bed.arm("mobilenet", bed.spec("mobilenet", bed.alpha)),
        FULL_WIDTH: bed.arm("mobilenet-conv", bed.spec("mobilenet-conv", bed.alpha)),
    }


def lost(setting: Setting) -> Measurement:
    trained = setting.train_arms(both_convolutions(setting))
    return with_macs(compare(trained, {SEPARABLE: 1.0, FULL_WIDTH: -1.0}, MAX_TRAINING_ERROR), trained)


def thinned(bed: Bed) -> MobileNetSpec:
    """The network with full convolutions as thin as its MACs must be to equal those of the separable one."""
    full = bed.spec("mobilenet-conv", 1.0)

    def spec_at(alpha: float) -> MobileNetSpec:
        # Whole numbers of channels: multiples of 8, as the family scales, miss the MACs by 7 %.
        return replace(
            full,
            conv1=round(alpha * full.conv1),
            stages=tuple(tuple(round(alpha * channels) for channels in stage) for stage in full.stages),
        )

    target = macs(atlas.find("mobilenet"), bed.spec("mobilenet", bed.alpha))
    # Full convolutions have about nine times the MACs, which grow with the square of alpha.
    return at_cost(atlas.find("mobilenet-conv"), target, spec_at, bed.alpha / 4, bed.alpha / 2)


def equal_macs(setting: Setting) -> dict[str, Arm]:
    bed = Bed.of(setting)
    return {
        SEPARABLE: bed.arm("mobilenet", bed.spec("mobilenet", bed.alpha)),
        THINNED: bed.arm("mobilenet-conv", thinned(bed)),
    }


def gain_at_equal_macs(setting: Setting) -> Measurement:
    trained = setting.train_arms(equal_macs(setting))
    return with_macs(compare(trained, {THINNED: 1.0, SEPARABLE: -1.0}, MAX_TRAINING_ERROR), trained)


def widths(setting: Setting) -> dict[str, Arm]:
    bed = Bed.of(setting)
    return {f"alpha {alpha:g}": bed.arm("mobilenet", bed.spec("mobilenet", alpha)) for alpha in bed.alphas}


def alpha(setting: Setting) -> Measurement:
    bed = Bed.of(setting)
    return along(
        setting.train_arms(widths(setting)),
        name="alpha",
        title=f"The width multiplier: alpha {bed.alphas[0]:g} to {bed.alphas[-1]:g}",
        where=f"{'CIFAR-10' if setting.full else protocol.IMAGES}; mobilenet, {bed.side} px",
    )


def along(trained: Mapping[str, TrainedArm], *, name: str, title: str, where: str) -> Measurement:
    """Each step of a multiplier, the smallest network first; the step with the lowest lower end decides."""
    answers = Answers.of(trained)
    steps = {
        f"{small} to {large}": weighted_errors(answers, {small: 1.0, large: -1.0}) for small, large in pairwise(trained)
    }
    accuracies = {arm: (100 * (1 - answers.errors(arm).mean(1))).tolist() for arm in trained}
    measurement = Measurement(
        estimate=min(steps.values(), key=attrgetter("low")),
        failed=failed_precondition(trained, MAX_TRAINING_ERROR),
        figures=(
            *((f"gained from {step}", points(each)) for step, each in steps.items()),
            *figures_of(trained, answers),
        ),
        charts=(accuracy_chart(trained, accuracies, name=name, title=title, where=where),),
        answers=answers,
    )
    return with_macs(measurement, trained)


def points(estimate: Estimate) -> str:
    return f"{estimate.center:.2f} points ({estimate.low:.2f} to {estimate.high:.2f})"


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


def thin_and_shallow(setting: Setting) -> dict[str, Arm]:
    return {
        "thin": AT_FULL.arm("mobilenet", AT_FULL.spec("mobilenet", THIN_ALPHA)),
        "shallow": AT_FULL.arm("mobilenet-shallow", AT_FULL.spec("mobilenet-shallow", AT_FULL.alpha)),
    }


def thin(setting: Setting) -> Measurement:
    trained = setting.train_arms(thin_and_shallow(setting))
    return with_macs(compare(trained, {"shallow": 1.0, "thin": -1.0}, MAX_TRAINING_ERROR), trained)


ENLARGED_SIDES = (64, 80, 96)
"""4/7, 5/7 and 6/7 of 112, the size at rho = 1, as Table 7's are of 224."""


def enlarged(setting: Setting) -> dict[str, Arm]:
    beds = [replace(AT_FULL, side=side) for side in ENLARGED_SIDES]
    return {f"{bed.side} px": bed.arm("mobilenet", bed.spec("mobilenet", bed.alpha)) for bed in beds}


def rho_enlarged(setting: Setting) -> Measurement:
    return along(
        setting.train_arms(enlarged(setting)),
        name="rho-enlarged",
        title=f"The resolution multiplier on enlarged images: {ENLARGED_SIDES[0]} to {ENLARGED_SIDES[-1]} px",
        where="CIFAR-10, 32 px enlarged; mobilenet",
    )


# --- the resolution multiplier on real detail ------------------------------------------------------------------------

RHO_SIDES = (96, 128, 160)
RHO_ALPHA = 0.25
RHO_RECIPE = replace(PHOTOGRAPHS, epochs=150, epochs_of=None)
"""Without a choice of rates: an epoch has 14 steps, so that two say nothing, and all are the same network."""
MAX_RHO_TRAINING_ERROR = 70.0
"""In percent. Half of the batches are mixed, so that even who knows every image is often wrong; guessing is 90 %."""


def resolutions(setting: Setting) -> dict[str, Arm]:
    """Each seed is a fold."""

    def arm(side: int) -> Arm:
        spec = mobilenet().scaled(width=RHO_ALPHA, resolution=side)

        def request(seed: int) -> Request:
            return Request(
                network="mobilenet",
                spec=spec,
                data=imagenette_folds.fold(setting.folder, seed),
                recipe=RHO_RECIPE,
                seed=seed,
                runtime=protocol.RUNTIME,
            )

        return Arm(request=request)

    return {f"{side} px": arm(side) for side in RHO_SIDES}


def rho(setting: Setting) -> Measurement:
    trained = setting.train_arms(resolutions(setting))
    return over_folds(trained, answers_of_folds(trained))


def over_folds(trained: Mapping[str, TrainedArm], answers: Answers) -> Measurement:
    """The error at the lowest resolution minus that at the highest. Each fold has its own test images, so that the
    variance over folds has the sampling of images in it."""
    errors = {name: [100 * (1 - run.test_accuracy) for run in arm.runs] for name, arm in trained.items()}
    lowest, *_, highest = trained
    accuracies = {name: [100 - error for error in each] for name, each in errors.items()}
    chart = accuracy_chart(
        trained,
        accuracies,
        name="rho",
        title=f"The resolution multiplier: {RHO_SIDES[0]} to {RHO_SIDES[-1]} px",
        where=f"Imagenette, {len(answers.labels):,} photographs in folds; mobilenet, alpha {RHO_ALPHA:g}",
    )
    return with_macs(
        Measurement(
            estimate=replace(combined((1.0, errors[lowest]), (-1.0, errors[highest])), num_images=len(answers.labels)),
            failed=failed_precondition({name: trained[name] for name in (lowest, highest)}, MAX_RHO_TRAINING_ERROR),
            figures=tuple(
                (
                    f"test accuracy, {name}",
                    f"{statistics.fmean(each):.2f} % ({', '.join(f'{one:.1f}' for one in each)})",
                )
                for name, each in accuracies.items()
            ),
            charts=(chart,),
            answers=answers,
        ),
        trained,
    )


def answers_of_folds(trained: Mapping[str, TrainedArm]) -> Answers:
    """One prediction of each image, by a network that was not trained on it; fold after fold."""
    first = next(iter(trained.values()))
    return Answers(
        np.concatenate([run.load_data().test.labels for run in first.runs]).astype(np.uint8),
        {
            name: np.concatenate([run.evaluate().predictions.numpy() for run in arm.runs]).astype(np.uint8)[None]
            for name, arm in trained.items()
        },
    )


CIFAR = f"{protocol.IMAGES}, 32 px; 8 epochs"

TOPIC = Topic(
    id="separable",
    title="MobileNet: depthwise separable convolutions and two multipliers",
    summary="One filter for each channel, followed by a 1x1 convolution, costs 1/N + 1/D_K^2 of a full convolution and "
    "loses about a point of accuracy. Alpha and rho trade accuracy for cost smoothly. Thin networks are better than "
    "shallow ones.",
    source="Howard et al. 2017, sections 3.1 to 3.4 and 4.1, Tables 4 to 7, Figure 4",
    method="Layers are counted at 224 px. Timed are inferences of both whole networks in turn, in single precision, "
    "and each separable layer against the full convolution that it replaces, in three processes. Standard trains with "
    f"alpha {AT_STANDARD.alpha:g} for the paper's 1 on CIFAR-10 at its own {AT_STANDARD.side} px, where the network "
    "has its stem for small images: neither its first convolution nor its second stage halves the map. Each network "
    "has the learning rate that is best for it. The resolution multiplier is trained on photographs, "
    f"{10 * imagenette_folds.IMAGES_A_CLASS:,} of Imagenette, in three folds that test each image once; full measures "
    f"the same. For the rest full trains the paper's widths on CIFAR-10 at {AT_FULL.side} px, where the network has "
    "the paper's stem.",
    limitations="Networks a quarter as wide, 8 epochs and small images are far from the paper's, and so few epochs "
    "favor networks that learn fast. Along the width multiplier only small networks are compared. ImageNet was not "
    "run.",
    minutes_quick=2,
    minutes_full=180,
    statements=(
        Statement(
            id="cost",
            text="A separable layer costs 1/N + 1/D_K^2 of a full one.",
            statistic="largest difference of the counted ratio of MACs from 1/N + 1/D_K^2, over the thirteen layers",
            paper="1/N + 1/D_K^2 (section 3.1)",
            threshold=exactly(0),
            role=Role.COUNT,
            measure=cost,
        ),
        Statement(
            id="whole",
            text="The network needs 8 to 9 times less computation than with full convolutions.",
            statistic="MACs with full convolutions over those with separable ones, 224 px",
            unit="times",
            paper="8 to 9 times (section 3.1); 4,866 over 569 million MACs (Table 4)",
            threshold=Threshold(8, 9),
            role=Role.COUNT,
            measure=whole_network,
        ),
        Statement(
            id="multipliers",
            text="Both multipliers scale the cost of a layer as equation 7 says.",
            statistic="largest difference from equation 7, in MACs, over all layers at sixteen pairs of alpha and rho",
            unit="MACs",
            paper="equation 7 (section 3.4)",
            threshold=exactly(0),
            role=Role.COUNT,
            measure=multipliers,
        ),
        Statement(
            id="maps",
            text="The resolution multiplier shrinks the maps of every layer alike.",
            statistic="largest difference of a map's side from rho times its side at 224 px, over all layers at four "
            "values of rho",
            unit="px",
            paper="every layer is reduced by the same multiplier (section 3.4)",
            threshold=exactly(0),
            role=Role.COUNT,
            measure=maps,
        ),
        Statement(
            id="time",
            text="The network is much faster than with full convolutions.",
            statistic="time of an inference with full convolutions over that with separable ones, 224 px",
            unit="times",
            # Separable layers save arithmetic, and no reads and writes of maps: less than the count says.
            threshold=at_least(2.0),
            no_effect=1.0,
            measure=time,
        ),
        Statement(
            id="full",
            text="Separable convolutions lose little, at an eighth of the MACs.",
            statistic="test error with separable convolutions minus that with full ones, at equal width",
            unit="points",
            paper="1.1 points on ImageNet (Table 4)",
            threshold=at_most(3.0),
            needs=Budget.STANDARD,
            test_bed=f"{CIFAR}; mobilenet and mobilenet-conv, alpha 0.25",
            arms=both_convolutions,
            measure=lost,
            minutes=39,
        ),
        Statement(
            id="equal-macs",
            text="They are better than full convolutions in a network that is thinned to equal MACs.",
            statistic="test error of the thinned network with full convolutions minus that with separable ones",
            unit="points",
            threshold=at_least(0.0),
            needs=Budget.STANDARD,
            test_bed=f"{CIFAR}; mobilenet, alpha 0.25, and mobilenet-conv, alpha near 0.085",
            arms=equal_macs,
            measure=gain_at_equal_macs,
            minutes=6,
        ),
        Statement(
            id="alpha",
            text="Accuracy rises with every step of the width multiplier.",
            statistic="test accuracy gained by a step of alpha; the step with the lowest lower end decides",
            unit="points",
            paper="50.6, 63.7, 68.4 and 70.6 % at alpha 0.25, 0.5, 0.75 and 1 on ImageNet (Table 6)",
            threshold=at_least(0.0),
            needs=Budget.STANDARD,
            test_bed=f"{CIFAR}; mobilenet, alpha 0.125, 0.1875 and 0.25",
            arms=widths,
            measure=alpha,
            minutes=12,
        ),
        Statement(
            id="rho",
            text="Accuracy rises with the resolution multiplier, where images have the detail.",
            statistic=f"test accuracy at {RHO_SIDES[-1]} px minus that at {RHO_SIDES[0]} px",
            unit="points",
            paper="64.4, 67.2, 69.1 and 70.6 % at 128, 160, 192 and 224 px on ImageNet (Table 7)",
            threshold=at_least(0.0),
            needs=Budget.STANDARD,
            test_bed=f"Imagenette, {10 * imagenette_folds.IMAGES_A_CLASS:,} photographs in three folds; mobilenet, "
            f"alpha {RHO_ALPHA:g}, {', '.join(map(str, RHO_SIDES))} px; {RHO_RECIPE.epochs} epochs",
            prepare=imagenette_folds.make_folds,
            arms=resolutions,
            measure=rho,
            num_seeds=imagenette_folds.NUM_FOLDS,
            priority=2,
            minutes=16,
        ),
        Statement(
            id="rho-enlarged",
            text="It does so even where images are only enlarged: by larger maps alone.",
            statistic=f"test accuracy gained by a step of the image size, {', '.join(map(str, ENLARGED_SIDES))} px; "
            "the step with the lowest lower end decides",
            unit="points",
            threshold=at_least(0.0),
            role=Role.PERIPHERAL,
            needs=Budget.FULL,
            arms=enlarged,
            measure=rho_enlarged,
        ),
        Statement(
            id="thin",
            text="A thinner network is better than a shallower one of about equal MACs.",
            statistic=f"test error with five layers fewer minus that at alpha {THIN_ALPHA:g}",
            unit="points",
            paper="3.1 points on ImageNet (Table 5)",
            threshold=at_least(0.0),
            role=Role.PERIPHERAL,
            needs=Budget.FULL,
            arms=thin_and_shallow,
            measure=thin,
        ),
    ),
)
