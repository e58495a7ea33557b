"""Knowledge distillation (Hinton, Vinyals and Dean 2015) and attention transfer (Zagoruyko and Komodakis 2017)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convatlas import measure
from convatlas.errors import UserError
from convatlas.files import SILENT, ProgressCallback
from convatlas.images import ChannelOrder, Preprocessing
from convatlas.models.model import Model
from convatlas.runs.options import Distillation, Execution
from convatlas.runs.run import Run, load
from convatlas.spec import Objective, Spec, Variant
from convatlas.training.step import to_memory_format

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in gray (ITU-R BT.601), as Pillow converts."""
MIN_PROBABILITY = 1e-30
"""Smaller probabilities count as this one: not far below it, float32 has no numbers."""


def open_teacher(path: str | Path, classes: tuple[str, ...], progress: ProgressCallback = SILENT) -> Run | Model:
    """The run or the model to learn from.

    Args:
        classes: that it must know.
        progress: called with the progress of a download.

    Raises:
        UserError: it is none, is not finished, or has other classes.
    """
    teacher = load(path, progress=progress)
    if teacher.card.classes != classes:
        here, there = (f"{len(names)} ({', '.join(names[:3])}, ...)" for names in (classes, teacher.card.classes))
        raise UserError(f"the teacher {path} has other classes: {there}, and the images have {here}")
    # Reads the weights, and says what is wrong with them before training starts.
    _ = teacher.network
    return teacher


def input_side(teacher: Run | Model) -> int:
    """The side in pixels of the inputs that a teacher was trained on; without its recipe, of those it is tested on."""
    resolution = teacher.spec.resolution
    return teacher.record.recipe.augmentation.side_for(resolution) if isinstance(teacher, Run) else resolution


def as_read_by(inputs: Tensor, own: Preprocessing, other: Preprocessing, side: int) -> Tensor:
    """A network's inputs (batch, channels, height, width), converted to those of another network.

    Args:
        own: the preprocessing of the inputs.
        other: the preprocessing of the other network.
        side: of the other network's inputs, in pixels.
    """

    def column(values: tuple[float, ...], value_range: float = 1.0) -> Tensor:
        return inputs.new_tensor(values)[:, None, None] / value_range

    images = inputs * column(own.std, own.value_range) + column(own.mean, own.value_range)
    if own.channel_order is ChannelOrder.BGR:
        images = images.flip(1)
    if own.channels == 3 and other.channels == 1:
        images = (images * column(LUMA)).sum(1, keepdim=True)
    if inputs.shape[-1] != side:
        images = F.interpolate(images, size=(side, side), mode="bilinear", antialias=True)
    # Gray becomes three equal channels.
    images = images.expand(-1, other.channels, -1, -1)
    if other.channel_order is ChannelOrder.BGR:
        images = images.flip(1)
    return (images - column(other.mean, other.value_range)) / column(other.std, other.value_range)


def log_probabilities(objective: Objective, outputs: Tensor, temperature: float) -> Tensor:
    """The logarithms (batch, classes) of softened probabilities: to the power 1/temperature, and normalized.

    With softmax this is Hinton's division of the logits; with any other objective it does the same.
    """
    return (objective.probabilities(outputs).clamp_min(MIN_PROBABILITY).log() / temperature).log_softmax(1)


def last_of_each_size(variant: Variant, spec: Spec) -> list[str]:
    """The last convolution at each size of feature maps above 1x1, the smallest size first.

    Raises:
        UserError: the network has none.
    """
    names: dict[int, str] = {}
    for layer in measure.layers_of(variant.network, spec):
        # The outputs of fully connected layers have no sides.
        if layer.macs and len(layer.output_shape) == 3:
            names[layer.output_shape[-1]] = layer.name
    found = [names[side] for side in sorted(names) if side > 1]
    if not found:
        raise UserError(f"{variant.name} has no feature maps for attention transfer; leave `attention_weight` out")
    return found


def attention_map(features: Tensor, side: int) -> Tensor:
    """The mean square over channels of features (batch, channels, h, w), as vectors (batch, side * side) of norm 1."""
    squares = F.adaptive_avg_pool2d(features.float().square().mean(1, keepdim=True), side).flatten(1)
    return F.normalize(squares, dim=1)


class AttentionMaps:
    """Those of some layers of a network, for the inputs that it saw last."""

    def __init__(self, network: nn.Module, names: list[str]) -> None:
        self.outputs: dict[str, Tensor] = {}
        self.names = names

        def keep(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
            def hook(layer: nn.Module, inputs: Any, output: Tensor) -> None:
                self.outputs[name] = output

            return hook

        for name in names:
            network.get_submodule(name).register_forward_hook(keep(name))

    def distances_to(self, other: AttentionMaps) -> Tensor:
        """The squared distances (batch,), the mean over pairs of layers, the smallest feature maps first."""
        distances = []
        for own_name, other_name in zip(self.names, other.names, strict=False):
            own, theirs = self.outputs[own_name], other.outputs[other_name]
            side = min(own.shape[-1], theirs.shape[-1])
            distances.append((attention_map(own, side) - attention_map(theirs, side)).square().sum(1))
        return torch.stack(distances).mean(0)


@dataclass(frozen=True)
class Teacher:
    """A trained network whose outputs another network, the student, learns."""

    network: nn.Module
    """In the memory format of the student."""
    objective: Objective
    preprocessing: Preprocessing
    side: int
    """Of its inputs, in pixels."""
    distillation: Distillation
    student_objective: Objective
    student_preprocessing: Preprocessing
    execution: Execution
    """How both are computed."""
    attention: tuple[AttentionMaps, AttentionMaps] | None
    """The student's and the teacher's, with attention transfer."""

    @classmethod
    def of(cls, run: Run, student: nn.Module, distillation: Distillation) -> Self:
        """The teacher of a run's network, on the device that it is on.

        Raises:
            UserError: see `open_teacher`.
        """
        execution = run.record.execution
        teacher = open_teacher(distillation.teacher, run.card.classes)
        device = next(student.parameters()).device
        network = to_memory_format(teacher.network.to(device).requires_grad_(False), execution)
        attention = None
        if distillation.attention_weight:
            attention = (
                AttentionMaps(student, last_of_each_size(run.variant, run.spec)),
                AttentionMaps(network, last_of_each_size(teacher.variant, teacher.spec)),
            )
        return cls(
            network=network,
            objective=teacher.variant.objective,
            preprocessing=teacher.card.preprocessing,
            side=input_side(teacher),
            distillation=distillation,
            student_objective=run.variant.objective,
            student_preprocessing=run.card.preprocessing,
            execution=execution,
            attention=attention,
        )

    def losses(self, target_losses: Tensor, outputs: Tensor, inputs: Tensor) -> Tensor:
        """The student's losses (batch,) by its targets and the teacher.

        The gradients of softened outputs shrink as 1 / temperature^2, so their loss is multiplied by temperature^2
        (section 2).

        Args:
            target_losses: (batch,), by the targets alone.
            outputs: the student's, (batch, classes).
            inputs: the student's, (batch, channels, height, width).
        """
        options = self.distillation
        theirs = log_probabilities(self.objective, self.outputs_for(inputs), options.temperature)
        own = log_probabilities(self.student_objective, outputs, options.temperature)
        distill_losses = options.temperature**2 * F.kl_div(own, theirs, reduction="none", log_target=True).sum(1)
        losses = (1 - options.distill_weight) * target_losses + options.distill_weight * distill_losses
        if self.attention is not None:
            student, teacher = self.attention
            losses = losses + options.attention_weight * student.distances_to(teacher)
        return losses

    def outputs_for(self, inputs: Tensor) -> Tensor:
        """The teacher's outputs (batch, classes) for the student's inputs."""
        own = as_read_by(inputs, self.student_preprocessing, self.preprocessing, self.side)
        with torch.no_grad(), torch.autocast(inputs.device.type, torch.bfloat16, enabled=self.execution.bfloat16):
            outputs: Tensor = self.network(own)
        return outputs.float()
