"""Trains one network with sixteen seeds and writes recorded.npz, which the A/A test reads.

    python tests/experiments/engine/record.py

USPS must be in the cache folder, or is downloaded. On two cores it takes about five minutes. The runs stay in runs/aa,
so that a call that was stopped goes on.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from convatlas.experiments.engine.arms import Arm
from convatlas.experiments.engine.budget import Budget, Setting
from convatlas.runs.options import Runtime
from convatlas.training import Request
from convatlas.training.recipes import CHARACTERS

SEEDS = tuple(range(16))


def request(seed: int) -> Request:
    """A network that is trained to its end: one that has hardly learned varies with its seed far more."""
    return Request(network="lenet5-modern", data="usps", recipe=CHARACTERS, seed=seed, runtime=Runtime(autotune=False))


def main() -> None:
    setting = Setting(budget=Budget.STANDARD, seeds=SEEDS, folder=Path("runs/aa"))
    arm = setting.train_arms({"lenet5-modern": Arm(request=request)})["lenet5-modern"]
    errors = arm.predictions != arm.labels
    np.savez_compressed(
        Path(__file__).with_name("recorded.npz"), errors=np.packbits(errors, axis=1), num_images=errors.shape[1]
    )


if __name__ == "__main__":
    main()
