"""Chains with known gradients, and so a known factor per layer."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from convatlas import measure
from convatlas.experiments import Budget
from convatlas.experiments.engine.budget import Setting
from convatlas.experiments.engine.statement import Statement
from convatlas.experiments.topics import vanishing
from convatlas.experiments.topics.vanishing import (
    TOPIC,
    UNITS,
    Chain,
    ChainSpec,
    digits,
    factor_per_layer,
    gradient_norms,
    jacobians,
)


def identity(x: torch.Tensor) -> torch.Tensor:
    return x


@pytest.mark.parametrize("gain", [0.5, 1.0, 2.0])
def test_a_linear_chain_multiplies_by_its_gain(gain: float) -> None:
    # Products of Gaussian matrices: they fluctuate by a few percent per layer.
    spec = ChainSpec(activation=identity, weight_std=gain / math.sqrt(UNITS))
    assert factor_per_layer(spec, seed=0) == pytest.approx(gain, rel=0.03)


def test_orthogonal_layers_keep_every_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    def orthogonal(depth: int, spec: ChainSpec, seed: int) -> Chain:
        torch.manual_seed(seed)
        chain = Chain(depth, spec).double()
        for layer in chain.layers:
            nn.init.orthogonal_(layer.get_parameter("weight"))
        return chain

    monkeypatch.setattr(vanishing, "chain", orthogonal)
    spec = ChainSpec(activation=identity, weight_std=1.0)
    assert factor_per_layer(spec, seed=0) == pytest.approx(1, abs=1e-12)
    found, _ = jacobians(5, spec, 0)
    for layer in found:
        torch.testing.assert_close(torch.linalg.svdvals(layer), torch.ones(UNITS, dtype=torch.double))


def test_gradients_of_a_hundred_small_factors_are_still_numbers() -> None:
    found = gradient_norms(100, ChainSpec(activation=torch.sigmoid, weight_std=vanishing.SMALL), 0)
    assert 0 < found[0] < 1e-150 < found[-1]


def test_digits_are_centered_per_pixel_and_have_a_standard_deviation_of_1() -> None:
    images, labels = digits()
    assert images.shape == (vanishing.IMAGES, UNITS)
    assert labels.shape == (vanishing.IMAGES,)
    torch.testing.assert_close(images.mean(0), torch.zeros(UNITS, dtype=torch.double))
    assert float(images.std()) == pytest.approx(1)


def test_shortcuts_carry_the_input_past_every_layer() -> None:
    found, whole = jacobians(3, ChainSpec(activation=identity, weight_std=0.0, shortcuts=True), 0)
    eye = torch.eye(UNITS, dtype=torch.double)
    for one in (*found, whole):
        torch.testing.assert_close(one, eye)


def test_the_whole_jacobian_is_the_product_of_the_layers_in_order() -> None:
    found, whole = jacobians(4, ChainSpec(activation=torch.tanh, weight_std=0.2), 0)
    torch.testing.assert_close(measure.jacobian_product(found), whole)
    assert not torch.allclose(measure.jacobian_product(found[::-1]), whole)


@pytest.mark.parametrize("statement", TOPIC.statements, ids=[statement.id for statement in TOPIC.statements])
def test_every_statement_is_measured_to_lie_inside_its_threshold(
    statement: Statement, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of the depths of the charts, two.
    monkeypatch.setattr(vanishing, "DEPTHS", (5, 20))
    seeds = (0, 1) if statement.id in ("large", "xavier-relu") else (0,)
    measurement = statement.measure(Setting(budget=Budget.QUICK, seeds=seeds, folder=tmp_path))
    assert measurement.estimate.center in statement.threshold
    assert len(measurement.estimate.values) == (1 if statement.id == "chain-rule" else len(seeds))


def test_batch_normalization_multiplies_the_gradient_as_theory_says() -> None:
    # Yang et al. 2019: sqrt(pi / (pi - 1)) a layer, in the limit of wide layers and large batches.
    spec = ChainSpec(activation=torch.relu, weight_std=vanishing.HE, norm=True)
    found = [factor_per_layer(spec, seed) for seed in range(4)]
    assert sum(found) / len(found) == pytest.approx(math.sqrt(math.pi / (math.pi - 1)), rel=0.03)
