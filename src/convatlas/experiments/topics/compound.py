"""EfficientNet: scale width, depth and resolution together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import pairwise

from convatlas import atlas
from convatlas.draw import Bars, Lines, Series
from convatlas.experiments.engine import protocol
from convatlas.experiments.engine.answers import Answers
from convatlas.experiments.engine.arms import Arm, TrainedArm
from convatlas.experiments.engine.budget import Budget, Setting
from convatlas.experiments.engine.comparison import compare, failed_precondition, figures_of, weighted_errors
from convatlas.experiments.engine.estimate import counted, in_words
from convatlas.experiments.engine.statement import Measurement, Role, Statement, Topic
from convatlas.experiments.engine.verdict import Threshold, at_least
from convatlas.experiments.topics.equal_cost import at_cost, macs
from convatlas.networks.resnet import ResNetSpec
from convatlas.recipe import Recipe
from convatlas.runs.options import Validation
from convatlas.runs.run import Run, read_metrics
from convatlas.spec import Spec
from convatlas.training import Request
from convatlas.training.recipes import SMALL_IMAGES

MAX_TRAINING_ERROR = 40.0
"""In percent: half-way from guessing to what ResNet-20 at half of its width comes to in 10 epochs, about 20."""

Triple = tuple[float, float, float]
"""alpha, beta and gamma: factors of depth, width and resolution at phi = 1."""


def triple_of(depth: float, width: float, resolution: float) -> Triple:
    """The triple that doubles MACs, alpha beta^2 gamma^2 = 2, from each dimension's share of the growth.

    The shares add up to 1.
    """
    return 2**depth, 2 ** (width / 2), 2 ** (resolution / 2)


SINGLE: dict[str, Triple] = {
    "depth": triple_of(1, 0, 0),
    "width": triple_of(0, 1, 0),
    "resolution": triple_of(0, 0, 1),
}
PAPER = "the paper's triple"
COMPOUND: dict[str, Triple] = {
    PAPER: (1.2, 1.1, 1.15),
    "equal shares": triple_of(1 / 3, 1 / 3, 1 / 3),
    "most depth": triple_of(1 / 2, 1 / 4, 1 / 4),
    "most width": triple_of(1 / 4, 1 / 2, 1 / 4),
}
"""The paper's triple has most resolution."""


@dataclass(frozen=True, kw_only=True)
class ScalingBed:
    """A network before it is scaled, and on what its scalings are trained."""

    network: str
    width: float = 1.0
    side: int
    data: str
    recipe: Recipe
    rates: tuple[float, ...] = ()
    validation: Validation | None = None

    @property
    def base(self) -> Spec:
        spec = atlas.find(self.network).spec.scaled(width=self.width, resolution=self.side)
        return replace(spec, num_classes=10)

    def scaled(self, triple: Triple, times: int) -> Spec:
        """With the MACs of the base `times` as deep."""
        return grown(self.network, self.base, triple, times)

    def arm(self, spec: Spec) -> Arm:
        def request(seed: int) -> Request:
            return Request(
                network=self.network,
                spec=spec,
                data=self.data,
                recipe=self.recipe,
                seed=seed,
                validation=self.validation,
                runtime=protocol.RUNTIME,
            )

        return Arm(request=request, rates=self.rates)

    def million_macs(self, spec: Spec) -> float:
        return macs(atlas.find(self.network), spec) / 1e6


AT_STANDARD = ScalingBed(
    network="resnet20-cifar", width=0.5, side=24, data=protocol.DATA, recipe=protocol.recipe(), rates=protocol.RATES
)
"""The paper's triple leads from 24 px to nearly all that the images have, 32."""
B0 = ScalingBed(network="efficientnet-b0", side=68, data="cifar10", recipe=SMALL_IMAGES, validation=Validation())
"""From 64 px on it has the paper's own stem; the stem for smaller images would change with the resolution. From 65 to
96 px the last feature maps stay 3x3, so that no single pixel makes the cost jump."""
RESNET = replace(B0, network="resnet20-cifar", side=36)
"""From this network the steps of width, depth and resolution lead to about equal MACs."""


@cache
def grown(network: str, base: Spec, triple: Triple, times: int) -> Spec:
    """The base scaled by the triple, with about the MACs of the network `times` as deep.

    Depth grows by whole units, so the other dimensions are fitted to it: the growth that it leaves is divided between
    width and resolution, and then one of the two is moved to where the MACs come nearest.
    """
    variant = atlas.find(network)
    alpha, beta, gamma = triple
    depth = alpha ** math.log2(times)
    deeper = base.scaled(depth=depth)
    if beta == gamma == 1:
        return deeper
    target = macs(variant, base.scaled(depth=times))
    log_growth = math.log(target / macs(variant, deeper))
    width_share = math.log(beta) / math.log(beta * gamma)
    width, factor = math.exp(log_growth * width_share / 2), math.exp(log_growth * (1 - width_share) / 2)

    def wider(width: float) -> Spec:
        return widened(deeper, width, round(base.resolution * factor))

    def larger(factor: float) -> Spec:
        return widened(deeper, width, round(base.resolution * factor))

    candidates = [
        at_cost(variant, target, spec_at, 1.0, float(times))
        for spec_at, growth in ((wider, beta), (larger, gamma))
        if growth > 1
    ]
    return min(candidates, key=lambda spec: abs(macs(variant, spec) - target))


def widened(spec: Spec, width: float, resolution: int) -> Spec:
    if not isinstance(spec, ResNetSpec):
        return spec.scaled(width=width, resolution=resolution)
    # Whole numbers of channels: multiples of 8, as the family scales, miss the MACs by 5 %.
    return replace(
        spec,
        stem=round(width * spec.stem),
        stages=tuple(tuple(tuple(round(width * num) for num in unit) for unit in stage) for stage in spec.stages),
        resolution=resolution,
    )


# --- one dimension against three -------------------------------------------------------------------------------------

TIMES = 4
MARGIN = 0.5
"""Points that the best single dimension may be ahead where neither counts as better."""
NOT_INFERIOR = at_least(-MARGIN)


def single_and_compound(setting: Setting) -> dict[str, Arm]:
    bed = bed_of(setting)
    return {name: bed.arm(bed.scaled(triple, TIMES)) for name, triple in (SINGLE | {PAPER: COMPOUND[PAPER]}).items()}


def bed_of(setting: Setting) -> ScalingBed:
    return B0 if setting.full else AT_STANDARD


AGAINST_MEAN = {PAPER: -1.0} | dict.fromkeys(SINGLE, 1 / len(SINGLE))


def against_mean(setting: Setting) -> Measurement:
    trained = setting.train_arms(single_and_compound(setting))
    return with_networks(compare(trained, AGAINST_MEAN, MAX_TRAINING_ERROR), trained)


def against_best(setting: Setting) -> Measurement:
    trained = setting.train_arms(single_and_compound(setting))
    answers = Answers.of(trained)
    gains = {name: weighted_errors(answers, {name: 1.0, PAPER: -1.0}) for name in SINGLE}
    of_seeds = list(zip(*(gain.values for gain in gains.values()), strict=True))
    first = trained[PAPER].runs
    chart = Bars(
        name="compound",
        title=f"The paper's triple against single dimensions, {TIMES} times the MACs",
        subtitle=f"{first[0].card.variant} on {'CIFAR-10' if setting.full else protocol.IMAGES}, "
        f"{first[0].record.recipe.epochs} epochs, n = {len(first)}",
        y="test accuracy gained, points",
        labels=tuple(gains),
        series=(Series.mean_of_runs("gain", range(len(gains)), of_seeds),),
        marks=(("not inferior from here", -MARGIN), ("the paper, against ResNet-50 deepened", 0.7)),
    )
    measurement = Measurement(
        estimate=gains[NOT_INFERIOR.deciding(gains)],
        failed=failed_precondition(trained, MAX_TRAINING_ERROR),
        figures=(
            *((f"gained over {name}", in_words(gain, "points")) for name, gain in gains.items()),
            *figures_of(trained, answers),
        ),
        charts=(chart,),
        answers=answers,
    )
    return with_networks(measurement, trained)


def with_networks(measurement: Measurement, trained: Mapping[str, TrainedArm]) -> Measurement:
    """The measurement with each network's MACs and resolution."""
    costs = {name: arm.runs[0].card.macs for name, arm in trained.items()}
    figures = tuple(
        (name, f"{costs[name] / 1e6:.2f} million MACs, {arm.runs[0].spec.resolution} px")
        for name, arm in trained.items()
    )
    return replace(measurement, figures=measurement.figures + figures)


# --- what is counted -------------------------------------------------------------------------------------------------


def doubling(setting: Setting) -> Measurement:
    """The geometric mean of the seven steps of phi."""
    variant = atlas.find("efficientnet-b0")
    costs = [macs(variant, variant.spec.compound(phi)) for phi in range(8)]
    steps = [after / before for before, after in pairwise(costs)]
    alpha, beta, gamma = COMPOUND[PAPER]
    constants = alpha * beta**2 * gamma**2
    chart = Lines(
        name="doubling",
        title="What each step of phi multiplies the MACs by",
        subtitle="EfficientNet-B0 scaled by the paper's constants; counted",
        x="phi after the step",
        y="MACs over those before",
        series=(Series("counted", tuple(range(1, 8)), tuple(steps)),),
        marks=((f"alpha beta^2 gamma^2 = {constants:.2f}", constants),),
        points=True,
    )
    return Measurement(
        estimate=counted((costs[-1] / costs[0]) ** (1 / len(steps))),
        figures=tuple((f"MACs at phi {phi}", f"{cost / 1e6:,.0f} million") for phi, cost in enumerate(costs)),
        charts=(chart,),
        note="The first step makes every stage one unit deeper, because a fraction of a unit counts as one.",
    )


# --- saturation ------------------------------------------------------------------------------------------------------

BASE = "unscaled"
STEPS = (2, 4)
"""Times the MACs."""
BENDS = {BASE: 1.0} | {
    f"{name}, {times} times": weight / len(SINGLE)
    for name in SINGLE
    for times, weight in zip(STEPS, (-2.0, 1.0), strict=True)
}
"""Of test errors: the first step's gain minus the second's, the mean of three dimensions."""


def growing(setting: Setting) -> dict[str, Arm]:
    lines = SINGLE | {PAPER: COMPOUND[PAPER]}
    return {BASE: B0.arm(B0.base)} | {
        f"{name}, {times} times": B0.arm(B0.scaled(triple, times)) for name, triple in lines.items() for times in STEPS
    }


def saturation(setting: Setting) -> Measurement:
    trained = setting.train_arms(growing(setting))
    measurement = compare(trained, BENDS, MAX_TRAINING_ERROR)
    answers = Answers.of(trained)
    lines = {name: (BASE, *(f"{name}, {times} times" for times in STEPS)) for name in (*SINGLE, PAPER)}
    first = trained[BASE].runs
    chart = Lines(
        name="scaling",
        title="B0 scaled in one dimension, and in three",
        subtitle=f"CIFAR-10, {first[0].record.recipe.epochs} epochs, n = {len(first)}",
        x="million MACs",
        y="test accuracy, %",
        log_x=True,
        series=tuple(
            Series.mean_of_runs(
                name,
                [trained[arm].runs[0].card.macs / 1e6 for arm in arms],
                list(zip(*(100 * (1 - answers.errors(arm).mean(1)) for arm in arms), strict=True)),
            )
            for name, arms in lines.items()
        ),
    )
    return with_networks(replace(measurement, charts=(chart,)), trained)


# --- the search ------------------------------------------------------------------------------------------------------

SEARCH_TIMES = 2


def searched(bed: ScalingBed, setting: Setting) -> dict[str, Arm]:
    return {name: bed.arm(bed.scaled(triple, SEARCH_TIMES)) for name, triple in (SINGLE | COMPOUND).items()}


def val_loss(run: Run) -> float:
    """The lowest of its epochs."""
    return min(float(row["val_loss"]) for row in read_metrics(run))


def best(losses: Mapping[str, float], names: Sequence[str]) -> str:
    return min(names, key=losses.__getitem__)


def search(bed: ScalingBed, setting: Setting) -> Measurement:
    """Each network is trained once, with the first seed; the best of each kind are then compared with all seeds."""
    arms = searched(bed, setting)
    requests = {name: arm.request(setting.seeds[0]) for name, arm in arms.items()}
    setting.train_all(requests.values())
    losses = {name: val_loss(setting.train(request)) for name, request in requests.items()}
    compound, single = (best(losses, list(names)) for names in (COMPOUND, SINGLE))
    trained = setting.train_arms({name: arms[name] for name in (compound, single)})
    measurement = compare(trained, {single: 1.0, compound: -1.0}, MAX_TRAINING_ERROR)
    return replace(
        measurement,
        figures=(
            (
                "chosen",
                f"{compound} (alpha, beta, gamma: {', '.join(f'{factor:.3g}' for factor in COMPOUND[compound])}) "
                f"and {single}",
            ),
            *measurement.figures,
            *(
                (
                    name,
                    f"validation loss {losses[name]:.3f}, {bed.million_macs(request.spec):.2f} million MACs, "
                    f"{request.spec.resolution} px",
                )
                for name, request in requests.items()
                if request.spec is not None
            ),
        ),
    )


TEST_BED = (
    f"{protocol.IMAGES}; resnet20-cifar, width {AT_STANDARD.width:g}, from {AT_STANDARD.side} px to {TIMES} times "
    f"its MACs; {protocol.EPOCHS} epochs"
)
SEARCH = "test error of the best single dimension minus that of the best compound scaling, both by validation loss"

TOPIC = Topic(
    id="compound",
    title="EfficientNet: scale width, depth and resolution together",
    summary="Scaling one dimension of a network soon saturates. Scaling depth, width and resolution together by "
    "alpha^phi, beta^phi and gamma^phi, with alpha beta^2 gamma^2 of about 2, is better at equal MACs, for older "
    "networks too.",
    source="Tan and Le 2019, sections 3 to 5, equations 2 and 3, Figures 3 and 8, Tables 3 and 7",
    method=f"Standard scales ResNet-20 at half of its width from {AT_STANDARD.side} px to {TIMES} times its MACs, "
    "along each dimension and with the paper's triple along all three, and trains each with the learning rate that is "
    "best for it. Depth grows by whole units; the growth that it leaves is divided between width and resolution, so "
    f"that all have about equal MACs. Full does the same with B0 from {B0.side} px, and searches: B0 and ResNet-20 are "
    "scaled to twice their MACs in seven ways, one seed and a tenth of the training images for validation choose the "
    "best single dimension and the best way along all three, and both are trained with every seed.",
    limitations="The images have 32 px: scaled by resolution alone they are enlarged to 48 and have no more detail. "
    "The networks are small and trained briefly, so that learning fast counts as much as ending well; this says little "
    "about ImageNet. The paper's constants were found for B0, not for ResNets.",
    minutes_quick=0.2,
    minutes_full=300,
    statements=(
        Statement(
            id="doubling",
            text="Each step of phi roughly doubles the MACs.",
            statistic="growth of B0's MACs in a step of phi, the mean of seven",
            unit="times",
            paper="alpha beta^2 gamma^2 is about 2 (equation 3); of its constants 1.92",
            threshold=Threshold(1.8, 2.1),
            role=Role.COUNT,
            measure=doubling,
        ),
        Statement(
            id="compound",
            text="At equal MACs the paper's triple is better than single dimensions are on average.",
            statistic="mean test error of depth, width and resolution alone minus that of the paper's triple",
            unit="points",
            paper="1.0 points for ResNet-50 on ImageNet at 4 times the MACs (Table 3)",
            threshold=at_least(0.0),
            needs=Budget.STANDARD,
            test_bed=TEST_BED,
            arms=single_and_compound,
            measure=against_mean,
            max_training_error=MAX_TRAINING_ERROR,
            priority=3,
            minutes=57,
        ),
        Statement(
            id="compound-best",
            text="At equal MACs the paper's triple is not inferior to the best single dimension.",
            statistic="test error of a single dimension minus that of the paper's triple; of the three, the one that "
            "says least for the triple decides",
            unit="points",
            paper="0.7 points above ResNet-50 deepened (Table 3)",
            threshold=NOT_INFERIOR,
            needs=Budget.STANDARD,
            test_bed=TEST_BED,
            arms=single_and_compound,
            measure=against_best,
            max_training_error=MAX_TRAINING_ERROR,
            priority=3,
        ),
        Statement(
            id="saturation",
            text="Scaling one dimension saturates.",
            statistic="points gained by the first doubling of MACs minus those by the second, mean of three dimensions",
            unit="points",
            threshold=at_least(0.0),
            role=Role.PERIPHERAL,
            needs=Budget.FULL,
            test_bed="CIFAR-10, the networks of the topic",
            arms=growing,
            measure=saturation,
            max_training_error=MAX_TRAINING_ERROR,
        ),
        Statement(
            id="search-b0",
            text="A search finds that all three dimensions should grow, for B0.",
            statistic=SEARCH,
            unit="points",
            threshold=at_least(0.0),
            role=Role.PERIPHERAL,
            needs=Budget.FULL,
            test_bed=f"CIFAR-10; efficientnet-b0, {SEARCH_TIMES} times its MACs",
            arms=partial(searched, B0),
            measure=partial(search, B0),
            max_training_error=MAX_TRAINING_ERROR,
        ),
        Statement(
            id="search-resnet",
            text="The same holds for an older family.",
            statistic=SEARCH,
            unit="points",
            threshold=at_least(0.0),
            role=Role.PERIPHERAL,
            needs=Budget.FULL,
            test_bed=f"CIFAR-10; resnet20-cifar, {SEARCH_TIMES} times its MACs",
            arms=partial(searched, RESNET),
            measure=partial(search, RESNET),
            max_training_error=MAX_TRAINING_ERROR,
        ),
    ),
)
