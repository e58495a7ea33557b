"""The gate: no artefact is written unless it answers as the model does, in its own runtime, on image files."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from convatlas.deployment import gate_child
from convatlas.deployment.manifest import SCRIPT, GateFigures, PairedLoss, Precision
from convatlas.deployment.predictor import LOGITS, PROBABILITIES
from convatlas.deployment.runtimes import Array
from convatlas.deployment.samples import Samples
from convatlas.errors import UserError
from convatlas.formatting import duration
from convatlas.models.model import Model
from convatlas.networks.features import features

BATCH_SIZES = (1, 3, 8)
MAX_LOGIT_DIFFERENCE = 1e-4
"""Of float32, as a fraction of the largest logit."""
MAX_LEVELS, MAX_CHANGED = 1.0, 0.01
"""By how many levels of 255 prepared values may differ, and which fraction of them. Bilinear resizing differs nowhere;
of other filters a runtime's float32 rounds what lies halfway between two levels otherwise than Pillow's float64."""
ROUNDING = 0.01
"""Levels that normalization in float32 may add: what differs by more has changed."""
MAX_PROBABILITY_DIFFERENCE = 1e-4
MAX_BATCH_DIFFERENCE = 0.05
"""Of lower precision, between an image alone and in a batch, as a fraction of the largest logit: sums in another order
differ in their last bit, and a few values are rounded to the next step."""
MIN_AGREEMENT = 0.98
Z = 1.959964
TIMEOUT_S = 3600


class GateError(UserError):
    """An artefact does not answer as the model does."""


@dataclass(frozen=True, kw_only=True)
class Gate:
    """A model's answers, which artefacts are held against."""

    model: Model
    samples: Samples
    outputs: tuple[str, ...] = ()
    """Layers whose feature maps an artefact gives too."""
    max_loss: float = 0.5
    """Points of accuracy that lower precision may cost."""

    def check(self, folder: Path, precision: Precision) -> GateFigures:
        """Run the artefact in a folder and compare.

        Raises:
            GateError: it differs from the model, or cannot be run.
        """
        prepared = np.stack([self.model.preprocessing.prepare(path) for path in self.samples.gate])
        # Of few images again, so that all batches are whole.
        inputs = prepared[np.arange(max(len(prepared), *BATCH_SIZES)) % len(prepared)]
        lower = precision is not Precision.FLOAT32
        with tempfile.TemporaryDirectory(prefix="convatlas-gate-") as temporary:
            work = Path(temporary)
            request = {"images": [str(path.absolute()) for path in self.samples.gate], "batch_sizes": BATCH_SIZES}
            (work / gate_child.REQUEST).write_text(json.dumps(request), "utf-8")
            np.save(work / gate_child.PREPARED, inputs)
            if lower:
                self._write_held_out(work / gate_child.HELD_OUT)
            answers, arrays = run_child(folder, work)
        return self._compared(folder, answers, arrays, inputs, precision)

    def _write_held_out(self, path: Path) -> None:
        split = self.samples.held_out
        if split is None:
            raise GateError(f"lower precision is judged on labeled images, and there are none: {self.samples.missing}")
        np.save(path, self.model.preprocessing.center(split.images[:]))

    @torch.inference_mode()
    def _compared(
        self,
        folder: Path,
        answers: Mapping[str, Any],
        arrays: Mapping[str, Array],
        inputs: Array,
        precision: Precision,
    ) -> GateFigures:
        """
        Args:
            inputs: the prepared images, each at least once.
        """
        if tuple(answers["classes"]) != self.model.classes:
            raise GateError("its classes are others, or in another order")
        if answers["executed"] != precision:
            raise GateError(f"it computes in {answers['executed']}, not in {precision}")
        logits = self.model.network(torch.from_numpy(inputs)).numpy()
        differences = {size: largest_difference(arrays[f"batch {size}, {LOGITS}"], logits) for size in BATCH_SIZES}
        if precision is Precision.FLOAT32:
            for size, difference in differences.items():
                if not difference <= MAX_LOGIT_DIFFERENCE:
                    raise GateError(
                        f"for batches of {size}, logits differ from the model's by {difference:.2g} of the largest, "
                        f"and {MAX_LOGIT_DIFFERENCE:g} is allowed"
                    )
            self._check_maps(torch.from_numpy(inputs), arrays)
        else:
            check_batches({size: arrays[f"batch {size}, {LOGITS}"] for size in BATCH_SIZES})
        for where in (*(f"batch {size}" for size in BATCH_SIZES), "own"):
            expected = self.model.variant.objective.probabilities(torch.from_numpy(arrays[f"{where}, {LOGITS}"]))
            apart = np.abs(arrays[f"{where}, {PROBABILITIES}"] - expected.numpy()).max()
            if not apart <= MAX_PROBABILITY_DIFFERENCE:
                raise GateError(f"its probabilities are not those of its logits: they differ by up to {apart:.2g}")
        num_images, calibration = len(self.samples.gate), self.samples.calibration
        levels, changed = self._prepared_difference(arrays["own"], inputs[:num_images])
        if not (levels <= MAX_LEVELS + ROUNDING and changed <= MAX_CHANGED):
            raise GateError(
                f"it prepares images otherwise: {100 * changed:.2g} % of the values differ, by up to {levels:.3g} "
                f"levels of 255; {100 * MAX_CHANGED:g} % and {MAX_LEVELS:g} are allowed"
            )
        own, logits = arrays[f"own, {LOGITS}"], logits[:num_images]
        check_script(folder, self.samples.gate, self.model.classes, arrays[f"own, {PROBABILITIES}"])
        if precision is Precision.FLOAT32:
            check_classes(own, logits)
        return GateFigures(
            num_images=num_images,
            batch_sizes=BATCH_SIZES,
            logit_difference=max(differences.values()),
            num_levels=levels,
            changed_values=changed,
            image_logit_difference=largest_difference(own, logits),
            executed=str(answers["executed"]),
            products=answers["products"],
            loss=self._loss(arrays["held out"]) if "held out" in arrays else None,
            num_calibration=len(calibration) if precision.has_int8 and calibration is not None else None,
        )

    def _check_maps(self, inputs: Tensor, arrays: Mapping[str, Array]) -> None:
        if not self.outputs:
            return
        for name, maps in features(self.model.network, self.outputs)(inputs).items():
            difference = max(largest_difference(arrays[f"batch {size}, {name}"], maps.numpy()) for size in BATCH_SIZES)
            if not difference <= MAX_LOGIT_DIFFERENCE:
                raise GateError(f"feature maps of {name} differ from the model's by {difference:.2g} of the largest")

    def _prepared_difference(self, own: Array, prepared: Array) -> tuple[float, float]:
        """How many levels of 255 prepared values differ at most, and which fraction of them does."""
        levels = np.abs(own - prepared) * self.model.preprocessing.pixel_std
        return float(levels.max()), float((levels > ROUNDING).mean())

    def _loss(self, answered: Array) -> PairedLoss:
        """
        Raises:
            GateError: it is more than is allowed.
        """
        loss = self.paired_loss(answered)
        if why := self.why_not(loss):
            raise GateError(why)
        return loss

    def why_not(self, loss: PairedLoss) -> str:
        """Why lower precision may not cost that; "" if it may."""
        seen = f"{loss.num_images:,} {loss.images}"
        if loss.loss > self.max_loss:
            return (
                f"of {seen} it gets {loss.loss:.2f} points fewer right than the model; `max_loss` allows "
                f"{self.max_loss:g}"
            )
        if loss.agreement < MIN_AGREEMENT:
            return (
                f"for {100 * loss.agreement:.1f} % of {seen} it names the model's class, and {100 * MIN_AGREEMENT:g} % "
                "is required"
            )
        return ""

    def paired_loss(self, answered: Array) -> PairedLoss:
        """What it costs to answer so (n,) on the held-out images."""
        split = self.samples.held_out
        assert split is not None, "there are answers to it"
        right, agreement = self._answered == split.labels, float((self._answered == answered).mean())
        return paired_loss(right, answered == split.labels, agreement, self.samples.held_out_kind)

    @cached_property
    @torch.inference_mode()
    def _answered(self) -> Array:
        """The classes (n,) that the model names for the held-out images."""
        split, preprocessing, network = self.samples.held_out, self.model.preprocessing, self.model.network
        assert split is not None, "asked for with the artefact's"
        found = []
        for begin in range(0, len(split), gate_child.HELD_OUT_BATCH):
            squares = split.images[begin : begin + gate_child.HELD_OUT_BATCH]
            inputs = preprocessing.normalize(preprocessing.center(squares))
            found.append(network(torch.from_numpy(inputs)).argmax(1).numpy())
        return np.concatenate(found)


def paired_loss(right: Array, answered: Array, agreement: float, images: str) -> PairedLoss:
    """
    Args:
        right, answered: (n,), whether the model and the artefact are right.
    """
    num = len(right)
    lost, gained = int((right & ~answered).sum()), int((~right & answered).sum())
    loss = (lost - gained) / num
    # Wald's interval for paired fractions, with half an image more on either side: of none that changed it says
    # nothing of what so few images could not show (Agresti and Min 2005).
    n, b, c = num + 2, lost + 0.5, gained + 0.5
    half = Z * math.sqrt(max(b + c - (b - c) ** 2 / n, 0)) / n
    center = (b - c) / n
    return PairedLoss(
        images=images,
        num_images=num,
        model_accuracy=float(right.mean()),
        artefact_accuracy=float(answered.mean()),
        agreement=agreement,
        interval=(100 * min(center - half, loss), 100 * max(center + half, loss)),
    )


def largest_difference(found: Array, expected: Array) -> float:
    """As a fraction of the largest of the values that are expected; where all are zeros, as it is."""
    return float(np.abs(found - expected).max() / (np.abs(expected).max() or 1.0))


def check_batches(logits: Mapping[int, Array]) -> None:
    """
    Args:
        logits: by the size of the batches, of the same images.

    Raises:
        GateError: an image in a batch is answered otherwise than alone.
    """
    for size, found in logits.items():
        difference = largest_difference(found, logits[1])
        if not difference <= MAX_BATCH_DIFFERENCE:
            raise GateError(
                f"in batches of {size} it answers otherwise than one by one: logits differ by {difference:.2g} of the "
                f"largest, and {MAX_BATCH_DIFFERENCE:g} is allowed"
            )


def check_classes(own: Array, logits: Array) -> None:
    """
    Raises:
        GateError: the artefact names another class for an image whose margin exceeds the difference of its logits.
    """
    two = np.sort(logits, 1)[:, -2:]
    clear = two[:, 1] - two[:, 0] > np.abs(own - logits).max(1)
    wrong = (own.argmax(1) != logits.argmax(1)) & clear
    if wrong.any():
        raise GateError(f"it names another class than the model for {int(wrong.sum())} of {len(wrong)} image files")


def run_child(folder: Path, work: Path) -> tuple[Mapping[str, Any], Mapping[str, Array]]:
    """What the artefact in a folder answers, run in a process of its own.

    Raises:
        GateError: it cannot be loaded, or the process ends without an answer.
    """
    ended = run_python("-m", gate_child.__name__, str(folder.absolute()), str(work))
    try:
        answers = json.loads((work / gate_child.ANSWERS).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise GateError(f"its runtime fails on it: {last_words(ended)}") from error
    if "error" in answers:
        raise GateError(answers["error"])
    with np.load(work / gate_child.ARRAYS) as arrays:
        return answers, dict(arrays)


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own.

    Raises:
        GateError: it does not end.
    """
    # -P: a file of the working folder is no module.
    command = [sys.executable, "-P", *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise GateError(f"its runtime has not answered after {duration(TIMEOUT_S)}") from error


def last_words(ended: subprocess.CompletedProcess[str]) -> str:
    """What a process that failed said last."""
    return (ended.stderr.strip().splitlines() or [f"exit status {ended.returncode}"])[-1][:300]


def check_script(folder: Path, images: tuple[Path, ...], classes: tuple[str, ...], probabilities: Array) -> None:
    """Run the artefact's script on image files and compare with what the artefact answered before.

    Raises:
        GateError: it names other classes or probabilities.
    """
    ended = run_python(str(folder.absolute() / SCRIPT), "--json", *(str(path.absolute()) for path in images))
    try:
        answers = json.loads(ended.stdout)["predictions"]
    except ValueError as error:
        raise GateError(f"its {SCRIPT} fails: {last_words(ended)}") from error
    if ended.returncode:
        raise GateError(f"its {SCRIPT} does not answer to every image: {last_words(ended)}")
    for path, one, row in zip(images, answers, probabilities, strict=True):
        named = dict(zip(one["classes"], one["probabilities"], strict=True))
        if any(abs(named[name] - row[classes.index(name)]) > MAX_PROBABILITY_DIFFERENCE for name in named):
            raise GateError(f"its {SCRIPT} answers otherwise to {path.name}")
