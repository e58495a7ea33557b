"""From a request to the card and the record of a run, before the first step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from convatlas import atlas, data, measure
from convatlas.data.batches import Shard
from convatlas.data.dataset import advice
from convatlas.data.images import Decoding
from convatlas.data.statistics import preprocessing_for
from convatlas.errors import UserError
from convatlas.files import SILENT, ProgressCallback, occupied
from convatlas.files.decoded_cache import LIMIT
from convatlas.files.typed_json import MAX_BYTES, MalformedJsonError, encoded
from convatlas.formatting import count, size
from convatlas.images import Resize, ResizeMode
from convatlas.measure.table import Cost, build_without_memory
from convatlas.models import bounds
from convatlas.models.card import CARD, Card, Provenance
from convatlas.models.device import resolve_device
from convatlas.models.folder import read_card
from convatlas.recipe import Recipe
from convatlas.runs.options import Distillation, Execution, Validation
from convatlas.runs.record import Record
from convatlas.runs.run import RECORD, from_anywhere
from convatlas.spec import Layers, Spec, Variant
from convatlas.training import recipes
from convatlas.training.autotune import available_threads, supports_channels_last
from convatlas.training.constraints import ConstrainedWeights
from convatlas.training.distillation import last_of_each_size, open_teacher
from convatlas.training.distribution import Processes
from convatlas.training.fine_tuning import FEW_IMAGES
from convatlas.training.request import Request
from convatlas.training.start import Start, notes_on_published
from convatlas.training.validation import can_validate, draw_validation

RUNS = Path("runs")
SKIP_BAD = "mend it, or set `skip_bad` to leave such files out"
"""What helps a new training against images that cannot be used."""
COLORS = 3
"""Channels of photographs."""
MAX_CUT_OFF = 0.05
"""The part of an image that a crop may lose before it is squashed instead."""
MAX_SQUASH = 2
"""Times that an image's longer side may be as long as its shorter one before it is letterboxed instead."""
TRIALS = "trials"
"""The folder of a sweep's trials in that of its run."""


@dataclass(frozen=True)
class Plan:
    """What training starts from."""

    card: Card
    record: Record
    dataset: data.Dataset


def plan(request: Request, processes: Processes, progress: ProgressCallback = SILENT) -> Plan:
    """The card and the record of the run that is asked for, and its images.

    Raises:
        UserError: something in it cannot work.
    """
    table = None if request.labels is None else data.Table.of(request.labels, request.group_by, request.data)
    variant, source = atlas.find(request.network), data.find(request.data, table)
    # A spec of one's own may be of any width.
    scale = request.scale if request.spec is None else None
    start = None if request.init_from is None else Start.opened(request.init_from, variant, scale, progress)
    like = None if start is None else start.preprocessing
    size = source.typical_size
    typical_side = None if size is None else size[0]
    learned_side = None if start is None else start.learned_side(variant, request.scale)
    spec = scaled_spec(request, variant, typical_side, learned_side)
    # Before images are resized to a side that no network reads.
    check_trainable(variant, spec)
    asked = None if request.resize is None else ResizeMode(request.resize)
    mode, note_on_mode = resize_mode(asked, start, size)
    is_cropped = mode is ResizeMode.CROP and source.native_side is None
    margin = crop_margin(spec.resolution, typical_side) if is_cropped else 0
    side = spec.resolution + 2 * margin

    resize = Resize(side, mode, Resize.interpolation if like is None else like.interpolation)

    def load() -> data.Dataset:
        with advice(SKIP_BAD):
            return source.load(resize, seed=request.seed, skip_bad=request.skip_bad, progress=progress)

    dataset = load_everywhere(load, processes)
    notes = [*data.notes_on_name(request.data), *dataset.notes, *note_on_mode]
    if start is None and source.path is not None and dataset.channels == COLORS:
        notes += notes_on_published(variant, request.scale)
    validation = request.validation
    if validation is not None:
        draw_validation(dataset.train, validation, request.seed)
    elif request.is_fine_tuned:
        # So that fine-tuning is never worse than the head alone.
        if can_validate(dataset.train, Validation(), request.seed):
            validation = Validation()
        else:
            notes.append(none_held_out(dataset.train, request))
    layers = measure.layers_of(variant.network, spec)
    recipe = chosen_recipe(request, variant, spec, layers, dataset)
    check_batch_norm(variant, layers, smallest_batch(request, recipe, dataset, processes))
    spec = replace(spec, num_classes=len(dataset.classes), in_channels=dataset.channels)
    if start is not None:
        notes += start.check(variant, spec)
    costs = check_trainable(variant, spec)
    card = Card(
        variant=variant.name,
        spec=encoded(spec),
        classes=dataset.classes,
        preprocessing=preprocessing_for(dataset, resize, margin=margin, pixels=variant.input_range, like=like),
        provenance=Provenance(
            method="trained",
            data=data.portable_name(source.name),
            data_checksum=dataset.checksum,
            seed=request.seed,
            skip_bad=request.skip_bad,
            labels=None if table is None else table.path,
            group_by=request.group_by,
            started_from=None if start is None else start.origin,
        ),
        params=costs.params,
        macs=costs.macs,
        quantization=None if start is None else start.quantization,
    )
    check_opens(card)
    record = Record(
        data=source.name,
        seed=request.seed,
        recipe=replace(recipe, epochs=recipe.epochs_for(len(dataset.train)), epochs_of=None),
        scale=replace(request.scale, resolution=spec.resolution) if is_by_name(request) else None,
        class_weights=request.class_weights,
        validation=validation,
        stop_at_error=request.stop_at_error,
        init_from=None if start is None else start.init_from,
        fits_head=request.has_new_head,
        keeps_statistics=request.is_fine_tuned and len(dataset.train) < FEW_IMAGES,
        distillation=checked_distillation(request.distillation, variant, spec, dataset.classes, progress),
        runtime=replace(request.runtime, device=resolve_device(request.runtime.device).type),
        execution=Execution(
            threads=available_threads(processes.local_world_size),
            channels_last=supports_channels_last(build_without_memory(variant.network, spec)),
        ),
        is_tuned=not request.runtime.autotune,
        num_processes=processes.world_size,
        decoding=(dataset.train.reader.decoding,),
    )
    if start is not None and start.init_from.constraint is not None:
        ConstrainedWeights.of(start.init_from, card)
    return Plan(card, record, replace(dataset, notes=tuple(notes)))


def check_trainable(variant: Variant, spec: Spec) -> Cost:
    """The costs of a network that is to be trained; nothing is allocated for it.

    Raises:
        UserError: it is beyond what a record may ask for, so that its run could not be resumed.
    """
    try:
        return bounds.describe(variant.network, spec).cost
    except MalformedJsonError as error:
        raise UserError(f"{variant.name} cannot be trained at this size: {error}") from error


def check_opens(card: Card) -> None:
    """
    Raises:
        UserError: the card could not be read again.
    """
    try:
        bounds.check_numbers(card.spec)
        bounds.check_card(card)
    except MalformedJsonError as error:
        raise UserError(f"{card.variant} cannot be trained on these images: {error}") from error
    if len(card.to_json()) > MAX_BYTES:
        raise UserError(
            f"the names of the {count(len(card.classes))} classes are too long; {size(MAX_BYTES)} is the limit"
        )


def is_by_name(request: Request) -> bool:
    """Whether a command can ask for the same, which has neither a spec nor a recipe of its own."""
    return request.spec is None and isinstance(request.recipe, str)


def scaled_spec(request: Request, variant: Variant, typical_side: int | None, learned_side: int | None = None) -> Spec:
    """The network's spec at the scale that is asked for, before its classes and channels are known.

    Args:
        typical_side: about how many pixels the shorter side of an image has; None: unknown.
        learned_side: of the images that the weights learned on which training starts from, which decides; None: there
            are none, or it is unknown.

    Raises:
        UserError: the request's own spec is another family's, or the scale cannot work.
    """
    if request.spec is None:
        own = variant.spec.scaled(resolution=learned_side or default_resolution(variant, typical_side))
    elif isinstance(request.spec, type(variant.spec)):
        own = request.spec
    else:
        raise UserError(f"a {type(request.spec).__name__} is not a spec of {variant.name}")
    return own.at(request.scale)


def default_resolution(variant: Variant, typical_side: int | None) -> int:
    """The images' own size where the network takes it, between the smallest it takes and the paper's."""
    spec = variant.spec
    if typical_side is None:
        return spec.resolution
    return min(max(typical_side, spec.smallest_resolution), spec.resolution)


def crop_margin(resolution: int, typical_side: int | None) -> int:
    """Room for random crops, 256 pixels for 224 (Krizhevsky et al. 2012, section 4.1), if the images have it.

    Small images are used whole: they have no pixels to spare.
    """
    room = round(resolution / 14)
    return room if typical_side is None or typical_side >= resolution + 2 * room else 0


def resize_mode(
    asked: ResizeMode | None, start: Start | None, size: tuple[int, int] | None
) -> tuple[ResizeMode, tuple[str, ...]]:
    """How images become squares, and a line on it if it is not the usual crop.

    Args:
        asked: by the person; None: for fine-tuning published weights what loses least of the images, otherwise a crop.
        size: the shorter and the longer side of an image; None: unknown.

    Raises:
        UserError: the weights learned on images that became squares otherwise.
    """
    learned = None if start is None else start.mode
    if learned is not None:
        if asked not in (None, learned):
            raise UserError(
                f"the weights learned on images made square by {learned}; leave `resize` out, or start from others"
            )
        return learned, ()
    if asked is not None or start is None or size is None:
        return asked or ResizeMode.CROP, ()
    shorter, longer = size
    cut_off = 1 - shorter / longer
    if cut_off <= MAX_CUT_OFF:
        return ResizeMode.CROP, ()
    mode = ResizeMode.SQUASH if longer <= MAX_SQUASH * shorter else ResizeMode.LETTERBOX
    modes = ", ".join(ResizeMode)
    return mode, (
        f"a crop would cut {100 * cut_off:.0f} % off an image, so they become squares by {mode}; --resize: {modes}",
    )


def none_held_out(train: data.Split, request: Request) -> str:
    """A line on why fine-tuning has no validation images."""
    is_by_groups = can_validate(replace(train, groups=None), Validation(), request.seed)
    few = f"groups of {request.group_by}" if is_by_groups else "images"
    return (
        f"a class has too few {few} to hold any out, so the last epoch is kept, which may be worse than the head alone "
        "(--freeze)"
    )


def load_everywhere(load: Callable[[], data.Dataset], processes: Processes) -> data.Dataset:
    """The images, which are the same for every process.

    They must be decoded alike too: what each process finds out about the images by itself, as the curvatures of
    Levenberg-Marquardt, would differ, and with it the weights of the processes.

    Raises:
        UserError: they are not, or cannot be used.
    """
    dataset = processes.main_first(load)
    if len(set(processes.all_gather(dataset.checksum))) > 1:
        raise UserError(f"{dataset.name} is not the same on every machine; put it where all of them see it")
    if len(decodings := set(processes.all_gather(dataset.train.reader.decoding))) > 1:
        raise UserError(
            f"the caches of the machines hold the images of {dataset.name} in different ways "
            f"({' and '.join(sorted(map(Decoding.describe, decodings)))}); set the same {LIMIT} on each machine, "
            "run convatlas cache clear there, and start again"
        )
    return dataset


def chosen_recipe(request: Request, variant: Variant, spec: Spec, layers: Layers, dataset: data.Dataset) -> Recipe:
    """The recipe that is asked for, with the numbers that replace its own.

    Raises:
        UserError: there is no such recipe, or a number trains nothing.
    """
    if isinstance(request.recipe, Recipe):
        recipe = request.recipe
    else:
        found = recipes.find(request.recipe, variant, layers, dataset, init_from=request.init_from)
        recipe = recipes.fitted(found, variant, spec)
    return adjusted(recipe, request.epochs, request.batch_size, request.lr)


def adjusted(recipe: Recipe, epochs: int | None, batch_size: int | None, lr: float | None) -> Recipe:
    """The recipe with other numbers in place of its own.

    Raises:
        UserError: a number with which nothing is trained.
    """
    for name, value in (("epochs", epochs), ("batch_size", batch_size)):
        if value is not None and value < 1:
            raise UserError(f"`{name}` {value} trains nothing; it must be at least 1")
    if lr is not None and not (lr > 0 and math.isfinite(lr)):
        raise UserError(f"`lr` {lr:g} trains nothing; it must be a number above 0")
    changes: dict[str, Any] = {"batch_size": batch_size, "lr": lr}
    changes |= {"epochs": epochs, "epochs_of": None} if epochs is not None else {}
    return replace(
        recipe, **{name: value for name, value in changes.items() if value is not None or name == "epochs_of"}
    )


def smallest_batch(request: Request, recipe: Recipe, dataset: data.Dataset, processes: Processes) -> int:
    """About how many images are computed at once, at least."""
    micro_batch = request.runtime.micro_batch or recipe.batch_size
    return min(recipe.batch_size // processes.world_size, micro_batch, len(dataset.train))


def check_batch_norm(variant: Variant, layers: Layers, num_images: int) -> None:
    """
    Raises:
        UserError: the network normalizes over a batch that is too small for that.
    """
    if num_images < 2 and layers.of_kind(nn.BatchNorm2d.__name__):
        raise UserError(f"{variant.name} has batch normalization, which needs batches of at least 2 images")


def checked_distillation(
    distillation: Distillation | None,
    variant: Variant,
    spec: Spec,
    classes: tuple[str, ...],
    progress: ProgressCallback,
) -> Distillation | None:
    """The same with the teacher's whole path, or its name.

    Raises:
        UserError: the teacher has other classes, or one of both networks has no layers for attention transfer.
    """
    if distillation is None:
        return None
    distillation = replace(distillation, teacher=from_anywhere(distillation.teacher))
    teacher = open_teacher(distillation.teacher, classes, progress)
    if distillation.attention_weight:
        last_of_each_size(variant, spec)
        last_of_each_size(teacher.variant, teacher.spec)
    return distillation


def training_batches(card: Card, record: Record, split: data.Split, device: torch.device, shard: Shard) -> data.Batches:
    """The augmented batches that a run trains on."""
    recipe = record.recipe
    return data.Batches(
        split,
        card.preprocessing,
        num_classes=len(card.classes),
        batch_size=recipe.batch_size,
        device=device,
        seed=record.seed,
        augmentation=recipe.augmentation,
        label_smoothing=recipe.label_smoothing,
        shard=shard,
    )


def default_run_name(network: str, data: str | Path) -> str:
    """The default name of a run folder."""
    return f"{network}-{Path(data).name}".replace(":", "-")


def new_run_folder(out: Path | None, name: str) -> Path:
    """A folder that holds no run yet.

    Raises:
        UserError: the folder that was named holds something already.
    """
    if out is not None:
        if (out / RECORD).exists():
            raise UserError(f"{out} holds a run already; choose another folder, or convatlas resume {out}")
        if out.exists() and not out.is_dir():
            raise UserError(f"{out} is a file; a run needs a folder")
        if occupied(out) and not is_leftover(out):
            raise UserError(f"{out} has other files in it; choose a new or empty folder")
        return out
    number = 1
    while (folder := RUNS / (name if number == 1 else f"{name}-{number}")).exists():
        number += 1
    return folder


def is_leftover(folder: Path) -> bool:
    """Whether a folder holds only the trials of a sweep, and what a process left that was killed between writing the
    card and the record."""
    names = {path.name for path in folder.iterdir() if not path.name.startswith(".")} - {TRIALS}
    if names != {CARD}:
        return not names
    try:
        return read_card(folder).weights_sha256 is None
    except (UserError, OSError):
        # Another program's file of that name.
        return False
