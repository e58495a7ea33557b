"""The images that an artefact is tested and calibrated on. Test images are never among them."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from convatlas.data import Split
from convatlas.data.folder_images import SourceImages
from convatlas.deployment.manifest import Precision
from convatlas.errors import UserError
from convatlas.files import SILENT, ProgressCallback
from convatlas.images.listing import list_files
from convatlas.models.model import Model
from convatlas.runs.run import Run
from convatlas.training.validation import draw_validation

NUM_GATE = 24
"""Images that go through the gate as files: three batches of eight."""
ENLARGED = (2.3, 3.1)
"""Times one side and the other of images that are written as files: a camera's are larger than the network's, and no
squares. At the network's own size nothing would be resized, and no fault in that would show."""
NUM_HELD_OUT, HELD_OUT_BYTES = 5000, 2**28
"""That lower precision is judged on, at most."""
NUM_CALIBRATION = 300


@dataclass(frozen=True, kw_only=True)
class Samples:
    gate: tuple[Path, ...]
    """Image files."""
    held_out: Split | None = None
    """Labeled images that lower precision is judged on; None: it is not asked for, or none are known."""
    held_out_kind: str = ""
    """Which those are."""
    calibration: Split | None = None
    """Training images, of all classes, that int8 is calibrated on; None as above."""
    missing: str = ""
    """Why there are none, although they are asked for."""


def draw_samples(
    opened: Run | Model,
    data: str | Path | None,
    folder: Path,
    precisions: Collection[Precision],
    progress: ProgressCallback = SILENT,
) -> Samples:
    """Draw images of a model's data set.

    Args:
        precisions: what they are for; float32 takes no labeled ones.
        data: name or folder of the data set, if it was moved; of an imported model a data set whose classes are some of
            the model's, or a folder of any images.
        folder: where images are written that are no files, as PNG.

    Raises:
        UserError: the data set is not found, or has no images.
    """
    model = opened.model if isinstance(opened, Run) else opened
    imported = model.provenance.imported is not None
    if imported and data is None:
        raise UserError(
            f"{model.name} was imported, and its images are not known; name a folder of such images with `data`"
        )
    if imported and data is not None and Path(data).is_dir() and (found := list_files(Path(data)).images):
        # Nothing says that these are of the model's classes; only labeled ones can show that accuracy stays.
        try:
            dataset = model.load_data(data, progress=progress)
        except UserError as error:
            return Samples(gate=tuple(spread(found)), missing=str(error))
    else:
        dataset = opened.load_data(data, progress=progress)
    train, validation = dataset.train, opened.record.validation if isinstance(opened, Run) else None
    seed = model.provenance.seed
    if validation is None:
        rest, held_out, kind = train, None, "labeled images" if imported else "training images"
    else:
        rest, held_out = draw_validation(train, validation, seed)
        kind = "validation images"
    gate = tuple(as_files(some(rest, NUM_GATE, seed).exact(progress), folder))
    if not set(precisions) - {Precision.FLOAT32}:
        return Samples(gate=gate)
    others, calibration, missing = rest, None, ""
    if any(precision.has_int8 for precision in precisions):
        try:
            others, calibration = for_calibration(rest, seed, judges=held_out is None)
        except UserError as error:
            missing = str(error)
    side = model.preprocessing.resize
    num = min(NUM_HELD_OUT, HELD_OUT_BYTES // (side * side * model.preprocessing.channels))
    return Samples(
        gate=gate,
        held_out=some(others if held_out is None else held_out, num, seed).exact(progress),
        held_out_kind=kind,
        calibration=None if calibration is None else calibration.exact(progress),
        missing=missing,
    )


def for_calibration(split: Split, seed: int, *, judges: bool) -> tuple[Split, Split]:
    """What is left of training images, and what int8 is calibrated on.

    Args:
        judges: whether what is left is to judge int8, which must not be calibrated on it.

    Raises:
        UserError: nothing would be left for that, or the groups cannot be split.
    """
    others, calibration = split.stratified_split(min(NUM_CALIBRATION / len(split), 0.5), np.random.default_rng(seed))
    if judges and not len(others):
        raise UserError("every class has one training image, and the same image cannot judge it; add images to them")
    return others, calibration


def some(split: Split, num: int, seed: int) -> Split:
    """About so many images of a split, of each class its share and at least one."""
    if len(split) <= num:
        return split
    # Groups need not be whole: nothing is learned from these.
    return replace(split, groups=None).stratified_split(num / len(split), np.random.default_rng(seed))[1]


def spread(paths: Sequence[Path]) -> Sequence[Path]:
    """At most `NUM_GATE` of the paths, evenly over all."""
    step = math.ceil(len(paths) / NUM_GATE)
    return paths[::step]


def as_files(split: Split, folder: Path) -> Iterator[Path]:
    """The files of some images of a split, or PNG files of them where they are none: every other one as it is, and the
    rest enlarged, wide and tall in turn."""
    places = np.linspace(0, len(split) - 1, min(NUM_GATE, len(split)), dtype=np.int64)
    if isinstance(split.reader, SourceImages):
        for place in places:
            yield split.reader.sources[place].path
        return
    for number, (place, pixels) in enumerate(zip(places, split.images[places], strict=True)):
        path, image = folder / f"{place}.png", as_image(pixels)
        if number % 2 == 0:
            image = enlarged(image, ENLARGED if number % 4 == 0 else ENLARGED[::-1])
        image.save(path)
        yield path


def enlarged(image: Image.Image, times: tuple[float, float]) -> Image.Image:
    """
    Args:
        times: of the width and of the height.
    """
    width, height = (round(factor * side) for factor, side in zip(times, image.size, strict=True))
    return image.resize((width, height), Image.Resampling.BICUBIC)


def as_image(pixels: npt.NDArray[np.uint8]) -> Image.Image:
    """An image of pixels (channels, height, width)."""
    return Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
