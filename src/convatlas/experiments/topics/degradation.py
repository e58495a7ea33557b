"""Classical networks get worse when too deep: their training error rises. With shortcuts it does not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F

from convatlas import atlas, data, measure
from convatlas.draw import Lines, Panels, Series
from convatlas.experiments.engine import protocol
from convatlas.experiments.engine.arms import Arm, TrainedArm
from convatlas.experiments.engine.budget import Budget, Setting
from convatlas.experiments.engine.comparison import compare, failed_precondition, learning_figures
from convatlas.experiments.engine.estimate import combined, repeated
from convatlas.experiments.engine.rates import rates_from
from convatlas.experiments.engine.statement import Measurement, Role, Statement, Topic
from convatlas.experiments.engine.verdict import at_least, at_most
from convatlas.formatting import plural
from convatlas.runs.run import read_metrics
from convatlas.training import Request

PLAIN, RESIDUAL = "plain", "ResNet"
SHALLOW, DEEP = 20, 56
DEPTHS = (SHALLOW, 32, 44, DEEP)
"""Of Figure 6."""
RATES = rates_from(0.03)
"""Around 0.1, the paper's."""
LONG_EPOCHS = 20
MAX_TRAINING_ERROR = 30.0
"""In percent, on augmented images. The paper's recipe, shortened to a sixteenth, should bring 20 layers to about 20 %;
above 30 % too little is learned for a comparison."""
IMAGES = 128
"""Digits on which gradients before training are measured."""


# --- the networks ----------------------------------------------------------------------------------------------------


def name_of(kind: str, depth: int) -> str:
    """As the paper calls a network: "plain-20", "ResNet-56"."""
    return f"{kind}-{depth}"


PLAIN_SHALLOW, RESIDUAL_SHALLOW = name_of(PLAIN, SHALLOW), name_of(RESIDUAL, SHALLOW)
PLAIN_DEEP, RESIDUAL_DEEP = name_of(PLAIN, DEEP), name_of(RESIDUAL, DEEP)


def depths_of(setting: Setting) -> tuple[int, ...]:
    return DEPTHS if setting.full else (SHALLOW, DEEP)


def arm(network: str, setting: Setting, epochs: int = protocol.EPOCHS) -> Arm:
    """A network with the paper's recipe. Full: as long as in the paper; standard: so many epochs, the schedule scaled,
    and the rate chosen."""
    recipe = atlas.find(network).recipe
    assert recipe is not None, "these networks have the recipe of their paper"
    if setting.full:
        return Arm(request=lambda seed: Request(network=network, data="cifar10", recipe=recipe, seed=seed))

    def request(seed: int) -> Request:
        return Request(
            network=network, data=protocol.DATA, recipe=recipe, epochs=epochs, seed=seed, runtime=protocol.RUNTIME
        )

    return Arm(request=request, rates=RATES)


def arms(setting: Setting) -> dict[str, Arm]:
    """Plain networks and those with shortcuts (option A), of every depth."""
    return {
        name_of(kind, depth): arm(f"{kind.lower()}{depth}-cifar", setting)
        for depth in depths_of(setting)
        for kind in (PLAIN, RESIDUAL)
    }


def of_kind(trained: Mapping[str, TrainedArm], kind: str) -> dict[int, TrainedArm]:
    """The networks of one kind, by depth."""
    return {depth: trained[name] for depth in DEPTHS if (name := name_of(kind, depth)) in trained}


def describe(trained: Mapping[str, TrainedArm]) -> str:
    """A chart's subtitle: what the networks were trained on, how long and how often."""
    run = next(iter(trained.values())).runs[0]
    num_seeds = len(next(iter(trained.values())).runs)
    return f"{run.record.data}, {plural(run.results.epochs, 'epoch')}, {plural(num_seeds, 'seed')}"


# --- the training error ----------------------------------------------------------------------------------------------


def rise(trained: Mapping[str, TrainedArm], kind: str) -> Measurement:
    """The training error of the deepest network minus that of the shallowest, in points."""
    shallow, deep = (name_of(kind, depth) for depth in (SHALLOW, DEEP))
    return Measurement(
        estimate=combined((1.0, trained[deep].training_errors), (-1.0, trained[shallow].training_errors)),
        failed=failed_precondition({name: trained[name] for name in (shallow, deep)}, MAX_TRAINING_ERROR),
        figures=tuple(
            row for depth, one in of_kind(trained, kind).items() for row in learning_figures(name_of(kind, depth), one)
        ),
    )


def curves(trained: Mapping[str, TrainedArm]) -> Panels:
    """Figure 6: the training error during training, a line for each depth; plain, and with shortcuts."""
    panels = []
    for kind, title in ((PLAIN, "plain"), (RESIDUAL, "with shortcuts")):
        lines = []
        for depth, one in of_kind(trained, kind).items():
            metrics = [read_metrics(run) for run in one.runs]
            epochs = [row["epoch"] for row in metrics[0]]
            errors = [[100 * (1 - row["accuracy"]) for row in rows] for rows in metrics]
            lines.append(Series.mean_of_runs(f"{depth} layers", epochs, errors))
        panels.append((title, tuple(lines)))
    return Panels(
        name="curves",
        title="Training error during training",
        subtitle=describe(trained),
        x="epoch",
        y="training error, %",
        panels=tuple(panels),
        dashed=True,
    )


def by_depth(trained: Mapping[str, TrainedArm]) -> Lines:
    """The last epoch's training error against depth."""
    return Lines(
        name="by-depth",
        title="Training error in the last epoch, by depth",
        subtitle=f"{describe(trained)}: mean and standard deviation",
        x="layers",
        y="training error, %",
        series=tuple(
            error_by_depth(words, {depth: one.training_errors for depth, one in of_kind(trained, kind).items()})
            for words, kind in (("plain", PLAIN), ("with shortcuts", RESIDUAL))
        ),
    )


def error_by_depth(words: str, errors: Mapping[int, Sequence[float]]) -> Series:
    """A line of errors in percent, of which each depth has one for each seed."""
    return Series.mean_of_runs(words, list(errors), list(zip(*errors.values(), strict=True)))


def plain(setting: Setting) -> Measurement:
    trained = setting.train_arms(arms(setting))
    found = replace(rise(trained, PLAIN), charts=(curves(trained),))
    return found if setting.full else with_long_training(found, setting)


def with_long_training(found: Measurement, setting: Setting) -> Measurement:
    """With the rise after twice as many epochs: a network that only learns more slowly would have caught up."""
    trained = replace(setting, seeds=(0,)).train_arms(
        {name_of(PLAIN, depth): arm(f"plain{depth}-cifar", setting, LONG_EPOCHS) for depth in (SHALLOW, DEEP)}
    )
    errors = {name: one.training_errors[0] for name, one in trained.items()}
    shallow, deep = errors.values()
    return replace(
        found,
        figures=found.figures
        + tuple(
            (f"training error, {name}, {LONG_EPOCHS} epochs, seed 0", f"{error:.1f} %")
            for name, error in errors.items()
        ),
        note=f"After {LONG_EPOCHS} epochs, with seed 0 alone, the difference is {deep - shallow:.1f} points; with "
        f"{protocol.EPOCHS} epochs it is {found.estimate.values[0]:.1f} with the same seed. One seed has no interval.",
    )


def residual(setting: Setting) -> Measurement:
    trained = setting.train_arms(arms(setting))
    return replace(rise(trained, RESIDUAL), charts=(by_depth(trained),))


def rank_correlation(errors: Sequence[float]) -> float:
    """Spearman's, of depth and error; equal errors share their rank."""
    ranks = np.sign(np.subtract.outer(errors, errors)).sum(axis=1)
    # A correlation of 0.8 must not miss a threshold of 0.8 by its last bit.
    return round(float(np.corrcoef(np.arange(len(errors)), ranks)[0, 1]), 9) if ranks.any() else 0.0


def order(setting: Setting) -> Measurement:
    plain_networks = of_kind(setting.train_arms(arms(setting)), PLAIN)
    of_seeds = zip(*(one.training_errors for one in plain_networks.values()), strict=True)
    return Measurement(
        estimate=repeated([rank_correlation(errors) for errors in of_seeds]),
        failed=failed_precondition(
            {name_of(PLAIN, depth): one for depth, one in plain_networks.items()}, MAX_TRAINING_ERROR
        ),
    )


# --- the test error --------------------------------------------------------------------------------------------------


def published(kind: str, depth: int) -> tuple[str, float]:
    """The paper's own test error of a network, in percent, with a name for it."""
    (claim,) = (one for one in atlas.find(f"{kind.lower()}{depth}-cifar").claims if "test error" in one.figure)
    return f"paper, {name_of(kind, depth)}, {claim.source}", float(claim.value)


def on_test(setting: Setting) -> Measurement:
    """What shortcuts gain on test images, at the largest depth."""
    trained = setting.train_arms(arms(setting))
    found = compare(trained, {name_of(PLAIN, DEEP): 1.0, name_of(RESIDUAL, DEEP): -1.0}, MAX_TRAINING_ERROR)
    assert found.answers is not None, "the comparison rests on them"
    errors = {name: (100 * found.answers.errors(name).mean(1)).tolist() for name in trained}
    chart = Lines(
        name="test-by-depth",
        title="Test error, by depth",
        subtitle=f"{describe(trained)}: mean and standard deviation; the paper's networks: 164 epochs",
        x="layers",
        y="test error, %",
        series=tuple(
            error_by_depth(words, {depth: errors[name_of(kind, depth)] for depth in depths_of(setting)})
            for words, kind in (("plain", PLAIN), ("with shortcuts", RESIDUAL))
        ),
        marks=tuple(published(RESIDUAL, depth) for depth in (SHALLOW, DEEP)),
    )
    return replace(found, charts=(chart,))


# --- the gradient ----------------------------------------------------------------------------------------------------


def initial_gradients(kind: str, seed: int) -> list[float]:
    """The norm of the loss's gradient at each convolution of the deepest network, before training.

    On digits in one channel: they come with the package, and random weights know no images.
    """
    split = data.find("digits").load(32, seed=0).train
    images = torch.from_numpy(split.images[:IMAGES]).float()
    images = (images - images.mean()) / images.std()
    labels = torch.from_numpy(split.labels[:IMAGES])
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = atlas.create(f"{kind.lower()}{DEEP}-cifar", in_channels=1).train()
    norms = measure.gradient_norms(network, lambda outputs: F.cross_entropy(outputs, labels), images)
    # Without the fully connected layer, whose gradient is that of the loss itself.
    return [norm for _, norm in norms[:-1]]


def growth(norms: Sequence[float]) -> float:
    """Powers of ten by which the gradient grows on its way from the last convolution to the first."""
    return math.log10(norms[0] / norms[-1])


def gradient(setting: Setting) -> Measurement:
    norms = [initial_gradients(PLAIN, seed) for seed in setting.seeds]
    found = repeated([growth(each) for each in norms])
    return Measurement(
        estimate=found,
        figures=(("factor per layer", f"{10 ** (found.center / (len(norms[0]) - 1)):.3f}"),),
        note="It does not vanish, it grows: before training, batch normalization multiplies the gradient at each layer "
        "(see the topic on vanishing gradients). The paper does not say when it looked.",
    )


BEFORE_TRAINING = f"plain and ResNet, {DEEP} layers, before training; {IMAGES} digits"
TEST_BED = f"{protocol.IMAGES}; plain and ResNet, {SHALLOW} and {DEEP} layers, {protocol.EPOCHS} epochs"

TOPIC = Topic(
    id="degradation",
    title="Classical CNNs get worse when too deep",
    summary="The training error of a plain network rises with its depth, so it is not overfitting. The same networks "
    "with shortcuts gain from depth.",
    source="He, Zhang, Ren and Sun 2015, sections 1, 4.1 and 4.2, Figures 1 and 6",
    method=f"Networks of {SHALLOW} and {DEEP} layers at the paper's width, plain and with shortcuts (option A), with "
    "the paper's optimizer, batch, weight decay, shifts and flips. Its schedule of 64,000 steps is shortened to "
    f"{protocol.EPOCHS} epochs, and the learning rate is chosen for each network. Training errors are those of the "
    "last epoch on augmented images, as Figure 6 draws them. Full: also 32 and 44 layers, CIFAR-10 as it was "
    "published, the paper's schedule and rate.",
    limitations="A training of 10 epochs is a sixteenth of the paper's: it compares how fast networks learn as well as "
    f"how far they get. One training of {LONG_EPOCHS} epochs shows whether the difference stays. Figure 6 also has the "
    "test error of each epoch; here test images are read once, at the end.",
    minutes_quick=0.1,
    minutes_full=900,
    statements=(
        Statement(
            id="plain",
            text="The training error of plain networks rises with depth.",
            statistic=f"training error of {DEEP} plain layers minus that of {SHALLOW}",
            unit="points",
            # Figure 6, left: several points at the end.
            threshold=at_least(1.0),
            no_effect=0.0,
            needs=Budget.STANDARD,
            test_bed=TEST_BED,
            arms=arms,
            measure=plain,
            max_training_error=MAX_TRAINING_ERROR,
            minutes=124,
        ),
        Statement(
            id="residual",
            text="With shortcuts it does not rise: it falls.",
            statistic=f"training error of {DEEP} layers with shortcuts minus that of {SHALLOW}",
            unit="points",
            threshold=at_most(0.0),
            needs=Budget.STANDARD,
            test_bed=TEST_BED,
            arms=arms,
            measure=residual,
            max_training_error=MAX_TRAINING_ERROR,
            minutes=0.1,
        ),
        Statement(
            id="test",
            text="So the deepest network is better with shortcuts than without on test images, too.",
            statistic=f"test error of {DEEP} plain layers minus that of {DEEP} with shortcuts",
            unit="points",
            # Figure 6: about 6 points between them; half of that.
            threshold=at_least(3.0),
            no_effect=0.0,
            needs=Budget.STANDARD,
            test_bed=TEST_BED,
            arms=arms,
            measure=on_test,
            max_training_error=MAX_TRAINING_ERROR,
            minutes=3,
        ),
        Statement(
            id="order",
            text="The training error rises at each step of depth.",
            statistic="rank correlation of depth and training error of plain networks of "
            f"{', '.join(map(str, DEPTHS[:-1]))} and {DEEP} layers",
            # 0.8: one neighboring pair of four in the wrong order.
            threshold=at_least(0.8),
            role=Role.PERIPHERAL,
            needs=Budget.FULL,
            test_bed="CIFAR-10, the paper's recipe",
            arms=arms,
            measure=order,
            max_training_error=MAX_TRAINING_ERROR,
        ),
        Statement(
            id="gradient",
            text="Degradation is not a vanishing gradient: with batch normalization the gradient of a deep plain "
            "network reaches its first layer.",
            statistic="powers of ten by which the gradient norm grows from the last convolution to the first, "
            f"{DEEP} plain layers before training",
            paper='"neither forward nor backward signals vanish" (section 4.1)',
            # A gradient that vanishes loses powers of ten over 55 layers.
            threshold=at_least(0.0),
            role=Role.PERIPHERAL,
            test_bed=BEFORE_TRAINING,
            measure=gradient,
        ),
    ),
)
