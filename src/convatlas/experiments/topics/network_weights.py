"""What networks weigh as their papers print them, how good they are, and how long one image takes."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from functools import cache

import torch

from convatlas import atlas, measure
from convatlas.draw import Lines, Series
from convatlas.experiments.engine.budget import Setting
from convatlas.experiments.engine.estimate import counted, timed
from convatlas.experiments.engine.statement import Measurement
from convatlas.experiments.engine.timings import in_processes
from convatlas.experiments.topics.timed_steps import inference
from convatlas.spec import Family

# --- weights ---------------------------------------------------------------------------------------------------------

HEAVY_MB = 100
MB, MIB = 10**6, 2**20
FLOAT_BYTES = 4

MAX_TOP1, MAX_TOP5 = 25.0, 8.0
"""Errors in percent up to which a network is called good here: those of VGG-16, 24.8 and 7.5 %, and a little more. The
second is for networks of which only a top-5 error is printed."""

VGG_AT_ONE_SCALE = "top-1 error on ILSVRC-2012 validation, single scale 256"
VGG_AT_SEVERAL = "top-1 error on ILSVRC-2012 validation, tested at several scales"
TEN_CROPS = "top-1 error on ImageNet validation, 10 crops"
TOP1_ACCURACY = "top-1 accuracy on ImageNet"

PRINTED: Mapping[str, str] = {
    "alexnet": "top-1 error on ILSVRC-2012 validation, one net",
    **dict.fromkeys(("vgg11", "vgg11-lrn", "vgg13", "vgg16-1x1"), VGG_AT_ONE_SCALE),
    **dict.fromkeys(("vgg16", "vgg19"), VGG_AT_SEVERAL),
    "googlenet": "top-5 error on ILSVRC-2014 validation, one net, 144 crops",
    **dict.fromkeys(("plain18", "plain34", "resnet18-a", "resnet34", "resnet34-a", "resnet34-c"), TEN_CROPS),
    **dict.fromkeys(("resnet50", "resnet101", "resnet152"), TEN_CROPS),
    "resnet50-v1.5": TOP1_ACCURACY,
    **dict.fromkeys(("squeezenet", "squeezenet-simple-bypass", "squeezenet-complex-bypass"), TOP1_ACCURACY),
    **dict.fromkeys(("mobilenet", "mobilenet-conv", "mobilenet-shallow"), TOP1_ACCURACY),
    **dict.fromkeys((f"efficientnet-b{phi}" for phi in range(8)), f"{TOP1_ACCURACY}, late version of the paper"),
}
"""The claim that prints the error of one network of this kind on ImageNet, the best where there are several."""


def printed_error(name: str) -> float:
    """In percent, as its paper prints it."""
    (claim,) = [claim for claim in atlas.find(name).claims if claim.figure == PRINTED[name]]
    return 100 - float(claim.value) if "accuracy" in claim.figure else float(claim.value)


def is_good(name: str) -> bool:
    """Whether the printed error is at most what is called good here."""
    return printed_error(name) <= (MAX_TOP5 if PRINTED[name].startswith("top-5") else MAX_TOP1)


# Tracing a large network takes a second.
@cache
def weight_bytes(name: str) -> int:
    """Of a network's weights as its paper prints it, 32 bits a parameter, without auxiliary classifiers."""
    variant = atlas.find(name)
    return FLOAT_BYTES * measure.cost_of(variant.network, variant.spec).params


def family_of(name: str) -> Family:
    return next(family for family in atlas.families() if any(variant.name == name for variant in family.variants))


def weights_figure(name: str) -> tuple[str, str]:
    """The size in both units: in MiB a network may weigh less than 100 that weighs more in MB."""
    size, kind = weight_bytes(name), PRINTED[name].partition(" ")[0]
    return name, f"{size / MB:.3g} MB = {size / MIB:.3g} MiB, {kind} error {printed_error(name):.3g} %"


def best_of_families() -> dict[str, str]:
    """The good network with the lowest printed error of each family that has one, by the family's name."""
    best: dict[str, str] = {}
    for name in filter(is_good, PRINTED):
        family = family_of(name).name
        if family not in best or printed_error(name) < printed_error(best[family]):
            best[family] = name
    return best


def best_weigh(setting: Setting) -> Measurement:
    best = best_of_families().values()
    heavy = [name for name in best if weight_bytes(name) >= HEAVY_MB * MB]
    return Measurement(
        estimate=counted(100 * len(heavy) / len(best)),
        figures=(
            ("of them weigh 100 MB or more", f"{len(heavy)} of {len(best)}"),
            *map(weights_figure, best),
        ),
    )


def lightest_weighs(setting: Setting) -> Measurement:
    good = sorted(filter(is_good, PRINTED), key=weight_bytes)
    rows = (f"{sum(weight_bytes(name) >= HEAVY_MB * unit for name in good)} of {len(good)}" for unit in (MB, MIB))
    return Measurement(
        estimate=counted(weight_bytes(good[0]) / MB),
        figures=(
            *zip(("weigh 100 MB or more", "weigh 100 MiB or more"), rows, strict=True),
            *map(weights_figure, good),
        ),
        charts=(weights_by_error(),),
        note=f"Counted are networks with a printed top-1 error of at most {MAX_TOP1:g} % on ImageNet, or a top-5 error "
        f"of at most {MAX_TOP5:g} % where that alone is printed (GoogLeNet). The papers measure errors in several "
        "ways, from one crop to several scales. MB are 10^6 bytes, MiB 2^20: ResNet-50 has more than 100 of the one "
        "and fewer of the other.",
    )


def weights_by_error() -> Lines:
    """A point for each network of which a top-1 error is printed."""
    by_family: dict[str, list[str]] = {}
    for name in PRINTED:
        if not PRINTED[name].startswith("top-5"):
            by_family.setdefault(family_of(name).name, []).append(name)
    return Lines(
        name="weights-by-error",
        title="Weights against error",
        subtitle="ImageNet, one network, errors as printed; 32 bits a parameter; GoogLeNet prints no top-1 error",
        x="top-1 error, %",
        y="weights, MB",
        series=tuple(
            Series(family, tuple(map(printed_error, names)), tuple(weight_bytes(name) / MB for name in names))
            for family, names in by_family.items()
        ),
        log_y=True,
        marks=((f"{HEAVY_MB} MB", HEAVY_MB),),
        points=True,
    )


# --- latency ---------------------------------------------------------------------------------------------------------

TIMED = (
    "alexnet", "vgg16", "googlenet", "resnet18", "resnet50", "squeezenet", "mobilenet", "efficientnet-b0",
)  # fmt: skip
"""A well-known network of each family that classifies photographs, and ResNet-50."""
ROUNDS = 7


def latencies_ms() -> dict[str, float]:
    """The median of each network at its paper's resolution, for one image, timed in turn."""
    with torch.random.fork_rng():
        workloads = {name: inference(atlas.find(name), atlas.find(name).spec, 1) for name in TIMED}
        timings = measure.time_in_turn(workloads, repeats=ROUNDS)
    return {name: timing.median_ms for name, timing in timings.items()}


def slower(of_process: Mapping[str, float]) -> float:
    """The median latency of the networks that weigh 100 MB or more, over that of the lighter ones."""
    heavy = {name for name in of_process if weight_bytes(name) >= HEAVY_MB * MB}
    return statistics.median(of_process[name] for name in heavy) / statistics.median(
        of_process[name] for name in of_process.keys() - heavy
    )


def latency(setting: Setting) -> Measurement:
    processes = in_processes(latencies_ms)

    def figure(name: str) -> tuple[str, str]:
        variant = atlas.find(name)
        took = timed([of_process[name] for of_process in processes])
        macs = measure.cost_of(variant.network, variant.spec).macs
        return name, (
            f"{took.center:.3g} ms ({took.low:.3g} to {took.high:.3g}), {weight_bytes(name) / MB:.3g} MB, "
            f"{macs / 1e6:,.0f} million MACs"
        )

    return Measurement(
        estimate=timed(list(map(slower, processes))),
        figures=(*map(figure, TIMED), ("engine", measure.torch_engine())),
        note="Weights and time are not the same: AlexNet's weights are mostly those of fully connected layers, each "
        "used once.",
    )
