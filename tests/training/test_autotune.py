"""The fastest way to compute a step is measured where that pays, and measuring changes nothing else."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import convatlas as ca
from convatlas.data.batches import Batch
from convatlas.models.device import computes_bfloat16
from convatlas.networks.blocks import CrossEntropy
from convatlas.runs.options import Execution
from convatlas.spec import Scale
from convatlas.training import Request
from convatlas.training.autotune import COMPILING_S, Autotuner, available_threads
from convatlas.training.distribution import Processes
from convatlas.training.plan import plan
from convatlas.training.step import Step, StepResult, to_memory_format

PLAIN = Execution(threads=1)
LONG = 10**9
"""Steps of a training that is worth tuning."""


@dataclass
class Tiny:
    """Builds tiny networks and counts them."""

    built: list[nn.Module] = field(default_factory=list)

    def __call__(self) -> tuple[nn.Module, torch.optim.Optimizer]:
        network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Dropout(), nn.Flatten(), nn.LazyLinear(3)).train()
        network(torch.rand(2, 1, 8, 8))
        self.built.append(network)
        return network, torch.optim.SGD(network.parameters(), lr=0.1)


def batch_of(num: int, side: int = 8, channels: int = 1, num_classes: int = 3) -> Batch:
    inputs = torch.randn(num, channels, side, side, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(num) % num_classes
    inputs = inputs.contiguous(memory_format=torch.channels_last)
    return Batch(inputs, F.one_hot(labels, num_classes).float(), labels, torch.arange(num), num)


@pytest.fixture
def tuner() -> Autotuner:
    return Autotuner(Tiny(), CrossEntropy(), batch_of(6))


def test_a_short_training_is_not_tuned(tuner: Autotuner) -> None:
    assert tuner.choose(PLAIN, 1) == (PLAIN, "")
    # Except for the steps that show that it is short.
    assert isinstance(tuner.build, Tiny)
    assert len(tuner.build.built) == 1


def choose_without_compiling(tuner: Autotuner, plain: Execution = PLAIN) -> tuple[Execution, str]:
    """The choice for a training long enough to measure and too short for compiling, on a busy machine too."""
    num_steps = int(200 / tuner.seconds(plain, 1.0))
    return tuner.choose(plain, num_steps)


def test_a_long_training_gets_the_fastest_execution_and_a_line_that_names_each_one_tried(tuner: Autotuner) -> None:
    plain = Execution(threads=4)
    chosen, line = choose_without_compiling(tuner, plain)
    measured, _, choice = line.partition("; chosen: ")
    assert choice == chosen.describe()
    assert re.fullmatch(r"plain \d+(, [\w ]+ \d+)* ms per step", measured), measured
    names = [part.rpartition(" ")[0] for part in measured.removesuffix(" ms per step").split(", ")]
    expected = ["plain", *(["bfloat16"] if computes_bfloat16("cpu") else []), "contiguous", "2 threads"]
    assert names == expected
    assert chosen.threads in (2, 4)
    assert not chosen.compiled


def test_one_thread_is_not_halved(tuner: Autotuner) -> None:
    assert [name for name, _ in tuner.changes(PLAIN, 50.0)] in (["bfloat16", "contiguous"], ["contiguous"])


def test_compiling_is_tried_where_it_pays_off(tuner: Autotuner) -> None:
    # Where training takes ten times as long as it.
    assert ("compiled", {"compiled": True}) in tuner.changes(PLAIN, 10.1 * COMPILING_S)
    assert ("compiled", {"compiled": True}) not in tuner.changes(PLAIN, 9.9 * COMPILING_S)


def test_each_candidate_changes_one_field_of_the_execution(tuner: Autotuner) -> None:
    for _, change in tuner.changes(Execution(threads=8), 1e6):
        [(name, value)] = change.items()
        assert getattr(Execution(threads=8), name) != value


@pytest.mark.parametrize("threads", [1, 2])
def test_measuring_leaves_the_callers_threads_and_random_numbers_alone(threads: int, tuner: Autotuner) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        torch.manual_seed(3)
        expected = torch.rand(3)
        torch.manual_seed(3)
        choose_without_compiling(tuner, Execution(threads=3))
        assert torch.get_num_threads() == threads
        assert torch.equal(torch.rand(3), expected)
    finally:
        torch.set_num_threads(before)


def test_an_execution_that_fails_leaves_the_callers_threads_alone() -> None:
    class Refuses(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("no memory")

    def build() -> tuple[nn.Module, torch.optim.Optimizer]:
        return Refuses(), torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1)

    threads = torch.get_num_threads()
    with pytest.raises(RuntimeError, match="no memory"):
        Autotuner(build, CrossEntropy(), batch_of(2)).choose(Execution(threads=threads + 1), LONG)
    assert torch.get_num_threads() == threads


def test_measuring_trains_nothing(tuner: Autotuner) -> None:
    assert isinstance(tuner.build, Tiny)
    inputs = tuner.batch.inputs.clone()
    choose_without_compiling(tuner)
    # Each execution is timed on a new network, and the batch is unchanged.
    assert len(tuner.build.built) >= 3
    assert torch.equal(tuner.batch.inputs, inputs)


@pytest.mark.skipif(computes_bfloat16("cpu"), reason="this processor has instructions for bfloat16")
def test_a_processor_without_bfloat16_does_not_try_it(tuner: Autotuner) -> None:
    assert "bfloat16" not in [name for name, _ in tuner.changes(PLAIN, 1e6)]
    _, line = choose_without_compiling(tuner)
    assert "bfloat16" not in line


@pytest.mark.skipif(not computes_bfloat16("cpu"), reason="this processor has no instructions for bfloat16")
def test_a_processor_with_bfloat16_tries_it_first(tuner: Autotuner) -> None:
    assert next(name for name, _ in tuner.changes(PLAIN, 1e6)) == "bfloat16"


def test_an_unknown_device_does_not_try_bfloat16() -> None:
    # On a meta device nothing is computed.
    nowhere = batch_of(2)._replace(inputs=torch.empty(2, 1, 8, 8, device="meta"))
    assert [name for name, _ in Autotuner(Tiny(), CrossEntropy(), nowhere).changes(PLAIN, 1.0)] == ["contiguous"]


def test_processes_on_one_machine_share_its_threads() -> None:
    assert available_threads(1) == torch.get_num_threads()
    assert available_threads(10**6) == 1
    assert available_threads(2) >= available_threads(4) >= 1


# What each execution computes


def one_step(
    name: str, execution: Execution, device: torch.device, depth: float = 1.0
) -> tuple[StepResult, list[Tensor]]:
    """What a step came to, and the gradients."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {} if name.startswith("lenet") else {"width": 0.25, "resolution": 32}
    network = ca.create(name, num_classes=3, depth=depth, **sizes).train().to(device)
    # Dropout draws in the order of memory, which is what differs.
    network.training = False
    for layer in network.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    spec = network.spec
    step = Step.prepared(
        to_memory_format(network, execution),
        ca.find(name).objective,
        execution,
        class_weights=torch.ones(3, device=device),
        batch_size=6,
    )
    batch = batch_of(6, spec.resolution, spec.in_channels)
    on_device = (batch.inputs.to(device), batch.targets.to(device), batch.labels.to(device))
    torch.manual_seed(1)
    result = step.gradient(Batch(*on_device, batch.indices, batch.global_batch_size))
    return result, [value.grad for value in network.parameters() if value.grad is not None]


def rounding(device: torch.device) -> float:
    """Relative. GPUs convolve with the 10 bits of TF32."""
    return 1e-3 if device.type == "cpu" else 1e-2


@pytest.mark.parametrize(
    "name",
    [
        family.variants[-1].name
        if family.name == "ResNet"
        else pytest.param(family.variants[-1].name, marks=pytest.mark.slow)
        for family in ca.families()
    ],
)
def test_each_execution_computes_nearly_the_same_losses_for_a_network_of_each_family(
    name: str, any_device: torch.device
) -> None:
    plain, _ = one_step(name, PLAIN, any_device)
    tolerances = {replace(PLAIN, channels_last=False): rounding(any_device), replace(PLAIN, bfloat16=True): 0.15}
    for execution, tolerance in tolerances.items():
        other, gradients = one_step(name, execution, any_device)
        assert other.is_finite
        # Weights and their gradients stay in single precision.
        assert {other.losses.dtype, *(value.dtype for value in gradients)} == {torch.float32}
        assert (other.losses - plain.losses).abs().max() <= tolerance * plain.losses.abs().max()
    # Proves that bfloat16 is not the plain execution under another name.
    assert not torch.equal(other.losses, plain.losses)


@pytest.mark.slow
# Of PyTorch's own compiler, about itself.
@pytest.mark.filterwarnings("default")
def test_a_compiled_step_has_the_losses_and_gradients_of_the_eager_one(any_device: torch.device) -> None:
    # One unit a stage has every kind of layer, and compiles in a third of the time.
    eager, expected = one_step("resnet20-cifar", PLAIN, any_device, depth=0.34)
    compiled, gradients = one_step("resnet20-cifar", replace(PLAIN, compiled=True), any_device, depth=0.34)
    tolerance = rounding(any_device)
    assert (compiled.losses - eager.losses).abs().max() <= tolerance * eager.losses.abs().max()
    for one, other in zip(gradients, expected, strict=True):
        assert (one - other).norm() <= 10 * tolerance * other.norm()
    # Proves that it was compiled.
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0


@pytest.mark.parametrize(
    ("network", "width", "supported"), [("resnet18", 1.0, True), ("resnet18", 0.125, False), ("vgg11", 0.05, True)]
)
def test_narrow_strided_shortcuts_do_not_support_channels_last(network: str, width: float, supported: bool) -> None:
    planned = plan(Request(network=network, scale=Scale(width=width, resolution=64)), Processes())
    assert planned.record.execution.channels_last == supported
