"""What made AlexNet learn, one thing after the other: ReLU, dropout, response normalization, overlapping pooling."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from convatlas import atlas
from convatlas.draw import Lines, Series
from convatlas.experiments.engine import protocol
from convatlas.experiments.engine.arms import Arm
from convatlas.experiments.engine.budget import Budget, Setting
from convatlas.experiments.engine.comparison import compare
from convatlas.experiments.engine.estimate import ratio
from convatlas.experiments.engine.rates import MAX_EXTENSIONS, beyond
from convatlas.experiments.engine.statement import Measurement, Role, Statement
from convatlas.experiments.engine.verdict import at_least
from convatlas.networks.alexnet import AlexNetSpec
from convatlas.recipe import Augmentation, Optimizer, Recipe, Steps
from convatlas.runs.run import Run, read_metrics
from convatlas.training import Request
from convatlas.training.recipes import DEFAULT

Arms = Callable[[Setting], dict[str, Arm]]
FULL_DATA = "cifar10"
FULL_EPOCHS = 60
FULL_RECIPE = replace(
    DEFAULT,
    lr=1e-3,
    epochs=FULL_EPOCHS,
    epochs_of=None,
    weight_decay=0.0,
    label_smoothing=0.0,
    ema=0.0,
    batch_size=32,
)
"""Nothing but the optimizer: no decay, smoothing, averaging or augmentation, as in Figure 1."""


def paper() -> AlexNetSpec:
    spec = atlas.find("alexnet").spec
    assert isinstance(spec, AlexNetSpec)
    return spec


def full_request(spec: AlexNetSpec, seed: int) -> Request:
    return Request(network="alexnet", spec=spec, data=FULL_DATA, recipe=FULL_RECIPE, seed=seed)


# --- ReLU and tanh (section 3.1, Figure 1) ---------------------------------------------------------------------------

RELU, TANH = "ReLU", "tanh"
TARGET_ERROR = 25.0
"""The training error in percent up to which Figure 1 counts epochs."""
GUESSING = 90.0
"""The error in percent before the first step."""
MAX_EPOCHS = 40
"""As many as Figure 1 shows."""
PAPER_RATIO = 6.0
"""Of the epochs of tanh to those of ReLU (Figure 1)."""
FIGURE_1 = Recipe(
    name="Figure 1",
    optimizer=Optimizer.SGD,
    momentum=0.9,
    lr=0.01,
    # The same rate all the time: an end that is planned for would be another one for each network.
    schedule=Steps(((MAX_EPOCHS, 0.01),)),
    batch_size=128,
    epochs=MAX_EPOCHS,
)
"""The paper's optimizer and batch size (section 5), "no regularization of any kind" (Figure 1)."""
RATES = (0.003, 0.01, 0.03, 0.1)
FULL_RATES = (1e-4, 3e-4, 1e-3, 3e-3)
"""Of AdamW. Who changes the rates raises the statement's version."""

FOUR_LAYERS = "CIFAR-10, 41,000 training images; four layers, SGD, each at its fastest rate"
FULL_WORDS = "CIFAR-10, 50,000 training images; AlexNet, AdamW, each at its fastest rate"


def two_activations(setting: Setting) -> dict[str, Arm]:
    def small(network: str, seed: int) -> Request:
        return Request(network=network, data=protocol.DATA, recipe=FIGURE_1, seed=seed, runtime=protocol.RUNTIME)

    plain = replace(paper(), dropout=0.0, lrn=False)
    requests: dict[str, Callable[[int], Request]]
    if setting.full:
        requests = {
            RELU: partial(full_request, plain),
            TANH: partial(full_request, replace(plain, rectified=False)),
        }
    else:
        requests = {RELU: partial(small, "alexnet-cifar"), TANH: partial(small, "alexnet-cifar-tanh")}

    def until_target(request: Callable[[int], Request], seed: int) -> Request:
        return replace(request(seed), stop_at_error=TARGET_ERROR / 100)

    return {name: Arm(request=partial(until_target, request)) for name, request in requests.items()}


def training_errors(run: Run) -> list[float]:
    """In percent, of each epoch."""
    return [100 * (1 - row["accuracy"]) for row in read_metrics(run)]


def epochs_to_target(errors: Sequence[float]) -> float | None:
    """Epochs until the training error falls to the target, interpolated; None if it never does.

    Args:
        errors: of each epoch, in percent. The weights change in an epoch, so that its error counts for its middle.
    """
    before, time_before = GUESSING, 0.0
    for epoch, error in enumerate(errors):
        time = epoch + 0.5
        if error <= TARGET_ERROR:
            return time - (time - time_before) * (TARGET_ERROR - error) / (before - error)
        before, time_before = error, time
    return None


Tried = dict[float, float | None]
"""Epochs that a network needs with each learning rate; None where it does not come to the target."""


def fastest(tried: Tried) -> float | None:
    """The learning rate with which a network is fastest; None if it comes to the target with none."""
    return min(((epochs, rate) for rate, epochs in tried.items() if epochs is not None), default=(0.0, None))[1]


def next_rate(tried: Tried) -> float | None:
    """The next one to try, where the fastest is at an end; None where it lies between others, or nothing learns."""
    rate = fastest(tried)
    if rate == max(tried):
        return beyond(max(tried), 1)
    return beyond(min(tried), -1) if rate == min(tried) else None


def try_rates(setting: Setting, arms: Mapping[str, Arm], rates: tuple[float, ...]) -> dict[str, Tried]:
    """What each network needs with each rate, on seed 0. Where one end is fastest, the range goes on beyond it.

    Not by validation accuracy after a fixed time: the paper chose the rates that "make training as fast as possible".
    """
    found: dict[str, Tried] = {name: {} for name in arms}
    waiting = {name: list(rates) for name in arms}
    for _ in range(1 + MAX_EXTENSIONS):
        jobs = [(name, rate) for name, each in waiting.items() for rate in each]
        runs = setting.train_if_finite(replace(arms[name].request(0), lr=rate) for name, rate in jobs)
        for (name, rate), run in zip(jobs, runs, strict=True):
            found[name][rate] = None if run is None else epochs_to_target(training_errors(run))
        waiting = {name: [further] for name, tried in found.items() if (further := next_rate(tried)) is not None}
    return found


def describe_tried(tried: Tried) -> str:
    return ", ".join(
        f"{rate:g}: {'not' if epochs is None else f'{epochs:.1f}'}" for rate, epochs in sorted(tried.items())
    )


def relu(setting: Setting) -> Measurement:
    """Each network at the learning rate at which it is fastest."""
    arms = two_activations(setting)
    tried = try_rates(setting, arms, FULL_RATES if setting.full else RATES)
    errors: dict[str, list[list[float]]] = {}
    for name, arm in arms.items():
        # Where it comes to the target with none, any shows it.
        rate = fastest(tried[name]) or max(tried[name])
        runs = setting.train_if_finite(replace(request, lr=rate) for request in arm.requests(setting.seeds, None))
        errors[name] = [training_errors(run) if run else [] for run in runs]
    return compare_speeds(FULL_WORDS if setting.full else FOUR_LAYERS, errors, tried)


def compare_speeds(words: str, errors: Mapping[str, list[list[float]]], tried: Mapping[str, Tried]) -> Measurement:
    """Epochs to the target with tanh over those with ReLU.

    Args:
        words: data set and networks.
        errors: training errors of each epoch, in percent, for each seed, until the target; none of a training that
            diverged.
        tried: how the learning rates were chosen.
    """
    epochs = {name: [epochs_to_target(of_seed) for of_seed in each] for name, each in errors.items()}
    # Of those that do not come there, what they had time for; the comparison is invalid then.
    counted = {
        name: [needed or max(len(of_seed), 1) for needed, of_seed in zip(epochs[name], each, strict=True)]
        for name, each in errors.items()
    }
    return Measurement(
        estimate=ratio(counted[TANH], counted[RELU]),
        failed=why_not_comparable(epochs, tried),
        figures=tuple(
            (what, value)
            for name in errors
            for what, value in (
                (f"epochs to {TARGET_ERROR:g} %, {name}", f"{statistics.fmean(counted[name]):.2f}"),
                (f"epochs at each learning rate, {name}", describe_tried(tried[name])),
            )
        ),
        charts=(
            (learning_curves(words, errors, PAPER_RATIO * statistics.fmean(counted[RELU])),)
            if all(all(each) for each in errors.values())
            else ()
        ),
    )


def why_not_comparable(epochs: Mapping[str, list[float | None]], tried: Mapping[str, Tried]) -> str:
    """The precondition that is not met; empty where both come to the target, at rates between others."""
    for name, each in epochs.items():
        if None in each:
            return f"{name}: the training error stays above {TARGET_ERROR:g} %"
        if next_rate(tried[name]) is not None:
            return (
                f"{name}: the fastest learning rate, {fastest(tried[name]):g}, is at the end of those that were tried"
            )
    return ""


def learning_curves(words: str, errors: Mapping[str, list[list[float]]], paper: float) -> Lines:
    """The mean of the seeds, as far as all of them were trained.

    Args:
        paper: the epochs after which tanh would be there by the paper's figure.
    """
    lengths = {name: min(map(len, each)) for name, each in errors.items()}
    num_seeds = len(errors[RELU])
    return Lines(
        name="relu-tanh",
        title="The same network with ReLU and with tanh",
        subtitle=f"{words}; mean and standard deviation of {num_seeds} seeds",
        x="epochs",
        y="training error, %",
        series=tuple(
            # An epoch's error is that of its middle.
            Series.mean_of_runs(
                name, [epoch + 0.5 for epoch in range(length)], [each[:length] for each in errors[name]]
            )
            for name, length in lengths.items()
        ),
        marks=((f"{TARGET_ERROR:g} %, up to which epochs are counted", TARGET_ERROR),),
        x_marks=((f"paper: tanh after {PAPER_RATIO:g} times ReLU's epochs", paper),),
    )


# --- dropout, response normalization, overlapping pooling ------------------------------------------------------------

DROPOUT, LRN, OVERLAP = "dropout", "response normalization", "overlapping pooling"
FULL_SPECS = {
    DROPOUT: replace(paper(), dropout=0.0),
    LRN: replace(paper(), lrn=False),
    OVERLAP: replace(paper(), overlapping=False),
}
"""The paper's network without a component."""


def pair(component: str, with_it: Callable[[int], Request], without_it: Callable[[int], Request]) -> dict[str, Arm]:
    return {f"with {component}": Arm(request=with_it), f"without {component}": Arm(request=without_it)}


def with_rates(arms: Mapping[str, Arm]) -> dict[str, Arm]:
    """Those that choose their learning rate as the standard budget does."""
    return {name: replace(arm, rates=protocol.RATES) for name, arm in arms.items()}


def at_full(component: str, setting: Setting) -> dict[str, Arm]:
    return pair(component, partial(full_request, paper()), partial(full_request, FULL_SPECS[component]))


def lost_without(component: str) -> dict[str, float]:
    """The weights of the test errors: what the error rises by without the component."""
    return {f"without {component}": 1.0, f"with {component}": -1.0}


def gain(component: str, arms: Arms, setting: Setting) -> Measurement:
    return compare(setting.train_arms(arms(setting)), lost_without(component), LEARNED)


LEARNED = 45.0
"""Training error in percent: four layers come to 30 to 40 in 20 epochs on shifted and mirrored images, AlexNet in 60 on
images as they are to far less."""

# Few images, seen again and again as they are: what dropout is against.
FEW_IMAGES = "cifar10-held-out-10k"
DROPOUT_EPOCHS = 60
WIDTH, SIDE = 0.25, 32
OVERFITTED = 10.0
"""Training error in percent: a network that still misreads its training images has not overfitted."""


def with_and_without_dropout(setting: Setting) -> dict[str, Arm]:
    if setting.full:
        return at_full(DROPOUT, setting)
    recipe = replace(protocol.recipe(DROPOUT_EPOCHS), augmentation=Augmentation())
    scaled = paper().scaled(width=WIDTH, resolution=SIDE)

    def request(dropout: float, seed: int) -> Request:
        return Request(
            network="alexnet",
            spec=replace(scaled, dropout=dropout),
            data=FEW_IMAGES,
            recipe=recipe,
            seed=seed,
            runtime=protocol.RUNTIME,
        )

    return with_rates(pair(DROPOUT, partial(request, scaled.dropout), partial(request, 0.0)))


def dropout(setting: Setting) -> Measurement:
    """With the gap between test and training error."""
    trained = setting.train_arms(with_and_without_dropout(setting))
    gaps = {name: statistics.fmean(map(gap_of, arm.runs)) for name, arm in trained.items()}
    found = compare(trained, lost_without(DROPOUT), OVERFITTED)
    return replace(
        found,
        figures=(
            *found.figures,
            *((f"test minus training error, {name}", f"{gap:.1f} points") for name, gap in gaps.items()),
        ),
    )


def gap_of(run: Run) -> float:
    """Test error minus the error on the training images as they are, in points."""
    return 100 * (run.evaluate(run.load_data().train).accuracy - run.test_accuracy)


LRN_EPOCHS = 20


def with_and_without_lrn(setting: Setting) -> dict[str, Arm]:
    if setting.full:
        return at_full(LRN, setting)

    def request(network: str, seed: int) -> Request:
        recipe = protocol.recipe(LRN_EPOCHS)
        return Request(network=network, data=protocol.DATA, recipe=recipe, seed=seed, runtime=protocol.RUNTIME)

    return with_rates(pair(LRN, partial(request, "alexnet-cifar-lrn"), partial(request, "alexnet-cifar")))


FULL_BED = "CIFAR-10, 50,000 training and 10,000 test images; AlexNet at the paper's size"

STATEMENTS = (
    Statement(
        id="relu",
        text="The network learns several times faster with ReLU than with tanh.",
        statistic=f"epochs to {TARGET_ERROR:g} % training error with tanh over those with ReLU",
        paper=f"{PAPER_RATIO:g} times (Figure 1)",
        # "Several" is at least two, and as of every statement all of the interval must be: with the mean alone above it
        # the data would leave open whether it is several.
        threshold=at_least(2.0),
        no_effect=1.0,
        needs=Budget.STANDARD,
        test_bed=f"{FOUR_LAYERS}, at most {MAX_EPOCHS} epochs",
        arms=two_activations,
        measure=relu,
        priority=2,
        minutes=30,
    ),
    Statement(
        id="dropout",
        text="Dropout reduces overfitting, and so the test error.",
        statistic="test error without dropout minus that with it",
        unit="points",
        threshold=at_least(0.0),
        needs=Budget.STANDARD,
        test_bed="CIFAR-10, 10,000 training images as they are and 10,000 test images; AlexNet of width "
        f"{WIDTH:g} at {SIDE} px, {DROPOUT_EPOCHS} epochs",
        arms=with_and_without_dropout,
        measure=dropout,
        max_training_error=OVERFITTED,
        priority=2,
        minutes=22,
    ),
    Statement(
        id="lrn",
        text="Response normalization lowers the test error.",
        statistic="test error without response normalization minus that with it",
        unit="points",
        paper="2 points, 13 to 11 %, with a four-layer network on CIFAR-10 (section 3.3)",
        threshold=at_least(0.0),
        # No hours are left for it in the standard budget: the topic does not rest on it.
        role=Role.PERIPHERAL,
        needs=Budget.STANDARD,
        test_bed=f"{protocol.IMAGES}; four layers, {LRN_EPOCHS} epochs",
        arms=with_and_without_lrn,
        measure=partial(gain, LRN, with_and_without_lrn),
        max_training_error=LEARNED,
        priority=4,
        minutes=28,
    ),
    Statement(
        id="overlapping",
        text="Overlapping pooling lowers the test error.",
        statistic="test error without overlapping pooling minus that with it",
        unit="points",
        paper="0.4 points on ImageNet (section 3.4)",
        threshold=at_least(0.0),
        role=Role.PERIPHERAL,
        needs=Budget.FULL,
        test_bed=f"{FULL_BED}, {FULL_EPOCHS} epochs",
        arms=partial(at_full, OVERLAP),
        measure=partial(gain, OVERLAP, partial(at_full, OVERLAP)),
        max_training_error=LEARNED,
    ),
)
