"""Why ResNets work: branches that begin near zero, gradients that pass, blocks that can be left out, smooth losses."""

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
from convatlas.experiments.engine.accuracy import differences, errors_of, undertrained
from convatlas.experiments.engine.budget import Setting
from convatlas.experiments.engine.statement import Statement, Topic
from convatlas.experiments.engine.verdict import Measurement, at_least, at_most
from convatlas.experiments.topics.degradation import PLAIN, RESIDUAL, network_of, request, trained
from convatlas.models.evaluation import evaluate, evaluation_batches
from convatlas.runs.run import Run

SHALLOW, DEEP = 20, 56
KINDS = {"plain": PLAIN, "with shortcuts": RESIDUAL}
IMAGES = 128
"""Of the training set, on which responses, gradients and surfaces are measured."""
QUICK_SURFACE = 32
"""Layers. Deeper plain networks have hardly learned in the quick budget: see the experiment `degradation`."""
PLACES = tuple(np.linspace(-1, 1, 11).tolist())
WEAKER = 0.95
"""Of a response, what counts as weaker."""


def of_both(setting: Setting, depth: int) -> dict[str, list[Run]]:
    """Trained networks of both kinds, so deep."""
    return setting.train_seeds(
        {words: partial(request, setting, network_of(kind, depth)) for words, kind in KINDS.items()}
    )


def some(run: Run) -> tuple[Tensor, Tensor]:
    """Inputs of the run's network and their labels."""
    batches = evaluation_batches(run.card, run.load_data().train, torch.device("cpu"))
    batch = batches.plain(torch.arange(IMAGES))
    return batch.inputs, batch.labels


def mean_response(run: Run) -> float:
    """Over the layers after the first, which no shortcut passes."""
    inputs, _ = some(run)
    return statistics.fmean(deviation for _, deviation in measure.response_stds(run.network, inputs)[1:])


def mean_scale(run: Run) -> float:
    """Of normalization, in size, in the same layers; it begins at 1, and the responses with it."""
    _, *norms = (layer for layer in run.network.modules() if isinstance(layer, nn.BatchNorm2d))
    return statistics.fmean(float(layer.weight.detach().abs().mean()) for layer in norms)


def layer_responses(setting: Setting) -> Lines:
    """Figure 7: the deviation of each layer's response, of the first seed's networks."""
    lines = []
    for words, kind in KINDS.items():
        for depth in (SHALLOW, DEEP):
            run = trained(setting, kind, depth, setting.seeds[0])
            found = [deviation for _, deviation in measure.response_stds(run.network, some(run)[0])]
            places = [(number + 1) / len(found) for number in range(len(found))]
            lines.append(Series(f"{depth} layers, {words}", tuple(places), tuple(found)))
    return Lines(
        name="responses",
        title="How strongly the layers respond",
        x="place of the layer, as a part of the depth",
        y="standard deviation after normalization",
        log_y=True,
        series=tuple(lines),
    )


def response_figures(runs: dict[str, list[Run]]) -> tuple[tuple[str, str], ...]:
    return tuple(
        (
            f"mean response, and mean scale of normalization, {words}",
            f"{statistics.fmean(map(mean_response, each)):.3f}, {statistics.fmean(map(mean_scale, each)):.3f}",
        )
        for words, each in runs.items()
    )


def unmoved(runs: Mapping[str, Sequence[Run]]) -> str:
    """A doubt, where no scale of normalization has left the 1 at which it began, as far as the threshold is from 1."""
    scales = {words: statistics.fmean(map(mean_scale, each)) for words, each in runs.items()}
    if any(abs(scale - 1) > 1 - WEAKER for scale in scales.values()):
        return ""
    told = ", ".join(f"{words} {scale:.3f}" for words, scale in scales.items())
    return (
        f"responses follow the scales of normalization, which begin at 1 and have hardly left it ({told}): they tell "
        "how the networks began, not what they learned; it needs a training that moves a mean scale by "
        f"{1 - WEAKER:.2g}, as that of --budget full, which is far longer"
    )


def responses(setting: Setting) -> Measurement:
    setting.train_all(
        request(setting, network_of(kind, depth), seed)
        for seed in setting.seeds
        for kind in KINDS.values()
        for depth in (SHALLOW, DEEP)
    )
    runs = of_both(setting, SHALLOW)
    plain, residual = runs.values()
    return Measurement(
        values=tuple(mean_response(own) / mean_response(other) for own, other in zip(residual, plain, strict=True)),
        figures=response_figures(runs),
        charts=(layer_responses(setting),),
        inconclusive=unmoved(runs),
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
        inconclusive=unmoved(runs),
    )


def lost(setting: Setting, kind: str, seed: int) -> tuple[float, list[float]]:
    """By what power of ten the gradient changes on its way down, before training; and its length at each layer."""
    run = trained(setting, kind, DEEP, seed)
    inputs, labels = some(run)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = run.variant.network(run.spec).train()
    found = [norm for _, norm in measure.gradient_norms(network, lambda out: F.cross_entropy(out, labels), inputs)]
    # Without the fully connected layer, whose gradient is that of the loss itself.
    *convolutions, _ = found
    return abs(math.log10(convolutions[0] / convolutions[-1])), convolutions


def gradient(setting: Setting) -> Measurement:
    found = {words: [lost(setting, kind, seed) for seed in setting.seeds] for words, kind in KINDS.items()}
    chart = Lines(
        name="gradients",
        title=f"The gradient by layer before training, {DEEP} layers",
        x="convolution, from the input",
        y="length of the gradient",
        log_y=True,
        series=tuple(
            Series(words, tuple(map(float, range(1, len(each[0][1]) + 1))), tuple(each[0][1]))
            for words, each in found.items()
        ),
    )
    plain, residual = ([change for change, _ in each] for each in found.values())
    return Measurement(
        values=differences(plain, residual),
        figures=tuple(
            (f"powers of ten from last to first, {words}", f"{statistics.fmean(change for change, _ in each):.2f}")
            for words, each in found.items()
        ),
        charts=(chart,),
    )


def units_of(network: nn.Module, stage: int) -> nn.Sequential:
    units = network.get_submodule(f"stages.{stage}")
    assert isinstance(units, nn.Sequential), "a stage is its blocks, one after the other"
    return units


def lesions(run: Run) -> Iterator[float]:
    """The test error, in percent, without each of the blocks in turn that keep the shape."""
    batches = evaluation_batches(run.card, run.load_data().test, torch.device("cpu"))
    for stage in range(3):
        for unit in range(0 if stage == 0 else 1, len(units_of(run.network, stage))):
            network = copy.deepcopy(run.network)
            # Without its branch a residual block is its shortcut, and a plain one nothing.
            units_of(network, stage)[unit] = nn.Identity()
            yield 100 * (1 - evaluate(network, run.variant.objective, batches).accuracy)


def mean_rise(run: Run, without: Sequence[float]) -> float:
    """By how many points its test error rises for a block removed, on average over blocks."""
    return statistics.fmean(without) - 100 * (1 - run.test_accuracy)


def hurt(setting: Setting, words: str) -> Measurement:
    """What the networks of one kind lose by a block."""
    runs = of_both(setting, SHALLOW)[words]
    errors = [list(lesions(run)) for run in runs]
    blocks = zip(*errors, strict=True)
    return Measurement(
        values=tuple(map(mean_rise, runs, errors)),
        figures=(
            ("test error, whole", f"{statistics.fmean(errors_of(runs)):.1f} %"),
            *(
                (f"test error without block {number}", f"{statistics.fmean(each):.1f} %")
                for number, each in enumerate(blocks, 1)
            ),
        ),
        inconclusive=undertrained({words: runs}),
    )


def removal(setting: Setting) -> Measurement:
    """By how many points more the error rises where a block of a plain network is removed."""
    runs = of_both(setting, SHALLOW)
    errors = {words: [list(lesions(run)) for run in each] for words, each in runs.items()}
    plain, residual = (tuple(map(mean_rise, each, errors[words])) for words, each in runs.items())
    chart = Lines(
        name="lesions",
        title=f"One block removed, {SHALLOW} layers",
        x="block",
        y="test error, %",
        points=True,
        series=tuple(Series.of(words, range(1, len(each[0]) + 1), each) for words, each in errors.items()),
    )
    return Measurement(values=differences(plain, residual), charts=(chart,), inconclusive=undertrained(runs))


OPTIONS = {"A": "resnet20-cifar", "B": "resnet20-cifar-b", "C": "resnet20-cifar-c"}


def options(setting: Setting) -> Measurement:
    """The test error of A less that of C: of the worst less the best, chance alone would make a difference."""
    runs = setting.train_seeds({option: partial(request, setting, network) for option, network in OPTIONS.items()})
    errors = {option: errors_of(each) for option, each in runs.items()}
    return Measurement(
        values=differences(errors["A"], errors["C"]),
        figures=tuple(
            (f"test error, option {name}", f"{statistics.fmean(each):.2f} %") for name, each in errors.items()
        ),
    )


def around(run: Run) -> npt.NDArray[np.float64]:
    """The loss around the trained weights of a run, on some of its training images."""
    inputs, labels = some(run)
    return measure.loss_surface(run.network, lambda: float(F.cross_entropy(run.network(inputs), labels)), PLACES)


def surface(setting: Setting) -> Measurement:
    """How much more of the plain network's surface is bent down."""
    depth = QUICK_SURFACE if setting.quick else DEEP
    runs = of_both(setting, depth)
    surfaces = {words: [around(run) for run in each] for words, each in runs.items()}
    chart = Surface(
        name="surface",
        title=f"The loss around the weights, {depth} layers",
        x="first direction",
        y="second direction",
        places=PLACES,
        panels=tuple((words, tuple(map(tuple, each[0].tolist()))) for words, each in surfaces.items()),
    )
    bent = {words: [measure.negative_curvature(one) for one in each] for words, each in surfaces.items()}
    plain, residual = bent.values()
    return Measurement(
        values=differences(plain, residual),
        figures=tuple((f"bent down, {words}", f"{100 * statistics.fmean(each):.0f} %") for words, each in bent.items()),
        charts=(chart,),
        inconclusive=undertrained(runs),
    )


TOPIC = Topic(
    id="shortcuts",
    title="Why ResNets work",
    summary="A branch has to learn only what to add to its input, so it responds weakly; the shortcut keeps the "
    "gradient; no block is vital; projections are not needed; the loss is smooth.",
    source="He, Zhang, Ren and Sun 2015, sections 3.1, 3.3 and 4.2, Figure 7, Table 3; Veit, Wilber and Belongie 2016, "
    "section 4.1; Li, Xu, Taylor, Studer and Goldstein 2018, section 4",
    method=f"The networks of the experiment `degradation` with {SHALLOW} and {DEEP} layers, and options B and C trained "
    f"in the same way. Responses, gradients and the loss on {IMAGES} training images; blocks that keep the shape "
    "are removed one by one at test time. The loss surface spans two random filter-normalized directions, with the "
    "statistics of normalization held.",
    limitations="At quick, the scales of normalization, from which Figure 7's responses follow, have a few hundred steps to "
    f"leave 1; the surfaces are those of {QUICK_SURFACE} layers, where Li et al. have {DEEP}. "
    "Veit et al. removed blocks of 110 layers, of which one is a smaller part.",
    minutes=(2, 60),
    statements=(
        Statement(
            id="responses",
            text="With shortcuts layers respond more weakly than without.",
            statistic=f"mean deviation of the responses with shortcuts over that without, {SHALLOW} layers",
            threshold=at_most(WEAKER),
            measure=responses,
        ),
        Statement(
            id="deeper",
            text="The deeper, the less each of them changes.",
            statistic=f"mean deviation of the responses of {DEEP} layers over that of {SHALLOW}, with shortcuts",
            threshold=at_most(WEAKER),
            measure=deeper,
        ),
        Statement(
            id="gradient",
            text="Shortcuts keep the gradient.",
            statistic="powers of ten by which the gradient changes from the last convolution to the first, plain "
            f"less with shortcuts, {DEEP} layers before training",
            # A factor of two.
            threshold=at_least(0.3),
            measure=gradient,
        ),
        # Veit et al., Figure 3: to chance without a block of VGG, hardly visible without one of ResNet.
        Statement(
            id="removal-residual",
            text="Removing a block hurts a ResNet little.",
            statistic="points by which the test error rises for a block removed, with shortcuts, mean over the blocks "
            f"of {SHALLOW} layers",
            threshold=at_most(10.0),
            measure=partial(hurt, words="with shortcuts"),
        ),
        Statement(
            id="removal-plain",
            text="It hurts a plain network much.",
            statistic=f"the same of plain networks of {SHALLOW} layers",
            # Half of the way to chance.
            threshold=at_least(40.0),
            measure=partial(hurt, words="plain"),
        ),
        Statement(
            id="removal",
            text="It hurts a plain network more than a ResNet.",
            statistic="points by which the test error rises for a block removed, plain less with shortcuts, mean over "
            f"the blocks of {SHALLOW} layers",
            threshold=at_least(20.0),
            measure=removal,
        ),
        Statement(
            id="options",
            text="Projections are not essential: option A, without one, is hardly worse than option C, of them alone.",
            statistic=f"test error with option A less that with option C, {SHALLOW} layers, in points",
            # Table 3: 0.84 points between A, the worst, and C, the best.
            threshold=at_most(0.84),
            measure=options,
        ),
        Statement(
            id="surface",
            text="The loss around a ResNet's weights is smooth, around a deep plain network's chaotic.",
            statistic="part of the second differences of the loss that are negative, plain less with shortcuts",
            threshold=at_least(0.1),
            measure=surface,
        ),
    ),
)
