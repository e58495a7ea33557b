"""The HTML report of a finished run: one self-contained page without external scripts, styles or images."""

from __future__ import annotations

import dataclasses
import io
import math
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from convatlas import draw
from convatlas.data import Split, check_outside
from convatlas.data.images import Decoding
from convatlas.draw.pages import data_uri, render_page, svg_uri
from convatlas.errors import UserError
from convatlas.files import SILENT, ProgressCallback, write
from convatlas.models.device import resolve_device
from convatlas.models.evaluation import evaluation_batches
from convatlas.models.folder import WEIGHTS
from convatlas.models.model import Model
from convatlas.models.predictions import ClassMetrics, Predictions, collect_predictions
from convatlas.runs.command import command
from convatlas.runs.run import Run, read_metrics

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

REPORT = "report.html"

NUM_MISTAKES = 48
"""At most."""
THUMBNAIL_SIDE = 160
"""Of a mistake's image, in pixels."""
MAX_PNG_SIDE = 64
"""Images up to that size are shown losslessly, larger ones as JPEG."""


@dataclass(frozen=True, eq=False)
class Report:
    """The page about a run that `write_report` wrote."""

    path: Path
    """The HTML file."""
    predictions: Predictions
    """Those of the test images, from which the page is made."""


@dataclass(frozen=True)
class Mistake:
    """A wrong prediction as the page shows it."""

    image: str
    """A data URI."""
    small: bool
    """Whether the page enlarges it without smoothing."""
    name: str
    true: str
    predicted: str
    probability: float


def write_report(
    run: Run,
    out: str | Path | None = None,
    *,
    data: str | Path | None = None,
    device: str | None = None,
    progress: ProgressCallback = SILENT,
) -> Report:
    """Predict the test images of a run, and write a page about it.

    Args:
        out: the file; None: `report.html` in the run folder.
        data: see `Run.evaluate`.
        device: see `Run.evaluate`.
        progress: called with the progress of downloads and of decoding.

    Raises:
        UserError: the run is not finished or damaged, its data set is gone or has changed, or there is no such folder.
    """
    path = run.folder / REPORT if out is None else Path(out)
    if out is not None:
        data = run.data_name(data, progress=progress)
        check_outside(out, data)
    if not path.parent.is_dir():
        raise UserError(f"there is no folder {path.parent} to write {path.name} into")
    place, model = resolve_device(device), run.model
    with model.network_on(place) as network:
        metrics, test = read_metrics(run), run.load_data(data, progress=progress).test
        batches = evaluation_batches(run.card, test, place)
        predictions = collect_predictions(network, run.variant.objective, batches)
    write(path, contents(run, metrics, test, predictions))
    return Report(path, predictions)


def contents(run: Run, metrics: list[dict[str, Any]], test: Split, predictions: Predictions) -> bytes:
    """The whole page, well-formed XML too.

    Args:
        metrics: a row for each epoch, see `read_metrics`.
    """
    model, calibration = run.model, predictions.calibration
    weights = (run.folder / WEIGHTS).stat()
    values: dict[str, object] = {
        "network": model.card.variant,
        "data": Path(run.record.data).name,
        # Of the weights, which training writes at its end and nobody changes after.
        "date": day(weights.st_mtime),
        "model": model,
        "results": run.results,
        "predictions": predictions,
        "weight_bytes": weights.st_size,
        "curves": svg_uri(draw.training_curves("", metrics)),
        "confusion": svg_uri(draw.confusion_matrix("", model.classes, predictions.confusion.numpy())),
        "classes": sorted(predictions.per_class, key=by_recall),
        "reliability": svg_uri(
            draw.reliability_diagram(
                calibration.counts.numpy(), calibration.confidence.numpy(), calibration.accuracy.numpy()
            )
        ),
        "ece": calibration.ece,
        "num_bins": len(calibration.counts),
        "guessing": math.log(len(model.classes)),
        "mistakes": mistakes(model, test, predictions),
        "facts": facts(run),
        "command": command(run),
    }
    return render_page("convatlas.runs", "report.html.jinja", values)


def day(seconds: float) -> date | str:
    """The day of a time in seconds since 1970; a file may say that it is of no year that there is."""
    try:
        return datetime.fromtimestamp(seconds).astimezone().date()
    except (ValueError, OverflowError, OSError):
        return "unknown"


def by_recall(metrics: ClassMetrics) -> tuple[float, int]:
    """Orders classes, the lowest recall first, and those without images last."""
    return 2.0 if metrics.recall is None else metrics.recall, metrics.label


def mistakes(model: Model, test: Split, predictions: Predictions) -> list[Mistake]:
    """The wrong predictions with the highest confidence."""
    worst = predictions.worst(NUM_MISTAKES)
    return [
        Mistake(
            image=thumbnail(model.preprocessing.center(image)),
            small=model.preprocessing.crop <= MAX_PNG_SIDE,
            name=test.name_of(place),
            true=model.classes[int(predictions.labels[place])],
            predicted=model.classes[int(predictions.predicted[place])],
            probability=float(predictions.confidence[place]),
        )
        for place, image in zip(worst.tolist(), test.images[worst.numpy()], strict=True)
    ]


def thumbnail(pixels: npt.NDArray[np.uint8]) -> str:
    """A data URI of an image (channels, height, width)."""
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    kind = "PNG" if max(image.size) <= MAX_PNG_SIDE else "JPEG"
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=88)
    return data_uri(f"image/{kind.lower()}", buffer.getvalue())


def facts(run: Run) -> list[tuple[str, str]]:
    """How the run was made: names and values, beside what the page says elsewhere."""
    record, card = run.record, run.card
    recipe, spec = record.recipe, run.spec
    schedule, augmentation = (
        ", ".join(f"{name} {value}" for name, value in settings(part)) or "none"
        for part in (recipe.schedule, recipe.augmentation)
    )
    groups = (record.validation, record.init_from, record.distillation)
    return [
        ("network", f"{card.variant}, input {spec.in_channels}×{spec.resolution}×{spec.resolution}"),
        ("data", record.data),
        ("data checksum", card.provenance.data_checksum),
        *((("images read as", ", then ".join(map(Decoding.describe, record.decoding))),) if record.decoding else ()),
        ("seed", str(record.seed)),
        ("recipe", recipe.name),
        *settings(recipe, but=("name", "schedule", "augmentation", "sources", "epochs_of")),
        ("schedule", f"{type(recipe.schedule).__name__.lower()}: {schedule}"),
        ("augmentation", augmentation),
        *((f"{what}, printed in", where) for what, where in recipe.sources),
        *((("class weights", record.class_weights),) if record.class_weights else ()),
        *((("stop at error", describe(record.stop_at_error)),) if record.stop_at_error is not None else ()),
        *((("init from", record.init_from.path),) if record.init_from is not None else ()),
        *(fact for group in groups if group is not None for fact in settings(group, but=("path",), all_of_them=True)),
        *settings(record.runtime, but=("device", "autotune")),
        ("computed on", f"{record.device}, {record.machine}: {record.execution.describe()}"),
        *((("processes", str(record.num_processes)),) if record.num_processes > 1 else ()),
        ("versions", ", ".join(f"{name} {version}" for name, version in card.provenance.versions.items())),
    ]


def settings(
    values: DataclassInstance, but: tuple[str, ...] = (), *, all_of_them: bool = False
) -> list[tuple[str, str]]:
    """The names and values of fields that differ from their defaults, or of all that are not None."""
    return [
        (field.name.replace("_", " "), describe(getattr(values, field.name)))
        for field in dataclasses.fields(values)
        if field.name not in but
        and getattr(values, field.name) is not None
        and (all_of_them or getattr(values, field.name) != field.default)
    ]


def describe(value: object) -> str:
    """True is yes; numbers in a row are separated by commas."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple):
        return ", ".join(f"({describe(part)})" if isinstance(part, tuple) else describe(part) for part in value)
    return str(value)
