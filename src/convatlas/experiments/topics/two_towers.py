"""AlexNet: eight layers, over 60 million parameters, two GPUs, and what made it learn."""

from __future__ import annotations

import math
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
from convatlas.experiments.topics.towers import TOWERS, TowerTask, rows_of, step
from convatlas.networks.alexnet import AlexNet, AlexNetSpec
from convatlas.recipe import Augmentation, Recipe
from convatlas.runs.options import Runtime
from convatlas.runs.run import Run, read_metrics
from convatlas.spec import Layers
from convatlas.training import Request
from convatlas.training.recipes import DEFAULT

MIN_GAIN = 0.1
"""Points of test error that something must gain to count; the paper's figures are 0.3 to 1.4."""
NUM_IMAGES = 2
"""For the comparison of one process with two."""
QUICK_WIDTH, QUICK_SIDE, QUICK_EPOCHS = 0.125, 32, 12
FULL_EPOCHS = 60
LRS = (3e-4, 1e-3)
"""Each network learns at the better of them, as in Figure 1."""
TARGET_ERROR = 25.0
"""The training error in percent up to which Figure 1 counts epochs."""


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


# --- two processes ---------------------------------------------------------------------------------------------------


def random_images() -> tuple[Tensor, Tensor]:
    """Noise (NUM_IMAGES, 3, side, side) in double precision, and labels (NUM_IMAGES,)."""
    generator = torch.Generator().manual_seed(0)
    side = paper().resolution
    noise = torch.randn(NUM_IMAGES, 3, side, side, generator=generator, dtype=torch.double)
    return noise, torch.arange(NUM_IMAGES)


def whole_network() -> AlexNet:
    """The network in one process, without dropout, so that two processes compute the same."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AlexNet(replace(paper(), dropout=0.0))


def outputs_and_gradients(network: AlexNet, images: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Of one training step: the outputs, and the gradients by parameter."""
    outputs = network(images)
    F.cross_entropy(outputs, labels).backward()
    gradients = {name: value.grad for name, value in network.named_parameters() if value.grad is not None}
    return outputs.detach(), gradients


def relative_difference(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference, over the largest absolute value."""
    return float((ours - theirs).abs().max() / theirs.abs().max())


def two_processes(setting: Setting) -> Measurement:
    # In double precision, where 1e-6 is far above rounding.
    network = whole_network().double()
    images, labels = random_images()
    results = run_on_pair(step, TowerTask(network.spec, network.state_dict(), images, labels))
    # After the pair has ended: three processes with gradients of this size need more memory than a small machine has.
    outputs, gradients = outputs_and_gradients(network, images, labels)
    of_outputs = max(relative_difference(result.outputs, outputs) for result in results)
    of_gradients = max(
        relative_difference(result.gradients[name], rows_of(value, rank))
        for rank, result in enumerate(results)
        for name, value in gradients.items()
    )
    return Measurement(
        values=(max(of_outputs, of_gradients),),
        figures=(("outputs", f"{of_outputs:.1e}"), ("gradients", f"{of_gradients:.1e}")),
    )


def exchanged_values() -> dict[str, int]:
    """Values for each image that must cross between the towers, each counted once: what convolution 3 and the fully
    connected layers read of the other tower, and the outputs."""
    rows = {row.name: row for row in layers()}
    exchanged = {}
    num_inputs = None
    for row in rows.values():
        if row.name in ("conv3.conv", "fc6", "fc7", "fc8") and num_inputs is not None:
            exchanged[row.name] = num_inputs
        num_inputs = math.prod(row.output_shape)
    return exchanged | {"outputs": paper().num_classes}


def traffic(setting: Setting) -> Measurement:
    """Bytes sent for each image in single precision, forward, in both directions, minus those that must be."""
    network = whole_network()
    images, labels = random_images()
    results = run_on_pair(step, TowerTask(network.spec, network.state_dict(), images.float(), labels))
    forward_bytes = sum(result.forward_bytes for result in results) / NUM_IMAGES
    step_bytes = sum(result.step_bytes for result in results) / NUM_IMAGES
    exchanged = exchanged_values()
    return Measurement(
        values=(forward_bytes - 4 * sum(exchanged.values()),),
        figures=(
            *((f"read from the other tower by {name}", f"{num:,} values per image") for name, num in exchanged.items()),
            ("bytes per image, forward", f"{forward_bytes:,.0f}"),
            ("bytes per image, training step", f"{step_bytes:,.0f}"),
        ),
        note=f"Each of the {TOWERS} processes sends half of the bytes.",
    )


# --- what made it learn ----------------------------------------------------------------------------------------------


def recipe(setting: Setting, lr: float) -> Recipe:
    """Nothing but the optimizer: no decay, smoothing, averaging or augmentation, as in Figure 1."""
    return replace(
        DEFAULT, lr=lr, weight_decay=0.0, label_smoothing=0.0, ema=0.0, augmentation=Augmentation(), batch_size=32
    )


def trained_spec(setting: Setting) -> AlexNetSpec:
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
    """In percent, of each epoch."""
    return [100 * (1 - row["accuracy"]) for row in read_metrics(run)]


def epochs_to(errors: list[float], target: float) -> float:
    """Epochs until the error falls to the target, interpolated; an epoch's error counts for its middle.

    Raises:
        NotTestable: it never does.
    """
    before = 100.0
    for epoch, after in enumerate(errors):
        if after <= target:
            return epoch + 0.5 - (target - after) / max(before - after, 1e-9)
        before = after
    raise NotTestable(f"the training error stays above {target:g} % in {len(errors)} epochs")


def lowest_errors(curves: Mapping[str, list[list[float]]]) -> str:
    """Which of the networks learned, in words; worth knowing also where there is no verdict."""
    listed = (f"{name} {', '.join(f'{min(errors):.1f} %' for errors in each)}" for name, each in curves.items())
    return f"the lowest for each seed: {'; '.join(listed)}"


def relu(setting: Setting) -> Measurement:
    """Each network at the learning rate at which it is faster, without regularization."""
    plain = replace(trained_spec(setting), dropout=0.0, lrn=False)
    specs = {"ReLU": plain, "tanh": replace(plain, rectified=False)}
    runs = setting.train_seeds(
        {(name, lr): partial(request, setting, spec, lr) for name, spec in specs.items() for lr in LRS}
    )

    def fastest(name: str) -> list[tuple[float, list[float]]]:
        """The learning rate and the training errors, for each seed."""
        at_each_lr = ([(lr, training_errors(run)) for run in runs[name, lr]] for lr in LRS)
        return [min(tried, key=lambda one: sum(one[1])) for tried in zip(*at_each_lr, strict=True)]

    chosen = {name: fastest(name) for name in specs}
    curves = {name: [errors for _, errors in each] for name, each in chosen.items()}
    chart = Lines(
        name="relu-tanh",
        title="The same network with ReLU and with tanh",
        x="epoch",
        y="training error, %",
        series=tuple(Series.mean_of_runs(name, range(1, len(each[0]) + 1), each) for name, each in curves.items()),
        threshold=TARGET_ERROR,
        threshold_name=f"{TARGET_ERROR:g} %, up to which epochs are counted",
    )
    try:
        needed = {name: [epochs_to(errors, TARGET_ERROR) for errors in each] for name, each in curves.items()}
    except NotTestable as outcome:
        raise NotTestable(f"{outcome}; {lowest_errors(curves)}") from outcome
    return Measurement(
        values=tuple(slow / fast for fast, slow in zip(*needed.values(), strict=True)),
        figures=(
            *(
                (f"epochs to {TARGET_ERROR:g} %, {name}", f"{statistics.fmean(each):.2f}")
                for name, each in needed.items()
            ),
            *(
                (f"better learning rate for each seed, {name}", ", ".join(f"{lr:g}" for lr, _ in each))
                for name, each in chosen.items()
            ),
        ),
        charts=(chart,),
    )


COMPLETE, NO_LRN, NO_OVERLAP, NO_DROPOUT = (
    "complete network", "no response normalization", "no overlapping pooling", "no dropout",
)  # fmt: skip


def ablations(spec: AlexNetSpec) -> dict[str, AlexNetSpec]:
    return {
        COMPLETE: spec,
        NO_LRN: replace(spec, lrn=False),
        NO_OVERLAP: replace(spec, overlapping=False),
        NO_DROPOUT: replace(spec, dropout=0.0),
    }


def gain(ablation: str, setting: Setting, *, charted: bool = False) -> Measurement:
    """The test error of the ablation minus that of the complete network; the chart has all ablations."""
    specs = ablations(trained_spec(setting))
    runs = setting.train_seeds({name: partial(request, setting, spec, LRS[-1]) for name, spec in specs.items()})
    errors = {name: errors_of(each) for name, each in runs.items()}
    chart = Bars(
        name="ablation",
        title="Test error without one component",
        y="test error, %",
        labels=tuple(errors),
        series=(Series.mean_of_runs("test error", range(len(errors)), list(zip(*errors.values(), strict=True))),),
    )
    compared = (COMPLETE, ablation)
    return Measurement(
        values=differences(errors[ablation], errors[COMPLETE]),
        figures=tuple((f"test error, {name}", f"{statistics.fmean(errors[name]):.2f} %") for name in compared),
        charts=(chart,) if charted else (),
        inconclusive=undertrained({name: runs[name] for name in compared}),
    )


TOPIC = Topic(
    id="two-towers",
    title="AlexNet: eight layers, 60 million parameters, two GPUs",
    summary="Five convolutional and three fully connected layers with 60 million parameters, in two towers on two GPUs "
    "that communicate only in certain layers. The network learns several times faster with ReLU than with tanh; "
    "response normalization, overlapping pooling and dropout lower its test error.",
    source="Krizhevsky, Sutskever and Hinton 2012, abstract, sections 3.1 to 3.5 and 4.2, Figures 1 and 2",
    method="Layers and parameters are counted. The whole network at 227 px is computed once in one process and once in "
    "two (gloo), each with half of the kernels and no traffic but the paper's. Outputs and gradients are compared in "
    "double precision, bytes are counted in single precision. Trained, quick: an eighth of the width, at 32 px, on "
    "digits; full: the paper's size, on CIFAR-10. AdamW; ReLU and tanh each at the better of two learning rates, "
    "without regularization.",
    limitations="The paper measured these components on ImageNet and CIFAR-10. Digits leave little to gain, and "
    f"{QUICK_EPOCHS} epochs little to overfit. Figure 1 shows a network with four layers; here it is AlexNet itself "
    "with eight. The biases of 1, which give ReLUs positive inputs at first (section 5), are left out with tanh, which "
    "they would saturate: the two networks also differ in this.",
    # Full: 24 trainings of 60 epochs are 2.25 million steps, some milliseconds each.
    minutes=(2, 240),
    statements=(
        Statement(
            id="convolutions",
            text="Five layers are convolutional.",
            statistic="convolutional layers",
            threshold=exactly(5),
            measure=convolutions,
        ),
        Statement(
            id="fully-connected",
            text="Three layers are fully connected.",
            statistic="fully connected layers",
            threshold=exactly(3),
            measure=fully_connected,
        ),
        Statement(
            id="parameters",
            text="The network has over 60 million parameters.",
            statistic="trainable parameters",
            threshold=at_least(60_000_000),
            measure=parameters,
        ),
        Statement(
            id="two-processes",
            text="Two processes with one tower each compute the same network.",
            statistic="largest relative difference of outputs and gradients from one process",
            threshold=at_most(1e-6),
            measure=two_processes,
        ),
        Statement(
            id="traffic",
            text="They exchange what convolution 3, the fully connected layers and the outputs need, and no more.",
            statistic="bytes sent per image, forward, minus those that the layer table asks for",
            threshold=exactly(0),
            measure=traffic,
        ),
        Statement(
            id="relu",
            text="The network learns several times faster with ReLU than with tanh.",
            statistic=f"epochs to {TARGET_ERROR:g} % training error with tanh over those with ReLU",
            # Figure 1 says six times, for a network with four layers; "several" is at least two.
            threshold=at_least(2.0),
            measure=relu,
        ),
        Statement(
            id="lrn",
            text="Response normalization lowers the test error.",
            statistic="test error without it minus that with it, in points",
            threshold=at_least(MIN_GAIN),
            measure=partial(gain, NO_LRN, charted=True),
        ),
        Statement(
            id="overlapping",
            text="Overlapping pooling lowers the test error.",
            statistic="test error without it minus that with it, in points",
            threshold=at_least(MIN_GAIN),
            measure=partial(gain, NO_OVERLAP),
        ),
        Statement(
            id="dropout",
            text="Dropout lowers the test error.",
            statistic="test error without it minus that with it, in points",
            threshold=at_least(MIN_GAIN),
            measure=partial(gain, NO_DROPOUT),
        ),
    ),
)
