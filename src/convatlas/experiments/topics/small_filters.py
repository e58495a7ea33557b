"""VGG: depth with 3x3 filters; simple, reliable, slow to train."""

from __future__ import annotations

import statistics
from dataclasses import replace
from functools import partial

from torch import nn

from convatlas import atlas, measure
from convatlas.draw import Bars, Series
from convatlas.experiments.engine import protocol
from convatlas.experiments.engine.answers import Answers
from convatlas.experiments.engine.arms import Arm
from convatlas.experiments.engine.budget import Budget, Setting
from convatlas.experiments.engine.comparison import compare, figures_of
from convatlas.experiments.engine.estimate import counted, timed
from convatlas.experiments.engine.statement import Measurement, Role, Statement, Topic
from convatlas.experiments.engine.timings import NUM_PROCESSES, in_processes
from convatlas.experiments.engine.verdict import Threshold, at_least, exactly
from convatlas.experiments.topics.layers import layers_of
from convatlas.experiments.topics.timed_steps import OF_EACH_FAMILY, training_step
from convatlas.measure.table import build_without_memory
from convatlas.models.memory import release_memory
from convatlas.networks.vgg import A, B, ConvSize, D, VGGSpec
from convatlas.spec import Layers, Scale, Spec
from convatlas.training import Request
from convatlas.training.recipes import DEEP_LR, SMALL_IMAGES

# --- what is counted -------------------------------------------------------------------------------------------------

BOTH = ("vgg16", "vgg19")
CHANNELS = 512
"""Of the layers whose parameters are compared; section 2.3 calls the number C."""


def num_layers(kind: str, setting: Setting) -> Measurement:
    """Layers of a kind in VGG-16 and VGG-19, together and each."""
    nums = {name: len(layers_of(name).of_kind(kind)) for name in BOTH}
    return Measurement(
        estimate=counted(sum(nums.values())), figures=tuple((f"in {name}", str(num)) for name, num in nums.items())
    )


def windows(name: str) -> set[str]:
    """What slides over the images in a network, in words."""
    variant = atlas.find(name)
    layers = list(build_without_memory(variant.network, variant.spec).modules())
    convolutions = {(*one.kernel_size, *one.stride) for one in layers if isinstance(one, nn.Conv2d)}
    poolings = {(one.kernel_size, one.stride) for one in layers if isinstance(one, nn.MaxPool2d)}
    return {f"convolutions of {high}x{wide}, stride {down}x{right}" for high, wide, down, right in convolutions} | {
        f"max pooling of {side}x{side}, stride {stride}x{stride}" for side, stride in poolings
    }


def simple(setting: Setting) -> Measurement:
    found = sorted(windows("vgg16") | windows("vgg19"))
    return Measurement(estimate=counted(len(found)), figures=(("in both together", "; ".join(found)),))


def stack(kernel: int, num: int) -> Layers:
    """`num` convolutions with that kernel in a row, all with CHANNELS input and output channels."""
    variant = atlas.find("vgg16")
    stage = (ConvSize(CHANNELS, kernel),) * num
    spec = VGGSpec(in_channels=CHANNELS, resolution=64, stages=(stage,), fully=(1, 1), num_classes=1)
    return Layers(measure.layers_of(variant.network, spec).of_kind(nn.Conv2d.__name__).rows)


STACKS = {"two 3x3": (3, 2), "one 5x5": (5, 1), "three 3x3": (3, 3), "one 7x7": (7, 1)}
"""(kernel, number of convolutions)"""


def receptive_fields(setting: Setting) -> Measurement:
    """How far the receptive fields of the stacks are from those of the single filters, in pixels."""
    fields = {name: stack(*sizes).rows[-1].receptive_field for name, sizes in STACKS.items()}
    two, five, three, seven = fields.values()
    return Measurement(
        estimate=counted(abs(two - five) + abs(three - seven)),
        figures=tuple((f"receptive field of {name}", f"{pixels} px") for name, pixels in fields.items()),
    )


def parameters(setting: Setting) -> Measurement:
    params = {name: stack(*sizes).params for name, sizes in STACKS.items()}
    two, five, three, seven = params.values()
    chart = Bars(
        name="parameters",
        title="Parameters of filters with equal receptive fields",
        subtitle=f"convolutions with {CHANNELS} input and output channels, counted with biases",
        y="million parameters",
        labels=tuple(params),
        series=(Series("parameters", (), tuple(number / 1e6 for number in params.values())),),
        marks=tuple((f"paper: {times} C²", times * CHANNELS**2 / 1e6) for times in (27, 49)),
    )
    return Measurement(
        estimate=counted(100 * (seven / three - 1)),
        figures=(
            *((f"parameters of {name}", f"{number:,}") for name, number in params.items()),
            ("one 5x5 over two 3x3", f"{100 * (five / two - 1):.1f} % more"),
        ),
        charts=(chart,),
    )


# --- what is trained -------------------------------------------------------------------------------------------------

NARROW = Scale(width=0.1875, resolution=36)
"""At standard. At 36 px one of the five poolings is left out, and the last feature maps have 2x2 places."""
PAPER_WIDTH = Scale(resolution=32)
"""At full."""
DEEP_RECIPE = replace(SMALL_IMAGES, lr=DEEP_LR)
"""The default recipe, at its rate for deep networks without normalization."""
MAX_TRAINING_ERROR = 45.0
"""In percent, on augmented images and with dropout: half of what guessing comes to. Networks of this size that learn
are well below after ten epochs."""


def arm(name: str, setting: Setting, spec: VGGSpec) -> Arm:
    """The network, made narrow and with batch normalization at standard, as the paper has it at full."""
    if setting.full:
        paper = Request(network=name, spec=spec, scale=PAPER_WIDTH, data="cifar10", recipe=DEEP_RECIPE)
        return Arm(request=lambda seed: replace(paper, seed=seed))
    narrow = Request(
        network=f"{name}-bn",
        spec=replace(spec, batch_norm=True),
        scale=NARROW,
        data=protocol.DATA,
        recipe=protocol.recipe(),
        runtime=protocol.RUNTIME,
    )
    return Arm(request=lambda seed: replace(narrow, seed=seed), rates=protocol.RATES)


SHALLOW, DEEP = "A, 11 layers", "D, 16 layers"


def two_depths(setting: Setting) -> dict[str, Arm]:
    return {
        SHALLOW: arm("vgg11", setting, VGGSpec(stages=A)),
        DEEP: arm("vgg16", setting, VGGSpec(stages=D)),
    }


def depth(setting: Setting) -> Measurement:
    return compare(setting.train_arms(two_depths(setting)), {SHALLOW: 1.0, DEEP: -1.0}, MAX_TRAINING_ERROR)


def with_filters(kernel: int, num: int) -> VGGSpec:
    """Network B of Table 1, with `num` such filters in place of each pair of 3x3."""
    return VGGSpec(stages=tuple((ConvSize(stage[-1].channels, kernel),) * num for stage in B))


def two_sizes(small: str, large: str, setting: Setting) -> dict[str, Arm]:
    return {name: arm("vgg13", setting, with_filters(*STACKS[name])) for name in (small, large)}


def accuracy(small: str, large: str, setting: Setting) -> Measurement:
    """The test error with large filters minus that with stacks of 3x3."""
    trained = setting.train_arms(two_sizes(small, large, setting))
    return compare(trained, {large: 1.0, small: -1.0}, MAX_TRAINING_ERROR)


RELIABLE = "VGG-16"
RELIABLE_EPOCHS = 3
RELIABLE_SEEDS = 5
LEARNED = 75.0
"""The training error in percent by which a training has succeeded. One that stalls stays near the 90 % of guessing: the
question is whether the network learns at all, not how much. One epoch with seed 0 came to 74.8 % on average."""


def unnormalized(setting: Setting) -> dict[str, Arm]:
    """VGG-16 as the paper has it, whose depth was a hazard: it was trained from the weights of A (section 3.1)."""
    request = Request(network="vgg16", scale=PAPER_WIDTH, data="cifar10", recipe=DEEP_RECIPE)
    if not setting.full:
        recipe = replace(protocol.recipe(RELIABLE_EPOCHS), lr=DEEP_LR)
        request = replace(request, scale=NARROW, data=protocol.DATA, recipe=recipe, runtime=protocol.RUNTIME)
    return {RELIABLE: Arm(request=lambda seed: replace(request, seed=seed))}


def reliable(setting: Setting) -> Measurement:
    """How many of the trainings of one network, with other seeds, come to anything."""
    trained = setting.train_arms(unnormalized(setting))
    errors = trained[RELIABLE].training_errors
    num_learned = sum(error <= LEARNED for error in errors)
    return Measurement(
        estimate=counted(100 * num_learned / len(errors)),
        figures=(
            ("trainings that succeeded", f"{num_learned} of {len(errors)}"),
            *(
                (f"training error, seed {seed}", f"{error:.1f} %")
                for seed, error in zip(setting.seeds, errors, strict=True)
            ),
            *figures_of(trained, Answers.of(trained)),
        ),
        note="Five of five is no strong evidence: where 4 of 10 trainings fail, it still happens in 8 % of cases.",
    )


# --- what is timed ---------------------------------------------------------------------------------------------------

SIDE, BATCH = 224, 4
REPEATS = 3
FACTOR = 5.0


def at_side(name: str) -> Spec:
    return replace(atlas.find(name).spec.scaled(resolution=SIDE), num_classes=10)


def step_seconds(name: str) -> float:
    """The median duration of a training step of a network."""
    step = training_step(atlas.find(name), at_side(name), BATCH)
    return measure.time_call(step.call, step.engine, repeats=REPEATS).median_s


def each_step_seconds() -> dict[str, float]:
    """The same for each family, one after the other: all networks together take more than 4 GB."""
    seconds = {}
    for name in OF_EACH_FAMILY:
        seconds[name] = step_seconds(name)
        release_memory()
    return seconds


def training_cost(setting: Setting) -> Measurement:
    """The time of a training step of VGG-16 over the median of the other families', in each process."""
    in_each = in_processes(each_step_seconds)
    others = [statistics.median(time for name, time in one.items() if name != "vgg16") for one in in_each]
    image_s = {name: statistics.median(one[name] for one in in_each) / BATCH for name in OF_EACH_FAMILY}
    macs = {name: measure.cost_of(atlas.find(name).network, at_side(name)).macs for name in OF_EACH_FAMILY}
    rank = sorted(image_s, key=image_s.__getitem__, reverse=True).index("vgg16") + 1
    chart = Bars(
        name="training-cost",
        title=f"A training step at {SIDE} px",
        subtitle=f"one network of each family, batches of {BATCH}, medians of {len(in_each)} processes",
        y="seconds per image",
        labels=OF_EACH_FAMILY,
        series=(Series("time", (), tuple(image_s.values())),),
        marks=((f"{FACTOR:g} times the median of the others", FACTOR * statistics.median(others) / BATCH),),
    )
    return Measurement(
        estimate=timed([one["vgg16"] / other for one, other in zip(in_each, others, strict=True)]),
        figures=tuple(
            (name, f"{image_s[name]:.3g} s per image, {macs[name] / 1e6:,.0f} million MACs") for name in OF_EACH_FAMILY
        ),
        charts=(chart,),
        note=f"Rank of VGG-16 among the {len(image_s)} networks, slowest first: {rank}.",
    )


BED = f"{protocol.IMAGES}; {NARROW.width:g} of the width, {NARROW.resolution} px"

TOPIC = Topic(
    id="small-filters",
    title="VGG: depth with 3x3 filters; simple, reliable, slow to train",
    summary="16 and 19 layers with nothing but 3x3 filters: a stack of them has the receptive field of a larger filter "
    "with fewer parameters, and is more accurate. The price is the time to train.",
    source="Simonyan and Zisserman 2014, sections 2.1, 2.3, 3.1 and 4.1, Tables 1 and 3",
    method="Layers, receptive fields and parameters are counted from built networks. Trained: the networks A and D of "
    f"Table 1, and B against the same with a 5x5 filter in place of each pair of 3x3. Standard: {NARROW.width:g} of "
    f"their width, batch normalization, CIFAR-10 at {NARROW.resolution} px, {protocol.EPOCHS} epochs, each with the "
    f"learning rate that is best for it; full: as the paper has them, at {PAPER_WIDTH.resolution} px. For reliability, "
    "VGG-16 without batch normalization, with the default recipe and rate. Timed: a training step of one network of "
    f"each family at {SIDE} px, in several processes.",
    limitations="The paper compared on ImageNet, without batch normalization. "
    "Five seeds show that a training is no matter of luck, not that it never fails. "
    f"Times are those of one machine, with batches of {BATCH}, where updating many weights weighs more than with the "
    "paper's 256.",
    minutes_quick=1.5,
    minutes_full=120,
    statements=(
        Statement(
            id="convolutions",
            text="VGG-16 has 13 convolutional layers, VGG-19 has 16.",
            statistic="convolutional layers of both together",
            paper="13 and 16 (Table 1)",
            threshold=exactly(29),
            role=Role.COUNT,
            measure=partial(num_layers, nn.Conv2d.__name__),
        ),
        Statement(
            id="fully-connected",
            text="Both have 3 fully connected layers.",
            statistic="fully connected layers of both together",
            paper="3 (Table 1)",
            threshold=exactly(6),
            role=Role.COUNT,
            measure=partial(num_layers, nn.Linear.__name__),
        ),
        Statement(
            id="simple",
            text="VGG is simple: one kind of convolution, one kind of pooling.",
            statistic="kernel sizes and strides of the convolutions and poolings of VGG-16 and VGG-19, how many differ",
            paper="3x3 with stride 1, 2x2 with stride 2 (section 2.1)",
            threshold=exactly(2),
            role=Role.COUNT,
            measure=simple,
        ),
        Statement(
            id="receptive-field",
            text="Two 3x3 filters have the receptive field of one 5x5 filter, three that of one 7x7.",
            statistic="pixels by which their receptive fields differ",
            paper="the same (section 2.3)",
            threshold=exactly(0),
            role=Role.COUNT,
            measure=receptive_fields,
        ),
        Statement(
            id="parameters",
            text="One 7x7 filter has 81 % more parameters than three 3x3 filters.",
            statistic=f"how many more parameters one 7x7 has than three 3x3, {CHANNELS} channels, with biases",
            unit="%",
            paper="81 % (section 2.3)",
            # Section 2.3 counts no biases; they are less than half a point.
            threshold=Threshold(81, 82),
            role=Role.COUNT,
            measure=parameters,
        ),
        Statement(
            id="depth",
            text="Depth helps: 16 layers are more accurate than 11.",
            statistic="test error of A minus that of D",
            unit="points",
            paper="2.6 points (Table 3, ImageNet top-1)",
            threshold=at_least(0.0),
            needs=Budget.STANDARD,
            test_bed=f"{BED}; vgg11-bn, vgg16-bn, {protocol.EPOCHS} epochs",
            arms=two_depths,
            measure=depth,
            max_training_error=MAX_TRAINING_ERROR,
            minutes=34,
        ),
        Statement(
            id="accuracy",
            text="Pairs of 3x3 filters are more accurate than single 5x5 filters.",
            statistic="test error of B with 5x5 minus that of B",
            unit="points",
            paper="7 points (section 4.1, ImageNet top-1)",
            threshold=at_least(0.0),
            needs=Budget.STANDARD,
            test_bed=f"{BED}; vgg13-bn, and with 5x5, {protocol.EPOCHS} epochs",
            arms=partial(two_sizes, "two 3x3", "one 5x5"),
            measure=partial(accuracy, "two 3x3", "one 5x5"),
            max_training_error=MAX_TRAINING_ERROR,
            minutes=26,
        ),
        Statement(
            id="accuracy-7x7",
            text="Three 3x3 filters are more accurate than single 7x7 filters.",
            statistic="test error with 7x7 minus that with three 3x3",
            unit="points",
            threshold=at_least(0.0),
            # The paper argues for it (section 2.3), and did not measure it.
            role=Role.PERIPHERAL,
            needs=Budget.FULL,
            test_bed="CIFAR-10 at the paper's widths; vgg13 with other filters",
            arms=partial(two_sizes, "three 3x3", "one 7x7"),
            measure=partial(accuracy, "three 3x3", "one 7x7"),
            max_training_error=MAX_TRAINING_ERROR,
        ),
        Statement(
            id="reliable",
            text="VGG is reliable: it trains with any seed, at the first choice of the recipe.",
            statistic=f"how many trainings come to a training error of {LEARNED:g} % at most",
            unit="%",
            threshold=exactly(100),
            # The paper does not say it, and five of five is no strong evidence.
            role=Role.PERIPHERAL,
            needs=Budget.STANDARD,
            test_bed=f"{BED}; vgg16 without batch normalization, {RELIABLE_EPOCHS} epochs, {RELIABLE_SEEDS} seeds",
            arms=unnormalized,
            measure=reliable,
            num_seeds=RELIABLE_SEEDS,
            priority=3,
            minutes=15,
        ),
        Statement(
            id="training-cost",
            text="VGG is slow to train.",
            statistic="time of a training step of VGG-16 over the median of the other seven families, "
            f"{SIDE} px, batches of {BATCH}",
            unit="times",
            paper="2 to 3 weeks on four GPUs (section 3.3)",
            # It has 8 to 40 times the MACs of the others, LeNet excepted; some of these compute more slowly per MAC.
            threshold=at_least(FACTOR),
            test_bed=f"images of {SIDE} px, {BATCH} at once; in turn, in {NUM_PROCESSES} processes",
            measure=training_cost,
        ),
    ),
)
