"""Few bits for weights and 8 for what layers read: after training, by training on, and as few as each layer bears."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from convatlas.compression.stages import FineTuning, TrainedModel, calibration_batch, derive_model
from convatlas.errors import UserError
from convatlas.networks.blocks import weighted_layers
from convatlas.networks.low_bits import (
    FEWEST,
    MOST,
    attach_fake_quant,
    fake_quantize,
    num_steps,
)
from convatlas.runs.options import WeightConstraint
from convatlas.spec.quantization import LayerQuantization, Quantization

CLIPPED = 50
"""Candidates for the largest weight that a step is made for, from it down to 2 % of it."""


Bounds = Mapping[str, tuple[float, float]]
"""The lowest and the highest input of each layer, with 0 between them."""


@torch.inference_mode()
def calibrated(network: nn.Module, inputs: Tensor) -> Bounds:
    """What the layers of a network read of these inputs (batch, channels, height, width)."""
    bounds: dict[str, tuple[float, float]] = {}

    def note(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(layer: nn.Module, given: tuple[Tensor, ...]) -> None:
            low, high = bounds.get(name, (0.0, 0.0))
            bounds[name] = (min(low, float(given[0].min())), max(high, float(given[0].max())))

        return hook

    hooks = [layer.register_forward_pre_hook(note(name)) for name, layer in weighted_layers(network)]
    network.eval()(inputs)
    for hook in hooks:
        hook.remove()
    return bounds


def best_steps(weights: Tensor, num: int, bits: int) -> Tensor:
    """The steps (num,) that leave the least squared error: of each channel, or of all weights if `num` is 1."""
    rows = weights.reshape(num, -1)
    largest = rows.abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny)
    best, least = torch.empty(0), torch.full((num,), float("inf"))
    for part in torch.linspace(1.0, 1 / CLIPPED, CLIPPED):
        steps = part * largest / (2 ** (bits - 1) - 1)
        error = (fake_quantize(rows, steps, bits) - rows).square().sum(1)
        best = steps if not len(best) else torch.where(error < least, steps, best)
        least = torch.minimum(error, least)
    return best


@torch.no_grad()
def quantize_weights(network: nn.Module, low_bits: Quantization) -> nn.Module:
    """The network with the nearest weights that these bits can say, in place."""
    attach_fake_quant(network, low_bits)
    for bits in low_bits:
        layer = network.get_submodule(bits.name)
        weights, steps = layer.get_parameter("weight"), layer.get_buffer("steps")
        steps.copy_(best_steps(weights, num_steps(layer), bits.weight_bits))
        weights.copy_(fake_quantize(weights, steps, bits.weight_bits))
    return network


def low_bits_of(network: nn.Module, bits: int | Mapping[str, int], bounds: Bounds | None) -> Quantization:
    """The bits of every layer.

    Args:
        bits: of the weights, of all layers or by name, 8 of those that are not named.
        bounds: of the inputs, where these get 8 bits.

    Raises:
        UserError: no weights have so many.
    """
    found = []
    for name, _ in weighted_layers(network):
        num = bits if isinstance(bits, int) else bits.get(name, MOST)
        if not FEWEST <= num <= MOST:
            raise UserError(f"weights of {num} bits are not made here; it must be from {FEWEST} to {MOST}")
        # Auxiliary classifiers read nothing when a network answers.
        low, high = (None, None) if bounds is None else bounds.get(name, (None, None))
        found.append(LayerQuantization(name=name, weight_bits=num, input_low=low, input_high=high))
    return tuple(found)


def quantize(
    source: TrainedModel, out: str | Path, bits: int | Mapping[str, int] = 8, *, inputs: bool = True
) -> TrainedModel:
    """A run folder of the network in few bits, as they come out without training; `FineTuning` with `WeightConstraint.QUANTIZED` mends it.

    Args:
        bits: of the weights, from 8 to 2, of all layers or by name.
        inputs: whether what layers read gets 8 bits, with bounds as training images give them.

    Raises:
        UserError: see `derive_model`; or the bits are out of range.
    """
    network = source.network
    low_bits = low_bits_of(network, bits, calibrated(network, calibration_batch(source).inputs) if inputs else None)
    words = f"{bits} bits" if isinstance(bits, int) else f"{mean_bits(network, bits):.2g} bits in the mean"
    how = f"quantize_weights to {words}" + (", inputs to 8" if inputs else "")
    return derive_model(source, lambda own: quantize_weights(own, low_bits), how, out, low_bits)


def quantize_and_train(
    source: TrainedModel,
    out: str | Path,
    bits: int | Mapping[str, int] = 8,
    *,
    inputs: bool = True,
    fine_tuning: FineTuning | None = None,
) -> tuple[TrainedModel, TrainedModel]:
    """The same, and then trained on: two run folders below `out`.

    Raises:
        UserError: see `lower` and `train`.
        Interrupted: see `train`; the same call goes on.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    begun = quantize(source, out / "quantized", bits, inputs=inputs)
    return begun, (fine_tuning or FineTuning())(begun, WeightConstraint.QUANTIZED, out / "quantized-tuned")


def mean_bits(network: nn.Module, bits: Mapping[str, int]) -> float:
    """Of a weight."""
    sizes = {name: network.get_submodule(name).get_parameter("weight").numel() for name in bits}
    return sum(sizes[name] * bits[name] for name in sizes) / sum(sizes.values())


@torch.inference_mode()
def sensitivities(
    source: TrainedModel, choices: Iterable[int] = range(FEWEST, MOST + 1)
) -> dict[str, dict[int, float]]:
    """How much the loss on training images rises if one layer alone has so many bits, for each layer and number.

    Auxiliary classifiers answer nothing, and are left out.

    Raises:
        UserError: see `calibration_batch`.
    """
    network = copy.deepcopy(source.network)
    batch = calibration_batch(source)

    def loss() -> float:
        return float(source.variant.objective.losses(network(batch.inputs), batch.targets).mean())

    before = loss()
    found: dict[str, dict[int, float]] = {}
    for name in calibrated(network, batch.inputs):
        layer = network.get_submodule(name)
        weights = layer.get_parameter("weight")
        own = weights.clone()
        found[name] = {}
        for bits in choices:
            weights.copy_(fake_quantize(own, best_steps(own, num_steps(layer), bits), bits))
            found[name][bits] = loss() - before
        weights.copy_(own)
    return found


def mixed(source: TrainedModel, mean: float) -> dict[str, int]:
    """The bits of each layer's weights, `mean` over all weights at most, where they cost the least loss.

    From 8 everywhere, a bit is taken where that adds the least loss for each bit that it saves, again and again.

    Raises:
        UserError: the mean is out of range; or see `sensitivities`.
    """
    if not FEWEST <= mean <= MOST:
        raise UserError(f"weights of {mean:g} bits are not made here; it must be from {FEWEST} to {MOST}")
    costs = sensitivities(source)
    network = source.network
    sizes = {name: network.get_submodule(name).get_parameter("weight").numel() for name in costs}
    bits = dict.fromkeys(sizes, MOST)

    def price(name: str) -> float:
        return (costs[name][bits[name] - 1] - costs[name][bits[name]]) / sizes[name]

    while mean_bits(network, bits) > mean:
        cheapest = min((name for name in bits if bits[name] > FEWEST), key=price)
        bits[cheapest] -= 1
    return bits
