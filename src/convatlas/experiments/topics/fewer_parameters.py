"""SqueezeNet: fifty times fewer parameters than AlexNet, less to send, and (as is often said) three times as fast."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from safetensors.torch import save

from convatlas import atlas, measure
from convatlas.draw import Bars, Series
from convatlas.experiments.engine import protocol
from convatlas.experiments.engine.arms import Arm
from convatlas.experiments.engine.budget import Budget, Setting
from convatlas.experiments.engine.comparison import compare
from convatlas.experiments.engine.distributed_pair import run_on_pair
from convatlas.experiments.engine.estimate import counted, in_words, timed
from convatlas.experiments.engine.statement import Measurement, Role, Statement, Topic
from convatlas.experiments.engine.timings import NUM_PROCESSES, in_processes
from convatlas.experiments.engine.verdict import Threshold, at_least, at_most, exactly
from convatlas.experiments.topics import fire_designs, on_chip
from convatlas.experiments.topics.fire_designs import (
    FULL_DATA,
    FULL_RECIPE,
    MAX_TRAINING_ERROR,
    MIB,
    SIDE,
    WIDTH,
    half_width,
    weight_bytes,
)
from convatlas.experiments.topics.layers import layers_of
from convatlas.experiments.topics.timed_steps import OF_EACH_FAMILY, inference, training_step
from convatlas.measure import Workload
from convatlas.models.device import resolve_device
from convatlas.networks.claims.squeezenet import filter_ratio
from convatlas.networks.squeezenet import SPEC, from_metaparameters
from convatlas.spec import Scale, Spec, Variant
from convatlas.training import Request

PAIR = ("alexnet", "squeezenet")
FIFTY = Threshold(45, 55)
"""A round figure, and 240 over 4.8 MB: what rounds to fifty in tens."""


# --- counted ---------------------------------------------------------------------------------------------------------


def pair() -> dict[str, Variant]:
    return {name: atlas.find(name) for name in PAIR}


def parameters(setting: Setting) -> Measurement:
    params = {name: layers_of(name).params for name in PAIR}
    return Measurement(
        estimate=counted(params["alexnet"] / params["squeezenet"]),
        figures=tuple((f"parameters of {name}", f"{number:,}") for name, number in params.items()),
    )


def filters(setting: Setting) -> Measurement:
    return Measurement(estimate=counted(float(filter_ratio(layers_of("squeezenet")))))


def squeezed(setting: Setting) -> Measurement:
    """Weights of all 3x3 filters if they read their modules' inputs, over those that they have."""
    in_channels, unsqueezed, own = SPEC.conv1, 0, 0
    figures = []
    for number, (s1x1, e1x1, e3x3) in enumerate((fire for stage in SPEC.stages for fire in stage), start=2):
        unsqueezed += 9 * in_channels * e3x3
        own += 9 * s1x1 * e3x3
        figures.append((f"fire{number}", f"{in_channels} input channels squeezed into {s1x1}"))
        in_channels = e1x1 + e3x3
    return Measurement(
        estimate=counted(unsqueezed / own),
        figures=(
            *figures,
            ("weights of the 3x3 filters", f"{own:,}, without squeezing {unsqueezed:,}"),
        ),
    )


def files(setting: Setting) -> Measurement:
    """The weights as a safetensors file, with the names of the tensors."""
    sizes = {name: len(save(variant.network(variant.spec).state_dict())) for name, variant in pair().items()}
    return Measurement(
        estimate=counted(sizes["alexnet"] / sizes["squeezenet"]),
        figures=(
            *((f"file of {name}", f"{size:,} bytes, {size / MIB:.1f} MiB") for name, size in sizes.items()),
            *((f"{name} at 10 Mbit/s", f"{8 * size / 10e6:.0f} s") for name, size in sizes.items()),
        ),
    )


def sizes(setting: Setting) -> Measurement:
    """Figure 3(a) of the paper prints the sizes at both ends of the gain."""
    mebibytes = {sr: weight_bytes(from_metaparameters(sr=sr)) / MIB for sr in (0.125, 0.25, 0.5, 0.75, 1.0)}
    return Measurement(
        estimate=counted(mebibytes[0.75]),
        figures=tuple((f"size at squeeze ratio {sr:g}", f"{size:.1f} MiB") for sr, size in mebibytes.items()),
    )


# --- embedded --------------------------------------------------------------------------------------------------------


def embedded(setting: Setting) -> Measurement:
    sizes = on_chip.weight_sizes(alexnet=layers_of("alexnet").params, squeezenet=layers_of("squeezenet").params)
    squeezenet, alexnet = sizes["SqueezeNet"]["32 bits"], sizes["AlexNet"]["32 bits"]
    fpgas = [device.num_bytes for device in on_chip.DEVICES if device.is_fpga]
    largest = max(num_bytes for num_bytes in fpgas if num_bytes < on_chip.SMALL)
    feature_maps = 4 * math.prod(layers_of("squeezenet")["conv1.conv"].output_shape)
    return Measurement(
        estimate=counted(min(largest / squeezenet, alexnet / largest)),
        figures=on_chip.describe(sizes),
        note="Programs and feature maps need memory as well: the maps of SqueezeNet's first convolution take "
        f"{feature_maps / on_chip.MB:.1f} MB in single precision. MB are of 10^6 bytes.",
    )


# --- timed -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Case:
    """How both networks are timed."""

    name: str
    make: Callable[[Variant, Spec, int], Workload]
    batch_size: int
    repeats: int
    """A single image takes so little time that whatever else the machine does weighs more."""


DECIDING = Case(name="inference, one image", make=inference, batch_size=1, repeats=20)
CASES = (
    DECIDING,
    Case(name="inference, 16 images", make=inference, batch_size=16, repeats=5),
    Case(name="training step, one image", make=training_step, batch_size=1, repeats=10),
    Case(name="training step, 16 images", make=training_step, batch_size=16, repeats=5),
)
MedianTimes = dict[str, float]
"""In seconds, by the network's name."""


def time_pair(case: Case) -> MedianTimes:
    """Both networks in turn, each at its paper's size."""
    workloads = {name: case.make(variant, variant.spec, case.batch_size) for name, variant in pair().items()}
    return {name: one.median_s for name, one in measure.time_in_turn(workloads, repeats=case.repeats).items()}


def time_cases() -> dict[str, MedianTimes]:
    """What a process times."""
    return {case.name: time_pair(case) for case in CASES}


def speedups(times: list[MedianTimes]) -> list[float]:
    """AlexNet's time over SqueezeNet's, for each process."""
    return [of_both["alexnet"] / of_both["squeezenet"] for of_both in times]


def engine() -> str:
    return measure.torch_engine(resolve_device(None))


def faster(setting: Setting) -> Measurement:
    """AlexNet's time over SqueezeNet's."""
    processes = in_processes(time_cases)
    times = {case.name: [of_process[case.name] for of_process in processes] for case in CASES}
    ratios = {name: timed(speedups(each)) for name, each in times.items()}
    return Measurement(
        estimate=ratios[DECIDING.name],
        figures=(
            *((f"{name}, AlexNet over SqueezeNet", in_words(one)) for name, one in ratios.items()),
            *(
                (f"{case.name}, {name}", f"{1000 * time / case.batch_size:.3g} ms per image")
                for case in CASES
                for name in PAIR
                for time in [statistics.median(of_both[name] for of_both in times[case.name])]
            ),
            *((f"MACs, {name}", f"{layers_of(name).macs / 1e6:,.0f} million") for name in PAIR),
            ("engine", engine()),
        ),
    )


# --- sent ------------------------------------------------------------------------------------------------------------

BANDWIDTHS = (1.0, 10.0)
"""Gbit/s."""


def own_specs() -> dict[str, Spec]:
    """One network of each family, at its paper's size."""
    return {name: atlas.find(name).spec for name in OF_EACH_FAMILY}


def sent_bytes(specs: dict[str, Spec], rank: int) -> dict[str, int]:
    """What a process of that rank sends in a training step of each network."""
    torch.manual_seed(rank)
    return {name: measure.allreduce_bytes(atlas.find(name), spec) for name, spec in specs.items()}


def traffic(setting: Setting) -> Measurement:
    """The largest relative difference of the bytes sent from four bytes for each parameter."""
    specs = own_specs()
    sent, sent_by_other = run_on_pair(sent_bytes, specs)
    assert sent == sent_by_other, "the mean of the gradients takes as much from each"
    expected = {name: gradient_bytes(name) for name in specs}
    return Measurement(
        estimate=counted(max(abs(sent[name] / expected[name] - 1) for name in specs)),
        figures=(
            *((name, f"{sent[name]:,} bytes, {expected[name] // 4:,} parameters") for name in specs),
            ("AlexNet over SqueezeNet", f"{sent[PAIR[0]] / sent[PAIR[1]]:.1f}"),
        ),
        note="GoogLeNet also sends the gradients of its auxiliary heads.",
    )


def gradient_bytes(name: str) -> int:
    """Of all trained parameters, in single precision."""
    table = layers_of(name)
    return 4 * (table.params + table.training_only_params)


def distributed(setting: Setting) -> Measurement:
    """How much farther SqueezeNet is ahead of AlexNet in a training step on two machines, at 1 Gbit/s, than on one."""
    batch_size, repeats = (32, 5) if setting.full else (4, 3)
    case = Case(name="training step", make=training_step, batch_size=batch_size, repeats=repeats)
    processes = in_processes(time_pair, case)
    sending = {
        bandwidth: {name: measure.ring_allreduce_s(gradient_bytes(name), bandwidth) for name in PAIR}
        for bandwidth in BANDWIDTHS
    }
    computing = {name: statistics.median(times[name] for times in processes) for name in PAIR}
    slowest = sending[BANDWIDTHS[0]]
    alone = speedups(processes)
    together = speedups([{name: times[name] + slowest[name] for name in PAIR} for times in processes])
    chart = Bars(
        name="step-time",
        title=f"A training step on two machines, {batch_size} images each",
        subtitle=f"networks at their papers' sizes; computing: median of {NUM_PROCESSES} processes",
        y="seconds",
        labels=PAIR,
        series=(
            Series("computing", (), tuple(computing[name] for name in PAIR)),
            *(
                Series(f"sending at {bandwidth:g} Gbit/s", (), tuple(times[name] for name in PAIR))
                for bandwidth, times in sending.items()
            ),
        ),
    )
    return Measurement(
        estimate=timed([two / one for two, one in zip(together, alone, strict=True)]),
        figures=(
            ("step of AlexNet over that of SqueezeNet, one machine", in_words(timed(alone))),
            ("the same, two machines", in_words(timed(together))),
            *(
                (
                    f"images that {name} computes while its gradients are sent at {bandwidth:g} Gbit/s",
                    f"{batch_size * sending[bandwidth][name] / computing[name]:.3g}",
                )
                for name in PAIR
                for bandwidth in BANDWIDTHS
            ),
            ("engine", engine()),
        ),
        charts=(chart,),
        note="Computing is measured. Sending is the least time that two machines in a ring need for the bytes counted "
        "between two processes, not overlapped with computing.",
    )


# --- trained ---------------------------------------------------------------------------------------------------------


def both_networks(setting: Setting) -> dict[str, Arm]:
    def at_full(name: str, seed: int) -> Request:
        return Request(network=name, data=FULL_DATA, recipe=FULL_RECIPE, scale=Scale(resolution=SIDE), seed=seed)

    if setting.full:
        return {name: Arm(request=partial(at_full, name)) for name in PAIR}
    return {name: Arm(request=partial(half_width, name), rates=protocol.RATES) for name in PAIR}


def accuracy(setting: Setting) -> Measurement:
    """SqueezeNet's test error minus AlexNet's, in points."""
    trained = setting.train_arms(both_networks(setting))
    found = compare(trained, {"squeezenet": 1.0, "alexnet": -1.0}, MAX_TRAINING_ERROR)
    sizes = {
        name: measure.cost_of(arm.runs[0].variant.network, arm.runs[0].spec).params for name, arm in trained.items()
    }
    return replace(
        found, figures=(*found.figures, *((f"parameters, {name}", f"{each:,}") for name, each in sizes.items()))
    )


TOPIC = Topic(
    id="fewer-parameters",
    title="SqueezeNet: fifty times fewer parameters than AlexNet",
    summary="AlexNet's accuracy with fifty times fewer parameters: less to send between machines that train together, "
    "less to send to users with each update, small enough for the memory on a chip. 1x1 filters, squeezing and late "
    "pooling make it possible. That it is three times as fast as AlexNet is often said.",
    source="Iandola et al. 2016, sections 1, 3, 5 and 6, Figure 3, Tables 2 and 3. That it is three times as fast as "
    "AlexNet is folklore; the paper does not say so",
    method="Counted from built networks: parameters, filters, files, the sizes in Figure 3, what the memory of real "
    "chips holds. Counted between two processes: the gradients of a training step, for one network of each family. "
    f"Timed in turn in {NUM_PROCESSES} processes: AlexNet and SqueezeNet at their papers' sizes, training steps with "
    f"the default recipe's AdamW. Trained on CIFAR-10: AlexNet and SqueezeNet, and two places of SqueezeNet's pooling, "
    f"at {WIDTH:g} of the width and {SIDE} px; in full at the paper's width, with the squeeze ratios, shares of 3x3 "
    "filters and bypasses that the paper compares, by test loss in place of top-5 accuracy.",
    limitations=f"The paper trained on ImageNet; {protocol.EPOCHS} epochs on CIFAR-10 do not end learning. At {SIDE} "
    "px both networks skip early strides and poolings, and AlexNet's first fully connected layer is much smaller than "
    "at 227 px: the trained pair is less far apart in parameters. Times are those of one machine, and no network "
    "latency is counted.",
    minutes_quick=2.5,
    minutes_full=120,
    statements=(
        Statement(
            id="accuracy",
            text="SqueezeNet is as accurate as AlexNet.",
            statistic="test error of SqueezeNet minus that of AlexNet",
            unit="points",
            paper="-0.3 points of top-1 error, 0.0 of top-5 (Table 2)",
            # The paper's is 0.3 points better; it calls networks that are 1.2 points worse a loss.
            threshold=at_most(1.0),
            needs=Budget.STANDARD,
            test_bed=f"{protocol.IMAGES}; both at width {WIDTH:g} and {SIDE} px, {protocol.EPOCHS} epochs",
            arms=both_networks,
            measure=accuracy,
            max_training_error=MAX_TRAINING_ERROR,
            minutes=46,
        ),
        *fire_designs.STATEMENTS,
        Statement(
            id="parameters",
            text="SqueezeNet has 50 times fewer parameters than AlexNet.",
            statistic="parameters of AlexNet over those of SqueezeNet",
            paper="50 times (Table 2)",
            threshold=FIFTY,
            role=Role.COUNT,
            measure=parameters,
        ),
        Statement(
            id="filters",
            text="A 1x1 filter has 9 times fewer parameters than a 3x3 filter.",
            statistic="weights of a module's 3x3 filters over those of as many 1x1 filters, without biases",
            paper="9 times (section 3.1)",
            threshold=exactly(9),
            role=Role.COUNT,
            measure=filters,
        ),
        Statement(
            id="squeezing",
            text="Fewer input channels save weights of 3x3 filters: squeezed to an eighth, 4 to 8 times.",
            statistic="weights that all 3x3 filters would have if they read their modules' inputs, over those that "
            "they have",
            # A module squeezes to an eighth of its output channels, which are as many as its input's, or twice.
            threshold=Threshold(4, 8),
            role=Role.COUNT,
            measure=squeezed,
        ),
        Statement(
            id="sizes",
            text="At a squeeze ratio of 0.75 the weights take 19 MB (of 2^20 bytes), at 0.125 they take 4.8.",
            statistic="size of the weights at squeeze ratio 0.75",
            unit="MiB",
            paper="19 MB (section 5.2)",
            # Less than one unit of the last printed digit, as for every printed figure.
            threshold=Threshold(18, 20),
            role=Role.COUNT,
            measure=sizes,
        ),
        Statement(
            id="files",
            text="An update over the air sends 50 times fewer bytes.",
            statistic="bytes of AlexNet's weight file over those of SqueezeNet's",
            paper="240 MB for AlexNet (section 1), 50 times (Table 2)",
            threshold=FIFTY,
            role=Role.COUNT,
            measure=files,
        ),
        Statement(
            id="embedded",
            text="SqueezeNet's weights fit into an FPGA with less than 10 MB on its chip; AlexNet's do not.",
            statistic="on-chip memory of the largest such FPGA listed over SqueezeNet's weights in single precision, "
            "or AlexNet's over that memory, whichever is less",
            paper='4.8 MB; "FPGAs often have less than 10MB of on-chip memory" (section 1)',
            threshold=at_least(1),
            role=Role.COUNT,
            measure=embedded,
        ),
        Statement(
            id="traffic",
            text="What machines that train together send is proportional to the number of parameters.",
            statistic="relative difference of the bytes that two processes send in a step from 4 times the trained "
            "parameters, the largest of eight families",
            threshold=exactly(0),
            role=Role.COUNT,
            measure=traffic,
        ),
        Statement(
            id="distributed",
            text="SqueezeNet trains faster than AlexNet on several machines, because it sends less.",
            statistic="time of a training step of AlexNet over that of SqueezeNet, on two machines connected at 1 "
            "Gbit/s, divided by the same on one machine",
            # Above 1 by more than times vary. On one machine it may be ahead for other reasons.
            threshold=at_least(1.2),
            no_effect=1.0,
            version=2,
            role=Role.PERIPHERAL,
            test_bed="computing timed, sending computed; both at their papers' sizes",
            measure=distributed,
        ),
        Statement(
            id="three-times",
            text="SqueezeNet is 3 times faster than AlexNet, as is often said. Its MACs are 833 million, AlexNet's 724 "
            "million.",
            statistic="time of AlexNet over that of SqueezeNet, inference of one image",
            # What rounds to three.
            threshold=at_least(2.5),
            no_effect=1.0,
            role=Role.FOLKLORE,
            test_bed=f"both at their papers' sizes, in turn, in {NUM_PROCESSES} processes",
            measure=faster,
        ),
    ),
)
