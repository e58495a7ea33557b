"""Classical networks get worse when too deep: their training error rises. With shortcuts it does not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from convatlas import atlas
from convatlas.draw import Lines, Panels, Series
from convatlas.experiments.engine.accuracy import error_of, errors_of, training_evaluation
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
"""4, 8 and 16 channels in place of 16, 32 and 64."""
QUICK_EPOCHS = 8
QUICK_BATCH = 32
"""The paper's batches of 128 would give a hundred steps. The learning rate is scaled down with the batch."""

Errors = list[list[float]]
"""In percent: for each seed, one for each depth."""


def network_of(kind: str, depth: int) -> str:
    return f"{kind}{depth}-cifar"


def request(setting: Setting, network: str, seed: int) -> Request:
    """Full: CIFAR-10 as in the paper. Quick: a narrow network, briefly, on digits.

    Digits are not augmented, so that the training error is that of the images that were learned.
    """
    if not setting.quick:
        return Request(network=network, data="cifar10", recipe="paper", seed=seed)
    paper = atlas.find(network).recipe
    assert paper is not None, "these networks have the recipe of their paper"
    return Request(
        network=network,
        data="digits",
        scale=Scale(width=QUICK_WIDTH),
        epochs=QUICK_EPOCHS,
        batch_size=QUICK_BATCH,
        lr=paper.lr * QUICK_BATCH / paper.batch_size,
        recipe=replace(paper, augmentation=Augmentation()),
        seed=seed,
        runtime=Runtime(autotune=False),
    )


def trained(setting: Setting, kind: str, depth: int, seed: int) -> Run:
    return setting.train(request(setting, network_of(kind, depth), seed))


def training_error(setting: Setting, kind: str, depth: int, seed: int) -> float:
    """In percent, of the trained network on its training images, without augmentation."""
    return error_of(training_evaluation(trained(setting, kind, depth, seed)))


def training_errors(setting: Setting, kind: str) -> Errors:
    return [[training_error(setting, kind, depth, seed) for depth in DEPTHS] for seed in setting.seeds]


def test_errors(setting: Setting, kind: str) -> Errors:
    return [list(errors_of(trained(setting, kind, depth, seed) for depth in DEPTHS)) for seed in setting.seeds]


def curves(setting: Setting) -> Panels:
    """Figure 6: the training error during training, a line for each depth; plain, and with shortcuts."""
    panels = []
    for kind, title in ((PLAIN, "plain"), (RESIDUAL, "with shortcuts")):
        lines = []
        for depth in DEPTHS:
            runs = [trained(setting, kind, depth, seed) for seed in setting.seeds]
            metrics = [read_metrics(run) for run in runs]
            steps_per_epoch = math.ceil(len(runs[0].load_data().train) / runs[0].record.recipe.batch_size)
            steps = [steps_per_epoch * row["epoch"] for row in metrics[0]]
            errors = [[100 * (1 - row["accuracy"]) for row in rows] for rows in metrics]
            lines.append(Series.mean_of_runs(f"{kind}-{depth}", steps, errors))
        panels.append((title, tuple(lines)))
    return Panels(
        name="curves",
        title="Training error during training",
        x="training steps",
        y="training error, %",
        panels=tuple(panels),
        dashed=True,
    )


def by_depth(errors: dict[str, Errors]) -> Lines:
    """The final errors against depth; `errors` by the kind of network in words."""
    return Lines(
        name="by-depth",
        title="Training error after training, by depth",
        x="layers",
        y="training error, %",
        series=tuple(Series.mean_of_runs(words, DEPTHS, each) for words, each in errors.items()),
    )


def figures(kind: str, training: Errors, test: Errors) -> tuple[tuple[str, str], ...]:
    """Means over the seeds."""
    return tuple(
        (f"{kind}-{depth}, training / test error", f"{of_training:.2f} % / {of_test:.2f} %")
        for depth, of_training, of_test in zip(DEPTHS, np.mean(training, axis=0), np.mean(test, axis=0), strict=True)
    )


def rises(errors: Errors) -> tuple[float, ...]:
    """The error of the deepest network minus that of the shallowest, in points, for each seed."""
    return tuple(each[-1] - each[0] for each in errors)


def rank_correlation(errors: Sequence[float]) -> float:
    """Spearman's, of depth and error; equal errors share their rank."""
    ranks = np.sign(np.subtract.outer(errors, errors)).sum(axis=1)
    # A correlation of 0.8 must not miss a threshold of 0.8 by its last bit.
    return round(float(np.corrcoef(np.arange(len(errors)), ranks)[0, 1]), 9) if ranks.any() else 0.0


def plain(setting: Setting) -> Measurement:
    setting.train_all(
        request(setting, network_of(kind, depth), seed)
        for seed in setting.seeds
        for depth in DEPTHS
        for kind in (PLAIN, RESIDUAL)
    )
    errors = training_errors(setting, PLAIN)
    return Measurement(
        values=rises(errors),
        figures=figures(PLAIN, errors, test_errors(setting, PLAIN)),
        charts=(curves(setting),),
    )


def order(setting: Setting) -> Measurement:
    return Measurement(values=tuple(rank_correlation(each) for each in training_errors(setting, PLAIN)))


def residual(setting: Setting) -> Measurement:
    errors = training_errors(setting, RESIDUAL)
    both = {"plain": training_errors(setting, PLAIN), "with shortcuts": errors}
    return Measurement(
        values=rises(errors),
        figures=figures(RESIDUAL, errors, test_errors(setting, RESIDUAL)),
        charts=(by_depth(both),),
    )


def on_test(setting: Setting) -> Measurement:
    """What shortcuts gain on test images, at the largest depth."""
    without, with_shortcuts = (test_errors(setting, kind) for kind in (PLAIN, RESIDUAL))
    return Measurement(values=tuple(one[-1] - other[-1] for one, other in zip(without, with_shortcuts, strict=True)))


TOPIC = Topic(
    id="degradation",
    title="Classical CNNs get worse when too deep",
    summary="The training error of a plain network rises with its depth, so it is not overfitting. The same networks "
    "with shortcuts gain from depth.",
    source="He, Zhang, Ren and Sun 2015, sections 1 and 4.2, Figures 1 and 6",
    method="Networks of 20, 32, 44 and 56 layers, plain and with shortcuts (option A). Quick: a quarter of the paper's "
    f"width, {QUICK_EPOCHS} epochs of digits, the paper's optimizer and schedule, no augmentation. Full: CIFAR-10 with "
    "the paper's recipe, 64,000 steps.",
    limitations="The quick training is a three-hundredth of the paper's: it compares how fast networks learn at first "
    "as much as how far they get. Figure 6 also has the test error of each epoch. Here the test images are read once, "
    "at the end, and the curves show the training error alone.",
    minutes=(3, 900),
    statements=(
        Statement(
            id="plain",
            text="The training error of plain networks rises with depth.",
            statistic="training error of 56 plain layers minus that of 20, in points",
            # Figure 6, left: several points at the end.
            threshold=at_least(1.0),
            measure=plain,
        ),
        Statement(
            id="order",
            text="The training error rises at each step of depth.",
            statistic="rank correlation of depth and training error of the plain networks",
            # 0.8: one neighboring pair of four in the wrong order.
            threshold=at_least(0.8),
            measure=order,
        ),
        Statement(
            id="residual",
            text="With shortcuts the training error does not rise.",
            statistic="training error of 56 layers with shortcuts minus that of 20, in points",
            threshold=at_most(0.0),
            measure=residual,
        ),
        Statement(
            id="test",
            text="So the deepest network is better with shortcuts than without on test images, too.",
            statistic="test error of 56 plain layers minus that of 56 with shortcuts, in points",
            # Figure 6: about 6 points between them; half of that.
            threshold=at_least(3.0),
            measure=on_test,
        ),
    ),
)
