"""AlexNet: eight layers, over 60 million parameters, two GPUs, and what made it learn."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convatlas import measure
from convatlas.experiments.engine.budget import Setting
from convatlas.experiments.engine.distributed_pair import run_on_pair
from convatlas.experiments.engine.estimate import counted
from convatlas.experiments.engine.statement import Measurement, Role, Statement, Topic
from convatlas.experiments.engine.verdict import at_least, at_most, exactly
from convatlas.experiments.topics import alexnet_components
from convatlas.experiments.topics.alexnet_components import paper
from convatlas.experiments.topics.towers import TOWERS, TowerTask, rows_of, step
from convatlas.networks.alexnet import AlexNet
from convatlas.spec import Layers

NUM_IMAGES = 2
"""For the comparison of one process with two."""


def layers() -> Layers:
    return measure.layers_of(AlexNet, paper())


def convolutions(setting: Setting) -> Measurement:
    return Measurement(estimate=counted(len(layers().of_kind(nn.Conv2d.__name__))))


def fully_connected(setting: Setting) -> Measurement:
    return Measurement(estimate=counted(len(layers().of_kind(nn.Linear.__name__))))


def parameters(setting: Setting) -> Measurement:
    rows = [(row.name, f"{row.params:,}") for row in layers() if row.params]
    return Measurement(estimate=counted(layers().params), figures=tuple(rows))


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
        estimate=counted(max(of_outputs, of_gradients)),
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
        estimate=counted(forward_bytes - 4 * sum(exchanged.values())),
        figures=(
            *((f"read from the other tower by {name}", f"{num:,} values per image") for name, num in exchanged.items()),
            ("bytes per image, forward", f"{forward_bytes:,.0f}"),
            ("bytes per image, training step", f"{step_bytes:,.0f}"),
        ),
        note=f"Each of the {TOWERS} processes sends half of the bytes.",
    )


# --- days ------------------------------------------------------------------------------------------------------------

NUM_PASSES, NUM_TRAINING_IMAGES, NUM_GPUS = 90, 1_200_000, 2
"""Section 5."""
GTX_580_FLOPS = 512 * 1.544e9 * 2
"""Operations a second in single precision at the peak: 512 cores at 1,544 MHz, a fused multiply-add each (Nvidia's
specification of the GeForce GTX 580)."""
PASSES_OF_A_STEP = 3
"""Forward, the gradient of the inputs, and that of the weights take as many MACs each."""
SECONDS_PER_DAY = 86_400


def days(setting: Setting) -> Measurement:
    """Of arithmetic alone."""
    operations = 2 * PASSES_OF_A_STEP * layers().macs * NUM_PASSES * NUM_TRAINING_IMAGES
    at_peak = operations / (NUM_GPUS * GTX_580_FLOPS) / SECONDS_PER_DAY
    return Measurement(
        estimate=counted(at_peak),
        figures=(
            ("operations, a MAC is two", f"{operations:.3g}"),
            ("peak of both GPUs", f"{NUM_GPUS * GTX_580_FLOPS / 1e12:.2f} TFLOPS"),
            *((f"part of the peak that {num} days would be", f"{100 * at_peak / num:.0f} %") for num in PAPER_DAYS),
        ),
        note="Arithmetic at the peak is a lower bound: memory, traffic between the GPUs, response normalization, "
        "pooling and augmentation come on top.",
    )


PAPER_DAYS = (5, 6)
"""Section 5."""


TOPIC = Topic(
    id="two-towers",
    title="AlexNet: eight layers, 60 million parameters, two GPUs",
    summary="Five convolutional and three fully connected layers with 60 million parameters, in two towers on two GPUs "
    "that communicate only in certain layers. The network learns several times faster with ReLU than with tanh, and "
    "dropout keeps it from overfitting; response normalization and overlapping pooling lower its test error.",
    source="Krizhevsky, Sutskever and Hinton 2012, abstract, sections 3.1 to 3.5, 4.2 and 5, Figures 1 and 2",
    method="Layers and parameters are counted. The whole network at 227 px is computed once in one process and once in "
    "two (gloo), each with half of the kernels and no traffic but the paper's. Outputs and gradients are compared in "
    "double precision, bytes are counted in single precision. Trained on CIFAR-10: the four layers of Figure 1 with "
    "ReLU and with tanh, by stochastic gradient with momentum and without regularization, until the training error is "
    "25 %, each at the learning rate of four with which it is fastest; a narrow AlexNet on few images with and without "
    "dropout; the four layers with and without response normalization. In full, AlexNet itself on CIFAR-10, by AdamW.",
    limitations="The paper measured dropout, response normalization and overlapping pooling on ImageNet. It does not "
    "print the four layers of Figure 1; here they are those of the author's published code, with initial weights that "
    "suit each activation. In full, the biases of 1 that give AlexNet's ReLUs positive inputs at first (section 5) are "
    "left out with tanh, which they would saturate: the two networks also differ in this.",
    minutes_quick=1,
    # 24 trainings of 60 epochs are 2.25 million steps, some milliseconds each.
    minutes_full=240,
    statements=(
        *alexnet_components.STATEMENTS,
        Statement(
            id="convolutions",
            text="Five layers are convolutional.",
            statistic="convolutional layers",
            paper="5 (section 3.5)",
            threshold=exactly(5),
            role=Role.COUNT,
            measure=convolutions,
        ),
        Statement(
            id="fully-connected",
            text="Three layers are fully connected.",
            statistic="fully connected layers",
            paper="3 (section 3.5)",
            threshold=exactly(3),
            role=Role.COUNT,
            measure=fully_connected,
        ),
        Statement(
            id="parameters",
            text="The network has over 60 million parameters.",
            statistic="trainable parameters",
            paper="60 million (abstract)",
            threshold=at_least(60_000_000),
            role=Role.COUNT,
            measure=parameters,
        ),
        Statement(
            id="two-processes",
            text="Two processes with one tower each compute the same network.",
            statistic="largest relative difference of outputs and gradients from one process",
            threshold=at_most(1e-6),
            role=Role.COUNT,
            measure=two_processes,
        ),
        Statement(
            id="traffic",
            text="They exchange what convolution 3, the fully connected layers and the outputs need, and no more.",
            statistic="bytes sent per image, forward, minus those that the layer table asks for",
            threshold=exactly(0),
            role=Role.COUNT,
            measure=traffic,
        ),
        Statement(
            id="days",
            text="Five to six days are enough: 90 passes over 1.2 million images take two GTX 580s fewer days at their "
            "peak.",
            statistic="arithmetic of 90 passes forward and backward over the peak of two GTX 580s",
            unit="days",
            paper="five to six days (section 5)",
            threshold=at_most(PAPER_DAYS[0]),
            role=Role.COUNT,
            measure=days,
        ),
    ),
)
