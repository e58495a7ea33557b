"""Inception: choose every filter size at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from convatlas import atlas, data, measure
from convatlas.draw import Bars, Series
from convatlas.experiments.engine import protocol
from convatlas.experiments.engine.answers import Answers
from convatlas.experiments.engine.arms import Arm
from convatlas.experiments.engine.budget import Budget, Setting
from convatlas.experiments.engine.comparison import (
    compare,
    failed_precondition,
    figures_of,
    test_error,
    weighted_errors,
)
from convatlas.experiments.engine.estimate import counted, in_words, repeated
from convatlas.experiments.engine.statement import Measurement, Role, Statement, Topic
from convatlas.experiments.engine.verdict import at_least
from convatlas.experiments.topics.equal_cost import at_cost, macs
from convatlas.formatting import plural
from convatlas.networks.blocks import CrossEntropy
from convatlas.networks.googlenet import DiscountedAuxiliaries, GoogLeNet, GoogLeNetSpec, InceptionChannels
from convatlas.training import Request
from convatlas.training.recipes import DEEP_LR, SMALL_IMAGES

# --- what reductions save --------------------------------------------------------------------------------------------


def naive(setting: Setting) -> Measurement:
    costs = {name: measure.cost_of(GoogLeNet, atlas.find(name).spec).macs for name in ("googlenet", "googlenet-naive")}
    reduced, whole = costs.values()
    return Measurement(
        estimate=counted(whole / reduced),
        figures=tuple((f"MACs of {name} at 224 px", f"{number / 1e6:,.0f} million") for name, number in costs.items()),
    )


# --- one size against all --------------------------------------------------------------------------------------------

WIDTH, SIDE = 0.25, 32
"""At standard."""
FULL_SIDE = 64
"""At full, in the paper's width."""
NUM_CLASSES = 10
NARROWEST, WIDEST = 0.03, 8.0
"""Width multipliers between which equal MACs are searched."""
MODULE = "the module"
COMPARED = ("3x3 alone", "5x5 alone")
MARGIN = 1.0
"""Points by which the module may be worse: what somebody may lose who does not choose a size."""
NOT_INFERIOR = at_least(-MARGIN)
MAX_TRAINING_ERROR = 40.0
"""In percent, on augmented images; guessing comes to 90. Networks of this size that learn are well below after ten
epochs."""


def network(setting: Setting) -> str:
    return "googlenet" if setting.full else "googlenet-bn"


def unscaled(setting: Setting) -> GoogLeNetSpec:
    """The network in the paper's width, at the budget's resolution."""
    spec = atlas.find(network(setting)).spec
    assert isinstance(spec, GoogLeNetSpec)
    return replace(spec.scaled(resolution=FULL_SIDE if setting.full else SIDE), num_classes=NUM_CLASSES)


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


def sizes(setting: Setting) -> dict[str, GoogLeNetSpec]:
    """The network, and those with modules of one size, at the width at which they have its MACs."""
    whole = replace(unscaled(setting), supervised=False)
    module = whole if setting.full else whole.scaled(width=WIDTH)
    variant = atlas.find(network(setting))
    # From the paper's own widths: a narrow network leaves no room to make it narrower.
    single = single_size(whole)
    # The others are no rivals: at full they are shown, too.
    names = tuple(single) if setting.full else COMPARED

    def narrowed(spec: GoogLeNetSpec) -> GoogLeNetSpec:
        return at_cost(variant, macs(variant, module), lambda width: spec.scaled(width=width), NARROWEST, WIDEST)

    return {MODULE: module} | {name: narrowed(single[name]) for name in names}


def arm(setting: Setting, spec: GoogLeNetSpec) -> Arm:
    if setting.full:
        recipe = replace(SMALL_IMAGES, lr=DEEP_LR)
        full = Request(network=network(setting), spec=spec, data="cifar10", recipe=recipe)
        return Arm(request=lambda seed: replace(full, seed=seed))
    standard = Request(
        network=network(setting), spec=spec, data=protocol.DATA, recipe=protocol.recipe(), runtime=protocol.RUNTIME
    )
    return Arm(request=lambda seed: replace(standard, seed=seed), rates=protocol.RATES)


def each_size(setting: Setting) -> dict[str, Arm]:
    return {name: arm(setting, spec) for name, spec in sizes(setting).items()}


def all_sizes(setting: Setting) -> Measurement:
    """The test error of 3x3 alone or of 5x5 alone minus that of the module: of both the one that says less for it."""
    trained = setting.train_arms(each_size(setting))
    answers = Answers.of(trained)
    leads = {name: weighted_errors(answers, {name: 1.0, MODULE: -1.0}) for name in COMPARED}
    decides = NOT_INFERIOR.deciding(leads)
    variant = atlas.find(network(setting))
    return Measurement(
        estimate=leads[decides],
        failed=failed_precondition({name: trained[name] for name in (MODULE, *COMPARED)}, MAX_TRAINING_ERROR),
        figures=(
            *figures_of(trained, answers),
            *((f"{name} minus the module", in_words(lead, "points")) for name, lead in leads.items()),
            *((f"MACs, {name}", f"{macs(variant, spec) / 1e6:.2f} million") for name, spec in sizes(setting).items()),
        ),
        charts=(chart_of(setting, answers),),
        note=f"{decides} decides.",
        answers=answers,
    )


def chart_of(setting: Setting, answers: Answers) -> Bars:
    errors = {name: test_error(answers, name).values for name in answers.predictions}
    trained_on = "CIFAR-10" if setting.full else f"{protocol.IMAGES}, {protocol.EPOCHS} epochs"
    return Bars(
        name="sizes",
        title="The module and single filter sizes at equal MACs",
        subtitle=f"{network(setting)}, {trained_on}, {plural(len(setting.seeds), 'seed')}",
        y="test error, %",
        labels=tuple(errors),
        series=(Series.mean_of_runs("test error", range(len(errors)), list(zip(*errors.values(), strict=True))),),
    )


# --- auxiliary classifiers -------------------------------------------------------------------------------------------

IMAGES = 16
EQUAL = 0.42
"""The ratio where the gradient of each of the two auxiliary losses is as strong as that of the main one: 0.3 times the
square root of 2, for gradients of independent directions. The paper added them since gradients might not come through
all layers: if that is what they mend, theirs are no weaker."""


def digits(resolution: int) -> tuple[Tensor, Tensor]:
    """Images (n, 1, side, side) with mean 0 and standard deviation 1, and their labels (n,)."""
    split = data.find("digits").load(resolution, seed=0).train
    images = torch.from_numpy(split.images[:IMAGES]).float()
    return (images - images.mean()) / images.std(), torch.from_numpy(split.labels[:IMAGES])


def gradient_ratio(spec: GoogLeNetSpec, seed: int) -> float:
    """The gradient norm at the first convolution of the discounted auxiliary losses over that of the main loss."""
    images, labels = digits(spec.resolution)
    targets = F.one_hot(labels, spec.num_classes).float()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = GoogLeNet(spec).train()

        def at_first_convolution(loss: Callable[[tuple[Tensor, ...]], Tensor]) -> float:
            return dict(measure.gradient_norms(network, loss, images))["conv1.conv"]

        main = at_first_convolution(lambda outputs: CrossEntropy().losses(outputs[0], targets).mean())
        auxiliary = at_first_convolution(
            lambda outputs: torch.stack([CrossEntropy().losses(each, targets).mean() for each in outputs[1:]]).sum()
        )
    return DiscountedAuxiliaries().weight * auxiliary / main


def gradient(setting: Setting) -> Measurement:
    spec = atlas.find("googlenet").spec
    assert isinstance(spec, GoogLeNetSpec)
    gray = replace(spec, in_channels=1, num_classes=NUM_CLASSES)
    return Measurement(estimate=repeated([gradient_ratio(gray, seed) for seed in setting.seeds]))


WITH, WITHOUT = "with auxiliary classifiers", "without"


def both_ways(setting: Setting) -> dict[str, Arm]:
    spec = unscaled(setting)
    return {WITH: arm(setting, spec), WITHOUT: arm(setting, replace(spec, supervised=False))}


def auxiliary(setting: Setting) -> Measurement:
    return compare(setting.train_arms(both_ways(setting)), {WITHOUT: 1.0, WITH: -1.0}, MAX_TRAINING_ERROR)


TOPIC = Topic(
    id="filter-sizes",
    title="Inception: choose every filter size at once",
    summary="Filters of 1x1, 3x3 and 5x5 and pooling side by side let the next layer choose. 1x1 reductions make that "
    "affordable, and auxiliary classifiers bring the gradient to the lower layers.",
    source="Szegedy et al. 2014, sections 3 to 5, Figure 2, Table 1",
    method="The MACs of the naive and of the reduced modules are counted at 224 px. Networks with one filter size "
    "alone are scaled in width to the MACs of the whole, without auxiliary classifiers; 3x3 keeps a reduction to half "
    f"of its filters, 5x5 to a quarter. Standard: {WIDTH:g} of the width, batch normalization, CIFAR-10 at {SIDE} px, "
    f"{protocol.EPOCHS} epochs, each network with the learning rate that is best for it; full: as the paper has it, at "
    f"{FULL_SIDE} px, and 1x1 and pooling alone besides. The gradients of the main and of the auxiliary losses are "
    f"compared before training, on {IMAGES} digits at 224 px.",
    limitations="The paper compares with no single size. At equal MACs the networks of one size are narrower "
    "throughout, in their first layers too. Gradients before training need not be those of later.",
    minutes_quick=1,
    minutes_full=60,
    statements=(
        Statement(
            id="naive",
            text="Without reductions the modules are too expensive.",
            statistic="MACs of the naive network over those of the reduced one",
            unit="times",
            # Section 4 says "prohibitively expensive" and prints no figure: several times.
            threshold=at_least(3.0),
            role=Role.COUNT,
            measure=naive,
        ),
        Statement(
            id="all-sizes",
            text="Nobody needs to choose a filter size: the module is as good as the best single one at equal MACs.",
            statistic="test error of 3x3 alone minus that of the module, or of 5x5 alone: of both the one "
            "that says less for the module",
            unit="points",
            threshold=NOT_INFERIOR,
            needs=Budget.STANDARD,
            test_bed=f"{protocol.IMAGES}; googlenet-bn, {WIDTH:g} of the width, {SIDE} px, {protocol.EPOCHS} epochs",
            arms=each_size,
            measure=all_sizes,
            max_training_error=MAX_TRAINING_ERROR,
            minutes=42,
        ),
        Statement(
            id="gradient",
            text="Auxiliary classifiers bring the first layer as strong a gradient as the main one.",
            statistic="gradient norm at the first convolution of the auxiliary losses with their weight of 0.3 over "
            f"that of the main loss, before training; where both are as strong as the main one it is {EQUAL:g}",
            threshold=at_least(EQUAL),
            no_effect=0.0,
            role=Role.PERIPHERAL,
            test_bed=f"googlenet before training, {IMAGES} digits",
            measure=gradient,
        ),
        Statement(
            id="auxiliary",
            text="Auxiliary classifiers lower the test error.",
            statistic="test error without them minus that with them",
            unit="points",
            paper="about 0.5 points (section 5)",
            threshold=at_least(0.0),
            role=Role.PERIPHERAL,
            needs=Budget.FULL,
            test_bed=f"CIFAR-10; googlenet, {FULL_SIDE} px",
            arms=both_ways,
            measure=auxiliary,
            max_training_error=MAX_TRAINING_ERROR,
        ),
    ),
)
