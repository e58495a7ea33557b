"""Weights of networks as printed: which are counted, in what units, and heavy ones against light ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from convatlas import atlas
from convatlas.experiments import Budget
from convatlas.experiments.engine.budget import Setting
from convatlas.experiments.engine.statement import Role
from convatlas.experiments.engine.verdict import State, state_of
from convatlas.experiments.topics import network_weights
from convatlas.experiments.topics.network_weights import PRINTED
from convatlas.experiments.topics.small_devices import TOPIC


def test_every_network_whose_error_on_imagenet_is_printed_is_counted() -> None:
    starts = ("top-1 accuracy on ImageNet", "top-1 error on I")
    printed = {
        variant.name for variant in atlas.variants() for claim in variant.claims if claim.figure.startswith(starts)
    }
    assert printed == PRINTED.keys() - {"googlenet"}


def test_errors_are_the_printed_ones() -> None:
    assert network_weights.printed_error("vgg16") == 24.8
    assert network_weights.printed_error("googlenet") == 7.89
    assert network_weights.printed_error("mobilenet") == pytest.approx(100 - 70.6)
    assert [name for name in ("alexnet", "googlenet", "mobilenet", "vgg13") if network_weights.is_good(name)] == [
        "googlenet"
    ]


def test_the_unit_of_a_size_is_told() -> None:
    assert network_weights.weights_figure("resnet50") == ("resnet50", "102 MB = 97.5 MiB, top-1 error 22.9 %")
    assert "528 MiB" in network_weights.weights_figure("vgg16")[1]
    assert "26.7 MiB" in network_weights.weights_figure("googlenet")[1]


@pytest.mark.parametrize(
    ("name", "center", "state"),
    [("best-weigh-100", 75.0, State.CONFIRMED), ("all-weigh-100", 21.15, State.CONTRADICTED)],
)
def test_most_best_networks_are_heavy_and_some_good_ones_are_not(
    name: str, center: float, state: State, tmp_path: Path
) -> None:
    (statement,) = [one for one in TOPIC.statements if one.id == name]
    measured = statement.measure(Setting(budget=Budget.QUICK, seeds=(0,), folder=tmp_path))
    assert statement.role is Role.COUNT
    assert measured.estimate.center == pytest.approx(center, rel=1e-3)
    assert state_of(measured.estimate, statement.threshold, no_effect=None, p_value=1.0) is state


def test_the_heavy_are_held_against_the_light() -> None:
    took = dict.fromkeys(network_weights.TIMED, 10.0) | {"alexnet": 1.0, "vgg16": 90.0, "resnet50": 30.0}
    assert network_weights.slower(took) == 3.0
