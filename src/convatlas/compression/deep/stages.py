"""The stages of Deep Compression: prune, fine-tune, share weights, fine-tune."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from convatlas.compression.deep.codebook import share_weights
from convatlas.compression.deep.pruning import LAMP, Pruning
from convatlas.compression.stages import FineTuning, TrainedModel, derive_model
from convatlas.compression.target import SizeTarget
from convatlas.errors import UserError
from convatlas.formatting import size
from convatlas.models.codec.container import encoded
from convatlas.networks.quantization import remove_fake_quant
from convatlas.runs.options import WeightConstraint

TRIALS = 10
"""Of a bisection for the sparsity."""
SPARE, LEAST_SPARE = 0.005, 50
"""A fraction of a file, and bytes at least, for what the last training changes: the shared values and the score."""
CODEBOOK_BITS = 5
"""Those of the paper for fully connected layers (section 5)."""


NINE_TENTHS = LAMP(0.9)
"""As much as the paper prunes of AlexNet (Table 4)."""


@dataclass(frozen=True, kw_only=True)
class DeepCompressionSettings:
    """The settings of Deep Compression."""

    pruning: LAMP = NINE_TENTHS
    target: SizeTarget | None = None
    """The largest size of the file, which then decides how much is pruned."""
    rounds: int = 1
    """Of pruning, each followed by fine-tuning."""
    codebook_bits: int = CODEBOOK_BITS

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise UserError(f"`rounds` {self.rounds} prunes nothing; it must be at least 1")


def prune(source: TrainedModel, pruning: Pruning, out: str | Path) -> TrainedModel:
    """The model without its smallest weights; `FineTuning` with `WeightConstraint.ZEROS` trains it further.

    Raises:
        UserError: see `derive_model`.
    """

    def change(network: nn.Module) -> nn.Module:
        pruning.prune(network)
        return network

    return derive_model(source, change, f"pruned to {pruning}", out)


def cluster(
    source: TrainedModel, bits: int, out: str | Path, *, half_precision: bool = True, target: SizeTarget | None = None
) -> TrainedModel:
    """The model with weights that share few values; see `share_weights`.

    Args:
        bits: of the codebook.
        half_precision: see `share_weights`.
        target: the largest size of the compressed file; as many more of the smallest weights are pruned as it takes.

    Raises:
        UserError: see `derive_model`.
    """

    def change(network: nn.Module) -> nn.Module:
        if target is not None:
            pruning_for(source, target, bits).prune(network)
        share_weights(network, bits, half_precision=half_precision)
        return network

    method = f"clustered to 2^{bits} shared values" + ("" if target is None else f", for {target}")
    return derive_model(source, change, method, out)


def pruning_for(source: TrainedModel, target: SizeTarget, bits: int) -> LAMP:
    """How much of a network must be pruned for its file to have that size: tried on it, without training.

    Raises:
        UserError: it cannot be so small; it says the smallest size.
    """
    card = replace(source.model.card, quantization=None)

    def size_without(sparsity: float) -> int:
        network = remove_fake_quant(copy.deepcopy(source.network))
        LAMP(sparsity).prune(network)
        share_weights(network, bits)
        return len(encoded(card, network))

    most = target.limit - max(SPARE * target.limit, LEAST_SPARE)
    if size_without(0.0) <= most:
        return LAMP(0.0)
    low, high = 0.0, 1.0
    for _ in range(TRIALS):
        middle = (low + high) / 2
        low, high = (low, middle) if size_without(middle) <= most else (middle, high)
    if high == 1:
        raise UserError(f"{target} cannot be reached; with hardly a weight left it takes {size(size_without(low))}")
    return LAMP(high)


def deep_compression(
    source: TrainedModel,
    out: str | Path,
    settings: DeepCompressionSettings | None = None,
    *,
    fine_tuning: FineTuning | None = None,
) -> tuple[TrainedModel, ...]:
    """All stages, each a folder below `out`; the last is small as a `.cva` file. What is done already stays.

    Nothing is pruned if shared values are enough for the target.

    Raises:
        UserError: see `prune` and `train`.
        Interrupted: see `train`; the same call continues.
    """
    settings, fine_tuning, out = settings or DeepCompressionSettings(), fine_tuning or FineTuning(), Path(out)
    pruning = settings.pruning
    if settings.target is not None:
        pruning = pruning_for(source, settings.target, settings.codebook_bits)
    pruned: tuple[TrainedModel, ...] = ()
    if pruning.sparsity:
        pruned = prune_and_train(source, out, pruning, rounds=settings.rounds, fine_tuning=fine_tuning)
    out.mkdir(parents=True, exist_ok=True)
    shared = cluster((source, *pruned)[-1], settings.codebook_bits, out / "shared", target=settings.target)
    tuned = fine_tuning(shared, WeightConstraint.SHARED, out / "shared-tuned")
    stages: tuple[TrainedModel, ...] = (*pruned, shared, tuned)
    if settings.target is not None and len(encoded(tuned.model.card, tuned.network)) > settings.target.limit:
        # Training moved values farther than was spared for: a few more weights go.
        stages += (cluster(tuned, settings.codebook_bits, out / "fitted", target=settings.target),)
    return stages


def prune_and_train(
    source: TrainedModel, out: str | Path, pruning: Pruning, *, rounds: int = 1, fine_tuning: FineTuning | None = None
) -> tuple[TrainedModel, ...]:
    """Prune weights (unstructured or 2:4) and train the others, in rounds; two folders below `out` for each.

    The network gets smaller on disk, once it is in a compressed file, and no faster.

    Raises:
        UserError: see `prune` and `train`.
        Interrupted: see `train`; the same call continues.
    """
    fine_tuning, out = fine_tuning or FineTuning(), Path(out)
    out.mkdir(parents=True, exist_ok=True)
    stages = [source]
    for number in range(1, rounds + 1):
        pruned = prune(stages[-1], pruning.after(number / rounds), out / f"pruned-{number}")
        stages += [pruned, fine_tuning(pruned, WeightConstraint.ZEROS, out / f"pruned-{number}-tuned")]
    return tuple(stages[1:])
