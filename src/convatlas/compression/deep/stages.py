"""The stages of Deep Compression, from a run to a run: prune, fine-tune, share weights, fine-tune, pack."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from convatlas.compression.deep.codebook import Bits, share_weights
from convatlas.compression.deep.container import SUFFIX, pack
from convatlas.compression.deep.pruning import Pruning, prune_weights
from convatlas.compression.stages import Tuning, rewritten
from convatlas.errors import UserError
from convatlas.recipe import Kept
from convatlas.runs import Run


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What Deep Compression does to a network. The shares and bits are about the paper's for AlexNet (Table 4)."""

    pruning: Pruning = field(default_factory=lambda: Pruning(convolution=0.65, linear=0.91))
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


def quantise(run: Run, bits: Bits, out: str | Path, *, halves: bool = True) -> Run:
    """A run folder of the network with weights of few values; see `share_weights`.

    Raises:
        UserError: see `rewritten`.
    """

    def change(network: nn.Module) -> nn.Module:
        share_weights(network, bits, halves=halves)
        return network

    return rewritten(run, change, f"weights shared: {bits}", out)


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
    out.mkdir(parents=True, exist_ok=True)
    stages = [run]
    for step in range(1, settings.steps + 1):
        name = f"pruned-{step}"
        pruned = prune(stages[-1], settings.pruning.part(step / settings.steps), out / name)
        stages += [pruned, tuning(pruned, Kept.ZEROS, out / f"{name}-tuned")]
    shared = quantise(stages[-1], settings.bits, out / "shared")
    tuned = tuning(shared, Kept.VALUES, out / "shared-tuned")
    return (*stages[1:], shared, tuned, pack(tuned, out / f"network{SUFFIX}", ranges=settings.ranges))
