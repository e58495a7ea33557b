"""Learning from a trained network's answers (Hinton, Vinyals and Dean 2015) and from where it looks (Zagoruyko and
Komodakis 2017)."""

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
from convatlas.images import ChannelOrder, Preprocessing
from convatlas.recipe import Distillation
from convatlas.runs import Execution, Run, load
from convatlas.spec import Objective, Spec, Variant
from convatlas.training.step import arranged

LUMA = (0.299, 0.587, 0.114)
"""Gray of red, green and blue (ITU-R BT.601), as images are made gray everywhere here."""
LEAST = 1e-30
"""Probability below which nothing is learned of a class: not far below it, single precision has no numbers."""


def teacher_named(path: str | Path, classes: tuple[str, ...]) -> Run:
    """The finished run to learn from.

    Raises:
        UserError: it is none, is not finished, or tells other classes apart.
    """
    run = load(path)
    if run.record.classes != classes:
        here, there = (f"{len(names)} ({', '.join(names[:3])}, ...)" for names in (classes, run.record.classes))
        raise UserError(f"the teacher {path} tells other classes apart: {there}, and the images have {here}")
    # Reads results and weights, and says what is wrong with them before anything is begun.
    _ = run.network
    return run


def as_read_by(inputs: Tensor, own: Preprocessing, other: Preprocessing, side: int) -> Tensor:
    """A network's inputs (batch, channels, height, width) as another network reads the same images.

    Args:
        own: how the inputs were made.
        other: how the other network's are.
        side: of what the other network is shown, in pixels.
    """

    def column(values: tuple[float, ...], value_range: float = 1.0) -> Tensor:
        return inputs.new_tensor(values)[:, None, None] / value_range

    # Of 0 to 1.
    images = inputs * column(own.std, own.value_range) + column(own.mean, own.value_range)
    if own.channel_order is ChannelOrder.BGR:
        images = images.flip(1)
    if own.channels == 3 and other.channels == 1:
        images = (images * column(LUMA)).sum(1, keepdim=True)
    if inputs.shape[-1] != side:
        images = F.interpolate(images, size=(side, side), mode="bilinear", antialias=True)
    # Gray is read as a color of three equal parts.
    images = images.expand(-1, other.channels, -1, -1)
    if other.channel_order is ChannelOrder.BGR:
        images = images.flip(1)
    return (images - column(other.mean, other.value_range)) / column(other.std, other.value_range)


def log_probabilities(objective: Objective, outputs: Tensor, temperature: float) -> Tensor:
    """Of softened answers (batch, classes): each probability to the power 1/temperature, brought back to a sum of 1.

    Of softmax this is Hinton's division of the logits; of any other objective the same thing.
    """
    return (objective.probabilities(outputs).clamp_min(LEAST).log() / temperature).log_softmax(1)


def last_of_each_size(variant: Variant, spec: Spec) -> list[str]:
    """The last convolution at each size of its maps, the smallest maps first, without those of a single place.

    Raises:
        UserError: the network has none.
    """
    names: dict[int, str] = {}
    for layer in measure.layers_of(variant.network, spec):
        # Fully connected layers have no places.
        if layer.macs and len(layer.output_shape) == 3:
            names[layer.output_shape[-1]] = layer.name
    found = [names[side] for side in sorted(names) if side > 1]
    if not found:
        raise UserError(f"{variant.name} has no maps that respond somewhere; leave --attention_weight out")
    return found


def attention(maps: Tensor, side: int) -> Tensor:
    """Where a layer responds (batch, side * side), of length 1: the mean square of its maps (batch, maps, h, w)."""
    where = F.adaptive_avg_pool2d(maps.float().square().mean(1, keepdim=True), side).flatten(1)
    return F.normalize(where, dim=1)


class Watched:
    """The last outputs of some layers of a network."""

    def __init__(self, network: nn.Module, names: list[str]) -> None:
        self.outputs: dict[str, Tensor] = {}
        self.names = names

        def keep(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
            def hook(layer: nn.Module, given: Any, output: Tensor) -> None:
                self.outputs[name] = output

            return hook

        for name in names:
            network.get_submodule(name).register_forward_hook(keep(name))

    def attention_to(self, other: Watched) -> Tensor:
        """The squared distance (batch,) of where both look, the mean over pairs of layers, the smallest maps first."""
        distances = []
        for own, others in zip(self.names, other.names, strict=False):
            maps, theirs = self.outputs[own], other.outputs[others]
            side = min(maps.shape[-1], theirs.shape[-1])
            distances.append((attention(maps, side) - attention(theirs, side)).square().sum(1))
        return torch.stack(distances).mean(0)


@dataclass(frozen=True)
class Teacher:
    """A trained network whose answers another one learns."""

    run: Run
    network: nn.Module
    distillation: Distillation
    objective: Objective
    """The learner's."""
    own: Preprocessing
    """How the learner's inputs were made."""
    execution: Execution
    """How both compute."""
    attention_weight: tuple[Watched, Watched] | None
    """The learner's layers and the teacher's."""

    @classmethod
    def of(cls, run: Run, learner: nn.Module, distillation: Distillation) -> Self:
        """The teacher of a run's network, on the device that it is on."""
        execution = run.record.execution
        taught = teacher_named(distillation.teacher, run.record.classes)
        device = next(learner.parameters()).device
        network = arranged(taught.network.to(device).requires_grad_(False), execution)
        attention_weight = None
        if distillation.attention_weight:
            attention_weight = (
                Watched(learner, last_of_each_size(run.variant, run.record.spec)),
                Watched(network, last_of_each_size(taught.variant, taught.record.spec)),
            )
        return cls(
            taught, network, distillation, run.variant.objective, run.record.preprocessing, execution, attention_weight
        )

    def losses(self, hard: Tensor, outputs: Tensor, inputs: Tensor) -> Tensor:
        """Losses (batch,) of the learner's outputs (batch, classes) for its inputs, by its own targets and the teacher.

        Gradients of softened answers shrink as 1 / temperature^2; their loss is weighted by its inverse (section 2).

        Args:
            hard: the losses (batch,) by its targets.
        """
        asked = self.distillation
        theirs = log_probabilities(self.run.variant.objective, self.outputs_for(inputs), asked.temperature)
        own = log_probabilities(self.objective, outputs, asked.temperature)
        distill_weight = asked.temperature**2 * F.kl_div(own, theirs, reduction="none", log_target=True).sum(1)
        losses = (1 - asked.distill_weight) * hard + asked.distill_weight * distill_weight
        if self.attention_weight is not None:
            learner, teacher = self.attention_weight
            losses = losses + asked.attention_weight * learner.attention_to(teacher)
        return losses

    def outputs_for(self, inputs: Tensor) -> Tensor:
        """The teacher's outputs (batch, classes) for the learner's inputs."""
        record = self.run.record
        side = record.recipe.augmentation.side_for(record.spec.resolution)
        with torch.no_grad(), torch.autocast(inputs.device.type, torch.bfloat16, enabled=self.execution.bfloat16):
            outputs: Tensor = self.network(as_read_by(inputs, self.own, record.preprocessing, side))
        return outputs.float()
