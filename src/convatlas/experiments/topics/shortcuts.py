"""Why ResNets work: weak responses, gradients that are kept, blocks that can be removed, smooth losses."""

from __future__ import annotations

import copy
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convatlas import measure
from convatlas.draw import Lines, Series, Surface
from convatlas.experiments.engine.accuracy import differences, error_of, errors_of, undertrained
from convatlas.experiments.engine.budget import Setting
from convatlas.experiments.engine.statement import Statement, Topic
from convatlas.experiments.engine.verdict import Measurement, at_least, at_most
from convatlas.experiments.topics.degradation import PLAIN, RESIDUAL, network_of, request, trained
from convatlas.models.evaluation import evaluate, evaluation_batches
from convatlas.runs.run import Run

SHALLOW, DEEP = 20, 56
KINDS = {"plain": PLAIN, "with shortcuts": RESIDUAL}
IMAGES = 128
"""Training images on which responses, gradients and surfaces are measured."""
QUICK_SURFACE = 32
"""Layers. Deeper plain networks have hardly learned at the quick budget: see the topic `degradation`."""
PLACES = tuple(np.linspace(-1, 1, 11).tolist())
WEAKER = 0.95
"""The ratio of responses up to which they count as weaker."""


def of_both_kinds(setting: Setting, depth: int) -> dict[str, list[Run]]:
    """Trained networks of this depth, plain and with shortcuts, by the kind in words."""
    return setting.train_seeds(
        {words: partial(request, setting, network_of(kind, depth)) for words, kind in KINDS.items()}
    )


def training_batch(run: Run) -> tuple[Tensor, Tensor]:
    """Inputs (IMAGES, channels, height, width) from the run's training images, and their labels (IMAGES,)."""
    batches = evaluation_batches(run.card, run.load_data().train, torch.device("cpu"))
    batch = batches.plain(torch.arange(IMAGES))
    return batch.inputs, batch.labels


def mean_response(run: Run) -> float:
    """The mean over the layers after the first, which no shortcut bypasses."""
    inputs, _ = training_batch(run)
    return statistics.fmean(std for _, std in measure.response_stds(run.network, inputs)[1:])


def mean_scale(run: Run) -> float:
    """The mean absolute scale of batch normalization in the same layers. It starts at 1, and so do the responses."""
    _, *norms = (layer for layer in run.network.modules() if isinstance(layer, nn.BatchNorm2d))
    return statistics.fmean(float(layer.weight.detach().abs().mean()) for layer in norms)


def layer_responses(setting: Setting) -> Lines:
    """Figure 7: the standard deviation of each layer's response, for the networks of the first seed."""
    lines = []
    for words, kind in KINDS.items():
        for depth in (SHALLOW, DEEP):
            run = trained(setting, kind, depth, setting.seeds[0])
            stds = [std for _, std in measure.response_stds(run.network, training_batch(run)[0])]
            positions = [(number + 1) / len(stds) for number in range(len(stds))]
            lines.append(Series(f"{depth} layers, {words}", tuple(positions), tuple(stds)))
    return Lines(
        name="responses",
        title="How strongly the layers respond",
        x="position of the layer, as a fraction of the depth",
        y="standard deviation after normalization",
        log_y=True,
        series=tuple(lines),
    )


def response_figures(runs: dict[str, list[Run]]) -> tuple[tuple[str, str], ...]:
    return tuple(
        (
            f"mean response and mean scale of normalization, {words}",
            f"{statistics.fmean(map(mean_response, each)):.3f}, {statistics.fmean(map(mean_scale, each)):.3f}",
        )
        for words, each in runs.items()
    )


def unmoved_scales(runs: Mapping[str, Sequence[Run]]) -> str:
    """The reason for no verdict, where no mean scale has moved from its initial 1 as far as the threshold is from 1.

    Returns:
        An empty string where one has.
    """
    scales = {words: statistics.fmean(map(mean_scale, each)) for words, each in runs.items()}
    if any(abs(scale - 1) > 1 - WEAKER for scale in scales.values()):
        return ""
    listed = ", ".join(f"{words} {scale:.3f}" for words, scale in scales.items())
    return (
        "responses follow the scales of normalization, which start at 1 and have hardly moved "
        f"({listed}): they show the initialization, not what was learned; a training is needed that moves a mean scale "
        f"by {1 - WEAKER:.2g}, as the full budget's, which is much longer"
    )


def responses(setting: Setting) -> Measurement:
    setting.train_all(
        request(setting, network_of(kind, depth), seed)
        for seed in setting.seeds
        for kind in KINDS.values()
        for depth in (SHALLOW, DEEP)
    )
    runs = of_both_kinds(setting, SHALLOW)
    plain, residual = runs.values()
    return Measurement(
        values=tuple(mean_response(own) / mean_response(other) for own, other in zip(residual, plain, strict=True)),
        figures=response_figures(runs),
        charts=(layer_responses(setting),),
        inconclusive=unmoved_scales(runs),
    )


def deeper(setting: Setting) -> Measurement:
    runs = {
        f"{depth} layers": [trained(setting, RESIDUAL, depth, seed) for seed in setting.seeds]
        for depth in (SHALLOW, DEEP)
    }
    shallow, deep = runs.values()
    return Measurement(
        values=tuple(mean_response(other) / mean_response(own) for own, other in zip(shallow, deep, strict=True)),
        figures=response_figures(runs),
        inconclusive=unmoved_scales(runs),
    )


def gradient_change(setting: Setting, kind: str, seed: int) -> tuple[float, list[float]]:
    """Powers of ten by which the gradient norm changes from the last convolution to the first, before training.

    Returns:
        (that change, the norm at each convolution)
    """
    run = trained(setting, kind, DEEP, seed)
    inputs, labels = training_batch(run)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = run.variant.network(run.spec).train()
    norms = [norm for _, norm in measure.gradient_norms(network, lambda out: F.cross_entropy(out, labels), inputs)]
    # Without the fully connected layer, whose gradient is that of the loss itself.
    *convolutions, _ = norms
    return abs(math.log10(convolutions[0] / convolutions[-1])), convolutions


def gradient(setting: Setting) -> Measurement:
    changes = {words: [gradient_change(setting, kind, seed) for seed in setting.seeds] for words, kind in KINDS.items()}
    chart = Lines(
        name="gradients",
        title=f"The gradient by layer before training, {DEEP} layers",
        x="convolution, from the input",
        y="gradient norm",
        log_y=True,
        series=tuple(
            Series(words, tuple(map(float, range(1, len(each[0][1]) + 1))), tuple(each[0][1]))
            for words, each in changes.items()
        ),
    )
    plain, residual = ([change for change, _ in each] for each in changes.values())
    return Measurement(
        values=differences(plain, residual),
        figures=tuple(
            (f"powers of ten from last to first, {words}", f"{statistics.fmean(change for change, _ in each):.2f}")
            for words, each in changes.items()
        ),
        charts=(chart,),
    )


def units_of(network: nn.Module, stage: int) -> nn.Sequential:
    units = network.get_submodule(f"stages.{stage}")
    assert isinstance(units, nn.Sequential), "a stage is its blocks, one after the other"
    return units


def lesion_errors(run: Run) -> Iterator[float]:
    """The test error, in percent, without each block in turn of those that keep the shape."""
    batches = evaluation_batches(run.card, run.load_data().test, torch.device("cpu"))
    for stage in range(3):
        for unit in range(0 if stage == 0 else 1, len(units_of(run.network, stage))):
            network = copy.deepcopy(run.network)
            # Without its branch a residual block is its shortcut, and a plain one nothing.
            units_of(network, stage)[unit] = nn.Identity()
            yield error_of(evaluate(network, run.variant.objective, batches))


def mean_rise(run: Run, lesions: Sequence[float]) -> float:
    """The rise of the test error by removing a block, in points, mean over the blocks."""
    return statistics.fmean(lesions) - error_of(run.score)


def removal_of(setting: Setting, words: str) -> Measurement:
    """The rise of the test error for the networks of one kind."""
    runs = of_both_kinds(setting, SHALLOW)[words]
    errors = [list(lesion_errors(run)) for run in runs]
    blocks = zip(*errors, strict=True)
    return Measurement(
        values=tuple(map(mean_rise, runs, errors)),
        figures=(
            ("test error, whole network", f"{statistics.fmean(errors_of(runs)):.1f} %"),
            *(
                (f"test error without block {number}", f"{statistics.fmean(each):.1f} %")
                for number, each in enumerate(blocks, 1)
            ),
        ),
        inconclusive=undertrained({words: runs}),
    )


def removal(setting: Setting) -> Measurement:
    """The plain networks' rise of the test error minus that of the networks with shortcuts."""
    runs = of_both_kinds(setting, SHALLOW)
    errors = {words: [list(lesion_errors(run)) for run in each] for words, each in runs.items()}
    plain, residual = (tuple(map(mean_rise, each, errors[words])) for words, each in runs.items())
    chart = Lines(
        name="lesions",
        title=f"One block removed, {SHALLOW} layers",
        x="block",
        y="test error, %",
        points=True,
        series=tuple(Series.mean_of_runs(words, range(1, len(each[0]) + 1), each) for words, each in errors.items()),
    )
    return Measurement(values=differences(plain, residual), charts=(chart,), inconclusive=undertrained(runs))


OPTIONS = {"A": "resnet20-cifar", "B": "resnet20-cifar-b", "C": "resnet20-cifar-c"}


def options(setting: Setting) -> Measurement:
    """The test error of A minus that of C. The worst minus the best would be above 0 by chance alone."""
    runs = setting.train_seeds({option: partial(request, setting, network) for option, network in OPTIONS.items()})
    errors = {option: errors_of(each) for option, each in runs.items()}
    return Measurement(
        values=differences(errors["A"], errors["C"]),
        figures=tuple(
            (f"test error, option {name}", f"{statistics.fmean(each):.2f} %") for name, each in errors.items()
        ),
    )


def loss_surface(run: Run) -> npt.NDArray[np.float64]:
    """The loss around the trained weights of a run, on some of its training images."""
    inputs, labels = training_batch(run)
    return measure.loss_surface(run.network, lambda: float(F.cross_entropy(run.network(inputs), labels)), PLACES)


def surface(setting: Setting) -> Measurement:
    """The plain network's fraction of negative curvature minus that of the network with shortcuts."""
    depth = QUICK_SURFACE if setting.quick else DEEP
    runs = of_both_kinds(setting, depth)
    surfaces = {words: [loss_surface(run) for run in each] for words, each in runs.items()}
    chart = Surface(
        name="surface",
        title=f"The loss around the weights, {depth} layers",
        x="first direction",
        y="second direction",
        places=PLACES,
        panels=tuple((words, tuple(map(tuple, each[0].tolist()))) for words, each in surfaces.items()),
    )
    negative = {words: [measure.negative_curvature(one) for one in each] for words, each in surfaces.items()}
    plain, residual = negative.values()
    return Measurement(
        values=differences(plain, residual),
        figures=tuple(
            (f"negative curvature, {words}", f"{100 * statistics.fmean(each):.0f} %")
            for words, each in negative.items()
        ),
        charts=(chart,),
        inconclusive=undertrained(runs),
    )


TOPIC = Topic(
    id="shortcuts",
    title="Why ResNets work",
    summary="A residual branch only has to learn what to add to its input, so it responds weakly. The shortcut keeps "
    "the gradient; no single block is vital; projections are not needed; the loss is smooth.",
    source="He, Zhang, Ren and Sun 2015, sections 3.1, 3.3 and 4.2, Figure 7, Table 3; Veit, Wilber and Belongie 2016, "
    "section 4.1; Li, Xu, Taylor, Studer and Goldstein 2018, section 4",
    method=f"The networks of 'Classical CNNs get worse when too deep' with {SHALLOW} and {DEEP} layers, and options B "
    f"and C trained in the same way. Responses, gradients and the loss are measured on {IMAGES} training images. "
    "Blocks that keep the shape are removed one by one at test time. The loss surface spans two random "
    "filter-normalized directions; the statistics of normalization stay as they are.",
    limitations="At the quick budget the scales of normalization, which decide the responses of Figure 7, have a few "
    f"hundred steps to move from 1, and the surfaces are those of {QUICK_SURFACE} layers, where Li et al. have {DEEP}. "
    "Veit et al. removed blocks of a network with 110 layers, where one block is a smaller part.",
    minutes=(2, 60),
    statements=(
        Statement(
            id="responses",
            text="Layers respond more weakly with shortcuts than without.",
            statistic=f"mean standard deviation of the responses with shortcuts over that without, {SHALLOW} layers",
            threshold=at_most(WEAKER),
            measure=responses,
        ),
        Statement(
            id="deeper",
            text="The deeper the network, the less each layer changes its input.",
            statistic=f"mean standard deviation of the responses of {DEEP} layers over that of {SHALLOW} layers, with "
            "shortcuts",
            threshold=at_most(WEAKER),
            measure=deeper,
        ),
        Statement(
            id="gradient",
            text="Shortcuts keep the gradient.",
            statistic="powers of ten by which the gradient norm changes from the last convolution to the first, plain "
            f"minus with shortcuts, {DEEP} layers before training",
            # A factor of two.
            threshold=at_least(0.3),
            measure=gradient,
        ),
        # Veit et al., Figure 3: to chance without a block of VGG, hardly visible without one of ResNet.
        Statement(
            id="removal-residual",
            text="Removing a block hurts a ResNet little.",
            statistic="rise of the test error by removing a block, in points, with shortcuts, mean over the blocks of "
            f"{SHALLOW} layers",
            threshold=at_most(10.0),
            measure=partial(removal_of, words="with shortcuts"),
        ),
        Statement(
            id="removal-plain",
            text="Removing a block hurts a plain network much.",
            statistic=f"the same for plain networks of {SHALLOW} layers",
            # Halfway to chance.
            threshold=at_least(40.0),
            measure=partial(removal_of, words="plain"),
        ),
        Statement(
            id="removal",
            text="Removing a block hurts a plain network more than a ResNet.",
            statistic="rise of the test error by removing a block, in points, plain minus with shortcuts, mean over "
            f"the blocks of {SHALLOW} layers",
            threshold=at_least(20.0),
            measure=removal,
        ),
        Statement(
            id="options",
            text="Projections are not essential: option A, without any, is hardly worse than option C, with only "
            "projections.",
            statistic=f"test error with option A minus that with option C, {SHALLOW} layers, in points",
            # Table 3: 0.84 points between A, the worst, and C, the best.
            threshold=at_most(0.84),
            measure=options,
        ),
        Statement(
            id="surface",
            text="The loss around the weights is smooth for a ResNet and chaotic for a deep plain network.",
            statistic="fraction of the second differences of the loss that are negative, plain minus with shortcuts",
            threshold=at_least(0.1),
            measure=surface,
        ),
    ),
)
