"""VGG: depth with 3x3 filters; simple, reliable, slow to train."""

from __future__ import annotations

import statistics
from dataclasses import replace
from functools import partial

from torch import nn

from convatlas import atlas, measure
from convatlas.draw import Bars, Series
from convatlas.experiments.engine.accuracy import differences, errors_of, undertrained
from convatlas.experiments.engine.budget import Setting
from convatlas.experiments.engine.statement import Statement, Topic
from convatlas.experiments.engine.verdict import Measurement, Threshold, at_least, exactly
from convatlas.experiments.topics.timed_steps import OF_EACH_FAMILY, training_step
from convatlas.networks.vgg import ConvSize, Stages, VGGSpec
from convatlas.runs.options import Runtime
from convatlas.spec import Layers
from convatlas.training import Request

CHANNELS = 512
"""Of the layers whose parameters are compared; section 2.3 calls the number C."""
MIN_GAIN = 0.1
"""Points of test error that must be gained to count."""
QUICK_CHANNELS = (8, 16)
"""Of the two stages of the networks that the quick budget trains."""
QUICK_EPOCHS, QUICK_BATCH = 10, 32
LR = 1e-3
"""The default for deep networks without normalization, here for all: those with fewer layers would have another."""


def layers_of(name: str) -> Layers:
    variant = atlas.find(name)
    return measure.layers_of(variant.network, variant.spec)


def num_layers(kind: str) -> Measurement:
    """Layers of a kind in VGG-16 and VGG-19, together and each."""
    nums = {name: len(layers_of(name).of_kind(kind)) for name in ("vgg16", "vgg19")}
    return Measurement(
        values=(sum(nums.values()),), figures=tuple((f"in {name}", str(num)) for name, num in nums.items())
    )


def convolutions(setting: Setting) -> Measurement:
    return num_layers(nn.Conv2d.__name__)


def fully_connected(setting: Setting) -> Measurement:
    return num_layers(nn.Linear.__name__)


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
        values=(abs(two - five) + abs(three - seven),),
        figures=tuple((f"receptive field of {name}", f"{pixels} px") for name, pixels in fields.items()),
    )


def parameters(setting: Setting) -> Measurement:
    params = {name: stack(*sizes).params for name, sizes in STACKS.items()}
    two, five, three, seven = params.values()
    chart = Bars(
        name="parameters",
        title=f"Parameters of filters with equal receptive fields, {CHANNELS} channels",
        y="million parameters",
        labels=tuple(params),
        series=(Series("parameters", (), tuple(number / 1e6 for number in params.values())),),
    )
    return Measurement(
        values=(100 * (seven / three - 1),),
        figures=(
            *((f"parameters of {name}", f"{number:,}") for name, number in params.items()),
            ("one 5x5 over two 3x3", f"{100 * (five / two - 1):.1f} % more"),
        ),
        charts=(chart,),
    )


def stages_of(setting: Setting, kernel: int, num: int) -> Stages:
    """Network B of Table 1, with `num` such filters in place of each pair of 3x3."""
    channels = QUICK_CHANNELS if setting.quick else (64, 128, 256, 512, 512)
    return tuple((ConvSize(out_channels, kernel),) * num for out_channels in channels)


def request(setting: Setting, kernel: int, num: int, seed: int) -> Request:
    spec = VGGSpec(
        stages=stages_of(setting, kernel, num),
        resolution=32,
        fully=(64, 64) if setting.quick else (4096, 4096),
    )
    full = Request(network="vgg13", spec=spec, data="cifar10", seed=seed, lr=LR)
    if not setting.quick:
        return full
    return replace(full, data="digits", epochs=QUICK_EPOCHS, batch_size=QUICK_BATCH, runtime=Runtime(autotune=False))


def accuracy(small: str, large: str, setting: Setting) -> Measurement:
    """The test error with large filters minus that with stacks of 3x3."""
    runs = setting.train_seeds({name: partial(request, setting, *STACKS[name]) for name in (small, large)})
    return Measurement(
        values=differences(errors_of(runs[large]), errors_of(runs[small])),
        figures=tuple(
            (f"test error, {name}", f"{statistics.fmean(errors_of(each)):.2f} %") for name, each in runs.items()
        ),
        inconclusive=undertrained(runs),
    )


SIDE, BATCH = 64, 8
REPEATS = 7


def training_cost(setting: Setting) -> Measurement:
    """The time of a training step of VGG-16 over the median of the other families', for each round."""
    specs = {name: replace(atlas.find(name).spec.scaled(resolution=SIDE), num_classes=10) for name in OF_EACH_FAMILY}
    steps = {name: training_step(atlas.find(name), spec, BATCH) for name, spec in specs.items()}
    timings = measure.time_in_turn(steps, repeats=REPEATS)
    durations_s = {name: timing.durations_s for name, timing in timings.items()}
    vgg = durations_s["vgg16"]
    rounds = zip(*(each for name, each in durations_s.items() if name != "vgg16"), strict=True)
    others = [statistics.median(of_round) for of_round in rounds]
    image_ms = {name: timings[name].median_ms / BATCH for name in OF_EACH_FAMILY}
    macs = {name: measure.cost_of(atlas.find(name).network, spec).macs for name, spec in specs.items()}
    chart = Bars(
        name="training-cost",
        title=f"A training step at {SIDE} px, batch size {BATCH}",
        y="milliseconds per image",
        labels=OF_EACH_FAMILY,
        series=(Series("time", (), tuple(image_ms.values())),),
    )
    rank = sorted(image_ms, key=image_ms.__getitem__, reverse=True).index("vgg16") + 1
    return Measurement(
        values=tuple(one / other for one, other in zip(vgg, others, strict=True)),
        figures=(
            *(
                (name, f"{image_ms[name]:.3g} ms per image, {macs[name] / 1e6:,.0f} million MACs")
                for name in OF_EACH_FAMILY
            ),
            ("engine", timings["vgg16"].engine),
        ),
        charts=(chart,),
        note=f"Rank of VGG-16 among the {len(image_ms)} networks, slowest first: {rank}.",
    )


TOPIC = Topic(
    id="small-filters",
    title="VGG: depth with 3x3 filters; simple, reliable, slow to train",
    summary="16 and 19 layers with nothing but 3x3 filters: a stack of them has the receptive field of a larger filter "
    "with fewer parameters, and is more accurate. The price is the time to train.",
    source="Simonyan and Zisserman 2014, sections 2.1, 2.3, 3.1 and 4.1, Table 1",
    method="Layers, receptive fields and parameters are counted from built networks. Trained: stacks of 3x3 against "
    "single filters with the same receptive field, as the paper did with the pairs of its network B; quick: two narrow "
    f"stages, {QUICK_EPOCHS} epochs of digits; full: the paper's width on CIFAR-10. A training step at {SIDE} px of "
    "one network of each family, timed in turn.",
    limitations="The paper compared on ImageNet, with five stages; digits of 8x8 pixels have little detail that a "
    "larger filter could miss. Times are those of one machine.",
    minutes=(1, 20),
    statements=(
        Statement(
            id="convolutions",
            text="VGG-16 has 13 convolutional layers, VGG-19 has 16.",
            statistic="convolutional layers of both together",
            threshold=exactly(29),
            measure=convolutions,
        ),
        Statement(
            id="fully-connected",
            text="Both have 3 fully connected layers.",
            statistic="fully connected layers of both together",
            threshold=exactly(6),
            measure=fully_connected,
        ),
        Statement(
            id="receptive-field",
            text="Two 3x3 filters have the receptive field of one 5x5 filter, three that of one 7x7.",
            statistic="pixels by which their receptive fields differ",
            threshold=exactly(0),
            measure=receptive_fields,
        ),
        Statement(
            id="parameters",
            text="One 7x7 filter has 81 % more parameters than three 3x3 filters.",
            statistic=f"how many more parameters one 7x7 has than three 3x3, in percent, {CHANNELS} channels, with "
            "biases",
            # Section 2.3 counts no biases; they are less than half a point.
            threshold=Threshold(81, 82),
            measure=parameters,
        ),
        Statement(
            id="accuracy",
            text="Pairs of 3x3 filters are more accurate than single 5x5 filters.",
            statistic="test error with 5x5 minus that with pairs of 3x3, in points",
            # The paper's difference is 7 points.
            threshold=at_least(MIN_GAIN),
            measure=partial(accuracy, "two 3x3", "one 5x5"),
        ),
        Statement(
            id="accuracy-7x7",
            text="Three 3x3 filters are more accurate than single 7x7 filters.",
            statistic="test error with 7x7 minus that with three 3x3, in points",
            # The paper did not measure it.
            threshold=at_least(MIN_GAIN),
            measure=partial(accuracy, "three 3x3", "one 7x7"),
        ),
        Statement(
            id="training-cost",
            text="VGG is slow to train.",
            statistic="time of a training step of VGG-16 over the median of the other seven families",
            # It has 5 to 50 times their MACs at the papers' own sizes.
            threshold=at_least(3.0),
            measure=training_cost,
        ),
    ),
)
