"""What is timed does what its name says."""

from __future__ import annotations

import pytest
import torch

from convatlas import atlas
from convatlas.experiments.topics import timed_steps
from convatlas.experiments.topics.timed_steps import OF_EACH_FAMILY, inference, training_step
from convatlas.networks.lenet import LeNet
from convatlas.spec import Spec

VARIANT = atlas.find("lenet5-modern")


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[LeNet]:
    """The networks that are built to be timed."""
    networks: list[LeNet] = []

    def kept(network: LeNet, execution: object) -> LeNet:
        networks.append(network)
        return network

    monkeypatch.setattr(timed_steps, "to_memory_format", kept)
    return networks


def state(network: LeNet) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in network.named_parameters()}


def test_an_inference_changes_nothing(built: list[LeNet]) -> None:
    workload = inference(VARIANT, VARIANT.spec, 2)
    (network,) = built
    before = state(network)
    workload.call()
    assert not network.training
    assert all(torch.equal(value, before[name]) for name, value in network.named_parameters())
    assert workload.engine.startswith("PyTorch")


def test_a_training_step_changes_every_weight_a_little(built: list[LeNet]) -> None:
    workload = training_step(VARIANT, VARIANT.spec, 3)
    (network,) = built
    before = state(network)
    workload.call()
    assert network.training
    for name, value in network.named_parameters():
        assert 0 < (value - before[name]).abs().max() < 1e-4, name


def test_there_is_a_network_of_each_family() -> None:
    spec_types: list[type[Spec]] = [type(atlas.find(name).spec) for name in OF_EACH_FAMILY]
    assert len(set(spec_types)) == len(OF_EACH_FAMILY) == len(atlas.families())
