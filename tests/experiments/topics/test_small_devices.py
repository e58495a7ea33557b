"""Small devices: networks of half and a quarter of the MACs, and losses taken seed by seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convatlas import atlas, measure
from convatlas.experiments import Budget
from convatlas.experiments.engine import protocol
from convatlas.experiments.engine.answers import Answers
from convatlas.experiments.engine.arms import Arm, TrainedArm
from convatlas.experiments.engine.budget import Setting
from convatlas.experiments.engine.estimate import combined_errors
from convatlas.experiments.engine.result import fingerprint
from convatlas.experiments.topics import small_devices
from convatlas.experiments.topics.small_devices import (
    ALONE,
    EIGHT_BITS,
    FOUR_BITS,
    NARROW,
    NETWORK,
    PRUNED,
    TAUGHT,
    TOPIC,
    TRAINED_ON,
    WHOLE,
)
from convatlas.recipe import Recipe
from convatlas.runs.run import Run, load_run
from convatlas.training import Request
from convatlas.training.plan import scaled_spec


def setting(folder: Path, budget: Budget = Budget.STANDARD, seeds: int = 3) -> Setting:
    return Setting(budget=budget, seeds=tuple(range(seeds)), folder=folder)


def macs_of(request: Request) -> int:
    variant = atlas.find(request.network)
    return measure.cost_of(variant.network, scaled_spec(request, variant, typical_side=None)).macs


# --- what is trained -------------------------------------------------------------------------------------------------


def arms(which: Callable[[Setting], dict[str, Arm]], one: Setting) -> dict[str, Request]:
    return {name: arm.request(1) for name, arm in which(one).items()}


def test_networks_have_half_and_a_quarter_of_the_macs(tmp_path: Path) -> None:
    requests = arms(small_devices.with_narrow, setting(tmp_path)) | arms(small_devices.with_student, setting(tmp_path))
    macs = {name: macs_of(request) for name, request in requests.items()}
    assert macs[NARROW] == pytest.approx(macs[WHOLE] / 2, rel=0.02)
    assert macs[ALONE] == pytest.approx(macs[WHOLE] / 4, rel=0.02)


def test_at_standard_all_are_trained_by_the_protocol(tmp_path: Path) -> None:
    for which in (small_devices.with_narrow, small_devices.with_student):
        for name, arm in which(setting(tmp_path)).items():
            request = arm.request(2)
            assert (request.data, request.recipe, request.seed) == (protocol.DATA, protocol.recipe(), 2)
            assert arm.rates == protocol.RATES
            # As long as the pruned network: 10 epochs before and 5 after.
            assert request.epochs == (15 if name == NARROW else None)


def test_at_full_all_are_trained_as_the_paper_trains(tmp_path: Path) -> None:
    for name, arm in small_devices.with_narrow(setting(tmp_path, Budget.FULL)).items():
        request = arm.request(0)
        assert (request.data, arm.rates) == ("cifar10", ())
        assert request.recipe == atlas.find(NETWORK).recipe
        assert request.epochs == (204 if name == NARROW else None)


@pytest.mark.at_once("statement", [one for one in TOPIC.statements if one.arms])
def test_a_learned_statement_has_its_minutes_and_a_recipe_that_its_fingerprint_covers(
    statement: Any, tmp_path: Path
) -> None:
    assert statement.minutes
    assert statement.needs is Budget.STANDARD
    assert all(isinstance(arm.request(0).recipe, Recipe) for arm in statement.arms(setting(tmp_path)).values())
    # Results are read on another machine, where the runs lie elsewhere.
    assert fingerprint(statement, setting(tmp_path)) == fingerprint(statement, setting(tmp_path / "elsewhere"))


@dataclass(frozen=True)
class Placed:
    """A run, as far as its folder."""

    folder: Path


def test_each_student_has_the_teacher_of_its_seed(tmp_path: Path) -> None:
    teachers = TrainedArm(tuple(Placed(tmp_path / str(seed)) for seed in range(3)), None)  # type: ignore[misc]
    taught = small_devices.taught_by(teachers, setting(tmp_path))
    alone = small_devices.with_student(setting(tmp_path))[ALONE]
    for seed in range(3):
        request = taught.request(seed)
        assert request.distillation is not None
        assert request.distillation.teacher == str(tmp_path / str(seed))
        assert replace(request, distillation=None) == alone.request(seed)
    assert taught.rates == alone.rates


# --- losses ----------------------------------------------------------------------------------------------------------


def answers(whole: Sequence[int], smaller: Sequence[int]) -> Answers:
    """Of networks that get so many of 1,000 images wrong with each seed, the first ones."""

    def predictions(wrong: Sequence[int]) -> Any:
        return np.stack([np.arange(1000) < one for one in wrong]).astype(np.uint8)

    return Answers(np.zeros(1000, np.uint8), {WHOLE: predictions(whole), EIGHT_BITS: predictions(smaller)})


def test_a_loss_is_taken_seed_by_seed() -> None:
    found = answers((80, 120, 160), (82, 121, 163))
    paired = small_devices.loss(found, EIGHT_BITS, WHOLE)
    assert paired.values == pytest.approx((0.2, 0.1, 0.3))
    assert paired.center == pytest.approx(0.2)
    assert paired.high < 0.6
    # The networks' own spread over seeds, 4 points, would hide it.
    assert combined_errors((1.0, found.errors(EIGHT_BITS)), (-1.0, found.errors(WHOLE))).high > 5


def test_a_gain_is_a_negative_loss() -> None:
    assert small_devices.loss(answers((80, 120, 160), (70, 110, 150)), EIGHT_BITS, WHOLE).center == pytest.approx(-1.0)


# --- compressed ------------------------------------------------------------------------------------------------------


@pytest.fixture
def brief(trained_briefly: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings for one epoch on few digits, in this process."""

    def request(setting: Setting, seed: int) -> Request:
        recipe = protocol.recipe(epochs=1)
        return Request(network=NETWORK, recipe=recipe, seed=seed, runtime=protocol.RUNTIME)

    monkeypatch.setattr(small_devices, "request", request)
    monkeypatch.setattr(small_devices, "arm", lambda setting, of_seed: Arm(request=of_seed))
    monkeypatch.setattr(small_devices, "tuning_epochs", lambda setting: 1)


def weights(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}


@pytest.mark.slow
@pytest.mark.parametrize("name", [PRUNED, FOUR_BITS])
def test_a_compressed_network_is_measured_and_not_made_again(name: str, tmp_path: Path, brief: None) -> None:
    one = setting(tmp_path, seeds=1)
    first = small_devices.after_tuning(name, one)
    assert first.answers is not None
    assert first.answers.predictions.keys() == {WHOLE, TRAINED_ON, name}
    assert first.estimate.num_images == 100
    figures = dict(first.figures)
    macs = [float(each.removesuffix(" million")) for each in figures["MACs, before and after"].split(" and ")]
    size = [float(each.removesuffix(" KiB")) for each in figures["weights, before and after"].split(" and ")]
    assert macs[1] <= macs[0] / 2 if name == PRUNED else macs[1] == macs[0]
    assert size[1] < size[0] / (1 if name == PRUNED else 4)
    made = weights(tmp_path)
    assert small_devices.after_tuning(name, one).answers == first.answers
    assert weights(tmp_path) == made


@pytest.mark.slow
def test_8_bits_take_no_training(tmp_path: Path, brief: None) -> None:
    measured = small_devices.eight_bits(setting(tmp_path, seeds=1))
    assert measured.answers is not None
    assert abs(measured.estimate.center) < 10
    assert len([path for path in weights(tmp_path) if path.name == "weights.safetensors"]) == 2


def runs(folder: Path) -> list[Run]:
    return [load_run(one) for one in folder.iterdir()]


@pytest.mark.slow
def test_a_student_learns_with_and_without_teacher(tmp_path: Path, brief: None) -> None:
    measured = small_devices.taught(setting(tmp_path, seeds=1))
    assert measured.answers is not None
    assert measured.answers.predictions.keys() == {WHOLE, ALONE, TAUGHT}
    (teacher,) = {run.record.distillation.teacher for run in runs(tmp_path) if run.record.distillation is not None}
    assert sorted(run.spec == load_run(teacher).spec for run in runs(tmp_path)) == [False, False, True]
    # After one epoch: that is said in place of an effect.
    assert "was set as the sign that it has learned" in measured.failed
