"""The stages of Deep Compression, from a run to a run: prune, fine-tune, share weights, fine-tune, pack."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from convatlas import training
from convatlas.compression.deep.codebook import Bits, share_weights
from convatlas.compression.deep.container import SUFFIX, CompressedRun, pack
from convatlas.compression.deep.pruning import Pruning, prune_weights
from convatlas.errors import UserError
from convatlas.files import lock, write
from convatlas.recipe import Kept
from convatlas.runs import METRICS, Run, evaluate, load
from convatlas.runs.run import RECORD
from convatlas.training import Progress, Request


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What Deep Compression does to a network. The shares and bits are about the paper's for AlexNet (Table 4)."""

    pruning: Pruning = field(default_factory=lambda: Pruning(convolution=0.65, linear=0.91))
    steps: int = 1
    """Of pruning, each with a fine-tuning after it."""
    bits: Bits = field(default_factory=Bits)
    epochs: int | None = None
    """Of each fine-tuning; None: the default recipe's."""
    lr: float | None = None
    ranges: bool = True
    """See `pack`."""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise UserError(f"{self.steps} steps prune nothing; there must be at least 1")


def prune(run: Run, pruning: Pruning, out: str | Path) -> Run:
    """A run folder of the network without its smallest weights; see `fine_tune` for what comes next.

    Raises:
        UserError: the run is not finished, its data set is gone or has changed, or the folder holds something already.
    """
    return rewritten(run, lambda network: prune_weights(network, pruning), Path(out))


def quantise(run: Run, bits: Bits, out: str | Path, *, halves: bool = True) -> Run:
    """A run folder of the network with weights of few values; see `share_weights`.

    Raises:
        UserError: see `prune`.
    """
    return rewritten(run, lambda network: share_weights(network, bits, halves=halves), Path(out))


def fine_tune(
    run: Run,
    kept: Kept,
    out: str | Path,
    *,
    epochs: int | None = None,
    lr: float | None = None,
    seed: int | None = None,
    device: str | None = None,
    tune: bool = True,
    progress: Progress | None = None,
) -> Run:
    """Train on, with zeros or shared values kept, on the run's own pictures; a training that is there goes on.

    Args:
        seed: without it, the run's own, which its split of the pictures may hang on.
        epochs, lr, device, tune, progress: see `train`.

    Raises:
        UserError: see `train`.
        Interrupted: likewise; the same call goes on.
    """
    record = run.record
    request = Request(
        network=record.variant,
        spec=record.spec,
        data=record.data,
        epochs=epochs,
        lr=lr,
        seed=record.seed if seed is None else seed,
        balance=record.balance,
        start=run.folder,
        kept=kept,
        device=device,
        tune=tune,
        skip_bad=record.skip_bad,
    )
    return training.finish(request, Path(out), progress or Progress())


def compress_deeply(
    run: Run,
    out: str | Path,
    settings: Settings | None = None,
    *,
    device: str | None = None,
    tune: bool = True,
    progress: Progress | None = None,
) -> CompressedRun:
    """All stages, each a run folder below `out`, and the file `network.cva` there. What is done already stays.

    Args:
        device, tune, progress: see `train`.

    Raises:
        UserError: see `prune` and `train`.
        Interrupted: see `train`; the same call goes on.
    """
    settings, out = settings or Settings(), Path(out)

    def made(name: str, make: Callable[[Path], Run]) -> Run:
        folder = out / name
        return load(folder) if (folder / RECORD).exists() else make(folder)

    def tuned(name: str, begun: Run, kept: Kept) -> Run:
        return fine_tune(
            begun,
            kept,
            out / name,
            epochs=settings.epochs,
            lr=settings.lr,
            device=device,
            tune=tune,
            progress=progress,
        )

    out.mkdir(parents=True, exist_ok=True)
    stage = run
    for step in range(1, settings.steps + 1):
        name, pruning = f"pruned-{step}", settings.pruning.part(step / settings.steps)
        stage = tuned(f"{name}-tuned", made(name, partial(prune, stage, pruning)), Kept.ZEROS)
    stage = tuned("shared-tuned", made("shared", partial(quantise, stage, settings.bits)), Kept.VALUES)
    return pack(stage, out / f"network{SUFFIX}", ranges=settings.ranges)


def rewritten(run: Run, change: Callable[[nn.Module], None], out: Path) -> Run:
    """A finished run folder of the same training with other weights, judged anew."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} holds something already; choose a new or empty folder")
    network = copy.deepcopy(run.network)
    change(network)
    test = run.judging(run.load_data().test, torch.device("cpu"))
    evaluation = evaluate(network, run.variant.objective, test)
    new = Run(out, run.record)
    with lock(out):
        metrics = run.folder / METRICS
        if metrics.is_file():
            # The curves of the training that these weights come from.
            write(out / METRICS, metrics.read_bytes())
        results = replace(
            run.results,
            test_accuracy=evaluation.accuracy,
            test_interval=evaluation.interval,
            test_errors=evaluation.num_errors,
            weights_sha256=new.write_weights(network),
        )
        new.record = replace(run.record, results=results)
        new.write_record()
    return new
