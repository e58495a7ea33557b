"""Pruning single weights by magnitude (Han, Pool, Tran and Dally 2015).

The network becomes smaller on disk. It does not become faster: a product with zeros takes as long as any other.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from convatlas.compression.deep.layers import Kind, checked, layers


class Threshold(enum.StrEnum):
    """What decides below which magnitude the weights of a layer go."""

    SHARE = "share"
    """So that this part of them goes, from 0 to 1; those that went before count."""
    DEVIATION = "deviation"
    """So many standard deviations of those that are left (2015, section 3)."""
    TWO_IN_FOUR = "2:4"
    """The two smallest of every four that read neighbouring maps at one place (Mishra et al. 2021): half of a layer, or
    nothing. A layer whose maps cannot be taken in fours stays as it is."""


@dataclass(frozen=True, kw_only=True)
class Pruning:
    """How much of a network goes, by the kind of layer."""

    convolution: float
    linear: float
    depthwise: float = 0.0
    by: Threshold = Threshold.SHARE

    def __post_init__(self) -> None:
        most = {Threshold.SHARE: 1.0, Threshold.DEVIATION: 10.0, Threshold.TWO_IN_FOUR: 0.5}[self.by]
        checked(f"a {self.by}", {kind: self.of(kind) for kind in Kind}, 0.0, most)

    def of(self, kind: Kind) -> float:
        return {
            Kind.CONVOLUTION: self.convolution,
            Kind.LINEAR: self.linear,
            Kind.DEPTHWISE: self.depthwise,
        }[kind]

    def part(self, done: float) -> Pruning:
        """What to prune after that fraction of a gradual pruning: quickly first, then ever less at a time.

        Zhu and Gupta 2017, equation 1, from nothing.
        """
        if self.by is Threshold.TWO_IN_FOUR:
            return self
        reached = 1 - (1 - done) ** 3
        parts = {kind.value: reached * self.of(kind) for kind in Kind}
        return Pruning(**parts, by=self.by)


@torch.no_grad()
def prune_weights(network: nn.Module, pruning: Pruning) -> None:
    """Make the smallest weights of every layer 0, in place."""
    for layer in layers(network):
        weights = layer.weights
        if pruning.by is Threshold.TWO_IN_FOUR:
            if pruning.of(layer.kind):
                weights.copy_(two_in_four(weights))
            continue
        weights.masked_fill_(weights.abs() <= threshold(weights, pruning.of(layer.kind), pruning.by), 0.0)


def two_in_four(weights: Tensor) -> Tensor:
    """Weights (n, maps, ...) without the two smallest of every four neighbouring maps."""
    if weights.shape[1] % 4:
        return weights
    fours = weights.movedim(1, -1).unflatten(-1, (-1, 4))
    smallest = fours.abs().argsort(-1)[..., :2]
    left: Tensor = fours.scatter(-1, smallest, 0.0)
    return left.flatten(-2).movedim(-1, 1)


def threshold(weights: Tensor, much: float, by: Threshold) -> float:
    """The magnitude up to which weights go; negative where none goes."""
    if by is Threshold.DEVIATION:
        left = weights[weights != 0]
        return much * float(left.std(correction=0)) if len(left) and much else -1.0
    num = math.floor(much * weights.numel())
    return float(weights.abs().flatten().kthvalue(num).values) if num else -1.0


def sparsity(network: nn.Module) -> float:
    """The part of the weights that is 0."""
    found = list(layers(network))
    zeros = sum(int((layer.weights == 0).sum()) for layer in found)
    return zeros / sum(layer.weights.numel() for layer in found)
