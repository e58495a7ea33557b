"""The stages of Deep Compression, from a run to a run: prune, fine-tune, share weights, fine-tune, pack."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from convatlas.compression.deep.codebook import Bits, share_weights
from convatlas.compression.deep.container import SUFFIX, encoded, pack
from convatlas.compression.deep.pruning import Pruning, prune_weights
from convatlas.compression.stages import Tuning, rewritten
from convatlas.compression.target import Bytes
from convatlas.errors import UserError
from convatlas.recipe import Kept
from convatlas.runs import Run
from convatlas.wording import size

DENSER = 4
"""How many times as many weights of a convolution stay as of a fully connected layer, as in the paper (Table 4)."""
TRIALS = 10
"""Of how many weights stay, each half as far from the last as that from the one before."""
SPARE = 500
"""Bytes for what the last training changes: it learns values anew and writes its results into the record."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What Deep Compression does to a network. The shares and bits are about the paper's for AlexNet (Table 4)."""

    pruning: Pruning = field(default_factory=lambda: Pruning(convolution=0.65, linear=0.91))
    target: Bytes | None = None
    """What the file may have at most; then it decides how much is pruned."""
    steps: int = 1
    """Of pruning, each with a fine-tuning after it."""
    bits: Bits = field(default_factory=Bits)
    ranges: bool = True
    """See `pack`."""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise UserError(f"{self.steps} steps prune nothing; there must be at least 1")


def prune(run: Run, pruning: Pruning, out: str | Path) -> Run:
    """A run folder of the network without its smallest weights; `Tuning` with `Kept.ZEROS` trains it on.

    Raises:
        UserError: see `rewritten`.
    """

    def change(network: nn.Module) -> nn.Module:
        prune_weights(network, pruning)
        return network

    return rewritten(run, change, f"smallest weights pruned: {pruning}", out)


def quantise(run: Run, bits: Bits, out: str | Path, *, halves: bool = True, target: Bytes | None = None) -> Run:
    """A run folder of the network with weights of few values; see `share_weights`.

    Args:
        target: what the file may have at most; as many more of the smallest weights go as it takes.

    Raises:
        UserError: see `rewritten`.
    """

    def change(network: nn.Module) -> nn.Module:
        if target is not None:
            prune_weights(network, pruning_for(run, target, bits))
        share_weights(network, bits, halves=halves)
        return network

    return rewritten(run, change, f"weights shared: {bits}" + ("" if target is None else f", in {target}"), out)


def pruning_for(run: Run, target: Bytes, bits: Bits) -> Pruning:
    """How much of a network must go for its file to have that size: tried on it, without training.

    Raises:
        UserError: it cannot be so small; it says the least.
    """

    def pruning(density: float) -> Pruning:
        return Pruning(convolution=max(1 - DENSER * density, 0.0), linear=1 - density)

    def size_at(density: float) -> int:
        network = copy.deepcopy(run.network)
        prune_weights(network, pruning(density))
        share_weights(network, bits)
        return len(encoded(run.record, network))

    most = target.most - SPARE
    if size_at(1.0) <= most:
        return pruning(1.0)
    low, high = 0.0, 1.0
    for _ in range(TRIALS):
        middle = (low + high) / 2
        low, high = (middle, high) if size_at(middle) <= most else (low, middle)
    if not low:
        raise UserError(f"{target} cannot be reached; with hardly a weight left it takes {size(size_at(high))}")
    return pruning(low)


def compress_deeply(
    run: Run, out: str | Path, settings: Settings | None = None, *, tuning: Tuning | None = None
) -> tuple[Run, ...]:
    """All stages, each a run folder below `out`, and the file `network.cva` there. What is done already stays.

    Returns:
        the runs of all stages; the last is a `CompressedRun`.

    Raises:
        UserError: see `prune` and `train`.
        Interrupted: see `train`; the same call goes on.
    """
    settings, tuning, out = settings or Settings(), tuning or Tuning(), Path(out)
    pruning = settings.pruning if settings.target is None else pruning_for(run, settings.target, settings.bits)
    pruned = prune_and_train(run, out, pruning, steps=settings.steps, tuning=tuning)
    shared = quantise(pruned[-1], settings.bits, out / "shared", target=settings.target)
    tuned = tuning(shared, Kept.VALUES, out / "shared-tuned")
    return (*pruned, shared, tuned, pack(tuned, out / f"network{SUFFIX}", ranges=settings.ranges))


def prune_and_train(
    run: Run, out: str | Path, pruning: Pruning, *, steps: int = 1, tuning: Tuning | None = None
) -> tuple[Run, ...]:
    """Prune single weights, and train on with the zeros kept, in steps; two run folders below `out` for each.

    The network gets smaller on disk, once it is packed, and no faster.

    Raises:
        UserError: see `prune` and `train`.
        Interrupted: see `train`; the same call goes on.
    """
    tuning, out = tuning or Tuning(), Path(out)
    out.mkdir(parents=True, exist_ok=True)
    stages = [run]
    for step in range(1, steps + 1):
        pruned = prune(stages[-1], pruning.part(step / steps), out / f"pruned-{step}")
        stages += [pruned, tuning(pruned, Kept.ZEROS, out / f"pruned-{step}-tuned")]
    return tuple(stages[1:])
