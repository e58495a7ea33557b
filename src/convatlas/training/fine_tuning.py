"""Fine-tuning: a new head on a pretrained body, which is unfrozen layer by layer from the top."""

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
from convatlas.spec import Spec, Variant
from convatlas.training.constraints import read_weights
from convatlas.training.optimizers import ParamGroup

LOWEST_LR = 0.1
"""The learning rate of the lowest group, as a fraction of the head's: edge filters need to change least."""
HEAD_ALONE = 0.1
"""Fraction of training in which only the head is trained."""
UNFROZEN = 0.3
"""Fraction after which all layers are trained; between the two, one group after another (Howard and Ruder 2018)."""


def head_of(variant: Variant, spec: Spec) -> str:
    """The name of the last layer with weights."""
    return [layer.name for layer in measure.layers_of(variant.network, spec) if layer.params][-1]


@dataclass(frozen=True)
class Body:
    """The weights that training starts from, of all of the network but its head."""

    path: str
    weights: dict[str, Tensor]
    variant: Variant
    spec: Spec
    head: str

    @classmethod
    def of(cls, path: str, variant: Variant, spec: Spec) -> Self:
        """
        Raises:
            UserError: there are no weights at that path.
        """
        return cls(path, read_weights(Path(path)), variant, spec, head_of(variant, spec))

    def names(self) -> set[str]:
        """The tensors that these weights replace: all but the head and others whose shape depends on the classes.

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
                raise UserError(f"{self.path} has no {name}: it is not of a {self.variant.name} of this depth")
            if self.weights[name].shape != own[name].shape:
                there, here = (tuple(values[name].shape) for values in (self.weights, own))
                raise UserError(
                    f"{self.path} does not fit: its {name} has the shape {there}, this network's {here}; "
                    "network, width, depth, resolution and number of channels must be the same"
                )
        return names

    def put_into(self, network: nn.Module) -> None:
        """Copy the weights into a network, and leave its head as it is."""
        names = self.names()
        own = network.state_dict()
        network.load_state_dict({name: self.weights[name] if name in names else own[name] for name in own})

    def is_head(self, name: str) -> bool:
        return name.startswith(f"{self.head}.")

    def head_of(self, network: nn.Module) -> ParamGroup:
        """The head's parameters."""
        return ParamGroup({name: value for name, value in network.named_parameters() if self.is_head(name)})


@dataclass(frozen=True)
class LayerGroup:
    """A part of a network that is unfrozen as one."""

    module: nn.Module
    parameters: dict[str, Tensor]
    """By the names that they have in the network."""

    @property
    def is_trained(self) -> bool:
        return all(value.requires_grad for value in self.parameters.values())


def layer_groups(network: nn.Module, head: str) -> list[LayerGroup]:
    """The groups of a network from the head down to the first layer; what is defined after the head belongs to it."""
    parts: list[tuple[str, nn.Module]] = []
    for name, child in network.named_children():
        inner = child.named_children() if isinstance(child, (nn.ModuleList, nn.Sequential)) else ()
        parts += [(f"{name}.{key}", module) for key, module in inner] or [(name, child)]
    named = [
        LayerGroup(module, {f"{name}.{key}": value for key, value in module.named_parameters()})
        for name, module in parts
        if any(True for _ in module.parameters())
    ]
    at = next(i for i, group in enumerate(named) if any(key.startswith(f"{head}.") for key in group.parameters))
    top = {key: value for group in named[at:] for key, value in group.parameters.items()}
    return [LayerGroup(nn.ModuleList(group.module for group in named[at:]), top), *reversed(named[:at])]


def learning_rates(groups: list[LayerGroup]) -> list[ParamGroup]:
    """The parameters with their factors of the learning rate: from 1 at the head down to a tenth."""
    last = max(len(groups) - 1, 1)
    return [ParamGroup(group.parameters, LOWEST_LR ** (i / last)) for i, group in enumerate(groups)]


def unfreeze(groups: list[LayerGroup], done: float) -> bool:
    """Freeze the groups that are not due yet after that fraction of training, their batch-norm statistics too.

    Returns:
        whether other parameters are trained than before.
    """
    before = [group.is_trained for group in groups]
    body = len(groups) - 1
    freed = 1 + int(body * (done - HEAD_ALONE) / (UNFROZEN - HEAD_ALONE)) if done >= HEAD_ALONE else 0
    for i, group in enumerate(groups):
        group.module.train(i <= freed).requires_grad_(i <= freed)
    return before != [group.is_trained for group in groups]


class FrozenBody(nn.Module):
    """A network whose head is trained on features that were computed before."""

    def __init__(self, network: nn.Module, head: str, empty: Tensor) -> None:
        """
        Args:
            empty: an empty batch of images (0, channels, height, width).
        """
        super().__init__()
        self.network = network.requires_grad_(False)
        self.head = network.get_submodule(head).requires_grad_(True)
        self.empty = empty

    def train(self, mode: bool = True) -> Self:
        # The body is frozen, batch-norm statistics included, and drops nothing.
        self.network.eval()
        return self

    def forward(self, features: Tensor) -> Tensor:
        """Outputs (batch, classes) of features (batch, ...), the head's inputs."""
        # The network's own forward knows what comes after the head. No image goes through the body.
        with self.head.register_forward_pre_hook(lambda head, inputs: (features,)):
            outputs: Tensor = self.network(self.empty)
        return outputs


@dataclass(frozen=True)
class FeatureBatches:
    """Batches of the features that the head reads of each image, without augmentation, computed once."""

    batches: Batches
    features: Tensor
    """(images, ...), on the device."""

    @classmethod
    def of(cls, batches: Batches, network: nn.Module, head: str) -> Self:
        """Compute the features of every image, in evaluation mode."""
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
