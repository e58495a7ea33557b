"""Fine-tuning: a trained body under a new head."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from convatlas import measure
from convatlas.data import Batches
from convatlas.data.batches import Batch
from convatlas.errors import UserError
from convatlas.measure.table import build_without_memory
from convatlas.recipe import Optimizer
from convatlas.runs import Run
from convatlas.spec import Spec, Variant
from convatlas.training import optimizers
from convatlas.training.constraints import ConstrainedWeights, weights_of
from convatlas.training.distillation import Teacher
from convatlas.training.distribution import Processes
from convatlas.training.optimizers import ParamGroup
from convatlas.training.step import Step, class_weights

LOWEST = 0.1
"""The rate of the lowest unit, as a part of the head's: what sees edges needs to change least."""
HEAD_ALONE = 0.1
"""Fraction of training in which the head alone learns."""
UNFROZEN = 0.3
"""Fraction after which all learns; between the two, one unit after another from the top (Howard and Ruder 2018)."""


def head_of(variant: Variant, spec: Spec) -> str:
    """The name of the last layer with weights."""
    return [layer.name for layer in measure.layers_of(variant.network, spec) if layer.params][-1]


@dataclass(frozen=True)
class Body:
    """The weights that a training begins from, for all of its network but the head."""

    where: str
    weights: dict[str, Tensor]
    variant: Variant
    spec: Spec
    head: str

    @classmethod
    def of(cls, where: str, variant: Variant, spec: Spec) -> Self:
        return cls(where, weights_of(Path(where)), variant, spec, head_of(variant, spec))

    def names(self) -> set[str]:
        """What of a network these weights replace: all but its head and what else depends on the number of classes.

        Raises:
            UserError: they are another network's.
        """
        own, other = (
            build_without_memory(self.variant.network, replace(self.spec, num_classes=num)).state_dict()
            for num in (self.spec.num_classes, self.spec.num_classes + 1)
        )
        names = {name for name in own if not self.is_head(name) and own[name].shape == other[name].shape}
        for name in sorted(names):
            if name not in self.weights:
                raise UserError(f"{self.where} has no {name}: it is no {self.variant.name} of this depth")
            if self.weights[name].shape != own[name].shape:
                there, here = (tuple(values[name].shape) for values in (self.weights, own))
                raise UserError(
                    f"{self.where} does not fit: its {name} has the shape {there}, this network's {here}; "
                    "the same network, width, depth, resolution and colors are needed"
                )
        return names

    def put_into(self, network: nn.Module) -> None:
        names = self.names()
        own = network.state_dict()
        network.load_state_dict({name: self.weights[name] if name in names else own[name] for name in own})

    def is_head(self, name: str) -> bool:
        return name.startswith(f"{self.head}.")

    def head_of(self, network: nn.Module) -> ParamGroup:
        return ParamGroup({name: value for name, value in network.named_parameters() if self.is_head(name)})


@dataclass(frozen=True)
class Unit:
    """A part of a network that is thawed as one."""

    module: nn.Module
    parameters: dict[str, Tensor]
    """By the names that they have in the network."""

    @property
    def learns(self) -> bool:
        return all(value.requires_grad for value in self.parameters.values())


def units(network: nn.Module, head: str) -> list[Unit]:
    """The parts of a network from the head down to its first; what is defined after the head belongs to it."""
    parts: list[tuple[str, nn.Module]] = []
    for name, child in network.named_children():
        inner = child.named_children() if isinstance(child, (nn.ModuleList, nn.Sequential)) else ()
        parts += [(f"{name}.{key}", module) for key, module in inner] or [(name, child)]
    named = [
        Unit(module, {f"{name}.{key}": value for key, value in module.named_parameters()})
        for name, module in parts
        if any(True for _ in module.parameters())
    ]
    at = next(i for i, unit in enumerate(named) if any(key.startswith(f"{head}.") for key in unit.parameters))
    top = {key: value for unit in named[at:] for key, value in unit.parameters.items()}
    return [Unit(nn.ModuleList(unit.module for unit in named[at:]), top), *reversed(named[:at])]


def rates(units: list[Unit]) -> list[ParamGroup]:
    """The parameters with their part of the rate: from all of it at the head down to a tenth."""
    last = max(len(units) - 1, 1)
    return [ParamGroup(unit.parameters, LOWEST ** (i / last)) for i, unit in enumerate(units)]


def unfreeze(units: list[Unit], done: float) -> bool:
    """Freeze what does not learn yet after that fraction of training: weights, and what normalization has seen.

    Returns:
        whether other parameters learn than before.
    """
    before = [unit.learns for unit in units]
    body = len(units) - 1
    freed = 1 + int(body * (done - HEAD_ALONE) / (UNFROZEN - HEAD_ALONE)) if done >= HEAD_ALONE else 0
    for i, unit in enumerate(units):
        unit.module.train(i <= freed).requires_grad_(i <= freed)
    return before != [unit.learns for unit in units]


class FrozenBody(nn.Module):
    """A network whose head answers to features that were computed before."""

    def __init__(self, network: nn.Module, head: str, nothing: Tensor) -> None:
        """
        Args:
            nothing: an empty batch of images (0, channels, height, width).
        """
        super().__init__()
        self.network = network.requires_grad_(False)
        self.head = network.get_submodule(head).requires_grad_(True)
        self.nothing = nothing

    def train(self, mode: bool = True) -> Self:
        # The body does not learn, so neither does what its normalization has seen; nor is anything dropped.
        self.network.eval()
        return self

    def forward(self, features: Tensor) -> Tensor:
        """Outputs (batch, classes) of features (batch, ...), the head's inputs."""
        # The network's own forward knows what comes after the head. No image goes through the body.
        with self.head.register_forward_pre_hook(lambda head, inputs: (features,)):
            outputs: Tensor = self.network(self.nothing)
        return outputs


@dataclass(frozen=True)
class FeatureBatches:
    """Batches of what the head sees of each image as it is, computed once and kept."""

    batches: Batches
    features: Tensor
    """(images, ...), on the device."""

    @classmethod
    def of(cls, batches: Batches, network: nn.Module, head: str) -> Self:
        """Show every image to the body, once, in evaluation mode."""
        seen: list[Tensor] = []

        def keep(head: nn.Module, inputs: tuple[Tensor]) -> None:
            seen.append(inputs[0])

        network.eval()
        with torch.inference_mode(), network.get_submodule(head).register_forward_pre_hook(keep):
            for indices in torch.arange(len(batches.split)).split(batches.batch_size):
                network(batches.plain(indices).inputs)
        # Outside inference mode: what autograd may save.
        return cls(batches, torch.cat(seen).clone())

    def __len__(self) -> int:
        return len(self.batches)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        for own, num in self.batches.places(epoch, start):
            labels, targets = self.batches.labels_and_targets(own)
            yield Batch(self.features[own.to(self.features.device)], targets, labels, own, num)


@dataclass(frozen=True)
class TrainingSetup:
    """What of a run's network learns, from which weights, shown what."""

    run: Run
    body: Body | None
    """The weights to begin from, under a new head; None: new ones."""
    ties: ConstrainedWeights | None = None
    """The weights of a whole network to begin from, and what stays of them."""

    @classmethod
    def of(cls, run: Run) -> Self:
        start, kept = run.record.start, run.record.kept
        if start is None:
            return cls(run, None)
        if kept is not None:
            return cls(run, None, ConstrainedWeights.of(start, run.record))
        return cls(run, Body.of(start, run.variant, run.record.spec))

    @property
    def measurable(self) -> bool:
        """Whether measuring a step is worth it: a head alone learns in no time, and curvatures come between epochs."""
        return not self.run.record.freeze and self.run.record.recipe.optimizer is not Optimizer.LEVENBERG_MARQUARDT

    def begun(self, device: torch.device) -> tuple[nn.Module, torch.optim.Optimizer]:
        """The network before the first step, and its optimizer."""
        record = self.run.record
        torch.manual_seed(record.seed)
        network = record.network().to(device).train()
        groups = None
        if self.ties is not None:
            self.ties.bind(network)
        if self.body is not None:
            self.body.put_into(network)
            groups = [self.body.head_of(network)] if record.freeze else rates(units(network, self.body.head))
        return network, optimizers.build(record.recipe, network, groups)

    def learning(self, network: nn.Module, batches: Batches) -> tuple[nn.Module, Batches | FeatureBatches]:
        """What learns of the network, and the batches that it is shown."""
        if self.body is None or not self.run.record.freeze:
            return network, batches
        nothing = batches.plain(torch.arange(0)).inputs
        return FrozenBody(network, self.body.head, nothing), FeatureBatches.of(batches, network, self.body.head)

    def teacher(self, network: nn.Module) -> Teacher | None:
        """Whoever teaches that network, beside the labels."""
        asked = self.run.record.distillation
        return None if asked is None else Teacher.of(self.run, network, asked)

    def step(self, learning: nn.Module, batches: Batches, processes: Processes, teacher: Teacher | None = None) -> Step:
        """The step of what learns, on the device of those batches."""
        record = self.run.record
        weights = class_weights(batches.split, len(record.classes), balanced=record.balance)
        return Step.prepared(
            learning,
            self.run.variant.objective,
            record.execution,
            class_weights=weights.to(batches.device),
            batch_size=record.recipe.batch_size,
            micro_batch=record.micro_batch,
            processes=processes,
            teacher=teacher,
        )

    def thawed(self, network: nn.Module, done: float) -> bool:
        """Let learn what should after that fraction of training; whether that is other than before."""
        if self.body is None or self.run.record.freeze:
            return False
        return unfreeze(units(network, self.body.head), done)
