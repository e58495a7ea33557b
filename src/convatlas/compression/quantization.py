"""Quantization of weights to 8..2 bits and of inputs to 8: after training, with fine-tuning, and layer by layer."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from convatlas.compression.stages import FineTuning, TrainedModel, calibration_batch, derive_model
from convatlas.errors import UserError
from convatlas.networks.blocks import weighted_layers
from convatlas.networks.quantization import attach_fake_quant, fake_quantize, num_steps
from convatlas.runs.options import WeightConstraint
from convatlas.spec.quantization import MAX_BITS, MIN_BITS, LayerQuantization, Quantization

NUM_CANDIDATES = 50
"""How many clipping bounds are tried for weights: from the largest weight down to 2 % of it."""

InputRanges = Mapping[str, tuple[float, float]]
"""The smallest and the largest input of each layer, with 0 between them."""


@torch.inference_mode()
def input_ranges(network: nn.Module, inputs: Tensor) -> InputRanges:
    """The ranges of what the layers read while a network computes these inputs (batch, channels, height, width)."""
    ranges: dict[str, tuple[float, float]] = {}

    def note(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(layer: nn.Module, given: tuple[Tensor, ...]) -> None:
            low, high = ranges.get(name, (0.0, 0.0))
            ranges[name] = (min(low, float(given[0].min())), max(high, float(given[0].max())))

        return hook

    hooks = [layer.register_forward_pre_hook(note(name)) for name, layer in weighted_layers(network)]
    network.eval()(inputs)
    for hook in hooks:
        hook.remove()
    return ranges


def best_steps(weights: Tensor, num: int, bits: int) -> Tensor:
    """The step sizes (num,) with the least squared error: of each channel, or of all weights if `num` is 1."""
    rows = weights.reshape(num, -1)
    largest = rows.abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny)
    best, least = torch.empty(0), torch.full((num,), float("inf"))
    for fraction in torch.linspace(1.0, 1 / NUM_CANDIDATES, NUM_CANDIDATES):
        steps = fraction * largest / (2 ** (bits - 1) - 1)
        error = (fake_quantize(rows, steps, bits) - rows).square().sum(1)
        best = steps if not len(best) else torch.where(error < least, steps, best)
        least = torch.minimum(error, least)
    return best


@torch.no_grad()
def quantize_weights(network: nn.Module, quantization: Quantization) -> nn.Module:
    """Round the weights to the best step sizes, in place, and attach fake quantization."""
    attach_fake_quant(network, quantization)
    for part in quantization:
        layer = network.get_submodule(part.name)
        weights, steps = layer.get_parameter("weight"), layer.get_buffer("steps")
        steps.copy_(best_steps(weights, num_steps(layer), part.weight_bits))
        weights.copy_(fake_quantize(weights, steps, part.weight_bits))
    return network


def quantization_for(
    network: nn.Module, bits: int | Mapping[str, int], ranges: InputRanges | None = None
) -> Quantization:
    """The quantization of every layer.

    Args:
        bits: of the weights of all layers, or by a layer's name; layers without a name in it get 8.
        ranges: of the inputs, which are then quantized too.

    Raises:
        UserError: the bits are out of range.
    """
    found = []
    for name, _ in weighted_layers(network):
        num = bits if isinstance(bits, int) else bits.get(name, MAX_BITS)
        check_bits(num)
        # Auxiliary classifiers are not called, and have no range.
        low, high = (None, None) if ranges is None else ranges.get(name, (None, None))
        found.append(LayerQuantization(name=name, weight_bits=num, input_low=low, input_high=high))
    return tuple(found)


def check_bits(bits: float) -> None:
    """
    Raises:
        UserError: weights cannot have so many bits.
    """
    if not MIN_BITS <= bits <= MAX_BITS:
        raise UserError(f"`bits` {bits:g} is out of range; it must be from {MIN_BITS} to {MAX_BITS}")


def quantize(
    source: TrainedModel, out: str | Path, bits: int | Mapping[str, int] = 8, *, inputs: bool = True
) -> TrainedModel:
    """The quantized model, without fine-tuning; `FineTuning` with `WeightConstraint.QUANTIZED` trains it further.

    Args:
        bits: of the weights, from 8 to 2: of all layers, or by a layer's name.
        inputs: whether inputs of layers get 8 bits, in the ranges that training images give them.

    Raises:
        UserError: see `derive_model`; or the bits are out of range.
    """
    network = source.network
    ranges = input_ranges(network, calibration_batch(source).inputs) if inputs else None
    quantization = quantization_for(network, bits, ranges)
    described = f"{bits} bits" if isinstance(bits, int) else f"a mean of {mean_bits(network, bits):.2g} bits"
    method = f"quantized to {described}" + (", inputs to 8" if inputs else "")
    return derive_model(source, lambda own: quantize_weights(own, quantization), method, out, quantization)


def quantize_and_train(
    source: TrainedModel,
    out: str | Path,
    bits: int | Mapping[str, int] = 8,
    *,
    inputs: bool = True,
    fine_tuning: FineTuning | None = None,
) -> tuple[TrainedModel, TrainedModel]:
    """The quantized model, and the same after fine-tuning: two folders below `out`.

    Raises:
        UserError: see `quantize` and `train`.
        Interrupted: see `train`; the same call continues.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    quantized = quantize(source, out / "quantized", bits, inputs=inputs)
    tuned = (fine_tuning or FineTuning())(quantized, WeightConstraint.QUANTIZED, out / "quantized-tuned")
    return quantized, tuned


def mean_bits(network: nn.Module, bits: Mapping[str, int]) -> float:
    """The mean over all weights of the layers in `bits`."""
    sizes = {name: network.get_submodule(name).get_parameter("weight").numel() for name in bits}
    return sum(sizes[name] * bits[name] for name in sizes) / sum(sizes.values())


@torch.inference_mode()
def sensitivities(
    source: TrainedModel, choices: Iterable[int] = range(MIN_BITS, MAX_BITS + 1)
) -> dict[str, dict[int, float]]:
    """How much the loss on training images rises if one layer alone is quantized, by its name and by bits.

    Auxiliary classifiers do not change the loss, and are left out.

    Raises:
        UserError: see `calibration_batch`.
    """
    network = copy.deepcopy(source.network)
    batch = calibration_batch(source)

    def loss() -> float:
        return float(source.variant.objective.losses(network(batch.inputs), batch.targets).mean())

    before = loss()
    found: dict[str, dict[int, float]] = {}
    for name in input_ranges(network, batch.inputs):
        layer = network.get_submodule(name)
        weights = layer.get_parameter("weight")
        own = weights.clone()
        found[name] = {}
        for bits in choices:
            weights.copy_(fake_quantize(own, best_steps(own, num_steps(layer), bits), bits))
            found[name][bits] = loss() - before
        weights.copy_(own)
    return found


def mixed_bits(source: TrainedModel, mean: float) -> dict[str, int]:
    """Bits for each layer, with at most that mean over all weights and little loss.

    Greedy: from 8 everywhere, the layer loses a bit where that adds the least loss for each bit saved, until the mean
    is reached.

    Raises:
        UserError: the mean is out of range; or see `sensitivities`.
    """
    check_bits(mean)
    costs = sensitivities(source)
    network = source.network
    sizes = {name: network.get_submodule(name).get_parameter("weight").numel() for name in costs}
    bits = dict.fromkeys(sizes, MAX_BITS)

    def cost(name: str) -> float:
        return (costs[name][bits[name] - 1] - costs[name][bits[name]]) / sizes[name]

    while mean_bits(network, bits) > mean:
        cheapest = min((name for name in bits if bits[name] > MIN_BITS), key=cost)
        bits[cheapest] -= 1
    return bits
