"""Pruning single weights by magnitude (Han, Pool, Tran and Dally 2015).

The network becomes smaller on disk. It does not become faster: a product with zeros takes as long as any other.
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
    """A part of all weights goes: those with the least of their layer's magnitude (LAMP, Lee et al. 2021).

    Which layers can spare how much need not be said, as it must in the papers of Deep Compression.
    """

    part: float
    """From 0 to 1; weights that went before count."""

    def __post_init__(self) -> None:
        if not 0 <= self.part <= 1:
            raise UserError(f"{self.part:g} of the weights cannot go; it must be from 0 to 1")

    def __str__(self) -> str:
        return f"the {100 * self.part:.3g} % smallest weights"

    def after(self, done: float) -> Self:
        """What to prune after that fraction of a gradual pruning: quickly first, then ever less at a time.

        Zhu and Gupta 2017, equation 1, from nothing.
        """
        return type(self)((1 - (1 - done) ** 3) * self.part)

    @torch.no_grad()
    def prune(self, network: nn.Module) -> None:
        """Make them 0, in place."""
        weights = layer_weights(network)
        scores = {name: lamp(own) for name, own in weights.items()}
        num = math.floor(self.part * sum(own.numel() for own in weights.values()))
        if not num:
            return
        limit = torch.cat([score.flatten() for score in scores.values()]).kthvalue(num).values
        for name, own in weights.items():
            own.masked_fill_(scores[name] <= limit, 0.0)


@dataclass(frozen=True)
class TwoOfFour:
    """The two smallest of every four weights that read neighboring maps at one place (Mishra et al. 2021).

    That is half of a layer, or nothing: one whose maps cannot be taken in fours stays as it is.
    """

    def __str__(self) -> str:
        return "two of every four weights"

    def after(self, done: float) -> Self:
        """All of it: a pattern does not come gradually."""
        return self

    @torch.no_grad()
    def prune(self, network: nn.Module) -> None:
        """Make them 0, in place."""
        for own in layer_weights(network).values():
            own.copy_(two_in_four(own))


Pruning = LAMP | TwoOfFour


def lamp(weights: Tensor) -> Tensor:
    """The score (...) of each weight (...): its square as a part of those of its layer that are not smaller.

    Lee et al. 2021, equation 2. It rises with the magnitude, and is 1 for a layer's largest weight.
    """
    squares, places = weights.flatten().square().sort(descending=True, stable=True)
    sums = squares.cumsum(0, dtype=torch.float64).clamp_min(torch.finfo(torch.float32).tiny)
    scores = torch.empty_like(squares).scatter_(0, places, (squares / sums).float())
    return scores.view(weights.shape)


def two_in_four(weights: Tensor) -> Tensor:
    """Weights (n, maps, ...) without the two smallest of every four neighboring maps."""
    if weights.shape[1] % 4:
        return weights
    fours = weights.movedim(1, -1).unflatten(-1, (-1, 4))
    smallest = fours.abs().argsort(-1)[..., :2]
    left: Tensor = fours.scatter(-1, smallest, 0.0)
    return left.flatten(-2).movedim(-1, 1)


def sparsity(network: nn.Module) -> float:
    """The part of the weights that is 0."""
    found = layer_weights(network).values()
    return sum(int((own == 0).sum()) for own in found) / sum(own.numel() for own in found)
