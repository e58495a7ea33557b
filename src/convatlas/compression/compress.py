"""A trained model made as small, or as fast, as it needs to be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from convatlas.compression.channels import Importance, prune_channels
from convatlas.compression.deep.pruning import LAMP, Pruning, TwoFourSparsity
from convatlas.compression.deep.stages import (
    CODEBOOK_BITS,
    DeepCompressionSettings,
    deep_compression,
    prune_and_train,
)
from convatlas.compression.destination import Destination, Stage, StagesRecord
from convatlas.compression.latency import latencies
from convatlas.compression.quantization import check_bits, mixed_bits, quantize_and_train
from convatlas.compression.stages import FineTuning, TrainedModel
from convatlas.compression.target import Engine, LatencyTarget, MacsTarget, SizeTarget, Target, parse_target
from convatlas.data import check_outside
from convatlas.errors import UserError
from convatlas.files import clear_lock, lock
from convatlas.formatting import size
from convatlas.measure import Timing
from convatlas.models.codec.cards import check_packable
from convatlas.models.codec.container import encoded
from convatlas.models.folder import WEIGHTS, weights_checksum
from convatlas.models.model import Model
from convatlas.runs.run import Run, load
from convatlas.spec.quantization import MAX_BITS
from convatlas.training import Progress

TWO_OF_FOUR = "2:4"


@dataclass(frozen=True, kw_only=True)
class Compression:
    """A model made smaller, and the stages that led to it."""

    model: Model
    """Opened from where it was written."""
    file: Path | None
    """The model as one compressed file, if it was written as one."""
    folder: Path
    """Of the stages, with `stages.json` and charts."""
    stages: tuple[Stage, ...]
    """The first is the original model."""

    @classmethod
    def at(cls, destination: Destination, stages: tuple[Stage, ...]) -> Self:
        return cls(model=destination.open(), file=destination.small_file, folder=destination.stages, stages=stages)


def compress(
    source: str | Path | Run | Model,
    to: str | Target | None,
    out: str | Path,
    *,
    data: str | Path | None = None,
    prune: float | None = None,
    sparse: str | None = None,
    int8: bool = False,
    bits: float | None = None,
    importance: Importance = Importance.TAYLOR,
    rounds: int = 3,
    fine_tuning: FineTuning | None = None,
    engine: Engine | None = None,
) -> Compression:
    """Make a trained model smaller: fewer channels for a target in MACs or in latency, Deep Compression for one in
    bytes; unstructured pruning or quantization, alone or after channel pruning.

    The result at `out` is a model like any other. `out/stages` (beside a file `small.cva`: `small.stages`) has a folder
    for each stage, `stages.json` and charts of accuracy against size and against latency. After a kill, the same call
    reuses finished stages; other arguments need another place.

    Args:
        source: a run, a model, or the path of a run folder, a model folder or a `.cva` file.
        to: "30 M macs", "5 ms" or "2 MB"; None: no target, only the options below.
        out: the model folder to make, with `model.cva` beside its weights if they are sparse, shared or quantized; or,
            if it ends in `.cva`, the one file to make.
        data: name or folder of the data set that the model was trained on, if it was moved.
        prune: the fraction of the MACs to remove by channel pruning, before all else.
        sparse: the fraction of weights to prune (unstructured), such as "0.9"; or "2:4": two of every four weights.
        int8: quantize weights and activations (the inputs of layers) to 8 bits.
        bits: per weight, 2 to 8; a non-integer is the mean under mixed precision. With a target in bytes: bits of the
            codebook indices, 5 by default.
        importance: the criterion for channel pruning.
        rounds: of pruning, each followed by fine-tuning.
        engine: what a target in latency is measured in, as `deployment.latency.RuntimeEngine`; None: eager PyTorch.

    Raises:
        UserError: the target cannot be reached (the message gives the nearest that can), `out` holds something else or
            overlaps with the model, the data set is not the model's, or see `train`.
        Interrupted: see `train`.
    """
    fine_tuning = fine_tuning or FineTuning()
    loaded = source if isinstance(source, Run | Model) else load(source, progress=fine_tuning.progress.loading)
    opened = TrainedModel.of(loaded, data)
    target = parse_target(to) if isinstance(to, str) else to
    if engine is not None:
        if not isinstance(target, LatencyTarget):
            raise UserError("`engine` is what a latency is measured in; ask for one, as `to` '5 ms'")
        target = replace(target, engine=engine)
    weight_pruning = None if sparse is None else parse_sparsity(sparse)
    destination = Destination(Path(out))
    validate_options(opened, target, prune=prune, weight_pruning=weight_pruning, int8=int8, bits=bits, rounds=rounds)
    fine_tuning.check(opened)
    request: dict[str, Any] = {
        "model": str(opened.path.resolve()),
        "weights_sha256": weights_checksum(opened.network),
        "to": None if target is None else str(target),
        "prune": prune,
        "sparse": sparse,
        "int8": int8,
        "bits": bits,
        "importance": str(importance),
        "rounds": rounds,
        "epochs": fine_tuning.epochs,
        "lr": fine_tuning.lr,
        "teacher": None if fine_tuning.distillation is None else asdict(fine_tuning.distillation),
    }
    record = destination.recorded(request, opened.path)
    if record is not None and destination.is_finished:
        clear_lock(destination.stages)
        return Compression.at(destination, record.stages)
    # Before anything is written: the images may be gone, or have changed.
    dataset = loaded.load_data(data, progress=fine_tuning.progress.loading)
    check_outside(destination.path, dataset.name)
    with lock(destination.stages):
        if record is None:
            destination.begin(request)
        out = destination.stages
        pruned: tuple[TrainedModel, ...] = ()
        cost = None if isinstance(target, SizeTarget) else target
        if prune is not None:
            cost = MacsTarget((1 - prune) * opened.model.card.macs)
        if cost is not None:
            pruned = prune_channels(opened, out, cost, importance, rounds=rounds, fine_tuning=fine_tuning)
        last = (opened, *pruned)[-1]
        coded: tuple[TrainedModel, ...] = ()
        if isinstance(target, SizeTarget):
            codebook_bits = CODEBOOK_BITS if bits is None else int(bits)
            settings = DeepCompressionSettings(target=target, rounds=rounds, codebook_bits=codebook_bits)
            coded = deep_compression(last, out, settings, fine_tuning=fine_tuning)
        elif weight_pruning is not None:
            coded = prune_and_train(last, out, weight_pruning, rounds=rounds, fine_tuning=fine_tuning)
        elif int8 or bits is not None:
            coded = quantize_and_train(last, out, bits_for(last, bits), inputs=int8, fine_tuning=fine_tuning)
        models = (opened, *pruned, *coded)
        # What zeros and shared values save shows in a compressed file; a folder keeps all as 32-bit floats.
        sizes = [*map(size_of, (opened, *pruned)), *(len(encoded(one.model.card, one.network)) for one in coded)]
        timings, compiled = timed(models, int8, fine_tuning.progress)
        stages = tuple(
            Stage.of("original" if one is opened else one.path.name, one.model, num_bytes, timing, compiled)
            for one, num_bytes, timing in zip(models, sizes, timings, strict=True)
        )
        destination.finish(StagesRecord(request=request, stages=stages), models[-1].model, small=bool(coded))
    return Compression.at(destination, stages)


def validate_options(
    source: TrainedModel,
    target: Target | None,
    *,
    prune: float | None,
    weight_pruning: Pruning | None,
    int8: bool,
    bits: float | None,
    rounds: int,
) -> None:
    """Check the options before any training starts.

    Raises:
        UserError: the options contradict each other, or the target is reached already.
    """
    if source.model.card.score is None:
        raise UserError(f"{source.name} was not evaluated; compression compares accuracies")
    if int8 or bits is not None or weight_pruning is not None or isinstance(target, SizeTarget):
        check_packable(source.model.card)
    if prune is not None:
        if target is not None and not isinstance(target, SizeTarget):
            raise UserError(f"channels are pruned to {target}; leave `prune` out, which asks for another size")
        if not 0 < prune < 1:
            raise UserError(f"`prune` {prune:g} is not a fraction of the MACs; it must be between 0 and 1")
    if target is None and prune is None and weight_pruning is None and bits is None and not int8:
        raise UserError("name a target: `to` '2 MB', `prune` 0.5 for half of the MACs, `int8`, `bits` 4 ...")
    if rounds < 1:
        raise UserError(f"`rounds` {rounds} prunes nothing; it must be at least 1")
    if weight_pruning is not None and (int8 or bits is not None or isinstance(target, SizeTarget)):
        raise UserError(
            "`sparse` combines with `prune` only: a size target prunes already, and quantization loses zeros"
        )
    if bits is not None:
        check_bits(bits)
    if isinstance(target, SizeTarget):
        if int8:
            raise UserError(
                "a size target shares float values among weights, not 8-bit integers; leave `int8` or `to` out"
            )
        if bits is not None and bits != int(bits):
            raise UserError(f"codebook indices cannot have {bits:g} bits; with a size, `bits` is an integer")
        if size_of(source) <= target.limit:
            raise UserError(f"{source.name} takes {size(size_of(source))} already, which is no more than {target}")


def parse_sparsity(text: str) -> Pruning:
    """
    Raises:
        UserError: it is neither a number nor "2:4".
    """
    if text == TWO_OF_FOUR:
        return TwoFourSparsity()
    try:
        fraction = float(text)
    except ValueError as error:
        raise UserError(f"`sparse` {text!r} is not a fraction of the weights; write 0.9, or {TWO_OF_FOUR}") from error
    return LAMP(fraction)


def bits_for(source: TrainedModel, bits: float | None) -> int | dict[str, int]:
    """Of all layers, or of each if they are to have a mean that is not an integer."""
    if bits is None:
        return MAX_BITS
    return int(bits) if bits == int(bits) else mixed_bits(source, bits)


def timed(models: Sequence[TrainedModel], compiling: bool, progress: Progress) -> tuple[list[Timing], bool]:
    """The latency of each for one image, and whether that is of compiled networks."""
    if compiling:
        progress.say("compiling, to compute in 8 bits ...")
        try:
            return latencies(models, compiling=True), True
        except RuntimeError as error:
            progress.say(f"not compiled ({str(error).splitlines()[0][:80]}); latencies are those of 32 bits")
    return latencies(models), False


def size_of(source: TrainedModel) -> int:
    """The bytes of a model's weights, or of its compressed file."""
    return (source.path if source.path.is_file() else source.path / WEIGHTS).stat().st_size
