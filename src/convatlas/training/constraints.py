"""Fine-tuning that keeps what was made of the weights before it: zeros, and values that many of them share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor, nn

from convatlas.errors import UserError
from convatlas.measure.table import build_without_memory
from convatlas.networks.blocks import layer_weights
from convatlas.networks.low_bits import LowBits, attach_lsq, remove_lsq
from convatlas.recipe import WeightConstraint
from convatlas.runs import Record, load

MOST_VALUES = 4096
"""Of the weights of a layer: more than that are not shared, and neither are more than half as many as the weights."""


def weights_of(path: Path) -> dict[str, Tensor]:
    """The weights of a run folder, or of a file of weights in this package's names.

    Raises:
        UserError: it is neither, or damaged.
    """
    if path.is_dir():
        return load(path).network.state_dict()
    try:
        return load_tensors(path.read_bytes())
    except FileNotFoundError as error:
        raise UserError(f"there is no {path}; --from takes a run folder or a file of weights (.safetensors)") from error
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is no file of weights (.safetensors): {error}") from error


@dataclass(frozen=True)
class ConstrainedWeights:
    """The weights that training begins from, and which of them learn as one.

    All that is kept is read off these weights, so that a training goes on from them alone.
    """

    weights: dict[str, Tensor]
    kept: WeightConstraint
    low_bits: LowBits
    """Of a network whose steps learn too."""
    codes: dict[str, Tensor]
    """For each layer of few values: which of them each of its weights (n,) has; 0 for those that are 0."""

    @classmethod
    def of(cls, where: str, record: Record) -> Self:
        """What a run keeps of the weights of a run folder or of a file.

        Raises:
            UserError: they are another network's.
        """
        weights, kept = weights_of(Path(where)), record.kept
        assert kept is not None, "or nothing ties"
        network = build_without_memory(lambda _: record.network(), record.spec)
        own = {name: value.shape for name, value in network.state_dict().items()}
        if own != {name: value.shape for name, value in weights.items()}:
            raise UserError(f"{where} has other weights than this network, all of which would learn on")
        found = {name: codes_of(weights[name], kept) for name in layer_weights(network)}
        low_bits = record.low_bits or () if kept is WeightConstraint.STEPS else ()
        return cls(weights, kept, low_bits, {name: codes for name, codes in found.items() if codes is not None})

    def bind(self, network: nn.Module) -> None:
        """Give a network these weights, and let those that are tied learn as one from now on.

        Their gradients are summed (section 3.3), and each gets the sum: equal weights under an optimizer that treats
        all alike stay equal. What is 0 gets none.
        """
        network.load_state_dict(self.weights)
        attach_lsq(network, self.low_bits)
        parameters = dict(network.named_parameters())
        for name, codes in self.codes.items():
            parameters[name].register_hook(self.hook(codes.to(parameters[name].device)))

    def hook(self, codes: Tensor) -> Callable[[Tensor], Tensor]:
        """What becomes of the gradient of weights with these codes (n,)."""
        if self.kept is WeightConstraint.ZEROS:
            return lambda gradient: gradient.masked_fill(codes.view(gradient.shape) == 0, 0.0)
        num = int(codes.max()) + 1

        def summed(gradient: Tensor) -> Tensor:
            sums = sums_by(codes, gradient, num)
            sums[0] = 0.0
            # In the gradient's own order in memory.
            return torch.empty_like(gradient).copy_(sums[codes].view(gradient.shape))

        return summed

    @torch.no_grad()
    def settle(self, network: nn.Module) -> None:
        """Take away what rounding may have put between equal weights, and between numbers and their 16 bits."""
        remove_lsq(network, self.low_bits)
        state = network.state_dict()
        for name, codes in self.codes.items():
            value, places = state[name], codes.to(state[name].device)
            if self.kept is WeightConstraint.ZEROS:
                value.masked_fill_(places.view(value.shape) == 0, 0.0)
                continue
            num = int(codes.max()) + 1
            means = sums_by(places, value, num) / torch.bincount(places, minlength=num).clamp_min(1)
            means[0] = 0.0
            value.copy_(means[places].view(value.shape))
        if self.kept is WeightConstraint.VALUES:
            for name, value in state.items():
                # What has grown beyond 16 bits keeps its 32.
                if is_half(self.weights[name]) and (rounded := value.half()).isfinite().all():
                    value.copy_(rounded)


def codes_of(weights: Tensor, kept: WeightConstraint) -> Tensor | None:
    """Which value each of a layer's weights (n,) has, 0 for those that are 0; None where each learns by itself."""
    if kept in (WeightConstraint.ALL, WeightConstraint.STEPS):
        return None
    flat = weights.flatten()
    if kept is WeightConstraint.ZEROS:
        return (flat != 0).long()
    values, places = flat.unique(return_inverse=True)
    others = values[values != 0]
    if len(others) > min(MOST_VALUES, len(flat) // 2):
        return None
    of_value = torch.zeros(len(values), dtype=torch.long)
    of_value[values != 0] = torch.arange(1, len(others) + 1)
    return of_value[places]


def sums_by(codes: Tensor, values: Tensor, num: int) -> Tensor:
    """For each code, the sum (num,) of the values (...) that have it in `codes` (n,), in double precision."""
    sums = torch.zeros(num, dtype=torch.float64, device=values.device)
    return sums.index_add_(0, codes, values.reshape(-1).double())


def is_half(values: Tensor) -> bool:
    """Whether these are numbers of 32 bits of which none loses anything in 16."""
    return values.dtype == torch.float32 and torch.equal(values.half().float(), values)
