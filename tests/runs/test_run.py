"""How a run judges its network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import convatlas as ca
from convatlas.data import Split
from convatlas.runs.run import Run
from convatlas.training import Request, plan
from convatlas.training.distribution import Processes


@pytest.mark.parametrize(("resolution", "at_once"), [(28, 500), (32, 500), (64, 128), (224, 10), (1024, 1)])
def test_the_larger_the_images_the_fewer_are_judged_at_once(resolution: int, at_once: int) -> None:
    record, _ = plan.planned(Request(network="squeezenet"), Processes())
    spec, preprocessing = (replace(part, resolution=resolution) for part in (record.spec, record.preprocessing))
    run = Run(Path(), replace(record, spec=spec, preprocessing=preprocessing))
    split = Split(np.zeros((2, 1, resolution, resolution), np.uint8), np.zeros(2, np.int64))
    assert run.judging(split, torch.device("cpu")).batch_size == at_once


def test_how_many_are_judged_at_once_changes_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = ca.train("lenet1", epochs=1, autotune=False, out=tmp_path / "run")
    together = run.evaluate()
    monkeypatch.setattr("convatlas.runs.run.EVALUATED_AT_ONCE", 7)
    apart = run.evaluate()
    torch.testing.assert_close(apart.confusion, together.confusion)
    assert apart.loss == pytest.approx(together.loss, rel=1e-5)
