"""From what a person asks for to a run folder with its record, before the first step."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from convatlas import atlas, data, measure
from convatlas.data.batches import Shard
from convatlas.errors import UserError
from convatlas.files import SILENT, ProgressCallback, occupied
from convatlas.images import Preprocessing
from convatlas.images.ink import ink_span
from convatlas.measure.table import weightless
from convatlas.recipe import Distillation, Recipe, WeightConstraint
from convatlas.runs import Execution, Record, device_named, load
from convatlas.runs.run import RECORD
from convatlas.spec import Spec, Variant
from convatlas.training import recipes
from convatlas.training.autotune import available_threads, bears_channels_last
from convatlas.training.constraints import ConstrainedWeights
from convatlas.training.distillation import last_of_each_size, teacher_named
from convatlas.training.distribution import Processes
from convatlas.training.fine_tuning import Body


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a person asks for; see `train`."""

    network: str
    spec: Spec | None = None
    data: str | Path = "digits"
    epochs: int | None = None
    batch_size: int | None = None
    lr: float | None = None
    seed: int = 0
    width: float = 1.0
    depth: float = 1.0
    resolution: int | None = None
    phi: float = 0.0
    recipe: str | Recipe = "default"
    micro_batch: int | None = None
    balance: bool = False
    hold_out: bool = False
    patience: int | None = None
    start: str | Path | None = None
    freeze: bool = False
    kept: WeightConstraint | None = None
    """What stays of the weights at `start`, which are then those of a whole network, its head included."""
    distillation: Distillation | None = None
    device: str | None = None
    autotune: bool = True
    checkpoint_steps: int | None = None
    skip_bad: bool = False

    def __post_init__(self) -> None:
        counts = {
            "micro-batch": self.micro_batch,
            "patience": self.patience,
            "checkpoint-steps": self.checkpoint_steps,
        }
        for name, count in counts.items():
            if count is not None and count < 1:
                raise UserError(f"--{name} {count} cannot work; it must be at least 1")
        if self.freeze and self.start is None:
            raise UserError("--freeze trains the head alone, on a trained body: name its weights with --from")
        if self.kept is not None and (self.start is None or self.freeze):
            raise UserError("what is kept of weights needs a run to begin from, all of which learns on")
        if self.freeze and self.recipe == "paper":
            raise UserError("--freeze trains with the default recipe: papers train the whole network")
        if self.freeze and self.distillation is not None:
            raise UserError("--freeze computes features once, so no teacher sees their images; leave one of both out")
        if not 0 <= self.seed < 2**63:
            raise UserError(f"--seed {self.seed} is out of range; it must be a whole number from 0 to 2**63 - 1")


def planned(request: Request, processes: Processes, progress: ProgressCallback = SILENT) -> tuple[Record, data.Dataset]:
    """The record of the run that is asked for, and its images.

    Raises:
        UserError: something in it cannot work.
    """
    variant = atlas.find(request.network)
    source = data.find(request.data)
    detail = source.typical_side
    if request.spec is None:
        own = variant.spec.scaled(resolution=resolution(variant, detail))
    elif isinstance(request.spec, type(variant.spec)):
        own = request.spec
    else:
        raise UserError(f"a {type(request.spec).__name__} is no spec of {variant.name}")
    spec = own.compound(request.phi, width=request.width, depth=request.depth, resolution=request.resolution)
    around = 0 if source.native_side is not None else margin(spec.resolution, detail)
    layers = measure.layers_of(variant.network, spec)
    images = processes.main_first(
        lambda: source.load(
            spec.resolution + 2 * around, seed=request.seed, skip_bad=request.skip_bad, progress=progress
        )
    )
    if len(set(processes.all_gather(images.checksum))) > 1:
        raise UserError(f"{source.name} is not the same on every machine; put it where all of them see it")
    fine_tuned = request.start is not None and not request.freeze
    if isinstance(request.recipe, Recipe):
        recipe = request.recipe
    else:
        found = recipes.find(request.recipe, variant, layers, images, fine_tuned=fine_tuned)
        recipe = recipes.fitted(found, variant, spec)
    recipe = adjusted(recipe, request.epochs, request.batch_size, request.lr)
    at_once = min(recipe.batch_size // processes.num, request.micro_batch or recipe.batch_size, len(images.train))
    if at_once < 2 and layers.of_kind(nn.BatchNorm2d.__name__):
        raise UserError(f"{variant.name} normalizes over a batch, which must have at least 2 images")
    spec = replace(spec, num_classes=len(images.classes), in_channels=images.channels)
    by_command = request.spec is None and isinstance(request.recipe, str)
    start = None if request.start is None else Path(request.start).resolve()
    if start is not None and request.kept is None:
        Body.of(str(start), variant, spec).names()
    low_bits = load(start).record.low_bits if start is not None and request.kept is WeightConstraint.STEPS else None
    if request.kept is WeightConstraint.STEPS and not low_bits:
        raise UserError(f"{start} has weights of 32 bits, which lie on no steps")
    distillation = request.distillation
    if distillation is not None:
        distillation = replace(distillation, teacher=str(Path(distillation.teacher).resolve()))
        teacher = teacher_named(distillation.teacher, images.classes)
        if distillation.attention_weight:
            last_of_each_size(variant, spec)
            last_of_each_size(teacher.variant, teacher.record.spec)
    record = Record(
        variant=variant.name,
        spec=spec,
        classes=images.classes,
        preprocessing=preprocessing(variant, images, around, start),
        data=source.name,
        data_checksum=images.checksum,
        skip_bad=request.skip_bad,
        seed=request.seed,
        recipe=replace(recipe, epochs=recipe.epochs_for(len(images.train)), epochs_of=None),
        device=device_named(request.device).type,
        execution=Execution(
            threads=available_threads(processes.local_num),
            channels_last=bears_channels_last(weightless(variant.network, spec)),
        ),
        autotuned=not request.autotune,
        processes=processes.num,
        micro_batch=request.micro_batch,
        balance=request.balance,
        hold_out=request.hold_out or request.patience is not None,
        patience=request.patience,
        checkpoint_steps=request.checkpoint_steps,
        start=None if start is None else str(start),
        freeze=request.freeze,
        kept=request.kept,
        low_bits=low_bits,
        distillation=distillation,
        width=request.width if by_command else None,
        depth=request.depth if by_command else None,
        phi=request.phi if by_command else None,
    )
    if record.start is not None and record.kept is not None:
        ConstrainedWeights.of(record.start, record)
    return record, images


def batches(record: Record, split: data.Split, device: torch.device, shard: Shard) -> data.Batches:
    """The batches that a run trains on."""
    return data.Batches(
        split,
        record.preprocessing,
        num_classes=len(record.classes),
        batch_size=record.recipe.batch_size,
        device=device,
        seed=record.seed,
        augmentation=record.recipe.augmentation,
        label_smoothing=record.recipe.label_smoothing,
        shard=shard,
    )


def adjusted(recipe: Recipe, epochs: int | None, batch_size: int | None, lr: float | None) -> Recipe:
    """The recipe with what the person gave in place of its own.

    Raises:
        UserError: a number with which nothing is trained.
    """
    for name, value in (("epochs", epochs), ("batch-size", batch_size)):
        if value is not None and value < 1:
            raise UserError(f"--{name} {value} trains nothing; it must be at least 1")
    if lr is not None and not (lr > 0 and math.isfinite(lr)):
        raise UserError(f"--lr {lr:g} trains nothing; it must be a number above 0")
    if epochs is not None:
        recipe = replace(recipe, epochs=epochs, epochs_of=None)
    if batch_size is not None:
        recipe = replace(recipe, batch_size=batch_size)
    if lr is not None:
        recipe = replace(recipe, lr=lr)
    return recipe


def resolution(variant: Variant, detail: int | None) -> int:
    """The images' own size where the network takes it, between the smallest it takes and the paper's."""
    spec = variant.spec
    return spec.resolution if detail is None else min(max(detail, spec.smallest_resolution), spec.resolution)


def margin(resolution: int, detail: int | None) -> int:
    """Room to place what is read, 256 pixels for 224 (Krizhevsky et al. 2012, section 4.1), where images have it.

    Of small ones the whole is read: they have no pixels to spare.
    """
    room = round(resolution / 14)
    return room if detail is None or detail >= resolution + 2 * room else 0


def name_for(network: str, data: str | Path) -> str:
    """What a folder is called that its person did not name."""
    return f"{network}-{Path(data).name}".replace(":", "-")


def vacant(out: Path | None, name: str) -> Path:
    """A folder that holds no run yet.

    Raises:
        UserError: the person's own choice holds something already.
    """
    if out is not None:
        if (out / RECORD).exists():
            raise UserError(f"{out} holds a run already; choose another folder, or convatlas resume {out}")
        if out.exists() and not out.is_dir():
            raise UserError(f"{out} is a file; a run needs a folder")
        if occupied(out):
            raise UserError(f"{out} has other files in it; choose a new or empty folder")
        return out
    number = 1
    while (folder := Path("runs") / (name if number == 1 else f"{name}-{number}")).exists():
        number += 1
    return folder


def preprocessing(variant: Variant, images: data.Dataset, margin: int, start: Path | None) -> Preprocessing:
    """The paper's own range of pixel values, else the training set's mean and deviation.

    Args:
        start: where the weights come from; a run's were trained on values of its own mean and deviation.
    """
    before = load(start).record.preprocessing if start is not None and start.is_dir() else None
    if before is not None and before.channels == images.channels:
        mean, std = before.mean, before.std
    elif variant.pixels is None:
        mean, std = data.channel_statistics(images.train)
    else:
        black, white = variant.pixels
        mean = (-black / (white - black),) * images.channels
        std = (1 / (white - black),) * images.channels
    return Preprocessing(
        resize=images.train.images.shape[-1],
        crop=images.train.images.shape[-1] - 2 * margin,
        channels=images.channels,
        mean=mean,
        std=std,
        native_side=images.native_side,
        ink=ink_span(images.train.images[:]) if images.ink else None,
    )
