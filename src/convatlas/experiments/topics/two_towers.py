"""AlexNet: eight layers, over 60 million parameters, two GPUs, and what made it learn."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convatlas import atlas, measure
from convatlas.draw import Bars, Lines, Series
from convatlas.experiments.engine.accuracy import differences, errors_of, undertrained
from convatlas.experiments.engine.budget import Setting
from convatlas.experiments.engine.distributed_pair import run_on_pair
from convatlas.experiments.engine.statement import NotTestable, Statement, Topic
from convatlas.experiments.engine.verdict import Measurement, at_least, at_most, exactly
from convatlas.experiments.topics.towers import TOWERS, Task, rows_of, step
from convatlas.networks.alexnet import AlexNet, AlexNetSpec
from convatlas.recipe import Augmentation, Recipe
from convatlas.runs.options import Runtime
from convatlas.runs.run import Run, read_metrics
from convatlas.spec import Layers
from convatlas.training import Request
from convatlas.training.recipes import DEFAULT

WORTH = 0.1
"""Points of error that a part must win to count; the paper's figures are 0.3 to 1.4."""
IMAGES = 2
"""That go through both forms of the whole network."""
QUICK_WIDTH, QUICK_SIDE, QUICK_EPOCHS = 0.125, 32, 12
FULL_EPOCHS = 60
RATES = (3e-4, 1e-3)
"""Each network learns at the best of them, as for Figure 1."""
REACHED = 25.0
"""Training error in percent to which epochs are counted in Figure 1."""


def paper() -> AlexNetSpec:
    spec = atlas.find("alexnet").spec
    assert isinstance(spec, AlexNetSpec)
    return spec


def layers() -> Layers:
    return measure.layers_of(AlexNet, paper())


def convolutions(setting: Setting) -> Measurement:
    return Measurement(values=(len(layers().of_kind(nn.Conv2d.__name__)),))


def fully_connected(setting: Setting) -> Measurement:
    return Measurement(values=(len(layers().of_kind(nn.Linear.__name__)),))


def parameters(setting: Setting) -> Measurement:
    rows = [(row.name, f"{row.params:,}") for row in layers() if row.params]
    return Measurement(values=(layers().params,), figures=tuple(rows))


# Two processes


def images() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    side = paper().resolution
    noise = torch.randn(IMAGES, 3, side, side, generator=generator, dtype=torch.double)
    return noise, torch.arange(IMAGES)


def whole() -> AlexNet:
    """The network in one process, without dropout, so that two see the same."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AlexNet(replace(paper(), dropout=0.0))


def stepped(network: AlexNet, given: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Its outputs, and the gradients of a step."""
    outputs = network(given)
    F.cross_entropy(outputs, labels).backward()
    gradients = {name: value.grad for name, value in network.named_parameters() if value.grad is not None}
    return outputs.detach(), gradients


def difference(ours: Tensor, theirs: Tensor) -> float:
    """The largest, as a part of the largest value."""
    return float((ours - theirs).abs().max() / theirs.abs().max())


def equal(setting: Setting) -> Measurement:
    # In double precision, where 1e-6 tells apart.
    network = whole().double()
    given, labels = images()
    answers = run_on_pair(step, Task(network.spec, network.state_dict(), given, labels))
    # After it: three processes with gradients of this size at once are more than a small machine has room for.
    outputs, gradients = stepped(network, given, labels)
    of_outputs = max(difference(answer.outputs, outputs) for answer in answers)
    of_gradients = max(
        difference(answer.gradients[name], rows_of(value, rank))
        for rank, answer in enumerate(answers)
        for name, value in gradients.items()
    )
    return Measurement(
        values=(max(of_outputs, of_gradients),),
        figures=(("outputs", f"{of_outputs:.1e}"), ("gradients", f"{of_gradients:.1e}")),
    )


def exchanged() -> dict[str, int]:
    """Numbers an image that cross between the towers, each of them once: what convolution 3 and the fully connected
    layers read of the other tower, and the outputs."""
    rows = {row.name: row for row in layers()}
    across = {}
    below = None
    for row in rows.values():
        if row.name in ("conv3.conv", "fc6", "fc7", "fc8") and below is not None:
            across[row.name] = below
        places = 1
        for extent in row.output_shape:
            places *= extent
        below = places
    return across | {"outputs": paper().num_classes}


def traffic(setting: Setting) -> Measurement:
    """Bytes an image in single precision, forward, over both directions."""
    network = whole()
    given, labels = images()
    answers = run_on_pair(step, Task(network.spec, network.state_dict(), given.float(), labels))
    forward, trained = (
        sum(getattr(answer, name) for answer in answers) / IMAGES for name in ("forward_bytes", "step_bytes")
    )
    counted = exchanged()
    return Measurement(
        values=(forward - 4 * sum(counted.values()),),
        figures=(
            *((f"read across by {name}", f"{number:,} numbers an image") for name, number in counted.items()),
            ("bytes an image, forward", f"{forward:,.0f}"),
            ("bytes an image, a step of training", f"{trained:,.0f}"),
        ),
        note=f"Each of the {TOWERS} processes sends half of it.",
    )


# What made it learn


def recipe(setting: Setting, lr: float) -> Recipe:
    """Nothing but the optimizer: no decay, smoothing, averaging or random changes, as for Figure 1."""
    return replace(
        DEFAULT, lr=lr, weight_decay=0.0, label_smoothing=0.0, ema=0.0, augmentation=Augmentation(), batch_size=32
    )


def small(setting: Setting) -> AlexNetSpec:
    if not setting.quick:
        return paper()
    return paper().scaled(width=QUICK_WIDTH, resolution=QUICK_SIDE)


def request(setting: Setting, spec: AlexNetSpec, lr: float, seed: int) -> Request:
    return Request(
        network="alexnet",
        spec=spec,
        data="digits" if setting.quick else "cifar10",
        recipe=recipe(setting, lr),
        epochs=QUICK_EPOCHS if setting.quick else FULL_EPOCHS,
        seed=seed,
        runtime=Runtime(autotune=not setting.quick),
    )


def training_errors(run: Run) -> list[float]:
    """In percent, over each epoch."""
    return [100 * (1 - row["accuracy"]) for row in read_metrics(run)]


def epochs_to(errors: list[float], reached: float) -> float:
    """Epochs, with parts of them, until the error falls below; that of an epoch is that of its middle.

    Raises:
        NotTestable: it never does.
    """
    before = 100.0
    for epoch, after in enumerate(errors):
        if after <= reached:
            return epoch + 0.5 - (reached - after) / max(before - after, 1e-9)
        before = after
    raise NotTestable(f"the training error stays above {reached:g} % in {len(errors)} epochs")


def lowest(curves: Mapping[str, list[list[float]]]) -> str:
    """Which of the networks learned, in words: also an answer that is none must not hide it."""
    told = (f"{name} {', '.join(f'{min(errors):.1f} %' for errors in found)}" for name, found in curves.items())
    return f"the lowest of each seed: {'; '.join(told)}"


def relu(setting: Setting) -> Measurement:
    """Each at the rate at which it is fastest, with nothing against overfitting."""
    plain = replace(small(setting), dropout=0.0, lrn=False)
    kinds = {"ReLU": plain, "tanh": replace(plain, rectified=False)}
    runs = setting.train_seeds(
        {(name, lr): partial(request, setting, spec, lr) for name, spec in kinds.items() for lr in RATES}
    )

    def fastest(name: str) -> list[tuple[float, list[float]]]:
        """The rate and the curve of each seed."""
        at_each_rate = ([(lr, training_errors(run)) for run in runs[name, lr]] for lr in RATES)
        return [min(tried, key=lambda one: sum(one[1])) for tried in zip(*at_each_rate, strict=True)]

    chosen = {name: fastest(name) for name in kinds}
    curves = {name: [errors for _, errors in found] for name, found in chosen.items()}
    chart = Lines(
        name="relu-tanh",
        title="The same network with ReLU and with tanh",
        x="epoch",
        y="training error, %",
        series=tuple(Series.of(name, range(1, len(found[0]) + 1), found) for name, found in curves.items()),
        threshold=REACHED,
        threshold_name=f"{REACHED:g} %, to which epochs are counted",
    )
    try:
        needed = {name: [epochs_to(errors, REACHED) for errors in found] for name, found in curves.items()}
    except NotTestable as answer:
        raise NotTestable(f"{answer}; {lowest(curves)}") from answer
    return Measurement(
        values=tuple(slow / fast for fast, slow in zip(*needed.values(), strict=True)),
        figures=(
            *((f"epochs to {REACHED:g} %, {name}", f"{statistics.fmean(found):.2f}") for name, found in needed.items()),
            *(
                (f"rate that was better, {name}, each seed", ", ".join(f"{lr:g}" for lr, _ in found))
                for name, found in chosen.items()
            ),
        ),
        charts=(chart,),
    )


WHOLE, NO_LRN, NO_OVERLAP, NO_DROPOUT = (
    "everything", "no response normalization", "no overlapping pooling", "no dropout",
)  # fmt: skip


def without(spec: AlexNetSpec) -> dict[str, AlexNetSpec]:
    return {
        WHOLE: spec,
        NO_LRN: replace(spec, lrn=False),
        NO_OVERLAP: replace(spec, overlapping=False),
        NO_DROPOUT: replace(spec, dropout=0.0),
    }


def worth(left_out: str, setting: Setting, *, charted: bool = False) -> Measurement:
    """By how many points the test error rises without it; the chart has all that can be left out."""
    forms = without(small(setting))
    runs = setting.train_seeds({name: partial(request, setting, spec, RATES[-1]) for name, spec in forms.items()})
    errors = {name: errors_of(each) for name, each in runs.items()}
    chart = Bars(
        name="left-out",
        title="What each part is worth",
        y="test error, %",
        labels=tuple(errors),
        series=(Series.of("test error", range(len(errors)), list(zip(*errors.values(), strict=True))),),
    )
    compared = (WHOLE, left_out)
    return Measurement(
        values=differences(errors[left_out], errors[WHOLE]),
        figures=tuple((f"test error, {name}", f"{statistics.fmean(errors[name]):.2f} %") for name in compared),
        charts=(chart,) if charted else (),
        inconclusive=undertrained({name: runs[name] for name in compared}),
    )


TOPIC = Topic(
    id="two-towers",
    title="AlexNet: eight layers, 60 million parameters, two GPUs",
    summary="Five convolutional and three fully connected layers with 60 million parameters, in two towers on two GPUs "
    "that speak to each other in certain layers only, learn several times faster with ReLU than with tanh, and err "
    "less with response normalization, overlapping pooling and dropout.",
    source="Krizhevsky, Sutskever and Hinton 2012, abstract, sections 3.1 to 3.5 and 4.2, Figures 1 and 2",
    method="Layers and parameters are counted. The whole network at 227 px is computed once in one process and once in "
    "two (gloo), each with half of the kernels and no traffic but the paper's; outputs and gradients are compared in "
    "double precision, bytes counted in single. Trained: quick an eighth as wide at 32 px on digits, full at the "
    "paper's size on CIFAR-10; AdamW, and for ReLU against tanh the better of two rates each, without regularization.",
    limitations="The paper measured these parts on ImageNet and CIFAR-10; digits leave little to win, and "
    f"{QUICK_EPOCHS} epochs little to overfit. Figure 1 is of a network with four layers; here it is AlexNet itself, "
    "eight layers deep. The biases of 1, which give rectified units positive inputs to begin with (section 5), are "
    "left out with tanh, which they would saturate: the two begin otherwise in this, too.",
    # Full: 24 trainings of 60 epochs are 2.25 million steps, some milliseconds each.
    minutes=(2, 240),
    statements=(
        Statement(
            id="convolutions",
            text="Five layers are convolutional.",
            statistic="convolutions",
            threshold=exactly(5),
            measure=convolutions,
        ),
        Statement(
            id="fully-connected",
            text="Three are fully connected.",
            statistic="fully connected layers",
            threshold=exactly(3),
            measure=fully_connected,
        ),
        Statement(
            id="parameters",
            text="It has over 60 million parameters.",
            statistic="trainable parameters",
            threshold=at_least(60_000_000),
            measure=parameters,
        ),
        Statement(
            id="two-processes",
            text="Two processes with a tower each are the same network.",
            statistic="largest relative difference of outputs and gradients to one process",
            threshold=at_most(1e-6),
            measure=equal,
        ),
        Statement(
            id="traffic",
            text="They exchange what convolution 3, the fully connected layers and the outputs need, and no more.",
            statistic="bytes an image sent forward, less those that the layer table asks for",
            threshold=exactly(0),
            measure=traffic,
        ),
        Statement(
            id="relu",
            text="With ReLU it learns several times faster than with tanh.",
            statistic=f"epochs to {REACHED:g} % training error with tanh over those with ReLU",
            # Figure 1 says six times, of a network of four layers; "several" is two at the least.
            threshold=at_least(2.0),
            measure=relu,
        ),
        Statement(
            id="lrn",
            text="Response normalization lowers the test error.",
            statistic="test error without it less that with it, in points",
            threshold=at_least(WORTH),
            measure=partial(worth, NO_LRN, charted=True),
        ),
        Statement(
            id="overlapping",
            text="Overlapping pooling lowers the test error.",
            statistic="test error without it less that with it, in points",
            threshold=at_least(WORTH),
            measure=partial(worth, NO_OVERLAP),
        ),
        Statement(
            id="dropout",
            text="Dropout lowers the test error.",
            statistic="test error without it less that with it, in points",
            threshold=at_least(WORTH),
            measure=partial(worth, NO_DROPOUT),
        ),
    ),
)
