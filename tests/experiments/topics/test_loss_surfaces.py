"""Loss surfaces: of a network after one epoch, and of known losses."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from convatlas.draw import Surface
from convatlas.experiments.engine.arms import TrainedArm
from convatlas.experiments.topics import loss_surfaces
from convatlas.experiments.topics.degradation import PLAIN_DEEP, RESIDUAL_DEEP
from convatlas.experiments.topics.loss_surfaces import loss_surface, surfaces, training_batch
from convatlas.runs.run import Run

PLACES = (-1.0, 0.0, 1.0)


def test_the_batch_is_from_the_training_images(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss_surfaces, "IMAGES", 200)
    inputs, labels = training_batch(run)
    spec = run.spec
    assert inputs.shape == (200, spec.in_channels, spec.resolution, spec.resolution)
    assert labels.tolist() == run.load_data().train.labels[:200].tolist()


def test_a_surface_has_the_loss_of_the_network_in_its_middle(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss_surfaces, "PLACES", PLACES)
    inputs, labels = training_batch(run)
    surface = loss_surface(run)
    assert surface.shape == (3, 3)
    with torch.no_grad():
        assert surface[1, 1] == pytest.approx(float(F.cross_entropy(run.network(inputs), labels)), rel=1e-5)


def test_places_are_even_and_have_a_middle() -> None:
    assert (loss_surfaces.PLACES[0], loss_surfaces.PLACES[10], loss_surfaces.PLACES[-1]) == (-1, 0, 1)
    assert np.allclose(np.diff(loss_surfaces.PLACES), 0.1)


BOWL = np.array([[1 + x**2 + y**2 for x in loss_surfaces.PLACES] for y in loss_surfaces.PLACES])
HILLS = np.array([[2 + math.sin(9 * x) * math.cos(9 * y) for x in loss_surfaces.PLACES] for y in loss_surfaces.PLACES])
HILLS[-1, -1] = 1e15


def test_the_surface_of_the_deepest_networks_has_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss_surfaces, "describe", lambda trained: "")
    # A run is its losses.
    monkeypatch.setattr(loss_surfaces, "loss_surface", lambda run: run)
    losses = {PLAIN_DEEP: HILLS, RESIDUAL_DEEP: BOWL}
    trained = {name: TrainedArm((each,), chosen=None) for name, each in losses.items()}  # type: ignore[arg-type]
    chart, figures = surfaces(trained)
    assert isinstance(chart, Surface)
    assert [name for name, _ in chart.panels] == [PLAIN_DEEP, RESIDUAL_DEEP]
    assert chart.value == "loss"
    assert "highest 100;" in chart.alt_text
    assert dict(figures)[f"second differences of the loss that are negative, {RESIDUAL_DEEP}"] == "0 %"
