"""From a run to one of few bits: what is kept, what it costs, and that it is used like any other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import convatlas as ca
from convatlas.compression.channels import Importance, prune_channels
from convatlas.compression.low_bits import (
    best_steps,
    calibrated,
    mean_bits,
    mixed,
    quantize,
    quantize_and_train,
    sensitivities,
)
from convatlas.compression.stages import FineTuning, calibration_batch
from convatlas.compression.target import Macs
from convatlas.errors import UserError
from convatlas.models.codec.container import load, pack
from convatlas.networks.low_bits import across, fake_quantize, weighted_layers
from convatlas.runs.options import WeightConstraint
from convatlas.runs.run import Run

pytestmark = pytest.mark.usefixtures("one_thread")

SHORT = FineTuning(epochs=1, autotune=False)


def on_steps(run: Run) -> bool:
    for bits in run.record.low_bits or ():
        layer = run.network.get_submodule(bits.name)
        weights, steps = layer.get_parameter("weight"), layer.get_buffer("steps")
        places = weights / across(steps, weights)
        if (places - places.round()).abs().max() > 1e-3 or len(places[:1].round().unique()) > 2**bits.weight:
            return False
    return bool(run.record.low_bits)


@given(st.integers(2, 8), st.integers(1, 4), st.integers(0, 1000))
def test_the_best_steps_are_no_worse_than_those_for_the_largest(bits: int, num: int, seed: int) -> None:
    weights = torch.randn(num, 40, generator=torch.Generator().manual_seed(seed))
    plain = weights.abs().amax(1) / (2 ** (bits - 1) - 1)

    def error(steps: torch.Tensor) -> torch.Tensor:
        return (fake_quantize(weights, steps, bits) - weights).square().sum(1)

    assert (error(best_steps(weights, num, bits)) <= error(plain) + 1e-6).all()


def test_eight_bits_change_next_to_nothing_and_two_much(trained: Run, tmp_path: Path) -> None:
    eight, two = quantize(trained, tmp_path / "8", 8), quantize(trained, tmp_path / "2", 2)
    assert abs(eight.test_accuracy - trained.test_accuracy) <= 0.01
    assert two.test_accuracy < eight.test_accuracy
    assert on_steps(eight)
    assert on_steps(two)
    assert eight.record.made == "quantize_weights to 8 bits, inputs to 8"
    learned = FineTuning(epochs=8, autotune=False)(two, WeightConstraint.STEPS, tmp_path / "learned")
    assert on_steps(learned)
    assert learned.test_accuracy > two.test_accuracy


def test_bounds_are_those_of_real_images(trained: Run) -> None:
    batch = calibration_batch(trained)
    # Of each class as many as it has.
    assert 490 <= len(batch.labels) <= 510
    assert len(batch.labels.unique()) == 10
    assert torch.equal(calibration_batch(trained).inputs, batch.inputs)
    bounds = calibrated(trained.network, batch.inputs)
    assert bounds["c1"] == pytest.approx((float(batch.inputs.min()), float(batch.inputs.max())))
    # After ReLU nothing is below 0.
    assert bounds["f6"][0] == 0


def test_every_family_is_lowered_trained_on_packed_and_pruned_again(
    family: str, finished: Callable[..., Run], tmp_path: Path
) -> None:
    run = finished(family, compressed=False)
    quantize_weights, autotuned = quantize_and_train(run, tmp_path / "low", 4, fine_tuning=SHORT)
    assert on_steps(quantize_weights)
    opened = ca.load(autotuned.folder)
    assert on_steps(opened)
    assert opened.evaluate().accuracy == autotuned.test_accuracy
    assert ca.resume(opened.folder).results == opened.results
    packed = pack(opened, tmp_path / "low.cva")
    own, read = opened.network.state_dict(), load(packed.folder).network.state_dict()
    assert all(torch.equal(own[name], read[name]) for name in own)
    assert packed.folder.stat().st_size < 0.3 * (opened.folder / "weights.safetensors").stat().st_size
    assert load(packed.folder).evaluate().accuracy == autotuned.test_accuracy
    if family != "lenet5":
        macs = Macs(0.8 * opened.results.macs)
        narrow = prune_channels(opened, tmp_path / "narrow", macs, Importance.MAGNITUDE, fine_tuning=SHORT)
        assert narrow[-1].record.low_bits is None


def test_mixed_bits_go_where_they_cost_least(trained: Run, tmp_path: Path) -> None:
    costs = sensitivities(trained, [2, 8])
    assert set(costs) == {name for name, _ in weighted_layers(trained.network)}
    assert sum(by[2] for by in costs.values()) > sum(by[8] for by in costs.values())
    bits = mixed(trained, 3.5)
    assert 2 <= min(bits.values()) < max(bits.values()) <= 8
    assert 3.0 < mean_bits(trained.network, bits) <= 3.5
    assert (
        quantize(trained, tmp_path / "mixed", bits).test_accuracy
        > quantize(trained, tmp_path / "3", 3).test_accuracy - 0.02
    )


def test_mistakes_are_one_line(trained: Run, finished: Callable[..., Run], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="weights of 9 bits are not made here; it must be from 2 to 8"):
        quantize(trained, tmp_path / "9", 9)
    with pytest.raises(UserError, match=r"weights of 1\.5 bits are not made here"):
        mixed(trained, 1.5)
    with pytest.raises(UserError, match="has weights of 32 bits, which lie on no steps"):
        SHORT(trained, WeightConstraint.STEPS, tmp_path / "none")


def test_images_of_one_class_calibrate_nothing(trained: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    images = trained.load_data()
    narrow = replace(images, train=images.train.take(np.flatnonzero(images.train.labels == 3)))
    monkeypatch.setattr(Run, "load_data", lambda run: narrow)
    with pytest.raises(UserError, match="are of class 3; it takes at least two"):
        calibration_batch(trained)
