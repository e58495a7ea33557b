"""From a model to a quantized one: what is kept, what it costs, and that it is used like any other."""

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
from convatlas.compression.quantization import (
    best_steps,
    input_ranges,
    mean_bits,
    mixed_bits,
    quantize,
    quantize_and_train,
    sensitivities,
)
from convatlas.compression.stages import FineTuning, TrainedModel, calibration_batch
from convatlas.compression.target import MacsTarget
from convatlas.errors import UserError
from convatlas.models.model import Model
from convatlas.networks.blocks import weighted_layers
from convatlas.networks.quantization import expand, fake_quantize
from convatlas.runs.options import Runtime, WeightConstraint
from convatlas.runs.run import Run

pytestmark = pytest.mark.usefixtures("one_thread")

SHORT = FineTuning(epochs=1, runtime=Runtime(autotune=False))


@pytest.fixture(name="trained")
def trained_model(trained: Run) -> TrainedModel:
    return TrainedModel.of(trained)


def accuracy(source: TrainedModel) -> float:
    assert source.model.card.score is not None
    return source.model.card.score.accuracy


def is_quantized(model: Model) -> bool:
    """Whether the weights are integers of as many bits as the card says, times the step sizes."""
    for part in model.card.quantization or ():
        layer = model.network.get_submodule(part.name)
        weights, steps = layer.get_parameter("weight"), layer.get_buffer("steps")
        integers = weights / expand(steps, weights)
        if (integers - integers.round()).abs().max() > 1e-3:
            return False
        if len(integers[:1].round().unique()) > 2**part.weight_bits:
            return False
    return bool(model.card.quantization)


@given(st.integers(2, 8), st.integers(1, 4), st.integers(0, 1000))
def test_the_best_steps_are_no_worse_than_those_for_the_largest(bits: int, num: int, seed: int) -> None:
    weights = torch.randn(num, 40, generator=torch.Generator().manual_seed(seed))
    plain = weights.abs().amax(1) / (2 ** (bits - 1) - 1)

    def error(steps: torch.Tensor) -> torch.Tensor:
        return (fake_quantize(weights, steps, bits) - weights).square().sum(1)

    assert (error(best_steps(weights, num, bits)) <= error(plain) + 1e-6).all()


@pytest.mark.slow
def test_eight_bits_change_next_to_nothing_and_two_much(trained: TrainedModel, tmp_path: Path) -> None:
    eight, two = quantize(trained, tmp_path / "8", 8), quantize(trained, tmp_path / "2", 2)
    assert abs(accuracy(eight) - accuracy(trained)) <= 0.01
    assert accuracy(two) < accuracy(eight)
    assert is_quantized(eight.model)
    assert is_quantized(two.model)
    assert eight.model.provenance.method == "quantized to 8 bits, inputs to 8"
    learned = FineTuning(epochs=8, runtime=Runtime(autotune=False))(
        two, WeightConstraint.QUANTIZED, tmp_path / "learned"
    )
    assert is_quantized(learned.model)
    assert accuracy(learned) > accuracy(two)


def test_input_ranges_are_those_of_real_images(trained: TrainedModel) -> None:
    batch = calibration_batch(trained)
    # Of each class as many as it has.
    assert 490 <= len(batch.labels) <= 510
    assert len(batch.labels.unique()) == 10
    assert torch.equal(calibration_batch(trained).inputs, batch.inputs)
    ranges = input_ranges(trained.network, batch.inputs)
    assert ranges["c1"] == pytest.approx((float(batch.inputs.min()), float(batch.inputs.max())))
    # After ReLU nothing is below 0.
    assert ranges["f6"][0] == 0


def test_every_family_is_quantized_fine_tuned_packed_and_pruned_again(
    some_family: str, finished: Callable[..., Run], tmp_path: Path
) -> None:
    source = TrainedModel.of(finished(some_family, compressed=False))
    quantized, tuned = quantize_and_train(source, tmp_path / "low", 4, fine_tuning=SHORT)
    assert is_quantized(quantized.model)
    folder = tmp_path / "low" / "quantized-tuned"
    opened = ca.load(folder)
    assert isinstance(opened, Run)
    assert is_quantized(opened.model)
    score = tuned.model.card.score
    assert opened.model.evaluate().score == score
    assert ca.resume(folder).card == opened.card
    packed = opened.model.save(tmp_path / "low.cva")
    own, read = opened.model.network.state_dict(), packed.network.state_dict()
    assert all(torch.equal(own[name], read[name]) for name in own)
    assert (tmp_path / "low.cva").stat().st_size < 0.3 * (folder / "weights.safetensors").stat().st_size
    assert packed.evaluate().score == score
    if some_family != "lenet5":
        macs = MacsTarget(0.8 * opened.card.macs)
        narrow = prune_channels(
            TrainedModel.of(opened), tmp_path / "narrow", macs, Importance.MAGNITUDE, fine_tuning=SHORT
        )
        assert narrow[-1].model.card.quantization is None


@pytest.mark.slow
def test_mixed_bits_go_where_they_cost_least(trained: TrainedModel, tmp_path: Path) -> None:
    costs = sensitivities(trained, [2, 8])
    assert set(costs) == {name for name, _ in weighted_layers(trained.network)}
    assert sum(by[2] for by in costs.values()) > sum(by[8] for by in costs.values())
    bits = mixed_bits(trained, 3.5)
    assert 2 <= min(bits.values()) < max(bits.values()) <= 8
    assert 3.0 < mean_bits(trained.network, bits) <= 3.5
    mixed, three = quantize(trained, tmp_path / "mixed", bits), quantize(trained, tmp_path / "3", 3)
    assert accuracy(mixed) > accuracy(three) - 0.02
    assert mixed.model.provenance.method.startswith("quantized to a mean of 3.")


def test_mistakes_are_one_line(trained: TrainedModel, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="`bits` 9 is out of range; it must be from 2 to 8"):
        quantize(trained, tmp_path / "9", 9)
    with pytest.raises(UserError, match=r"`bits` 1\.5 is out of range"):
        mixed_bits(trained, 1.5)
    with pytest.raises(UserError, match="has 32-bit weights; there is no quantization to keep"):
        SHORT(trained, WeightConstraint.QUANTIZED, tmp_path / "none")


def test_images_of_one_class_calibrate_nothing(trained: TrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    images = trained.load_data()
    narrow = replace(images, train=images.train.take(np.flatnonzero(images.train.labels == 3)))
    monkeypatch.setattr(TrainedModel, "load_data", lambda source: narrow)
    with pytest.raises(UserError, match="are of class 3; it takes at least two"):
        calibration_batch(trained)
