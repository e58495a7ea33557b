"""AlexNet: two real processes against one, and statistics of known results."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from convatlas.experiments import Budget, Statement
from convatlas.experiments.engine.budget import Setting
from convatlas.experiments.engine.distributed_pair import device_of, run_on_pair
from convatlas.experiments.engine.statement import Role
from convatlas.experiments.engine.verdict import State, state_of
from convatlas.experiments.topics.towers import TOWERS, TowerResult, TowerTask, rows_of, step
from convatlas.experiments.topics.two_towers import TOPIC, exchanged_values, relative_difference
from convatlas.networks.alexnet import AlexNet, AlexNetSpec


def setting(folder: Path) -> Setting:
    return Setting(budget=Budget.QUICK, seeds=(0, 1, 2), folder=folder)


def statement(name: str) -> Statement:
    return next(one for one in TOPIC.statements if one.id == name)


@pytest.mark.parametrize(("name", "value"), [("convolutions", 5), ("fully-connected", 3), ("parameters", 60_965_224)])
def test_counted_statements(name: str, value: int, tmp_path: Path) -> None:
    one = statement(name)
    found = one.measure(setting(tmp_path))
    assert one.role is Role.COUNT
    assert state_of(found.estimate, one.threshold, no_effect=None, p_value=1.0) is State.CONFIRMED
    assert found.estimate.center == value


# --- two processes -----------------------------------------------------------------------------------------------

# Four maps of a tower at the least, so that neighbors of a response normalization could reach into the other's.
NARROW = AlexNetSpec(
    resolution=67, num_classes=6, convolutions=(8, 12, 16, 16, 12), fully=(20, 28), towers=2, padding=0, lrn=True,
    dropout=0.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def network() -> AlexNet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = AlexNet(NARROW).double()
        for value in network.parameters():
            # Away from where it begins, where a narrow network gives next to nothing.
            torch.nn.init.normal_(value, std=0.2)
    return network


@pytest.fixture(scope="module")
def task(network: AlexNet) -> TowerTask:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(3, 3, 67, 67, generator=generator, dtype=torch.double)
    return TowerTask(NARROW, network.state_dict(), images, torch.tensor([0, 3, 5]))


@pytest.fixture(scope="module")
def answers(task: TowerTask) -> list[TowerResult]:
    return run_on_pair(step, task)


@pytest.mark.slow
def test_two_processes_give_the_outputs_of_one(network: AlexNet, task: TowerTask, answers: list[TowerResult]) -> None:
    outputs = network(task.images)
    assert outputs.std() > 0.1
    for answer in answers:
        torch.testing.assert_close(answer.outputs, outputs.detach(), rtol=1e-12, atol=1e-12)


@pytest.mark.slow
def test_each_process_has_its_half_of_every_gradient(
    network: AlexNet, task: TowerTask, answers: list[TowerResult]
) -> None:
    names, values = zip(*network.named_parameters(), strict=True)
    gradients = torch.autograd.grad(F.cross_entropy(network(task.images), task.labels), values)
    for rank, answer in enumerate(answers):
        assert answer.gradients.keys() == set(names)
        for name, gradient in zip(names, gradients, strict=True):
            own = rows_of(gradient, rank)
            assert own.abs().max() > 0
            assert relative_difference(answer.gradients[name], own) < 1e-12, name


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < TOWERS, reason="each tower needs a GPU of its own")
def test_a_tower_on_each_gpu_computes_the_network_of_one_process(
    network: AlexNet, task: TowerTask, answers: list[TowerResult]
) -> None:
    assert [device_of(rank) for rank in range(TOWERS)] == [torch.device("cuda", rank) for rank in range(TOWERS)]
    test_two_processes_give_the_outputs_of_one(network, task, answers)
    test_each_process_has_its_half_of_every_gradient(network, task, answers)


def test_the_traffic_is_what_the_layers_read_from_the_other_tower(task: TowerTask, answers: list[TowerResult]) -> None:
    # Of 67 px the first convolution, at a stride of 2, makes 34, and the poolings make 16, 7 and 3.
    side2, side5 = 7, 3
    forward = 12 * side2**2 + 12 * side5**2 + 20 + 28 + 6
    for answer in answers:
        assert answer.forward_bytes * TOWERS == forward * len(task.images) * 8
        # The gradients go back the way that the values came.
        assert answer.step_bytes == 2 * answer.forward_bytes


def test_the_paper_asks_for_three_pooled_layers_and_the_hidden_units() -> None:
    # After the second pooling 13 x 13 x 256, after the last 6 x 6 x 256.
    assert exchanged_values() == {
        "conv3.conv": 13 * 13 * 256, "fc6": 6 * 6 * 256, "fc7": 4096, "fc8": 4096, "outputs": 1000,
    }  # fmt: skip


def test_a_difference_is_relative_to_the_largest_value() -> None:
    theirs = torch.tensor([1.0, -4.0])
    assert relative_difference(theirs, theirs) == 0
    assert relative_difference(theirs + torch.tensor([0.0, 2.0]), theirs) == 0.5


# --- days --------------------------------------------------------------------------------------------------------


def test_the_days_at_the_peak_are_those_of_the_arithmetic(tmp_path: Path) -> None:
    one = statement("days")
    found = one.measure(setting(tmp_path))
    # 6 operations for each of 724,406,816 MACs, 108 million images, two times 1.581 TFLOPS.
    seconds = 6 * 724_406_816 * 108e6 / (2 * 1.581e12)
    assert found.estimate.center == pytest.approx(seconds / 86_400, rel=1e-3)
    assert dict(found.figures)["part of the peak that 5 days would be"] == "34 %"
