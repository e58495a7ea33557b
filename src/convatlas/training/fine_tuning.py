"""Fine-tuning: a new head on a pretrained body, which is unfrozen layer by layer from the top.

The head is first fitted to the features that the body has for the training images, and only then the body learns with
it: a random head would send gradients of noise through the body (Kumar et al. 2022, linear probing then fine-tuning).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from convatlas import measure
from convatlas.data import Batches
from convatlas.data.batches import Batch
from convatlas.spec import Spec, Variant
from convatlas.training.batch_norm import BatchNorm
from convatlas.training.optimizers import ParamGroup
from convatlas.training.step import Step
from convatlas.weights.adapting import Adapted, adapted

MIN_LR_FACTOR = 0.3
"""The learning rate of the lowest group, as a fraction of the head's: edge filters need to change least."""
UNFREEZING = (0.0, 0.2)
"""The fractions of training between which one group after another is unfrozen (Howard and Ruder 2018)."""
MIN_LR_FACTOR_WITHOUT_FIT, UNFREEZING_WITHOUT_FIT = 0.1, (0.1, 0.3)
"""Those of earlier versions, where the head was not fitted and learned alone at first."""
FEW_IMAGES = 10_000
"""With fewer training images batch normalization keeps the statistics that the weights came with: those of so few
images in a short training would be worse. Recipes differ too."""
MAX_FITTED = 10_000
"""Images that a head is fitted to, at most."""
MAX_FEATURES = 2**28
"""Numbers that their features are, at most: 1 GiB."""
FIT_ITERATIONS = 100
FIT_MEMORY = 10
"""Steps that L-BFGS remembers."""
FIT_DECAY = 0.05
"""Weight decay of a head, times the mean square of its features, so that their scale does not matter."""


def last_trained_layer(variant: Variant, spec: Spec) -> str:
    """The name of the last layer with weights."""
    return [layer.name for layer in measure.layers_of(variant.network, spec) if layer.params][-1]


@dataclass(frozen=True)
class Backbone:
    """The weights that training starts from, of all of the network but its head."""

    adapted: Adapted
    head: str
    """The layer that is trained anew."""

    @classmethod
    def of(cls, weights: Mapping[str, Tensor], variant: Variant, spec: Spec, where: str) -> Self:
        """
        Args:
            where: what messages call the weights.

        Raises:
            UserError: they are another network's.
        """
        return cls(adapted(weights, variant, spec, where), last_trained_layer(variant, spec))

    def load_into(self, network: nn.Module) -> None:
        """Copy the weights into a network, and leave its head as it is."""
        own = network.state_dict()
        kept = {name: value for name, value in self.adapted.tensors.items() if not self.is_head(name)}
        network.load_state_dict(own | kept)

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


def learning_rates(groups: list[LayerGroup], *, is_fitted: bool) -> list[ParamGroup]:
    """The parameters with their factors of the learning rate: from 1 at the head down to `MIN_LR_FACTOR`.

    Args:
        is_fitted: whether the head was fitted before.
    """
    last = max(len(groups) - 1, 1)
    least = MIN_LR_FACTOR if is_fitted else MIN_LR_FACTOR_WITHOUT_FIT
    return [ParamGroup(group.parameters, least ** (i / last)) for i, group in enumerate(groups)]


def unfreeze(groups: list[LayerGroup], done: float, *, is_fitted: bool = False, keeps_statistics: bool = False) -> bool:
    """Freeze the groups that are not due yet after the fraction `done` of training, batch-norm statistics included.

    Args:
        is_fitted: whether the head was fitted before, so that the layers above the first below it learn from the start.
        keeps_statistics: whether batch normalization keeps its statistics in all groups.

    Returns:
        whether other parameters are trained than before.
    """
    before = [group.is_trained for group in groups]
    body = len(groups) - 1
    begin, end = UNFREEZING if is_fitted else UNFREEZING_WITHOUT_FIT
    freed = 1 + int(body * (done - begin) / (end - begin)) if done >= begin else 0
    for i, group in enumerate(groups):
        group.module.train(i <= freed).requires_grad_(i <= freed)
        for layer in group.module.modules():
            if keeps_statistics and isinstance(layer, BatchNorm):
                layer.eval()
    return before != [group.is_trained for group in groups]


class FrozenBackbone(nn.Module):
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
    """Batches of the head's input features, computed once for each image, without augmentation."""

    batches: Batches
    features: Tensor
    """(images, ...), on the device."""

    @classmethod
    def of(cls, batches: Batches, network: nn.Module, head: str) -> Self:
        """Compute the features of every image, in evaluation mode."""
        return cls(batches, features_of(torch.arange(len(batches.split)), batches, network, head))

    def __len__(self) -> int:
        return len(self.batches)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        for own, num in self.batches.places(epoch, start):
            labels, targets = self.batches.labels_and_targets(own)
            yield Batch(self.features[own.to(self.features.device)], targets, labels, own, num)


def features_of(indices: Tensor, batches: Batches, network: nn.Module, head: str) -> Tensor:
    """The head's inputs (n, ...) for the images with these indices (n,), not augmented, in evaluation mode."""
    seen: list[Tensor] = []

    def keep(head: nn.Module, inputs: tuple[Tensor]) -> None:
        seen.append(inputs[0])

    network.eval()
    with torch.inference_mode(), network.get_submodule(head).register_forward_pre_hook(keep):
        for some in indices.split(batches.batch_size):
            network(batches.plain(some).inputs)
    # Outside inference mode: what autograd may save.
    return torch.cat(seen).clone()


def batch_to_fit(batches: Batches, network: nn.Module, head: str, features: Tensor | None = None) -> Batch:
    """The features and targets of all training images, or of as many as there is room for, drawn with the seed.

    Args:
        features: (images, ...), of all of them, if they were computed before.
    """
    order = batches.order(0)
    num_features = (features_of(order[:1], batches, network, head) if features is None else features[:1]).numel()
    indices = order[: min(MAX_FITTED, max(MAX_FEATURES // num_features, 1))]
    labels, targets = batches.labels_and_targets(indices)
    if features is not None:
        return Batch(features[indices.to(features.device)], targets, labels, indices, len(indices))
    return Batch(features_of(indices, batches, network, head), targets, labels, indices, len(indices))


def fit(head: nn.Module, batch: Batch, step: Step) -> None:
    """Bring a head close to the minimum of the loss of a batch, by L-BFGS with line search (Liu and Nocedal 1989)."""
    optimizer = torch.optim.LBFGS(
        head.parameters(), max_iter=FIT_ITERATIONS, history_size=FIT_MEMORY, line_search_fn="strong_wolfe"
    )

    weights = [value for value in head.parameters() if value.dim() > 1]
    decay = FIT_DECAY * float(batch.inputs.square().mean())

    def loss() -> float:
        optimizer.zero_grad()
        result = step.gradient(batch)
        penalty = decay / 2 * torch.stack([value.square().sum() for value in weights]).sum()
        penalty.backward()
        return result.loss / len(batch.labels) + penalty.item()

    optimizer.step(loss)
