"""The stages of Deep Compression, from a run to a run: prune, fine-autotune, share weights, fine-autotune, pack."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from convatlas.compression.deep.codebook import share_weights
from convatlas.compression.deep.pruning import LAMP, Pruning
from convatlas.compression.stages import FineTuning, derive_run
from convatlas.compression.target import Bytes
from convatlas.errors import UserError
from convatlas.formatting import size
from convatlas.models.codec.container import SUFFIX, encoded, pack
from convatlas.networks.low_bits import remove_fake_quant
from convatlas.recipe import WeightConstraint
from convatlas.runs import Run

TRIALS = 10
"""Of how many weights stay, each half as far from the last as that from the one before."""
SPARE, LEAST_SPARE = 0.005, 50
"""A part of a file, and bytes at least, for what the last training changes: it learns values anew and writes its
results into the record."""
BITS = 5
"""Of the codes: those of the paper for fully connected layers (section 5)."""


NINE_TENTHS = LAMP(0.9)
"""As much as of AlexNet goes in the paper (Table 4)."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What Deep Compression does to a network."""

    pruning: LAMP = NINE_TENTHS
    target: Bytes | None = None
    """What the file may have at most; then it decides how much is pruned."""
    steps: int = 1
    """Of pruning, each with a fine-fine_tuning after it."""
    bits: int = BITS
    """Of the codes of weights."""
    ranges: bool = True
    """See `pack`."""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise UserError(f"{self.steps} steps prune nothing; there must be at least 1")


def prune(run: Run, pruning: Pruning, out: str | Path) -> Run:
    """A run folder of the network without its smallest weights; `FineTuning` with `WeightConstraint.ZEROS` trains it on.

    Raises:
        UserError: see `derive_run`.
    """

    def change(network: nn.Module) -> nn.Module:
        pruning.prune(network)
        return network

    return derive_run(run, change, f"made without {pruning}", out)


def quantize(run: Run, bits: int, out: str | Path, *, halves: bool = True, target: Bytes | None = None) -> Run:
    """A run folder of the network with weights of few values; see `share_weights`.

    Args:
        target: what the file may have at most; as many more of the smallest weights go as it takes.

    Raises:
        UserError: see `derive_run`.
    """

    def change(network: nn.Module) -> nn.Module:
        if target is not None:
            pruning_for(run, target, bits).prune(network)
        share_weights(network, bits, halves=halves)
        return network

    how = f"made with weights that share 2^{bits} values" + ("" if target is None else f", for {target}")
    return derive_run(run, change, how, out)


def pruning_for(run: Run, target: Bytes, bits: int) -> LAMP:
    """How much of a network must go for its file to have that size: tried on it, without training.

    Raises:
        UserError: it cannot be so small; it says the least.
    """

    record = replace(run.record, low_bits=None)

    def size_without(part: float) -> int:
        network = remove_fake_quant(copy.deepcopy(run.network))
        LAMP(part).prune(network)
        share_weights(network, bits)
        return len(encoded(record, network))

    most = target.most - max(SPARE * target.most, LEAST_SPARE)
    if size_without(0.0) <= most:
        return LAMP(0.0)
    low, high = 0.0, 1.0
    for _ in range(TRIALS):
        middle = (low + high) / 2
        low, high = (low, middle) if size_without(middle) <= most else (middle, high)
    if high == 1:
        raise UserError(f"{target} cannot be reached; with hardly a weight left it takes {size(size_without(low))}")
    return LAMP(high)


def compress_deeply(
    run: Run, out: str | Path, settings: Settings | None = None, *, fine_tuning: FineTuning | None = None
) -> tuple[Run, ...]:
    """All stages, each a run folder below `out`, and the file `network.cva` there. What is done already stays.

    Nothing is pruned where few values are enough for the target.

    Returns:
        the runs of all stages; the last is a `CompressedRun`.

    Raises:
        UserError: see `prune` and `train`.
        Interrupted: see `train`; the same call goes on.
    """
    settings, fine_tuning, out = settings or Settings(), fine_tuning or FineTuning(), Path(out)
    pruning = settings.pruning if settings.target is None else pruning_for(run, settings.target, settings.bits)
    pruned: tuple[Run, ...] = ()
    if pruning.part:
        pruned = prune_and_train(run, out, pruning, steps=settings.steps, fine_tuning=fine_tuning)
    out.mkdir(parents=True, exist_ok=True)
    shared = quantize((run, *pruned)[-1], settings.bits, out / "shared", target=settings.target)
    autotuned = fine_tuning(shared, WeightConstraint.VALUES, out / "shared-autotuned")
    stages: tuple[Run, ...] = (*pruned, shared, autotuned)
    if settings.target is not None and len(encoded(autotuned.record, autotuned.network)) > settings.target.most:
        # Training moved values farther than was spared for: a few more weights go.
        stages += (quantize(autotuned, settings.bits, out / "fitted", target=settings.target),)
    return (*stages, pack(stages[-1], out / f"network{SUFFIX}", ranges=settings.ranges))


def prune_and_train(
    run: Run, out: str | Path, pruning: Pruning, *, steps: int = 1, fine_tuning: FineTuning | None = None
) -> tuple[Run, ...]:
    """Prune single weights, and train on with the zeros kept, in steps; two run folders below `out` for each.

    The network gets smaller on disk, once it is packed, and no faster.

    Raises:
        UserError: see `prune` and `train`.
        Interrupted: see `train`; the same call goes on.
    """
    fine_tuning, out = fine_tuning or FineTuning(), Path(out)
    out.mkdir(parents=True, exist_ok=True)
    stages = [run]
    for step in range(1, steps + 1):
        pruned = prune(stages[-1], pruning.after(step / steps), out / f"pruned-{step}")
        stages += [pruned, fine_tuning(pruned, WeightConstraint.ZEROS, out / f"pruned-{step}-autotuned")]
    return tuple(stages[1:])
