"""Trains one network with sixteen seeds and writes recorded.npz, which the A/A test reads.

    python tests/experiments/engine/record.py

On two cores it takes about ten minutes. The runs stay in runs/aa, so that a call that was stopped goes on.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from convatlas.experiments.engine import protocol
from convatlas.experiments.engine.arms import Arm
from convatlas.experiments.engine.budget import Budget, Setting
from convatlas.spec import Scale
from convatlas.training import Request

SEEDS = tuple(range(16))


def request(seed: int) -> Request:
    return Request(
        network="resnet20-cifar",
        data=protocol.DATA,
        scale=Scale(width=0.25),
        recipe=protocol.recipe(epochs=2),
        seed=seed,
        runtime=protocol.RUNTIME,
    )


def main() -> None:
    setting = Setting(budget=Budget.STANDARD, seeds=SEEDS, folder=Path("runs/aa"))
    arm = setting.train_arms({"resnet20-cifar, width 0.25": Arm(request=request)})["resnet20-cifar, width 0.25"]
    errors = arm.predictions != arm.labels
    np.savez_compressed(
        Path(__file__).with_name("recorded.npz"), errors=np.packbits(errors, axis=1), num_images=errors.shape[1]
    )


if __name__ == "__main__":
    main()
