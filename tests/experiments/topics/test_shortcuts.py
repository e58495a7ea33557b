"""Why shortcuts help: measurements on two networks after one epoch, statistics of known results."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from convatlas.experiments import Budget
from convatlas.experiments.engine import accuracy
from convatlas.experiments.engine.budget import Setting
from convatlas.experiments.engine.result import run_statement
from convatlas.experiments.engine.statement import Statement
from convatlas.experiments.engine.verdict import Verdict
from convatlas.experiments.topics import degradation, shortcuts
from convatlas.experiments.topics.degradation import PLAIN, RESIDUAL, trained
from convatlas.experiments.topics.shortcuts import (
    KINDS,
    TOPIC,
    gradient_change,
    lesion_errors,
    loss_surface,
    mean_response,
    mean_scale,
    training_batch,
)
from convatlas.models.evaluation import evaluate, evaluation_batches
from convatlas.networks.resnet import ResidualUnit
from convatlas.runs.run import Run

BLOCKS = 7
"""Of 20 layers, those that keep the shape: 3, 2 and 2."""


def statement_named(name: str) -> Statement:
    return next(statement for statement in TOPIC.statements if statement.id == name)


@pytest.fixture(scope="module")
def trained_little(few_digits: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    """A setting whose networks learn for one epoch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(degradation, "QUICK_EPOCHS", 1)
        patch.setattr(degradation, "QUICK_BATCH", 64)
        yield Setting(budget=Budget.QUICK, seeds=(0,), folder=tmp_path_factory.mktemp("runs"))


def run_of(setting: Setting, kind: str) -> Run:
    return trained(setting, kind, 20, 0)


def test_the_batch_is_from_the_training_images(trained_little: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shortcuts, "IMAGES", 200)
    run = run_of(trained_little, RESIDUAL)
    inputs, labels = training_batch(run)
    spec = run.spec
    assert inputs.shape == (200, spec.in_channels, spec.resolution, spec.resolution)
    assert labels.tolist() == run.load_data().train.labels[:200].tolist()


def test_the_mean_response_leaves_out_the_first_layer(trained_little: Setting) -> None:
    run = run_of(trained_little, RESIDUAL)
    norms = [layer for layer in run.network.modules() if isinstance(layer, nn.BatchNorm2d)]
    for layer in norms[1:]:
        nn.init.constant_(layer.weight, -0.5)
    assert mean_scale(run) == 0.5
    for layer in norms[1:]:
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    assert mean_response(run) == mean_scale(run) == 0


@pytest.mark.parametrize("kind", [PLAIN, RESIDUAL])
def test_gradients_before_training_are_those_of_every_convolution(
    trained_little: Setting, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(shortcuts, "DEEP", 20)
    change, lengths = gradient_change(trained_little, kind, 0)
    assert len(lengths) == 19
    assert change == pytest.approx(abs(math.log10(lengths[0] / lengths[-1])))
    # They depend on the seed alone, not on what was learned.
    assert gradient_change(trained_little, kind, 0)[1] == lengths


def test_each_block_that_keeps_the_shape_is_removed_once(
    trained_little: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(trained_little, PLAIN)
    seen: list[list[bool]] = []

    def watching(network: nn.Module, objective: object, batches: object) -> object:
        units = [unit for stage in range(3) for unit in shortcuts.units_of(network, stage)]
        seen.append([isinstance(unit, nn.Identity) for unit in units])
        return evaluate(
            network, run.variant.objective, evaluation_batches(run.card, run.load_data().test, torch.device("cpu"))
        )

    monkeypatch.setattr(shortcuts, "evaluate", watching)
    assert len(list(lesion_errors(run))) == BLOCKS
    assert [row.index(True) for row in seen] == [0, 1, 2, 4, 5, 7, 8]
    assert all(row.count(True) == 1 for row in seen)
    assert not any(isinstance(unit, nn.Identity) for unit in shortcuts.units_of(run.network, 0))


def test_removing_a_residual_block_with_a_zero_branch_changes_nothing(trained_little: Setting) -> None:
    run = run_of(trained_little, RESIDUAL)
    for unit in run.network.modules():
        if isinstance(unit, ResidualUnit):
            last = [layer for layer in unit.layers.modules() if isinstance(layer, nn.BatchNorm2d)][-1]
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
    error = 100 * (1 - run.evaluate().accuracy)
    assert list(lesion_errors(run)) == [error] * BLOCKS


def test_the_middle_of_a_surface_is_the_loss_of_the_network(
    trained_little: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shortcuts, "PLACES", (-1.0, 0.0, 1.0))
    run = run_of(trained_little, RESIDUAL)
    inputs, labels = training_batch(run)
    surface = loss_surface(run)
    assert surface.shape == (3, 3)
    with torch.no_grad():
        assert surface[1, 1] == pytest.approx(float(F.cross_entropy(run.network(inputs), labels)), rel=1e-5)


# --- verdicts for known results -----------------------------------------------------------------------------------


@pytest.fixture
def untrained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setting:
    """A setting that trains nothing; a run is its (kind, depth)."""
    monkeypatch.setattr(shortcuts, "trained", lambda setting, kind, depth, seed: (kind, depth))
    monkeypatch.setattr(Setting, "train_all", lambda setting, requests: None)
    return Setting(budget=Budget.QUICK, seeds=(0, 1, 2), folder=tmp_path)


@pytest.mark.parametrize(("with_shortcuts", "verdict"), [(0.5, Verdict.REPRODUCED), (1.0, Verdict.NOT_REPRODUCED)])
def test_responses_are_compared_at_one_depth(
    untrained: Setting, monkeypatch: pytest.MonkeyPatch, with_shortcuts: float, verdict: Verdict
) -> None:
    found = {(PLAIN, 20): 1.0, (RESIDUAL, 20): with_shortcuts}
    both = {words: [(kind, 20)] * 3 for words, kind in KINDS.items()}
    monkeypatch.setattr(shortcuts, "of_both_kinds", lambda setting, depth: both)
    monkeypatch.setattr(shortcuts, "mean_response", lambda run: found[run])
    monkeypatch.setattr(shortcuts, "mean_scale", lambda run: 0.9)
    monkeypatch.setattr(shortcuts, "layer_responses", lambda setting: degradation.by_depth({"one": [[1, 1, 1, 1]]}))
    result = run_statement(statement_named("responses"), untrained)
    assert result.verdict is verdict
    assert result.measurement is not None
    assert result.measurement.mean == pytest.approx(with_shortcuts)


@pytest.mark.parametrize(("deep", "verdict"), [(0.25, Verdict.REPRODUCED), (0.5, Verdict.NOT_REPRODUCED)])
def test_responses_are_compared_over_depth(
    untrained: Setting, monkeypatch: pytest.MonkeyPatch, deep: float, verdict: Verdict
) -> None:
    found = {(RESIDUAL, 20): 0.5, (RESIDUAL, 56): deep}
    monkeypatch.setattr(shortcuts, "mean_response", lambda run: found[run])
    monkeypatch.setattr(shortcuts, "mean_scale", lambda run: 0.9)
    assert run_statement(statement_named("deeper"), untrained).verdict is verdict
    # Scales near their initial values say nothing about what was learned.
    monkeypatch.setattr(shortcuts, "mean_scale", lambda run: 0.96)
    result = run_statement(statement_named("deeper"), untrained)
    assert result.verdict is Verdict.NOT_TESTABLE
    assert "have hardly moved (20 layers 0.960, 56 layers 0.960)" in result.reason
    assert result.measurement is not None
    assert result.measurement.mean == pytest.approx(deep / 0.5)


@pytest.mark.parametrize(("plain", "verdict"), [(2.0, Verdict.REPRODUCED), (0.5, Verdict.NOT_REPRODUCED)])
def test_gradients_are_compared_by_powers_of_ten(
    untrained: Setting, monkeypatch: pytest.MonkeyPatch, plain: float, verdict: Verdict
) -> None:
    found = {PLAIN: (plain, [1.0, 10.0]), RESIDUAL: (0.5, [1.0, 3.0])}
    monkeypatch.setattr(shortcuts, "gradient_change", lambda setting, kind, seed: found[kind])
    result = run_statement(statement_named("gradient"), untrained)
    assert result.verdict is verdict
    assert result.measurement is not None
    assert result.measurement.mean == pytest.approx(plain - 0.5)


@pytest.mark.parametrize(
    ("name", "plain", "residual", "value", "verdict"),
    [
        # Whole, the plain network errs by 10 %, the one with shortcuts by 5 %.
        ("removal", 90.0, 6.0, 91 - 10 - 2, Verdict.REPRODUCED),
        ("removal", 20.0, 6.0, 21 - 10 - 2, Verdict.NOT_REPRODUCED),
        ("removal-plain", 90.0, 6.0, 81, Verdict.REPRODUCED),
        ("removal-plain", 45.0, 6.0, 36, Verdict.NOT_REPRODUCED),
        ("removal-residual", 90.0, 6.0, 2, Verdict.REPRODUCED),
        ("removal-residual", 90.0, 50.0, 46, Verdict.NOT_REPRODUCED),
    ],
)
def test_lesions_are_compared_by_how_much_the_error_rises(
    name: str,
    plain: float,
    residual: float,
    value: float,
    verdict: Verdict,
    untrained: Setting,
    trainings: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trainings({"plain": [90.0] * 3, "with shortcuts": [95.0] * 3})
    without = {0.9: [plain, plain + 2], 0.95: [residual, residual + 2]}
    monkeypatch.setattr(shortcuts, "lesion_errors", lambda run: iter(without[run.test_accuracy]))
    result = run_statement(statement_named(name), untrained)
    assert result.verdict is verdict
    assert result.measurement is not None
    assert result.measurement.mean == pytest.approx(value)


@pytest.mark.parametrize(("a", "verdict"), [(3.5, Verdict.REPRODUCED), (5.0, Verdict.NOT_REPRODUCED)])
def test_options_are_compared_by_their_test_errors(
    untrained: Setting, trainings: Callable[..., None], a: float, verdict: Verdict
) -> None:
    trainings({"A": [100 - a] * 3, "B": [91.0] * 3, "C": [97.0] * 3})
    result = run_statement(statement_named("options"), untrained)
    assert result.verdict is verdict
    assert result.measurement is not None
    assert result.measurement.mean == pytest.approx(a - 3.0)


BOWL = np.array([[1 + x**2 + y**2 for x in shortcuts.PLACES] for y in shortcuts.PLACES])
HILLS = np.array([[2 + math.sin(9 * x) * math.cos(9 * y) for x in shortcuts.PLACES] for y in shortcuts.PLACES])


@pytest.mark.parametrize(("plain", "verdict"), [(HILLS, Verdict.REPRODUCED), (BOWL, Verdict.NOT_REPRODUCED)])
def test_surfaces_are_compared_by_negative_curvature(
    untrained: Setting,
    trainings: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    plain: np.ndarray,
    verdict: Verdict,
) -> None:
    trainings({"plain": [90.0] * 3, "with shortcuts": [95.0] * 3})
    monkeypatch.setattr(shortcuts, "loss_surface", lambda run: plain if run.test_accuracy == 0.9 else BOWL)
    result = run_statement(statement_named("surface"), untrained)
    assert result.verdict is verdict
    assert result.measurement is not None
    (chart,) = result.measurement.charts
    assert "highest 3" in chart.alt_text


def test_surfaces_of_undertrained_networks_are_inconclusive(
    untrained: Setting, trainings: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainings({"plain": [30.0] * 3, "with shortcuts": [95.0] * 3})
    monkeypatch.setattr(accuracy, "training_accuracy", lambda runs: 100 * min(run.test_accuracy for run in runs))
    monkeypatch.setattr(shortcuts, "loss_surface", lambda run: HILLS)
    result = run_statement(statement_named("surface"), untrained)
    assert result.verdict is Verdict.NOT_TESTABLE
    assert "plain: with a training accuracy of 30 % the network has hardly learned" in result.reason
    assert result.measurement is not None
