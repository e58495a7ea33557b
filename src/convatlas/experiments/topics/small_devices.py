"""Good networks are large and slow; for small devices small ones are trained, or large ones compressed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from convatlas import atlas, measure
from convatlas.compression.channels import prune_channels
from convatlas.compression.quantization import quantize, quantize_and_train
from convatlas.compression.stages import FineTuning, TrainedModel
from convatlas.compression.target import MacsTarget
from convatlas.experiments.engine import protocol
from convatlas.experiments.engine.answers import Answers
from convatlas.experiments.engine.arms import Arm, TrainedArm
from convatlas.experiments.engine.budget import Budget, Setting
from convatlas.experiments.engine.comparison import (
    compare,
    failed_precondition,
    figures_of,
    not_learned,
    rate_at_an_end,
)
from convatlas.experiments.engine.estimate import Estimate, combined_errors
from convatlas.experiments.engine.statement import Measurement, Role, Statement, Topic
from convatlas.experiments.engine.timings import NUM_PROCESSES
from convatlas.experiments.engine.verdict import at_least, at_most
from convatlas.experiments.topics.equal_cost import at_cost
from convatlas.experiments.topics.network_weights import (
    FLOAT_BYTES,
    HEAVY_MB,
    TIMED,
    best_weigh,
    latency,
    lightest_weighs,
)
from convatlas.models.codec.container import encoded
from convatlas.networks.resnet import ResNetSpec
from convatlas.recipe import Recipe
from convatlas.runs.options import Distillation, WeightConstraint
from convatlas.runs.run import Run, load_run
from convatlas.spec import Scale
from convatlas.training import Request

# --- networks to compress --------------------------------------------------------------------------------------------

NETWORK = "resnet20-cifar"
WHOLE, ALONE, TAUGHT, NARROW = "whole network", "student alone", "student with teacher", "narrower from the start"
TRAINED_ON, PRUNED, FOUR_BITS = "whole network, trained on", "pruned to half of the MACs", "4-bit weights"
EIGHT_BITS = "8 bits"
COMPRESSED = "compressed"
"""The folder of compressed networks, beside those of trained ones."""
STUDENT_WIDTH = 0.5
"""A quarter of the parameters and of the MACs."""
MAX_TRAINING_ERROR = 30.0
"""In percent, on augmented images. This ResNet comes to about 15 % in 10 epochs, and to less with the paper's
recipe."""
MAX_STUDENT_TRAINING_ERROR = 40.0
"""Likewise; a network of a quarter of its size fits less, and comes to about 25 %."""


def papers_recipe() -> Recipe:
    recipe = atlas.find(NETWORK).recipe
    assert recipe is not None, "the paper prints one"
    return recipe


def request(setting: Setting, seed: int) -> Request:
    """What trains the whole network."""
    if setting.full:
        return Request(network=NETWORK, data="cifar10", recipe=papers_recipe(), seed=seed)
    return Request(network=NETWORK, data=protocol.DATA, recipe=protocol.recipe(), seed=seed, runtime=protocol.RUNTIME)


def tuning_epochs(setting: Setting) -> int:
    """Of training after a change; the whole network is trained on as long."""
    return 40 if setting.full else 5


def arm(setting: Setting, of_seed: Callable[[int], Request]) -> Arm:
    return Arm(request=of_seed, rates=() if setting.full else protocol.RATES)


def whole(setting: Setting) -> dict[str, Arm]:
    return {WHOLE: arm(setting, partial(request, setting))}


def half_spec() -> ResNetSpec:
    """The network with fewer channels in every layer, and half of the MACs."""
    variant = atlas.find(NETWORK)
    spec = variant.spec
    assert isinstance(spec, ResNetSpec)

    def at_width(width: float) -> ResNetSpec:
        # The family's own rounding leaves no network near half of the MACs.
        stages = tuple(tuple(tuple(round(width * n) for n in unit) for unit in stage) for stage in spec.stages)
        return replace(spec, stem=round(width * spec.stem), stages=stages)

    macs = measure.cost_of(variant.network, spec).macs
    return at_cost(variant, macs / 2, at_width, 0.5, 1.0)


def with_narrow(setting: Setting) -> dict[str, Arm]:
    """The narrower network is trained for as many epochs as the pruned one in all."""

    def narrow(seed: int) -> Request:
        like_whole = request(setting, seed)
        assert isinstance(like_whole.recipe, Recipe)
        epochs = like_whole.recipe.epochs + tuning_epochs(setting)
        return replace(like_whole, spec=half_spec(), epochs=epochs)

    return whole(setting) | {NARROW: arm(setting, narrow)}


def student(setting: Setting, seed: int) -> Request:
    return replace(request(setting, seed), scale=Scale(width=STUDENT_WIDTH))


def with_student(setting: Setting) -> dict[str, Arm]:
    return whole(setting) | {ALONE: arm(setting, partial(student, setting))}


def taught_by(teachers: TrainedArm, setting: Setting) -> Arm:
    """The student of each seed learns from the whole network of that seed.

    It is no arm of the statement: the teacher's folder is part of what is asked, and is another on another machine.
    """
    folders = dict(zip(setting.seeds, (run.folder for run in teachers.runs), strict=True))
    folders.setdefault(0, teachers.runs[0].folder)

    def of_seed(seed: int) -> Request:
        return replace(student(setting, seed), distillation=Distillation(teacher=str(folders[seed])))

    return arm(setting, of_seed)


# --- compressing them ------------------------------------------------------------------------------------------------

Method = Callable[[TrainedModel, Path, FineTuning], TrainedModel]
"""Makes a smaller network of a trained one, in that folder. What is there already is not made again."""


def prune_half(source: TrainedModel, out: Path, fine_tuning: FineTuning) -> TrainedModel:
    return prune_channels(source, out, MacsTarget(source.model.card.macs / 2), fine_tuning=fine_tuning)[-1]


def to_four_bits(source: TrainedModel, out: Path, fine_tuning: FineTuning) -> TrainedModel:
    return quantize_and_train(source, out, 4, inputs=False, fine_tuning=fine_tuning)[-1]


def train_on(source: TrainedModel, out: Path, fine_tuning: FineTuning) -> TrainedModel:
    return fine_tuning(source, WeightConstraint.NONE, out)


METHODS: Mapping[str, Method] = {TRAINED_ON: train_on, PRUNED: prune_half, FOUR_BITS: to_four_bits}


def folder_for(setting: Setting, name: str, run: Run) -> Path:
    """Where the network lies that is made of a run's, or will."""
    return setting.folder / COMPRESSED / name.replace(",", "").replace(" ", "-") / run.folder.name


def made(method: Method, epochs: int, out: Path) -> TrainedModel:
    """What a method makes of the run after which the folder is called."""
    source = load_run(out.parents[2] / out.name)
    return method(TrainedModel.of(source), out, FineTuning(epochs=epochs, runtime=protocol.RUNTIME))


def make(method: Method, epochs: int, request: Request, out: Path) -> None:
    """What a worker does: the same, and the network stays in its folder.

    Args:
        request: of that run.
    """
    made(method, epochs, out)


def compressed(setting: Setting, sources: TrainedArm, name: str) -> TrainedArm:
    """What a method makes of a trained network, for each seed."""
    method, epochs = METHODS[name], tuning_epochs(setting)
    # With other epochs it is another network.
    folders = [folder_for(setting, f"{name}, {epochs} epochs", run) for run in sources.runs]
    requests = [request(setting, seed) for seed in setting.seeds]
    jobs = list(zip(requests, folders, strict=True))
    setting.workers.run(jobs, setting.on_training_end, work=partial(make, method, epochs))
    # All is there now, and is only opened.
    return TrainedArm(tuple(load_run(made(method, epochs, folder).path) for folder in folders), chosen=None)


def loss(answers: Answers, name: str, reference: str) -> Estimate:
    """The test error of a compressed network minus that of the reference, in points."""
    return combined_errors((1.0, answers.rise(name, reference)))


def after_tuning(name: str, setting: Setting) -> Measurement:
    """A compressed network against the whole one, both trained on for as many epochs."""
    sources = setting.train_arms(whole(setting))[WHOLE]
    trained = {
        WHOLE: sources,
        TRAINED_ON: compressed(setting, sources, TRAINED_ON),
        name: compressed(setting, sources, name),
    }
    answers = Answers.of(trained)
    return Measurement(
        estimate=loss(answers, name, TRAINED_ON),
        # All are made of the whole network, for which alone a rate was chosen.
        failed=not_learned({made: trained[made] for made in (TRAINED_ON, name)}, MAX_TRAINING_ERROR)
        or rate_at_an_end({WHOLE: sources}),
        figures=(*figures_of(trained, answers), *sizes(sources, trained[name])),
        answers=answers,
    )


def sizes(sources: TrainedArm, smaller: TrainedArm) -> tuple[tuple[str, str], ...]:
    """MACs and bytes before and after, of the first seed."""
    cards = (sources.runs[0].card, smaller.runs[0].card)
    num_bytes = (FLOAT_BYTES * cards[0].params, len(encoded(cards[1], smaller.runs[0].network)))
    return (
        ("MACs, before and after", " and ".join(f"{card.macs / 1e6:.3g} million" for card in cards)),
        ("weights, before and after", " and ".join(f"{each / 2**10:.4g} KiB" for each in num_bytes)),
    )


def eight_bits(setting: Setting) -> Measurement:
    """Without any training: what is measured is the rounding alone."""
    sources = setting.train_arms(whole(setting))
    rounded = [quantize(TrainedModel.of(run), folder_for(setting, EIGHT_BITS, run), 8) for run in sources[WHOLE].runs]
    answers = Answers.of(sources)
    predictions = [one.model.evaluate(one.load_data().test).predictions.numpy() for one in rounded]
    answers = Answers(answers.labels, {**answers.predictions, EIGHT_BITS: np.stack(predictions).astype(np.uint8)})
    error = 100 * answers.errors(EIGHT_BITS).mean()
    return Measurement(
        estimate=loss(answers, EIGHT_BITS, WHOLE),
        failed=failed_precondition(sources, MAX_TRAINING_ERROR),
        figures=(*figures_of(sources, answers), (f"test error, {EIGHT_BITS}", f"{error:.2f} %")),
        answers=answers,
        note="The network computes in 32 bits with weights and inputs of layers rounded to 8.",
    )


def from_start(setting: Setting) -> Measurement:
    trained = setting.train_arms(with_narrow(setting))
    trained[PRUNED] = compressed(setting, trained[WHOLE], PRUNED)
    measured = compare(trained, {NARROW: 1.0, PRUNED: -1.0}, MAX_TRAINING_ERROR)
    macs = (f"{arm.runs[0].card.macs / 1e6:.3g} million" for arm in (trained[NARROW], trained[PRUNED]))
    return replace(measured, figures=(*measured.figures, ("MACs, narrower and pruned", " and ".join(macs))))


def taught(setting: Setting) -> Measurement:
    trained = setting.train_arms(with_student(setting))
    trained |= setting.train_arms({TAUGHT: taught_by(trained[WHOLE], setting)})
    return compare(trained, {ALONE: 1.0, TAUGHT: -1.0}, MAX_STUDENT_TRAINING_ERROR)


BED = f"{protocol.IMAGES}; {NETWORK}, {protocol.EPOCHS} epochs"
TUNED = f"{BED} and 5 more after each change"

TOPIC = Topic(
    id="small-devices",
    title="Good CNNs weigh 100 MB and are slow: train small ones, or compress large ones",
    summary="Good networks weigh 100 MB and more, and are slow. For small devices one trains small networks, or "
    "compresses existing ones by pruning, by distillation into a smaller network, or by lowering the bits.",
    source="Said of these networks in general. On compression: Han, Mao and Dally 2016; Hinton, Vinyals and Dean 2015; "
    "Esser et al. 2020 (LSQ); Molchanov et al. 2019 (which channels go); Liu et al. 2019 (Rethinking the value of "
    "network pruning)",
    method="Counted: the weights of networks whose error on ImageNet is printed. Timed in three processes: one image "
    f"at the papers' sizes. Trained: {NETWORK} on CIFAR-10, then pruned and quantized as `convatlas compress` does it. "
    "What is trained after a change is held against the whole network, trained on for as many epochs: otherwise longer "
    "training would hide what the change costs. Differences between a network and what is made of it are taken seed by "
    "seed.",
    limitations="Times are those of one machine, which has no small device's processor. Accuracy is that of one small "
    f"network after {protocol.EPOCHS} epochs; large networks have more to spare. Channels are pruned once, where "
    "several rounds would lose less. Numbers of 4 bits are stored so and computed in 32.",
    minutes_quick=1,
    minutes_full=240,
    statements=(
        Statement(
            id="best-weigh-100",
            text="The best networks weigh 100 MB and more.",
            statistic="of the papers with a network of at most 25 % top-1 error (GoogLeNet: 8 % top-5), those whose "
            "best one weighs 100 MB (10^6 bytes) or more",
            unit="%",
            # More than half: what is said of them is said of most.
            threshold=at_least(51),
            role=Role.COUNT,
            measure=best_weigh,
        ),
        Statement(
            id="all-weigh-100",
            text="No good network weighs less than 100 MB.",
            statistic="weights of the lightest network with at most 25 % top-1 error (GoogLeNet: 8 % top-5)",
            unit="MB",
            threshold=at_least(HEAVY_MB),
            role=Role.COUNT,
            measure=lightest_weighs,
        ),
        Statement(
            id="latency",
            text="Networks that weigh 100 MB and more are slow.",
            statistic="median time for one image of those that weigh 100 MB or more, over that of the lighter ones, "
            f"of {len(TIMED)} well-known networks",
            unit="times",
            threshold=at_least(2.0),
            no_effect=1.0,
            role=Role.PERIPHERAL,
            test_bed=f"one image at the papers' sizes; in turn, in {NUM_PROCESSES} processes",
            measure=latency,
        ),
        Statement(
            id="pruned",
            text="Half of the MACs can be pruned away at little loss.",
            statistic="test error after pruning channels to half of the MACs and 5 epochs minus that of the whole "
            "network after as many",
            unit="points",
            # Little: about a sixth of an error near 12 %.
            threshold=at_most(2.0),
            needs=Budget.STANDARD,
            test_bed=TUNED,
            arms=whole,
            measure=partial(after_tuning, PRUNED),
            max_training_error=MAX_TRAINING_ERROR,
            priority=2,
            minutes=13,
        ),
        Statement(
            id="from-start",
            text="A network trained at half of the MACs from the start is as good as a pruned one.",
            statistic="test error of the network with fewer channels minus that of the pruned one, both after "
            "15 epochs in all",
            unit="points",
            paper="as good or better (Liu et al. 2019, abstract)",
            threshold=at_most(1.0),
            # The text leaves the choice open: either way serves a small device, and the topic rests on neither.
            role=Role.PERIPHERAL,
            needs=Budget.STANDARD,
            test_bed=f"{TUNED}; fewer channels, 15 epochs",
            arms=with_narrow,
            measure=from_start,
            max_training_error=MAX_TRAINING_ERROR,
            priority=2,
            minutes=8,
        ),
        Statement(
            id="eight-bits",
            text="8 bits lose less than half a point.",
            statistic="test error with weights and inputs of layers rounded to 8 bits minus that of the whole network, "
            "without further training",
            unit="points",
            threshold=at_most(0.5),
            needs=Budget.STANDARD,
            test_bed=BED,
            arms=whole,
            measure=eight_bits,
            max_training_error=MAX_TRAINING_ERROR,
            priority=2,
            minutes=1,
        ),
        Statement(
            id="four-bits",
            text="4 bits for each weight lose little.",
            statistic="test error with 4-bit weights after 5 epochs minus that of the whole network after as many",
            unit="points",
            threshold=at_most(1.0),
            needs=Budget.STANDARD,
            test_bed=TUNED,
            arms=whole,
            measure=partial(after_tuning, FOUR_BITS),
            max_training_error=MAX_TRAINING_ERROR,
            priority=2,
            minutes=4,
        ),
        Statement(
            id="taught",
            text="A small network learns more from a large one than alone.",
            statistic="test error of the network with half of the channels alone minus that with the whole network as "
            "its teacher",
            unit="points",
            threshold=at_least(0.0),
            needs=Budget.STANDARD,
            test_bed=f"{BED}; width {STUDENT_WIDTH:g}, {protocol.EPOCHS} epochs",
            arms=with_student,
            measure=taught,
            max_training_error=MAX_STUDENT_TRAINING_ERROR,
            priority=2,
            minutes=8,
        ),
    ),
)
