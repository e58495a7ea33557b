"""Fine-tuning under a constraint: pruned weights stay 0, shared weights stay equal, quantized ones on their grid."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from convatlas import atlas
from convatlas.errors import UserError
from convatlas.measure.table import build_without_memory
from convatlas.models.card import Card
from convatlas.models.network import build, spec_of
from convatlas.networks.blocks import layer_weights
from convatlas.networks.quantization import attach_lsq, remove_lsq
from convatlas.runs.options import InitFrom, WeightConstraint
from convatlas.spec.quantization import Quantization
from convatlas.training.start import open_weights

MAX_VALUES = 4096
"""A layer with more distinct weights than that, or than half of its weights, does not share them."""


@dataclass(frozen=True)
class ConstrainedWeights:
    """The weights that training starts from, and which of them are updated as one.

    The constraint is read off these weights, so that a resumed training needs nothing else.
    """

    weights: Mapping[str, Tensor]
    constraint: WeightConstraint
    quantization: Quantization
    """Of a network whose step sizes are trained too; otherwise empty."""
    codes: dict[str, Tensor]
    """For each constrained layer, which of its values each weight (n,) has; 0 for the value 0."""

    @classmethod
    def of(cls, init_from: InitFrom, card: Card) -> Self:
        """The weights at a path, under its constraint, for the network of a card.

        Raises:
            UserError: they are another network's.
        """
        weights, constraint = open_weights(init_from.path, atlas.find(card.variant)).tensors, init_from.constraint
        assert constraint is not None, "without one, a new head is trained"
        network = build_without_memory(lambda _: build(card), spec_of(card))
        own = {name: value.shape for name, value in network.state_dict().items()}
        if own != {name: value.shape for name, value in weights.items()}:
            raise UserError(f"{init_from.path} has other weights than this network")
        found = {name: codes_of(weights[name], constraint) for name in layer_weights(network)}
        quantization = card.quantization or () if constraint is WeightConstraint.QUANTIZED else ()
        return cls(
            weights, constraint, quantization, {name: codes for name, codes in found.items() if codes is not None}
        )

    def attach(self, network: nn.Module) -> None:
        """Give a network these weights, and keep the constraint from now on.

        The gradients of shared weights are summed (section 3.3), and each weight gets the sum, so that equal weights
        stay equal. The gradients of zeros are 0.
        """
        network.load_state_dict(self.weights)
        attach_lsq(network, self.quantization)
        parameters = dict(network.named_parameters())
        for name, codes in self.codes.items():
            parameters[name].register_hook(self.hook(codes.to(parameters[name].device)))

    def hook(self, codes: Tensor) -> Callable[[Tensor], Tensor]:
        """Changes the gradient of weights with these codes (n,)."""
        if self.constraint is WeightConstraint.ZEROS:
            return lambda gradient: gradient.masked_fill(codes.view(gradient.shape) == 0, 0.0)
        num = int(codes.max()) + 1

        def summed(gradient: Tensor) -> Tensor:
            sums = sums_by(codes, gradient, num)
            sums[0] = 0.0
            # In the memory format of the gradient.
            return torch.empty_like(gradient).copy_(sums[codes].view(gradient.shape))

        return summed

    @torch.no_grad()
    def detach(self, network: nn.Module) -> None:
        """End the training under the constraint: undo what rounding may have changed of it."""
        remove_lsq(network, self.quantization)
        state = network.state_dict()
        for name, codes in self.codes.items():
            value, places = state[name], codes.to(state[name].device)
            if self.constraint is WeightConstraint.ZEROS:
                value.masked_fill_(places.view(value.shape) == 0, 0.0)
                continue
            num = int(codes.max()) + 1
            means = sums_by(places, value, num) / torch.bincount(places, minlength=num).clamp_min(1)
            means[0] = 0.0
            value.copy_(means[places].view(value.shape))
        if self.constraint is WeightConstraint.SHARED:
            for name, value in state.items():
                # What float16 cannot hold any more stays float32.
                if is_half(self.weights[name]) and (rounded := value.half()).isfinite().all():
                    value.copy_(rounded)


def codes_of(weights: Tensor, constraint: WeightConstraint) -> Tensor | None:
    """Which value each of a layer's weights (n,) has, 0 for the value 0; None if each is trained by itself."""
    if constraint in (WeightConstraint.NONE, WeightConstraint.QUANTIZED):
        return None
    flat = weights.flatten()
    if constraint is WeightConstraint.ZEROS:
        return (flat != 0).long()
    values, places = flat.unique(return_inverse=True)
    others = values[values != 0]
    if len(others) > min(MAX_VALUES, len(flat) // 2):
        return None
    of_value = torch.zeros(len(values), dtype=torch.long)
    of_value[values != 0] = torch.arange(1, len(others) + 1)
    return of_value[places]


def sums_by(codes: Tensor, values: Tensor, num: int) -> Tensor:
    """For each code, the sum (num,) of the values (...) that have it in `codes` (n,), in double precision."""
    sums = torch.zeros(num, dtype=torch.float64, device=values.device)
    return sums.index_add_(0, codes, values.reshape(-1).double())


def is_half(values: Tensor) -> bool:
    """Whether these are float32 numbers that float16 holds exactly."""
    return values.dtype == torch.float32 and torch.equal(values.half().float(), values)
