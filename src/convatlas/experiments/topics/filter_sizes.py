"""Inception: choose every filter size at once."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F

from convatlas import atlas, data, measure
from convatlas.draw import Bars, Series
from convatlas.experiments.engine.accuracy import differences, errors_of, undertrained
from convatlas.experiments.engine.budget import Setting
from convatlas.experiments.engine.statement import Statement, Topic
from convatlas.experiments.engine.verdict import Measurement, at_least
from convatlas.experiments.topics.equal_cost import at_cost, macs
from convatlas.networks.googlenet import DiscountedAuxiliaries, GoogLeNet, GoogLeNetSpec, InceptionChannels
from convatlas.runs.options import Runtime
from convatlas.runs.run import Run
from convatlas.training import Request

MIN_GAIN = 0.1
"""Points of test error that must be gained to count; section 5 speaks of half a point."""
QUICK_WIDTH, QUICK_SIDE, QUICK_EPOCHS, QUICK_BATCH = 0.125, 28, 6, 32
NARROWEST, WIDEST = 0.03, 8.0
"""Width multipliers between which equal MACs are searched."""


def paper(setting: Setting) -> GoogLeNetSpec:
    spec = atlas.find("googlenet").spec
    assert isinstance(spec, GoogLeNetSpec)
    return spec.scaled(width=QUICK_WIDTH, resolution=QUICK_SIDE) if setting.quick else spec.scaled(resolution=64)


def naive(setting: Setting) -> Measurement:
    costs = {name: measure.cost_of(GoogLeNet, atlas.find(name).spec).macs for name in ("googlenet", "googlenet-naive")}
    reduced, whole = costs.values()
    return Measurement(
        values=(whole / reduced,),
        figures=tuple((f"MACs of {name} at 224 px", f"{number / 1e6:,.0f} million") for name, number in costs.items()),
    )


def single_size(spec: GoogLeNetSpec) -> dict[str, GoogLeNetSpec]:
    """Networks whose modules have filters of one size, as many as all of the paper's together."""

    def only(eighths: dict[str, int], pooled: bool = False) -> GoogLeNetSpec:
        def module(sizes: InceptionChannels) -> InceptionChannels:
            out_channels = sizes.n1x1 + sizes.n3x3 + sizes.n5x5 + sizes.pool_proj
            empty = InceptionChannels(0, 0, 0, 0, 0, 0)
            return empty._replace(**{name: out_channels * part // 8 for name, part in eighths.items()})

        return replace(spec, stages=tuple(tuple(map(module, stage)) for stage in spec.stages), pooled=pooled)

    return {
        "1x1 alone": only({"n1x1": 8}),
        "3x3 alone": only({"r3x3": 4, "n3x3": 8}),
        "5x5 alone": only({"r5x5": 2, "n5x5": 8}),
        "pooling alone": only({"pool_proj": 8}, pooled=True),
    }


def at_equal_cost(spec: GoogLeNetSpec, like: GoogLeNetSpec) -> GoogLeNetSpec:
    """The spec at the width at which it has the MACs of the other."""
    variant = atlas.find("googlenet")
    return at_cost(variant, macs(variant, like), lambda width: spec.scaled(width=width), NARROWEST, WIDEST)


def request(setting: Setting, spec: GoogLeNetSpec, seed: int) -> Request:
    full = Request(network="googlenet", spec=spec, data="cifar10", seed=seed)
    if not setting.quick:
        return full
    return replace(full, data="digits", epochs=QUICK_EPOCHS, batch_size=QUICK_BATCH, runtime=Runtime(autotune=False))


def trained(setting: Setting, specs: Mapping[str, GoogLeNetSpec]) -> dict[str, list[Run]]:
    return setting.train_seeds({name: partial(request, setting, spec) for name, spec in specs.items()})


def all_sizes(setting: Setting) -> Measurement:
    """The test error of the best single size minus that of the module."""
    full = atlas.find("googlenet").spec
    assert isinstance(full, GoogLeNetSpec)
    module = replace(paper(setting), supervised=False)
    specs = {"the module": module}
    # From the paper's own widths: a narrow network leaves no room to make it narrower.
    whole = replace(module, stem=full.stem, stages=full.stages, auxiliary=full.auxiliary)
    specs |= {name: at_equal_cost(spec, module) for name, spec in single_size(whole).items()}
    runs = trained(setting, specs)
    errors = {name: errors_of(each) for name, each in runs.items()}
    chart = Bars(
        name="sizes",
        title="The module and each of its branches alone, at equal MACs",
        y="test error, %",
        labels=tuple(errors),
        series=(Series.mean_of_runs("test error", range(len(errors)), list(zip(*errors.values(), strict=True))),),
    )
    of_module, *others = errors.values()
    best = min(others, key=statistics.fmean)
    return Measurement(
        values=differences(best, of_module),
        figures=tuple(
            (
                name,
                f"{statistics.fmean(errors[name]):.2f} % test error, "
                f"{macs(atlas.find('googlenet'), spec) / 1e6:.2f} million MACs",
            )
            for name, spec in specs.items()
        ),
        charts=(chart,),
        inconclusive=undertrained(runs),
    )


def gradient(setting: Setting) -> Measurement:
    """The gradient norm at the first convolution with the auxiliary classifiers over that without."""
    spec = replace(paper(setting), num_classes=10, in_channels=1)
    split = data.find("digits").load(spec.resolution, seed=0).train
    images = torch.from_numpy(split.images[:64]).float() / 255
    labels = torch.from_numpy(split.labels[:64])
    targets = F.one_hot(labels, spec.num_classes).float()

    def at_first_convolution(supervised: bool, seed: int) -> float:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            # The auxiliary classifiers are initialized last, so that all other weights are the same.
            network = GoogLeNet(replace(spec, supervised=supervised)).train()
            objective = DiscountedAuxiliaries()
            norms = measure.gradient_norms(network, lambda outputs: objective.losses(outputs, targets).mean(), images)
        return dict(norms)["conv1.conv"]

    return Measurement(
        values=tuple(at_first_convolution(True, seed) / at_first_convolution(False, seed) for seed in setting.seeds),
        note="Measured before training, with the classifiers at their weight of 0.3.",
    )


def auxiliary(setting: Setting) -> Measurement:
    spec = paper(setting)
    runs = trained(setting, {"with auxiliary classifiers": spec, "without": replace(spec, supervised=False)})
    with_them, without = (errors_of(each) for each in runs.values())
    return Measurement(
        values=differences(without, with_them),
        figures=tuple(
            (f"test error {name}", f"{statistics.fmean(errors_of(each)):.2f} %") for name, each in runs.items()
        ),
        inconclusive=undertrained(runs),
    )


TOPIC = Topic(
    id="filter-sizes",
    title="Inception: choose every filter size at once",
    summary="Filters of 1x1, 3x3 and 5x5 and pooling side by side let the next layer choose. 1x1 reductions make that "
    "affordable, and auxiliary classifiers bring the gradient to the lower layers.",
    source="Szegedy et al. 2014, sections 3 to 5, Figure 2, Table 1",
    method="The MACs of the naive and of the reduced modules are counted at 224 px. Networks with one kind of branch "
    "alone are scaled in width to the MACs of the whole and trained; 3x3 keeps a reduction to half of its filters, 5x5 "
    f"to a quarter. Quick: an eighth of the width, {QUICK_SIDE} px, {QUICK_EPOCHS} epochs of digits; full: 64 px, "
    "CIFAR-10.",
    limitations="Digits of 8x8 pixels have no details of many sizes.",
    minutes=(2.5, 60),
    statements=(
        Statement(
            id="naive",
            text="Without reductions the modules are too expensive.",
            statistic="MACs of the naive network over those of the reduced one",
            # Section 4 says "prohibitively expensive" and prints no figure: several times.
            threshold=at_least(3.0),
            measure=naive,
        ),
        Statement(
            id="all-sizes",
            text="All sizes side by side are better than any single size at equal MACs.",
            statistic="test error of the best single size minus that of the module, in points",
            threshold=at_least(MIN_GAIN),
            measure=all_sizes,
        ),
        Statement(
            id="gradient",
            text="Auxiliary classifiers strengthen the gradient at the lower layers.",
            statistic="gradient norm at the first convolution with them over that without",
            threshold=at_least(1.1),
            measure=gradient,
        ),
        Statement(
            id="auxiliary",
            text="Auxiliary classifiers lower the test error.",
            statistic="test error without them minus that with them, in points",
            threshold=at_least(MIN_GAIN),
            measure=auxiliary,
        ),
    ),
)
