"""The resolution multiplier of MobileNet on real detail: photographs, in folds that test each image once."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from convatlas.experiments.engine import protocol
from convatlas.experiments.engine.answers import Answers
from convatlas.experiments.engine.arms import Arm, TrainedArm
from convatlas.experiments.engine.budget import Setting
from convatlas.experiments.engine.comparison import failed_precondition
from convatlas.experiments.engine.estimate import repeated
from convatlas.experiments.engine.statement import Measurement
from convatlas.experiments.topics import imagenette_folds
from convatlas.experiments.topics.separable_costs import accuracy_chart, mobilenet, with_macs
from convatlas.training import Request
from convatlas.training.recipes import PHOTOGRAPHS

RHO_SIDES = (96, 128, 160)
RHO_ALPHA = 0.25
RHO_RECIPE = replace(PHOTOGRAPHS, epochs=150, epochs_of=None)
"""Without a choice of rates: an epoch has 14 steps, so that two say nothing, and all are the same network."""
MAX_RHO_TRAINING_ERROR = 70.0
"""In percent. Half of the batches are mixed, so that even who knows every image is often wrong; guessing is 90 %."""


def resolutions(setting: Setting) -> dict[str, Arm]:
    """Each seed is a fold."""

    def arm(side: int) -> Arm:
        spec = mobilenet().scaled(width=RHO_ALPHA, resolution=side)

        def request(seed: int) -> Request:
            return Request(
                network="mobilenet",
                spec=spec,
                data=imagenette_folds.fold(setting.folder, seed),
                recipe=RHO_RECIPE,
                seed=seed,
                runtime=protocol.RUNTIME,
            )

        return Arm(request=request)

    return {f"{side} px": arm(side) for side in RHO_SIDES}


def rho(setting: Setting) -> Measurement:
    trained = setting.train_arms(resolutions(setting))
    return over_folds(trained, answers_of_folds(trained))


def over_folds(trained: Mapping[str, TrainedArm], answers: Answers) -> Measurement:
    """The error at the lowest resolution minus that at the highest, fold by fold: both ends have the same images to
    learn and to test, and some folds are harder. Each fold has its own test images, so that the variance over folds has
    the sampling of images in it."""
    errors = {name: [100 * (1 - run.test_accuracy) for run in arm.runs] for name, arm in trained.items()}
    lowest, *_, highest = trained
    gains = [low - high for low, high in zip(errors[lowest], errors[highest], strict=True)]
    accuracies = {name: [100 - error for error in each] for name, each in errors.items()}
    chart = accuracy_chart(
        trained,
        accuracies,
        name="rho",
        title=f"The resolution multiplier: {RHO_SIDES[0]} to {RHO_SIDES[-1]} px",
        where=f"Imagenette, {len(answers.labels):,} photographs in folds; mobilenet, alpha {RHO_ALPHA:g}",
    )
    return with_macs(
        Measurement(
            estimate=replace(repeated(gains), num_images=len(answers.labels) // len(gains)),
            failed=failed_precondition({name: trained[name] for name in (lowest, highest)}, MAX_RHO_TRAINING_ERROR),
            figures=(
                *(
                    (
                        f"test accuracy, {name}",
                        f"{statistics.fmean(each):.2f} % ({', '.join(f'{one:.1f}' for one in each)})",
                    )
                    for name, each in accuracies.items()
                ),
                # Imagenette comes in several sizes, and the fingerprint cannot tell them apart.
                *(
                    (f"checksum of the images, fold {number}", run.card.provenance.data_checksum)
                    for number, run in enumerate(trained[lowest].runs)
                ),
            ),
            charts=(chart,),
            answers=answers,
        ),
        trained,
    )


def answers_of_folds(trained: Mapping[str, TrainedArm]) -> Answers:
    """One prediction of each image, by a network that was not trained on it; fold after fold."""
    first = next(iter(trained.values()))
    return Answers(
        np.concatenate([run.load_data().test.labels for run in first.runs]).astype(np.uint8),
        {
            name: np.concatenate([run.evaluate().predictions.numpy() for run in arm.runs]).astype(np.uint8)[None]
            for name, arm in trained.items()
        },
    )
