"""A finished run as one page that needs nothing beside itself: no script, no style sheet, no image from elsewhere."""

from __future__ import annotations

import dataclasses
import io
import math
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from convatlas import data, draw
from convatlas.draw.pages import data_uri, page, svg
from convatlas.errors import UserError
from convatlas.files import SILENT, ProgressCallback, write
from convatlas.models.device import device_named
from convatlas.models.predictions import ClassFigures, Predictions, answer
from convatlas.runs.command import command
from convatlas.runs.record import Record
from convatlas.runs.run import WEIGHTS, Run, read_metrics

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

REPORT = "report.html"

SHOWN = 48
"""Mistakes, at most."""
LARGEST = 160
"""Pixels along a side of a mistake's image."""
EXACT = 64
"""Up to so many pixels an image is shown as it is; a larger one is photograph enough for JPEG."""


@dataclass(frozen=True, eq=False)
class Report:
    path: Path
    answers: Predictions
    """Those that the page is made from, of the test images."""


@dataclass(frozen=True)
class Mistake:
    """A wrong answer as the page shows it."""

    image: str
    """A data URI."""
    small: bool
    """Whether its pixels are to be seen when it is enlarged."""
    name: str
    truth: str
    answer: str
    probability: float


def write_report(
    run: Run, out: Path | None = None, device: str | None = None, progress: ProgressCallback = SILENT
) -> Report:
    """Answer the test images and write the page.

    Args:
        out: the file; without it `report.html` in the run folder.
        device, progress: see `Run.evaluate`.

    Raises:
        UserError: the run is not finished or damaged, its data set is gone or has changed, or there is no such folder.
    """
    path = run.folder / REPORT if out is None else out
    if not path.parent.is_dir():
        raise UserError(f"there is no folder {path.parent} to write {path.name} into")
    place = device_named(device)
    with run.network_on(place) as network:
        metrics, test = read_metrics(run), run.load_data(progress).test
        answers = answer(network, run.variant.objective, run.judging(test, place))
    write(path, contents(run, metrics, test, answers))
    return Report(path, answers)


def contents(run: Run, metrics: list[dict[str, Any]], test: data.Split, answers: Predictions) -> bytes:
    """The whole page, well-formed XML too.

    Args:
        metrics: a row for each epoch, see `read_metrics`.
    """
    record, calibration = run.record, answers.calibration
    weights = (run.folder / WEIGHTS).stat()
    values = {
        "network": record.variant,
        "data": Path(record.data).name,
        # Of the file that training writes last but one and nobody changes after.
        "date": datetime.fromtimestamp(weights.st_mtime).astimezone().date(),
        "record": record,
        "results": run.results,
        "answers": answers,
        "weight_bytes": weights.st_size,
        "curves": svg(draw.curves("", metrics)),
        "confusion": svg(draw.confusion("", record.classes, answers.confusion.numpy())),
        "classes": sorted(answers.of_classes, key=by_recall),
        "reliability": svg(
            draw.reliability(calibration.counts.numpy(), calibration.confidence.numpy(), calibration.accuracy.numpy())
        ),
        "ece": calibration.ece,
        "num_bins": len(calibration.counts),
        "guessing": math.log(len(record.classes)),
        "mistakes": mistakes(record, test, answers),
        "facts": facts(record),
        "command": command(record),
    }
    return page("convatlas.runs", "report.html.jinja", values)


def by_recall(figures: ClassFigures) -> tuple[float, int]:
    """Orders classes, the worst first, and those without images last."""
    return 2.0 if figures.recall is None else figures.recall, figures.label


def mistakes(record: Record, test: data.Split, answers: Predictions) -> list[Mistake]:
    """The wrong answers that the network was surest of."""
    worst = answers.worst(SHOWN)
    return [
        Mistake(
            image=thumbnail(record.preprocessing.center(image)),
            small=record.preprocessing.crop <= EXACT,
            name=test.name_of(place),
            truth=record.classes[int(answers.labels[place])],
            answer=record.classes[int(answers.given[place])],
            probability=float(answers.confidence[place]),
        )
        for place, image in zip(worst.tolist(), test.images[worst.numpy()], strict=True)
    ]


def thumbnail(pixels: npt.NDArray[np.uint8]) -> str:
    """A data URI of an image (channels, height, width)."""
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    kind = "PNG" if max(image.size) <= EXACT else "JPEG"
    image.thumbnail((LARGEST, LARGEST))
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=88)
    return data_uri(f"image/{kind.lower()}", buffer.getvalue())


def facts(record: Record) -> list[tuple[str, str]]:
    """How the run was made: names and values, beside what the page says elsewhere."""
    recipe = record.recipe
    schedule, augmentation = (
        ", ".join(f"{name} {value}" for name, value in settings(part)) or "none"
        for part in (recipe.schedule, recipe.augmentation)
    )
    chosen = ("processes", "micro batch", "balance", "hold out", "patience", "start", "freeze")
    return [
        (
            "network",
            f"{record.variant}, reads {record.spec.in_channels}×{record.spec.resolution}×{record.spec.resolution}",
        ),
        ("data", record.data),
        ("data checksum", record.data_checksum),
        ("seed", str(record.seed)),
        ("recipe", recipe.name),
        *settings(recipe, but=("name", "schedule", "augmentation", "sources", "epochs_of")),
        ("schedule", f"{type(recipe.schedule).__name__.lower()}: {schedule}"),
        ("augmentation", augmentation),
        *((f"{what}, printed in", where) for what, where in recipe.sources),
        *((name, value) for name, value in settings(record) if name in chosen),
        ("computed on", f"{record.device}, {record.machine}: {record.execution.describe}"),
        ("versions", ", ".join(f"{name} {version}" for name, version in record.versions.items())),
    ]


def settings(plain: DataclassInstance, but: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    """The fields that say something: those that have no default, or another value than it."""
    return [
        (part.name.replace("_", " "), describe(getattr(plain, part.name)))
        for part in dataclasses.fields(plain)
        if part.name not in but and getattr(plain, part.name) != part.default
    ]


def describe(value: object) -> str:
    """True is yes; of rows of numbers each stands alone."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple):
        return ", ".join(f"({describe(part)})" if isinstance(part, tuple) else describe(part) for part in value)
    return str(value)
