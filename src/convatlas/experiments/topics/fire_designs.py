"""The designs of Fire modules that SqueezeNet's paper compares: squeeze ratio, share of 3x3, pooling, bypasses."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from convatlas import atlas, measure
from convatlas.draw import Lines, Series
from convatlas.experiments.engine import protocol
from convatlas.experiments.engine.answers import Answers
from convatlas.experiments.engine.arms import Arm
from convatlas.experiments.engine.budget import Budget, Setting
from convatlas.experiments.engine.comparison import compare, failed_precondition, figures_of
from convatlas.experiments.engine.estimate import ratio
from convatlas.experiments.engine.statement import Measurement, Role, Statement
from convatlas.experiments.engine.verdict import Threshold, at_least, at_most
from convatlas.networks.squeezenet import SqueezeNetSpec, from_metaparameters
from convatlas.spec import Scale, Spec
from convatlas.training import Request
from convatlas.training.recipes import DEEP_LR, SMALL_IMAGES

MIB = 2**20
SIDE = 32
WIDTH = 0.5
"""At standard: two cores train it."""
FULL_DATA = "cifar10"
FULL_RECIPE = replace(SMALL_IMAGES, lr=DEEP_LR)
"""The default for CIFAR-10 and networks of so many layers without normalization."""
MAX_TRAINING_ERROR = 50.0
"""In percent: far from the 90 of guessing. Shifts, flips and dropout keep the errors of both families high in ten
epochs: networks as narrow as these end between 30 and 45."""


def weight_bytes(spec: Spec) -> float:
    """In single precision."""
    return measure.layers_of(atlas.find("squeezenet").network, spec).weight_bytes(bits=32)


def half_width(network: str, seed: int) -> Request:
    """A training of the standard budget, which statements share."""
    return Request(
        network=network,
        data=protocol.DATA,
        recipe=protocol.recipe(),
        scale=Scale(width=WIDTH, resolution=SIDE),
        seed=seed,
        runtime=protocol.RUNTIME,
    )


@dataclass(frozen=True, kw_only=True)
class Design:
    """A point of the paper's design space (sections 5 and 6)."""

    sr: float = 0.125
    pct3x3: float = 0.5
    early: bool = False
    """Pools as early as the modules allow."""
    bypass: bool = False
    projected_bypass: bool = False

    def spec(self) -> SqueezeNetSpec:
        """The paper's network for CIFAR-10."""
        spec = from_metaparameters(
            pct3x3=self.pct3x3, sr=self.sr, stages=(1, 1, 6) if self.early else (3, 4, 1), resolution=SIDE
        )
        return replace(spec, num_classes=10, bypass=self.bypass, projected_bypass=self.projected_bypass)


def full_request(design: Design, seed: int) -> Request:
    return Request(network="squeezenet", spec=design.spec(), data=FULL_DATA, recipe=FULL_RECIPE, seed=seed)


# --- pooling ---------------------------------------------------------------------------------------------------------

LATE, EARLY = "late pooling", "early pooling"


def poolings(setting: Setting) -> dict[str, Arm]:
    if setting.full:
        return design_arms({LATE: Design(), EARLY: Design(early=True)}, setting)

    def early(seed: int) -> Request:
        spec = Design(early=True).spec().scaled(width=WIDTH)
        return replace(half_width("squeezenet", seed), scale=Scale(), spec=spec)

    return {
        LATE: Arm(request=partial(half_width, "squeezenet"), rates=protocol.RATES),
        EARLY: Arm(request=early, rates=protocol.RATES),
    }


def late_pooling(setting: Setting) -> Measurement:
    trained = setting.train_arms(poolings(setting))
    macs = {name: measure.cost_of(arm.runs[0].variant.network, arm.runs[0].spec).macs for name, arm in trained.items()}
    found = compare(trained, {EARLY: 1.0, LATE: -1.0}, MAX_TRAINING_ERROR)
    return replace(
        found,
        figures=(*found.figures, *((f"MACs, {name}", f"{each / 1e6:.1f} million") for name, each in macs.items())),
    )


# --- squeeze ratio, share of 3x3, bypasses: only in full -------------------------------------------------------------

SQUEEZE_RATIOS = {f"squeeze ratio {sr:g}": Design(sr=sr) for sr in (0.125, 0.25, 0.5, 0.75, 1.0)}
SHARES = {f"{100 * part:g} % 3x3": Design(sr=0.5, pct3x3=part) for part in (0.01, 0.12, 0.25, 0.5, 0.75, 0.99)}
BYPASSES = {
    "no bypass": Design(),
    "simple bypass": Design(bypass=True),
    "complex bypass": Design(bypass=True, projected_bypass=True),
}


def design_arms(designs: Mapping[str, Design], setting: Setting) -> dict[str, Arm]:
    return {name: Arm(request=partial(full_request, design)) for name, design in designs.items()}


Losses = Mapping[str, list[float]]
"""The test loss of each design, for each seed."""


def compared(
    setting: Setting,
    *,
    designs: Mapping[str, Design],
    worse: str,
    better: str,
    draw: Callable[[Losses], Lines] | None = None,
) -> Measurement:
    """The test loss of the design `worse` over that of `better`."""
    trained = setting.train_arms(design_arms(designs, setting))
    answers = Answers.of(trained)
    losses = {name: [run.evaluate().loss for run in arm.runs] for name, arm in trained.items()}
    return Measurement(
        estimate=ratio(losses[worse], losses[better]),
        failed=failed_precondition({name: trained[name] for name in (worse, better)}, MAX_TRAINING_ERROR),
        figures=(
            *(
                (
                    f"test loss and weights, {name}",
                    f"{statistics.fmean(each):.3g}, {weight_bytes(designs[name].spec()) / MIB:.2f} MiB",
                )
                for name, each in losses.items()
            ),
            *figures_of(trained, answers),
        ),
        charts=() if draw is None else (draw(losses),),
        answers=answers,
    )


TEST_BED = "CIFAR-10, 50,000 training and 10,000 test images; SqueezeNet at 32 px, the default recipe"


def loss_line(name: str, title: str, label: str, x: Sequence[float], losses: Losses) -> Lines:
    runs = list(zip(*losses.values(), strict=True))
    return Lines(
        name=name,
        title=title,
        subtitle=f"{TEST_BED}, {len(runs)} seeds",
        x=label,
        y="test loss",
        series=(Series.mean_of_runs("test loss", x, runs),),
    )


by_squeeze_ratio = partial(
    loss_line,
    "squeeze-ratio",
    "Test loss against the squeeze ratio, half of the filters 3x3",
    "squeeze ratio",
    [design.sr for design in SQUEEZE_RATIOS.values()],
)
"""Figure 3(a)."""
by_share = partial(
    loss_line,
    "share-of-3x3",
    "Test loss against the share of 3x3 filters, squeeze ratio 0.5",
    "3x3 among the expand filters, %",
    [100 * design.pct3x3 for design in SHARES.values()],
)
"""Figure 3(b)."""

LARGE_GAIN = at_least(1.2)
"""The paper's top-5 error falls from 19.7 to 14.0 %, by a factor of 1.41: half of that gain. For the share of 3x3
filters the text prints no first value: the same is asked."""
NO_GAIN = at_most(1.05)
"""What the paper calls no gain is a curve that looks flat."""
# Table 3's top-1 errors are 42.5 % without, 39.6 % simple, 41.2 % complex: about half of each gain.
SIMPLE_GAIN = at_least(1.035)
COMPLEX_GAIN = at_least(1.015)
SIMPLE_OVER_COMPLEX = at_least(1.02)


def only_full(
    id: str,
    text: str,
    threshold: Threshold,
    *,
    designs: Mapping[str, Design],
    worse: str,
    better: str,
    paper: str,
    draw: Callable[[Losses], Lines] | None = None,
) -> Statement:
    """A statement about two of these designs. The standard budget has no hours for them, so that no topic rests on
    them."""
    return Statement(
        id=id,
        text=text,
        statistic=f"test loss with {worse} over that with {better}",
        paper=paper,
        threshold=threshold,
        # No gain has no smaller form.
        no_effect=None if threshold is NO_GAIN else 1.0,
        role=Role.PERIPHERAL,
        needs=Budget.FULL,
        test_bed=TEST_BED,
        arms=partial(design_arms, designs),
        measure=partial(compared, designs=designs, worse=worse, better=better, draw=draw),
        max_training_error=MAX_TRAINING_ERROR,
    )


STATEMENTS = (
    Statement(
        id="late-pooling",
        text="Late pooling, which keeps feature maps large, is more accurate at equal parameters.",
        statistic="test error with early pooling minus that with late pooling: 1, 1 and 6 Fire modules before, between "
        "and after the poolings, and the paper's 3, 4 and 1",
        unit="points",
        threshold=at_least(0.0),
        needs=Budget.STANDARD,
        test_bed=f"{protocol.IMAGES}; SqueezeNet of width {WIDTH:g} at {SIDE} px, {protocol.EPOCHS} epochs",
        arms=poolings,
        measure=late_pooling,
        max_training_error=MAX_TRAINING_ERROR,
        minutes=7,
    ),
    only_full(
        "squeeze-gain",
        "A larger squeeze ratio is more accurate, up to 0.75.",
        LARGE_GAIN,
        designs=SQUEEZE_RATIOS,
        worse="squeeze ratio 0.125",
        better="squeeze ratio 0.75",
        paper="top-5 accuracy of 80.3 and 86.0 % (section 5.2)",
        draw=by_squeeze_ratio,
    ),
    only_full(
        "squeeze-end",
        "A squeeze ratio above 0.75 gains nothing.",
        NO_GAIN,
        designs=SQUEEZE_RATIOS,
        worse="squeeze ratio 0.75",
        better="squeeze ratio 1",
        paper="top-5 accuracy of 86.0 % with both (section 5.2)",
    ),
    only_full(
        "share-gain",
        "More 3x3 filters are more accurate, up to a half.",
        LARGE_GAIN,
        designs=SHARES,
        worse="1 % 3x3",
        better="50 % 3x3",
        paper="top-5 accuracy of 85.6 % with a half (section 5.3)",
        draw=by_share,
    ),
    only_full(
        "share-end",
        "More than a half of 3x3 filters gains nothing.",
        NO_GAIN,
        designs=SHARES,
        worse="50 % 3x3",
        better="99 % 3x3",
        paper="top-5 accuracy of 85.6 % from a half on (section 5.3)",
    ),
    only_full(
        "simple-bypass",
        "Simple bypass is more accurate than none.",
        SIMPLE_GAIN,
        designs=BYPASSES,
        worse="no bypass",
        better="simple bypass",
        paper="top-1 accuracy of 57.5 and 60.4 % (Table 3)",
    ),
    only_full(
        "complex-bypass",
        "Complex bypass is more accurate than none.",
        COMPLEX_GAIN,
        designs=BYPASSES,
        worse="no bypass",
        better="complex bypass",
        paper="top-1 accuracy of 57.5 and 58.8 % (Table 3)",
    ),
    only_full(
        "simple-over-complex",
        "Simple bypass is more accurate than complex bypass, with fewer parameters.",
        SIMPLE_OVER_COMPLEX,
        designs=BYPASSES,
        worse="complex bypass",
        better="simple bypass",
        paper="top-1 accuracy of 58.8 and 60.4 % (Table 3)",
    ),
)
