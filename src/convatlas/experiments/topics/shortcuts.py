"""Why ResNets work: weak responses, gradients that are kept, blocks that can be removed, smooth losses."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Self

import numpy as np
import torch
from torch import nn

from convatlas import measure
from convatlas.draw import Lines, Series
from convatlas.experiments.engine import protocol
from convatlas.experiments.engine.answers import Answers, Classes
from convatlas.experiments.engine.arms import Arm, TrainedArm
from convatlas.experiments.engine.budget import Budget, Setting
from convatlas.experiments.engine.comparison import compare, failed_precondition, learning_figures
from convatlas.experiments.engine.estimate import Errors, combined, combined_errors, ratio
from convatlas.experiments.engine.statement import Measurement, Role, Statement, Topic
from convatlas.experiments.engine.verdict import at_least, at_most
from convatlas.experiments.topics.degradation import (
    BEFORE_TRAINING,
    DEEP,
    MAX_TRAINING_ERROR,
    PLAIN,
    PLAIN_DEEP,
    PLAIN_SHALLOW,
    RESIDUAL,
    RESIDUAL_DEEP,
    RESIDUAL_SHALLOW,
    SHALLOW,
    arm,
    arms,
    describe,
    growth,
    initial_gradients,
    name_of,
)
from convatlas.experiments.topics.loss_surfaces import IMAGES, surfaces, training_batch
from convatlas.models.evaluation import evaluate, evaluation_batches
from convatlas.runs.run import Run

NUM_TEST_IMAGES = 2000
"""Of the test images, the first so many are shown to networks without a block: there are 25 blocks to remove."""
TRAINED = f"CIFAR-10, 41,000 training images, {protocol.EPOCHS} epochs"
WITHOUT_BLOCKS = f"{TRAINED}, {NUM_TEST_IMAGES:,} test images"
RESPONDING = f"{TRAINED}, {IMAGES} of them seen"


def failed(trained: Mapping[str, TrainedArm], *names: str) -> str:
    """Why nothing can be said of these networks."""
    return failed_precondition({name: trained[name] for name in names}, MAX_TRAINING_ERROR)


# --- responses -------------------------------------------------------------------------------------------------------


def responses_of(run: Run) -> list[float]:
    """The standard deviation of each layer's response, from the first layer to the last."""
    return [std for _, std in measure.response_stds(run.network, training_batch(run)[0])]


def mean_response(run: Run) -> float:
    """The mean over the layers after the first, which no shortcut bypasses."""
    return statistics.fmean(responses_of(run)[1:])


def mean_scale(run: Run) -> float:
    """The mean absolute scale of batch normalization in the same layers. It starts at 1, and so do the responses."""
    _, *norms = (layer for layer in run.network.modules() if isinstance(layer, nn.BatchNorm2d))
    return statistics.fmean(float(layer.weight.detach().abs().mean()) for layer in norms)


def layer_responses(trained: Mapping[str, TrainedArm]) -> Lines:
    """Figure 7: the standard deviation of each layer's response."""
    lines = []
    for name in (PLAIN_SHALLOW, PLAIN_DEEP, RESIDUAL_SHALLOW, RESIDUAL_DEEP):
        stds = [responses_of(run) for run in trained[name].runs]
        positions = [(number + 1) / len(stds[0]) for number in range(len(stds[0]))]
        lines.append(Series.mean_of_runs(name, positions, stds))
    return Lines(
        name="responses",
        title="How strongly the layers respond",
        subtitle=f"{describe(trained)}: mean and standard deviation; {IMAGES} training images",
        x="position of the layer, as a fraction of the depth",
        y="standard deviation after normalization",
        series=tuple(lines),
    )


def compare_responses(trained: Mapping[str, TrainedArm], first: str, second: str) -> Measurement:
    """The mean response of the first network over that of the second."""
    stds = {name: [mean_response(run) for run in trained[name].runs] for name in (first, second)}
    scales = {name: statistics.fmean(map(mean_scale, trained[name].runs)) for name in stds}
    return Measurement(
        estimate=ratio(stds[first], stds[second]),
        failed=failed(trained, first, second),
        figures=tuple(
            (f"mean response, mean scale of normalization, {name}", f"{statistics.fmean(each):.3f}, {scales[name]:.3f}")
            for name, each in stds.items()
        ),
    )


def responses(setting: Setting) -> Measurement:
    trained = setting.train_arms(arms(setting))
    found = compare_responses(trained, RESIDUAL_SHALLOW, PLAIN_SHALLOW)
    return replace(found, charts=(layer_responses(trained),))


def deeper(setting: Setting) -> Measurement:
    return compare_responses(setting.train_arms(arms(setting)), RESIDUAL_DEEP, RESIDUAL_SHALLOW)


# --- gradients -------------------------------------------------------------------------------------------------------


def gradient(setting: Setting) -> Measurement:
    norms = {
        name_of(kind, DEEP): [initial_gradients(kind, seed) for seed in setting.seeds] for kind in (PLAIN, RESIDUAL)
    }
    changes = {name: [abs(growth(each)) for each in of_seeds] for name, of_seeds in norms.items()}
    chart = Lines(
        name="gradients",
        title="The gradient by layer before training",
        subtitle=f"{BEFORE_TRAINING}, n = {len(setting.seeds)}: geometric mean and standard deviation",
        x="convolution, from the input",
        y="gradient norm",
        log_y=True,
        series=tuple(
            Series.geometric_mean_of_runs(name, range(1, len(of_seeds[0]) + 1), of_seeds)
            for name, of_seeds in norms.items()
        ),
    )
    return Measurement(
        estimate=combined((1.0, changes[PLAIN_DEEP]), (-1.0, changes[RESIDUAL_DEEP])),
        figures=tuple(
            (f"powers of ten from last to first, {name}", f"{statistics.fmean(each):.2f}")
            for name, each in changes.items()
        ),
        charts=(chart,),
    )


# --- removed blocks --------------------------------------------------------------------------------------------------


def units_of(network: nn.Module, stage: int) -> nn.Sequential:
    units = network.get_submodule(f"stages.{stage}")
    assert isinstance(units, nn.Sequential), "a stage is its blocks, one after the other"
    return units


def lesions(network: nn.Module) -> Iterator[nn.Module]:
    """The network without each block in turn of those that keep the shape."""
    for stage in range(3):
        for unit in range(0 if stage == 0 else 1, len(units_of(network, stage))):
            lesion = copy.deepcopy(network)
            # Without its branch a residual block is its shortcut, and a plain one nothing.
            units_of(lesion, stage)[unit] = nn.Identity()
            yield lesion


@dataclass(frozen=True)
class Removal:
    """What a trained network predicts whole, and without each of its blocks."""

    labels: Classes
    """(images,)"""
    whole: Classes
    """(images,)"""
    without: Classes
    """(blocks, images)"""

    @classmethod
    def of(cls, run: Run) -> Self:
        """On the first test images."""
        test = run.load_data().test
        split = test.take(np.arange(min(NUM_TEST_IMAGES, len(test))))
        batches = evaluation_batches(run.card, split, torch.device("cpu"))
        whole, *without = (
            evaluate(network, run.variant.objective, batches).predictions.numpy().astype(np.uint8)
            for network in (run.network, *lesions(run.network))
        )
        return cls(split.labels.astype(np.uint8), whole, np.stack(without))

    @property
    def errors(self) -> list[float]:
        """Test errors without each block, in percent."""
        return [100 * float(np.not_equal(each, self.labels).mean()) for each in self.without]

    @property
    def median(self) -> Classes:
        """(images,): the predictions without the block whose removal costs the median error. The number of blocks is
        odd at both depths."""
        middle = np.argsort(self.errors, kind="stable")[len(self.without) // 2]
        return np.asarray(self.without[middle])


def removals(trained: Mapping[str, TrainedArm], *names: str) -> dict[str, list[Removal]]:
    """For each network and seed."""
    return {name: [Removal.of(run) for run in trained[name].runs] for name in names}


def without_a_block(name: str) -> str:
    return f"{name} without its median block"


def answers_of(removed: Mapping[str, Sequence[Removal]]) -> Answers:
    """Of each network whole, and without its median block."""
    predictions = {name: np.stack([one.whole for one in each]) for name, each in removed.items()}
    lesioned = {without_a_block(name): np.stack([one.median for one in each]) for name, each in removed.items()}
    labels = next(iter(removed.values()))[0].labels
    return Answers(labels, predictions | lesioned)


def rise_of(answers: Answers, name: str) -> Errors:
    """(seeds, images): of the error, by taking the median block from the network."""
    return answers.rise(without_a_block(name), name)


def removal_chart(name: str, removed: Mapping[str, Sequence[Removal]], trained: Mapping[str, TrainedArm]) -> Lines:
    return Lines(
        name=name,
        title="Test error with one block removed",
        subtitle=f"{describe(trained)}: mean and standard deviation; {NUM_TEST_IMAGES:,} test images",
        x="block that is removed, of those that keep the shape",
        y="test error, %",
        points=True,
        series=tuple(
            Series.mean_of_runs(network, range(1, len(each[0].without) + 1), [one.errors for one in each])
            for network, each in removed.items()
        ),
        marks=(
            *((f"{network}, whole", whole_error(each)) for network, each in removed.items()),
            ("chance", 90.0),
        ),
    )


def whole_error(removed: Sequence[Removal]) -> float:
    """In percent."""
    return statistics.fmean(100 * float((one.whole != one.labels).mean()) for one in removed)


def removal_of(setting: Setting, name: str) -> Measurement:
    """The rise of one network's test error by removing its median block."""
    trained = setting.train_arms(arms(setting))
    removed = removals(trained, name)
    answers = answers_of(removed)
    of_blocks = np.array([one.errors for one in removed[name]]).mean(0)
    return Measurement(
        estimate=combined_errors((1.0, rise_of(answers, name))),
        failed=failed(trained, name),
        figures=(
            ("test error, whole network", f"{whole_error(removed[name]):.1f} %"),
            ("test error without a block, lowest", f"{of_blocks.min():.1f} %"),
            ("test error without a block, median", f"{np.median(of_blocks):.1f} %"),
            ("test error without a block, highest", f"{of_blocks.max():.1f} %"),
            *learning_figures(name, trained[name]),
        ),
        charts=(removal_chart(f"lesions-{name.lower()}", removed, trained),),
        answers=answers,
    )


def removal(setting: Setting) -> Measurement:
    """The plain network's rise of the test error minus that of the network with shortcuts."""
    trained = setting.train_arms(arms(setting))
    removed = removals(trained, PLAIN_SHALLOW, RESIDUAL_SHALLOW)
    answers = answers_of(removed)
    chart, figures = surfaces(trained)
    return Measurement(
        estimate=combined_errors((1.0, rise_of(answers, PLAIN_SHALLOW)), (-1.0, rise_of(answers, RESIDUAL_SHALLOW))),
        failed=failed(trained, PLAIN_SHALLOW, RESIDUAL_SHALLOW),
        figures=figures,
        charts=(removal_chart("lesions", removed, trained), chart),
        answers=answers,
    )


# --- options ---------------------------------------------------------------------------------------------------------

OPTIONS = {"option A": "resnet20-cifar", "option B": "resnet20-cifar-b", "option C": "resnet20-cifar-c"}


def option_arms(setting: Setting) -> dict[str, Arm]:
    return {option: arm(network, setting) for option, network in OPTIONS.items()}


def options(setting: Setting) -> Measurement:
    """The test error of A minus that of C. The worst minus the best would be above 0 by chance alone."""
    trained = setting.train_arms(option_arms(setting))
    return compare(trained, {"option A": 1.0, "option C": -1.0}, MAX_TRAINING_ERROR)


TOPIC = Topic(
    id="shortcuts",
    title="Why ResNets work",
    summary="A residual branch only has to learn what to add to its input, so it responds weakly. The shortcut keeps "
    "the gradient; no single block is vital; projections are not needed; the loss is smooth.",
    source="He, Zhang, Ren and Sun 2015, sections 3.1, 3.3 and 4.2, Figure 7, Table 3; Veit, Wilber and Belongie 2016, "
    "section 4.1; Li, Xu, Taylor, Studer and Goldstein 2018, section 4",
    method="The trained networks of 'Classical CNNs get worse when too deep'. Blocks that keep the shape are removed "
    f"one by one at test time, and the network sees {NUM_TEST_IMAGES:,} test images without each; what counts is the "
    f"block of median damage. Responses are measured on {IMAGES} training images, gradients before training on "
    "digits. The loss surface spans two random filter-normalized directions; the statistics of normalization stay as "
    "they are. It is an image without a verdict.",
    limitations="Veit et al. removed blocks of a network with 110 layers, where one block is a smaller part. Gradients "
    "before training say nothing about those during training. Two random directions of a hundred thousand show little "
    "of a loss.",
    minutes_quick=0.15,
    minutes_full=60,
    statements=(
        # Veit et al., Figure 3: to chance without a block of VGG, hardly visible without one of ResNet.
        Statement(
            id="removal-residual",
            text="Removing a block hurts a ResNet little.",
            statistic=f"rise of the test error by removing a block, the median of 25 blocks, {DEEP} layers with "
            "shortcuts",
            unit="points",
            threshold=at_most(10.0),
            needs=Budget.STANDARD,
            test_bed=f"{WITHOUT_BLOCKS}; {RESIDUAL_DEEP}",
            arms=arms,
            measure=partial(removal_of, name=RESIDUAL_DEEP),
            max_training_error=MAX_TRAINING_ERROR,
            priority=2,
            minutes=5,
        ),
        Statement(
            id="removal-plain",
            text="Removing a block hurts a plain network much.",
            statistic=f"the same, the median of 7 blocks, {SHALLOW} plain layers",
            unit="points",
            # Halfway to chance.
            threshold=at_least(40.0),
            no_effect=0.0,
            needs=Budget.STANDARD,
            test_bed=f"{WITHOUT_BLOCKS}; {PLAIN_SHALLOW}",
            arms=arms,
            measure=partial(removal_of, name=PLAIN_SHALLOW),
            max_training_error=MAX_TRAINING_ERROR,
            priority=2,
            minutes=0.5,
        ),
        Statement(
            id="removal",
            text="At equal depth it hurts a plain network more than a ResNet.",
            statistic=f"rise of the test error by removing the median block, plain minus with shortcuts, {SHALLOW} "
            "layers",
            unit="points",
            threshold=at_least(20.0),
            no_effect=0.0,
            role=Role.PERIPHERAL,
            needs=Budget.STANDARD,
            test_bed=f"{WITHOUT_BLOCKS}; {PLAIN_SHALLOW} and {RESIDUAL_SHALLOW}",
            arms=arms,
            measure=removal,
            max_training_error=MAX_TRAINING_ERROR,
            priority=2,
            minutes=5,
        ),
        Statement(
            id="responses",
            text="Layers respond more weakly with shortcuts than without.",
            statistic=f"mean standard deviation of the responses with shortcuts over that without, {SHALLOW} layers",
            threshold=at_most(1.0),
            role=Role.PERIPHERAL,
            needs=Budget.STANDARD,
            test_bed=f"{RESPONDING}; {RESIDUAL_SHALLOW} and {PLAIN_SHALLOW}",
            arms=arms,
            measure=responses,
            max_training_error=MAX_TRAINING_ERROR,
            priority=2,
            minutes=0.5,
        ),
        Statement(
            id="deeper",
            text="The deeper the network, the less each layer changes its input.",
            statistic=f"mean standard deviation of the responses of {DEEP} layers over that of {SHALLOW}, with "
            "shortcuts",
            threshold=at_most(1.0),
            role=Role.PERIPHERAL,
            needs=Budget.STANDARD,
            test_bed=f"{RESPONDING}; {RESIDUAL_DEEP} and {RESIDUAL_SHALLOW}",
            arms=arms,
            measure=deeper,
            max_training_error=MAX_TRAINING_ERROR,
            priority=2,
            minutes=0.5,
        ),
        Statement(
            id="gradient",
            text="Before training the gradient changes less over the layers with shortcuts than without.",
            statistic="powers of ten by which the gradient norm changes from the last convolution to the first, plain "
            f"minus with shortcuts, {DEEP} layers",
            # A factor of two.
            threshold=at_least(0.3),
            no_effect=0.0,
            test_bed=BEFORE_TRAINING,
            measure=gradient,
        ),
        Statement(
            id="options",
            text="Projections are not essential: option A, without any, is hardly worse than option C, with only "
            "projections.",
            statistic=f"test error with option A minus that with option C, {SHALLOW} layers",
            unit="points",
            paper="0.84 points (Table 3: 25.03 against 24.19 %, 34 layers on ImageNet)",
            threshold=at_most(0.84),
            role=Role.PERIPHERAL,
            needs=Budget.FULL,
            test_bed=f"CIFAR-10, the paper's recipe; {SHALLOW} layers",
            arms=option_arms,
            measure=options,
            max_training_error=MAX_TRAINING_ERROR,
        ),
    ),
)
