"""Statistics of known errors, and one short training of each kind of network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from convatlas import atlas
from convatlas.experiments import Budget
from convatlas.experiments.engine.budget import Setting
from convatlas.experiments.engine.result import run_statement
from convatlas.experiments.engine.verdict import Verdict
from convatlas.experiments.topics import degradation
from convatlas.experiments.topics.degradation import (
    DEPTHS,
    PLAIN,
    RESIDUAL,
    TOPIC,
    Errors,
    curves,
    figures,
    network_of,
    rank_correlation,
    request,
    rises,
)
from convatlas.networks.resnet import ResNetSpec, Shortcut
from convatlas.recipe import Augmentation
from convatlas.training import Request

SEEDS = (0, 1, 2)


def setting(folder: Path, budget: Budget = Budget.QUICK) -> Setting:
    return Setting(budget=budget, seeds=SEEDS, folder=folder)


@pytest.mark.parametrize(
    ("errors", "correlation"),
    [
        ((1.0, 2.0, 3.0, 90.0), 1.0),
        ((9.0, 8.0, 7.0, 6.0), -1.0),
        # One neighboring pair the wrong way round: 1 - 6 * 2 / (4 * 15).
        ((1.0, 3.0, 2.0, 4.0), 0.8),
        # Two that are equal share the rank 3.5.
        ((1.0, 2.0, 3.0, 3.0), 0.9**0.5),
        ((5.0, 5.0, 5.0, 5.0), 0.0),
    ],
)
def test_ranks_of_errors_against_depth(errors: tuple[float, ...], correlation: float) -> None:
    assert rank_correlation(errors) == round(correlation, 9)


def test_a_rise_is_the_deepest_minus_the_shallowest() -> None:
    assert rises([[1.0, 50.0, 0.0, 4.0], [3.0, 3.0, 3.0, 1.0]]) == (3.0, -2.0)


def test_figures_are_means_over_the_seeds() -> None:
    rows = figures(PLAIN, [[1.0, 2.0, 3.0, 4.0], [2.0, 2.0, 3.0, 4.0]], [[5.0] * 4, [6.0] * 4])
    assert rows[0] == ("plain-20, training / test error", "1.50 % / 5.50 %")
    assert len(rows) == len(DEPTHS)


# Of plain networks and of those with shortcuts, in training and on test images; every seed the same.
FOUND = {PLAIN: ([2.0, 4.0, 6.0, 8.0], [3.0, 5.0, 7.0, 9.0]), RESIDUAL: ([2.0, 1.5, 1.0, 0.5], [3.0, 2.5, 2.0, 1.5])}


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[list[float], list[float]]]:
    """What the trained networks come to, for a test to change; nothing is trained."""
    errors = {kind: (list(training), list(test)) for kind, (training, test) in FOUND.items()}

    def of(which: int, kind: str) -> Errors:
        return [errors[kind][which] for _ in SEEDS]

    monkeypatch.setattr(degradation, "training_errors", lambda setting, kind: of(0, kind))
    monkeypatch.setattr(degradation, "test_errors", lambda setting, kind: of(1, kind))
    monkeypatch.setattr(degradation, "curves", lambda setting: degradation.by_depth({PLAIN: of(0, PLAIN)}))
    monkeypatch.setattr(Setting, "train_all", lambda setting, requests: None)
    return errors


@pytest.mark.parametrize(
    ("name", "value", "kind", "which", "otherwise"),
    [
        ("plain", 6.0, PLAIN, 0, [8.0, 6.0, 4.0, 2.0]),
        ("order", 1.0, PLAIN, 0, [8.0, 6.0, 4.0, 2.0]),
        ("residual", -1.5, RESIDUAL, 0, [1.0, 1.0, 1.0, 1.1]),
        ("test", 7.5, PLAIN, 1, [3.0, 3.0, 3.0, 3.0]),
    ],
)
def test_each_statement_can_be_reproduced_or_not(
    name: str,
    value: float,
    kind: str,
    which: int,
    otherwise: list[float],
    found: dict[str, tuple[list[float], list[float]]],
    tmp_path: Path,
) -> None:
    statement = next(statement for statement in TOPIC.statements if statement.id == name)
    result = run_statement(statement, setting(tmp_path))
    assert result.verdict is Verdict.REPRODUCED
    assert result.measurement is not None
    assert result.measurement.values == pytest.approx((value,) * len(SEEDS))
    found[kind][which][:] = otherwise
    assert run_statement(statement, setting(tmp_path)).verdict is Verdict.NOT_REPRODUCED


def test_networks_of_a_depth_differ_in_their_shortcuts_alone() -> None:
    for depth in DEPTHS:
        plain, residual = (atlas.find(network_of(kind, depth)).spec for kind in (PLAIN, RESIDUAL))
        assert isinstance(plain, ResNetSpec)
        assert isinstance(residual, ResNetSpec)
        assert (plain.shortcut, residual.shortcut) == (Shortcut.NONE, Shortcut.A)
        assert replace(plain, shortcut=Shortcut.A) == residual
        assert sum(len(unit) for stage in plain.stages for unit in stage) + 2 == depth


def test_full_is_the_papers_own_training(tmp_path: Path) -> None:
    full = request(setting(tmp_path, Budget.FULL), "plain56-cifar", 1)
    assert full == Request(network="plain56-cifar", data="cifar10", recipe="paper", seed=1)


def test_quick_keeps_the_papers_optimizer_with_a_learning_rate_for_its_batch(tmp_path: Path) -> None:
    quick = request(setting(tmp_path), "resnet20-cifar", 2)
    paper = atlas.find("resnet20-cifar").recipe
    assert paper is not None
    assert quick.recipe == replace(paper, augmentation=Augmentation())
    assert quick.lr == pytest.approx(0.1 * 32 / 128)
    assert (quick.batch_size, quick.seed) == (32, 2)


@pytest.mark.usefixtures("trained_briefly")
def test_curves_and_errors_are_those_of_the_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(degradation, "QUICK_EPOCHS", 1)
    monkeypatch.setattr(degradation, "QUICK_BATCH", 48)
    monkeypatch.setattr(degradation, "DEPTHS", (20,))
    one = Setting(budget=Budget.QUICK, seeds=(0,), folder=tmp_path)
    (_, (plain,)), (_, (line,)) = curves(one).panels
    # 256 images in batches of 48.
    assert (plain.name, line.name, line.x) == ("plain-20", "resnet-20", (6.0,))
    ((error,),) = degradation.training_errors(one, RESIDUAL)
    # Six steps do not make a network; an error is in percent and not an accuracy.
    assert 40 < error < 100
    ((test,),) = degradation.test_errors(one, RESIDUAL)
    assert test == pytest.approx(100 * (1 - degradation.trained(one, RESIDUAL, 20, 0).test_accuracy))
    # Trained once for all of them.
    assert len(list(tmp_path.iterdir())) == 2
