"""Classical networks get worse when they get too deep: their training error rises, and with shortcuts it does not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from convatlas import atlas
from convatlas.draw import Lines, Panels, Series
from convatlas.experiments.engine.accuracy import training_evaluation
from convatlas.experiments.engine.budget import Setting
from convatlas.experiments.engine.statement import Statement, Topic
from convatlas.experiments.engine.verdict import Measurement, at_least, at_most
from convatlas.recipe import Augmentation
from convatlas.runs.options import Runtime
from convatlas.runs.run import Run, read_metrics
from convatlas.spec import Scale
from convatlas.training import Request

DEPTHS = (20, 32, 44, 56)
PLAIN, RESIDUAL = "plain", "resnet"
QUICK_WIDTH = 0.25
"""4, 8 and 16 maps in place of 16, 32 and 64."""
QUICK_EPOCHS = 8
QUICK_BATCH = 32
"""The paper's batches of 128 would leave a hundred steps; the rate falls with the batch."""

Errors = list[list[float]]
"""In percent: for each seed, one of each depth."""


def network_of(kind: str, depth: int) -> str:
    return f"{kind}{depth}-cifar"


def request(setting: Setting, network: str, seed: int) -> Request:
    """The training of one network: of CIFAR-10 as the paper did, or of digits, narrow and short.

    Digits are not changed at random, so that the training error is that of the images that were learned.
    """
    if not setting.quick:
        return Request(network=network, data="cifar10", recipe="paper", seed=seed)
    printed = atlas.find(network).recipe
    assert printed is not None, "these networks have the recipe of their paper"
    return Request(
        network=network,
        data="digits",
        scale=Scale(width=QUICK_WIDTH),
        epochs=QUICK_EPOCHS,
        batch_size=QUICK_BATCH,
        lr=printed.lr * QUICK_BATCH / printed.batch_size,
        recipe=replace(printed, augmentation=Augmentation()),
        seed=seed,
        runtime=Runtime(autotune=False),
    )


def trained(setting: Setting, kind: str, depth: int, seed: int) -> Run:
    return setting.train(request(setting, network_of(kind, depth), seed))


def training_error(setting: Setting, kind: str, depth: int, seed: int) -> float:
    """In percent, of the finished network on its unchanged training images."""
    return 100 * (1 - training_evaluation(trained(setting, kind, depth, seed)).accuracy)


def training_errors(setting: Setting, kind: str) -> Errors:
    return [[training_error(setting, kind, depth, seed) for depth in DEPTHS] for seed in setting.seeds]


def test_errors(setting: Setting, kind: str) -> Errors:
    return [
        [100 * (1 - trained(setting, kind, depth, seed).test_accuracy) for depth in DEPTHS] for seed in setting.seeds
    ]


def curves(setting: Setting) -> Panels:
    """Figure 6: the training error over the iterations, a line for each depth; plain, and with shortcuts."""
    panels = []
    for kind, title in ((PLAIN, "plain"), (RESIDUAL, "with shortcuts")):
        lines = []
        for depth in DEPTHS:
            runs = [trained(setting, kind, depth, seed) for seed in setting.seeds]
            rows = [read_metrics(run) for run in runs]
            steps = math.ceil(len(runs[0].load_data().train) / runs[0].record.recipe.batch_size)
            iterations = [steps * row["epoch"] for row in rows[0]]
            errors = [[100 * (1 - row["accuracy"]) for row in each] for each in rows]
            lines.append(Series.of(f"{kind}-{depth}", iterations, errors))
        panels.append((title, tuple(lines)))
    return Panels(
        name="curves",
        title="Training error while they learn",
        x="iterations",
        y="training error, %",
        panels=tuple(panels),
        dashed=True,
    )


def by_depth(errors: dict[str, Errors]) -> Lines:
    """The final errors against depth; each kind of network by its name in words."""
    return Lines(
        name="by-depth",
        title="Training error after training, by depth",
        x="layers",
        y="training error, %",
        series=tuple(Series.of(words, DEPTHS, each) for words, each in errors.items()),
    )


def figures(kind: str, training: Errors, test: Errors) -> tuple[tuple[str, str], ...]:
    """Means over the seeds."""
    return tuple(
        (f"{kind}-{depth}, training / test error", f"{learned:.2f} % / {unseen:.2f} %")
        for depth, learned, unseen in zip(DEPTHS, np.mean(training, axis=0), np.mean(test, axis=0), strict=True)
    )


def grown(errors: Errors) -> tuple[float, ...]:
    """By how many points the error of the deepest is above that of the shallowest."""
    return tuple(each[-1] - each[0] for each in errors)


def rank_correlation(errors: Sequence[float]) -> float:
    """Spearman's, of depth and error; equal errors share their rank."""
    above = np.sign(np.subtract.outer(errors, errors)).sum(axis=1)
    # A correlation of 0.8 must not miss a threshold of 0.8 by its last bit.
    return round(float(np.corrcoef(np.arange(len(errors)), above)[0, 1]), 9) if above.any() else 0.0


def plain(setting: Setting) -> Measurement:
    setting.train_all(
        request(setting, network_of(kind, depth), seed)
        for seed in setting.seeds
        for depth in DEPTHS
        for kind in (PLAIN, RESIDUAL)
    )
    errors = training_errors(setting, PLAIN)
    return Measurement(
        values=grown(errors),
        figures=figures(PLAIN, errors, test_errors(setting, PLAIN)),
        charts=(curves(setting),),
    )


def order(setting: Setting) -> Measurement:
    return Measurement(values=tuple(rank_correlation(each) for each in training_errors(setting, PLAIN)))


def residual(setting: Setting) -> Measurement:
    errors = training_errors(setting, RESIDUAL)
    both = {"plain": training_errors(setting, PLAIN), "with shortcuts": errors}
    return Measurement(
        values=grown(errors),
        figures=figures(RESIDUAL, errors, test_errors(setting, RESIDUAL)),
        charts=(by_depth(both),),
    )


def on_test(setting: Setting) -> Measurement:
    """What the shortcuts are worth on images that were not learned."""
    without, with_shortcuts = (test_errors(setting, kind) for kind in (PLAIN, RESIDUAL))
    return Measurement(values=tuple(one[-1] - other[-1] for one, other in zip(without, with_shortcuts, strict=True)))


TOPIC = Topic(
    id="degradation",
    title="Classical CNNs get worse when too deep",
    summary="With the depth of a plain network its training error rises, so it is not overfitting; the same networks "
    "with shortcuts gain from depth.",
    source="He, Zhang, Ren and Sun 2015, sections 1 and 4.2, Figures 1 and 6",
    method="Networks of 20, 32, 44 and 56 layers, plain and with shortcuts (option A). Quick: a quarter of the paper's "
    f"width, {QUICK_EPOCHS} epochs of digits, with the paper's optimizer and schedule and no random changes. Full: "
    "CIFAR-10 with the paper's recipe, 64,000 iterations.",
    limitations="At quick, training is a three-hundredth of the paper's: what is told apart is how fast networks learn at "
    "first as much as how far they get. Figure 6 has the test error of each epoch, too; here test images are read "
    "once, at the end, and the curves are of the training error alone.",
    minutes=(3, 900),
    statements=(
        Statement(
            id="plain",
            text="The training error of plain networks rises with depth.",
            statistic="training error of 56 plain layers less that of 20, in points",
            # Figure 6, left: several points at the end.
            threshold=at_least(1.0),
            measure=plain,
        ),
        Statement(
            id="order",
            text="It rises at each step of depth.",
            statistic="rank correlation of depth and training error of the plain networks",
            # 0.8: one neighboring pair of four is the wrong way round.
            threshold=at_least(0.8),
            measure=order,
        ),
        Statement(
            id="residual",
            text="With shortcuts it does not.",
            statistic="training error of 56 layers with shortcuts less that of 20, in points",
            threshold=at_most(0.0),
            measure=residual,
        ),
        Statement(
            id="test",
            text="So the deepest network is better with shortcuts than without, on images that it has not seen.",
            statistic="test error of 56 plain layers less that of 56 with shortcuts, in points",
            # Figure 6: about 6 points between them; half of that.
            threshold=at_least(3.0),
            measure=on_test,
        ),
    ),
)
