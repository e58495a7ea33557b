"""A trained network made as small, or as fast, as somebody needs it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from convatlas import draw
from convatlas.compression.channels import Importance, prune_channels
from convatlas.compression.deep.pruning import LAMP, Pruning, TwoOfFour
from convatlas.compression.deep.stages import BITS, Settings, compress_deeply, prune_and_train
from convatlas.compression.latency import latencies
from convatlas.compression.low_bits import mixed, quantize_and_train
from convatlas.compression.stages import FineTuning
from convatlas.compression.target import Bytes, Macs, Target, parsed
from convatlas.draw import Lines, Series
from convatlas.errors import UserError
from convatlas.files import write
from convatlas.formatting import size
from convatlas.models.codec.container import SUFFIX, CompressedRun, encoded, load, pack
from convatlas.networks.low_bits import FEWEST, MOST
from convatlas.runs import Run
from convatlas.runs.run import WEIGHTS
from convatlas.training import Progress

STAGES = "stages.json"
TWO_IN_FOUR = "2:4"


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What a network is after a stage."""

    name: str
    num_bytes: int
    """Of its weights' file; from where zeros, shared values or few bits come, of the compressed file of it."""
    params: int
    macs: int
    seconds: float
    """That an image takes alone, on this machine's CPU; see `latencies`."""
    compiled: bool
    """Whether that is of a compiled network, which alone computes in 8 bits."""
    test_accuracy: float
    test_interval: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Compression:
    run: Run
    """The last, as small as was asked for."""
    stages: tuple[Stage, ...]
    """The first is the network as it was."""


def compress(
    run: str | Path | Run,
    to: str | Target | None,
    out: str | Path,
    *,
    prune: float | None = None,
    sparse: str | None = None,
    int8: bool = False,
    bits: float | None = None,
    importance: Importance = Importance.TAYLOR,
    rounds: int = 3,
    fine_tuning: FineTuning | None = None,
) -> Compression:
    """Make a finished run smaller: fewer channels for a target in MACs or in time, Deep Compression for one in bytes,
    fewer bits by themselves or after that.

    Each stage leaves a run folder below `out`; beside them lie `stages.json` and charts of accuracy against size and
    against time. What is done already stays, so that the same call goes on; another call needs another folder.

    Args:
        run: a run folder, or a compressed file.
        to: as "30 M macs", "5 ms" or "2 MB"; None: see `prune`.
        prune: the part of the MACs that goes first, with channels.
        importance: what channels are pruned by.
        rounds: of pruning, each followed by training.
        sparse: the part of the single weights that goes, as "0.9", or "2:4" for two of every four.
        int8: whether weights and what layers read get 8 bits.
        bits: of a weight, from 8 to 2; in the mean over layers where it is no whole number. For a target in bytes, of
            the codes, 5 without it.

    Raises:
        UserError: the target cannot be reached (it says the nearest), or see `train`.
        Interrupted: see `train`.
    """
    opened = run if isinstance(run, Run) else load(run)
    target = parsed(to) if isinstance(to, str) else to
    single = None if sparse is None else sparsity_from(sparse)
    out, fine_tuning = Path(out), fine_tuning or FineTuning()
    check(opened, target, prune=prune, single=single, int8=int8, bits=bits, rounds=rounds)
    fine_tuning.check(opened)
    cost = None if isinstance(target, Bytes) else target
    if prune is not None:
        cost = Macs((1 - prune) * opened.results.macs)
    asked: dict[str, object] = {
        "run": str(opened.folder.resolve()),
        "weights_sha256": opened.results.weights_sha256,
        "to": None if target is None else str(target),
        "prune": prune,
        "sparse": sparse,
        "int8": int8,
        "bits": bits,
        "by": str(importance),
        "rounds": rounds,
        "epochs": fine_tuning.epochs,
        "lr": fine_tuning.lr,
        "teacher": None if fine_tuning.distillation is None else asdict(fine_tuning.distillation),
    }
    begin(out, asked)
    narrowed: tuple[Run, ...] = ()
    if cost is not None:
        narrowed = prune_channels(opened, out, cost, importance, rounds=rounds, fine_tuning=fine_tuning)
    last = (opened, *narrowed)[-1]
    coded: tuple[Run, ...] = ()
    if isinstance(target, Bytes):
        codes = BITS if bits is None else int(bits)
        coded = compress_deeply(last, out, Settings(target=target, steps=rounds, bits=codes), fine_tuning=fine_tuning)
    elif single is not None:
        coded = prune_and_train(last, out, single, steps=rounds, fine_tuning=fine_tuning)
    elif int8 or bits is not None:
        coded = quantize_and_train(last, out, bits_for(last, bits), inputs=int8, fine_tuning=fine_tuning)
    if coded and not isinstance(coded[-1], CompressedRun):
        coded = (*coded, pack(coded[-1], out / f"network{SUFFIX}"))
    made = (opened, *narrowed, *coded)
    # What zeros and few values save shows in a file; a run folder keeps all at 32 bits.
    sizes = [*map(size_of, (opened, *narrowed)), *(len(encoded(one.record, one.network)) for one in coded)]
    seconds, compiled = timed(made, int8, fine_tuning.progress)
    stages = tuple(
        Stage(
            name="as it was" if one is opened else one.folder.name,
            num_bytes=num_bytes,
            params=one.results.params,
            macs=one.results.macs,
            seconds=took,
            compiled=compiled,
            test_accuracy=one.results.test_accuracy,
            test_interval=one.results.test_interval,
        )
        for one, num_bytes, took in zip(made, sizes, seconds, strict=True)
    )
    keep(out, asked, stages)
    for chart in charts(opened.record.variant, stages):
        write(out / f"{chart.name}.svg", draw.chart(chart, "svg"))
    return Compression(run=made[-1], stages=stages)


def check(
    run: Run,
    target: Target | None,
    *,
    prune: float | None,
    single: Pruning | None,
    int8: bool,
    bits: float | None,
    rounds: int,
) -> None:
    """Before hours of training, not after them.

    Raises:
        UserError: that goes not together, or is done already.
    """
    if prune is not None:
        if target is not None and not isinstance(target, Bytes):
            raise UserError(f"channels are pruned to {target}; how much of the network that is, --prune need not say")
        if not 0 < prune < 1:
            raise UserError(f"--prune {prune:g} is no part of a network; it must be between 0 and 1")
    if target is None and prune is None and single is None and bits is None and not int8:
        raise UserError(
            "say how small it is to be: --to '2 MB', --prune 0.5 for half of the MACs, --int8, --bits 4 ..."
        )
    if rounds < 1:
        raise UserError(f"{rounds} rounds prune nothing; there must be at least 1")
    if single is not None and (int8 or bits is not None or isinstance(target, Bytes)):
        raise UserError("--sparse goes with whole channels only: a size prunes by itself, and few bits keep no zeros")
    if bits is not None and not FEWEST <= bits <= MOST:
        raise UserError(f"weights of {bits:g} bits are not made here; it must be from {FEWEST} to {MOST}")
    if isinstance(target, Bytes):
        if int8:
            raise UserError("a file of that size shares values, which have more than 8 bits; leave --int8 or --to out")
        if bits is not None and bits != int(bits):
            raise UserError(f"codes of {bits:g} bits are none; for a size, --bits is a whole number")
        if size_of(run) <= target.most:
            raise UserError(f"{run.folder} takes {size(size_of(run))} already, which is no more than {target}")


def begin(out: Path, asked: dict[str, object]) -> None:
    """Note what is asked for in a folder whose stages are to be that.

    Raises:
        UserError: it holds stages of something else.
    """
    path = out / STAGES
    if path.is_file() and any(one.is_dir() for one in out.iterdir()):
        there = json.loads(path.read_bytes())["asked"]
        others = [f"{name} {there.get(name)}, not {value}" for name, value in asked.items() if there.get(name) != value]
        if others:
            raise UserError(f"{out} was begun with {'; '.join(others)}; choose a new folder with --out")
        return
    out.mkdir(parents=True, exist_ok=True)
    keep(out, asked, ())


def keep(out: Path, asked: dict[str, object], stages: tuple[Stage, ...]) -> None:
    told = {"asked": asked, "stages": [asdict(stage) for stage in stages]}
    write(out / STAGES, (json.dumps(told, indent=2) + "\n").encode())


def sparsity_from(words: str) -> Pruning:
    """
    Raises:
        UserError: they say none.
    """
    if words == TWO_IN_FOUR:
        return TwoOfFour()
    try:
        part = float(words)
    except ValueError as error:
        raise UserError(
            f"--sparse {words!r} is no part of the weights; it is one like 0.9, or {TWO_IN_FOUR}"
        ) from error
    return LAMP(part)


def bits_for(run: Run, bits: float | None) -> int | dict[str, int]:
    """Of all layers, or of each where they are to have so many in the mean."""
    if bits is None:
        return MOST
    return int(bits) if bits == int(bits) else mixed(run, bits)


def timed(runs: Sequence[Run], compiling: bool, progress: Progress) -> tuple[list[float], bool]:
    """What an image takes in each, and whether that is of compiled networks."""
    if compiling:
        progress.say("compiling, to compute in 8 bits ...")
        try:
            return [timing.median_s for timing in latencies(runs, compiling=True)], True
        except RuntimeError as error:
            progress.say(f"not compiled ({str(error).splitlines()[0][:80]}); times are of 32 bits")
    return [timing.median_s for timing in latencies(runs)], False


def size_of(run: Run) -> int:
    """The bytes of a run's weights, or of its compressed file."""
    return (run.folder if isinstance(run, CompressedRun) else run.folder / WEIGHTS).stat().st_size


def charts(network: str, stages: tuple[Stage, ...]) -> tuple[Lines, Lines]:
    """Accuracy against size, and against time."""

    def against(name: str, x: str, of: Callable[[Stage], float], log_x: bool) -> Lines:
        return Lines(
            name=name,
            title=f"{network}, stage by stage",
            x=x,
            y="test accuracy, %",
            series=tuple(Series(stage.name, (of(stage),), (100 * stage.test_accuracy,)) for stage in stages),
            log_x=log_x,
            points=True,
        )

    return (
        against("size", "size, KiB", lambda stage: stage.num_bytes / 2**10, log_x=True),
        against("latency", "an image takes, ms", lambda stage: 1000 * stage.seconds, log_x=False),
    )
