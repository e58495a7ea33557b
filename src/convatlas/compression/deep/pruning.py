"""Unstructured pruning of weights by magnitude (Han, Pool, Tran and Dally 2015), and 2:4 sparsity.

The network gets smaller on disk, but not faster here: a product with zeros takes as long as any other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from convatlas.errors import UserError
from convatlas.networks.blocks import layer_weights


@dataclass(frozen=True)
class LAMP:
    """Layer-adaptive magnitude pruning (LAMP, Lee et al. 2021): over all layers, the lowest `lamp_scores` go.

    So the sparsity of each layer need not be chosen by hand, as it must in the papers of Deep Compression.
    """

    sparsity: float
    """The fraction of all weights that is 0 afterwards, from 0 to 1; weights that were pruned before count."""

    def __post_init__(self) -> None:
        if not 0 <= self.sparsity <= 1:
            raise UserError(f"a sparsity of {self.sparsity:g} is out of range; it must be from 0 to 1")

    def __str__(self) -> str:
        return f"{100 * self.sparsity:.3g} % zeros (LAMP)"

    def after(self, progress: float) -> Self:
        """The pruning after a fraction of a gradual one, which prunes fast at first and ever more slowly.

        Zhu and Gupta 2017, equation 1, from a sparsity of 0.
        """
        return type(self)((1 - (1 - progress) ** 3) * self.sparsity)

    @torch.no_grad()
    def prune(self, network: nn.Module) -> None:
        """Set the pruned weights to 0, in place."""
        weights = layer_weights(network)
        scores = {name: lamp_scores(own) for name, own in weights.items()}
        num = math.floor(self.sparsity * sum(own.numel() for own in weights.values()))
        if not num:
            return
        threshold = torch.cat([score.flatten() for score in scores.values()]).kthvalue(num).values
        for name, own in weights.items():
            own.masked_fill_(scores[name] <= threshold, 0.0)


@dataclass(frozen=True)
class TwoFourSparsity:
    """2:4 sparsity: of every four weights of neighboring input channels, the two smallest go (Mishra et al. 2021).

    A layer whose input channels are no multiple of 4 stays as it is.
    """

    def __str__(self) -> str:
        return "2:4 sparsity"

    def after(self, progress: float) -> Self:
        """The same: the pattern has no gradual form."""
        return self

    @torch.no_grad()
    def prune(self, network: nn.Module) -> None:
        """Set the pruned weights to 0, in place."""
        for own in layer_weights(network).values():
            own.copy_(two_four_sparse(own))


Pruning = LAMP | TwoFourSparsity


def lamp_scores(weights: Tensor) -> Tensor:
    """The LAMP score (...) of each weight (...): its square over the sum of the squares that are not smaller.

    Lee et al. 2021, equation 2. It rises with the magnitude, and is 1 for a layer's largest weight.
    """
    squares, order = weights.flatten().square().sort(descending=True, stable=True)
    sums = squares.cumsum(0, dtype=torch.float64).clamp_min(torch.finfo(torch.float32).tiny)
    scores = torch.empty_like(squares).scatter_(0, order, (squares / sums).float())
    return scores.view(weights.shape)


def two_four_sparse(weights: Tensor) -> Tensor:
    """Weights (out_channels, in_channels, ...) with 0 for the two smallest of every four neighboring input channels."""
    if weights.shape[1] % 4:
        return weights
    fours = weights.movedim(1, -1).unflatten(-1, (-1, 4))
    smallest = fours.abs().argsort(-1)[..., :2]
    kept: Tensor = fours.scatter(-1, smallest, 0.0)
    return kept.flatten(-2).movedim(-1, 1)


def sparsity(network: nn.Module) -> float:
    """The fraction of the weights that is 0."""
    weights = layer_weights(network).values()
    return sum(int((own == 0).sum()) for own in weights) / sum(own.numel() for own in weights)
