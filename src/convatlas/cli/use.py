"""convatlas evaluate, convatlas report, convatlas predict"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convatlas.cli.console import (
    Column,
    Device,
    Json,
    MovedData,
    Trained,
    count,
    percent,
    print_error,
    print_facts,
    print_json,
    print_line,
    print_table,
    short_name,
)
from convatlas.cli.streams import encoding_of
from convatlas.formatting import visible

if TYPE_CHECKING:
    from convatlas.images import ImageError
    from convatlas.models.card import Provenance
    from convatlas.models.evaluation import Evaluation
    from convatlas.models.prediction import Prediction

COMPUTED = ("=", "+", "-", "@")
"""What a formula begins with in a spreadsheet."""


def evaluate(
    model: Trained,
    data: MovedData = None,
    device: Device = None,
    json: Json = False,
) -> None:
    """Measure a model's accuracy on its test images."""
    from convatlas.cli.progress import loading_progress
    from convatlas.data import find
    from convatlas.models.evaluation import NUM_NEAREST
    from convatlas.runs.run import Run, load

    progress = loading_progress()
    opened = load(model, progress=progress)
    evaluation = opened.evaluate(opened.load_test_images(data, progress=progress), device=device)
    card, imported = opened.card, opened.card.provenance.imported
    trained_on = opened.record.data if isinstance(opened, Run) else card.provenance.data
    low, high = evaluation.interval
    # Of five classes or fewer, the true one is always among the five most probable.
    has_top5 = len(card.classes) > NUM_NEAREST
    if json:
        print_json(
            {
                "model": str(model),
                "test_accuracy": evaluation.accuracy,
                "test_interval": [low, high],
                **({"test_top5_accuracy": evaluation.top5_accuracy} if has_top5 else {}),
                **({} if imported is None else {"published": {"top1": imported.top1, "top5": imported.top5}}),
                "test_errors": evaluation.num_errors,
                "test_images": evaluation.num_images,
                "test_loss": evaluation.loss,
                "classes": card.classes,
                "confusion": evaluation.confusion.tolist(),
            }
        )
        return
    correct = evaluation.num_images - evaluation.num_errors
    print_facts(
        [
            ("network", card.variant),
            ("data", find(trained_on if data is None else data).name),
            (
                "test accuracy",
                f"{percent(evaluation.accuracy)} ({count(correct)} of {count(evaluation.num_images)})",
            ),
            ("95 % interval", f"{percent(low)} to {percent(high)}"),
            *([("top-5 accuracy", percent(evaluation.top5_accuracy))] if has_top5 else []),
            ("test loss", f"{evaluation.loss:.4f}"),
            *published_facts(card.provenance),
        ]
    )
    print_line()
    print_classes(card.classes, evaluation)


def published_facts(provenance: Provenance) -> list[tuple[str, str]]:
    """What those say of an imported model's accuracy who published its weights."""
    imported = provenance.imported
    if imported is None or imported.top1 is None:
        return []
    top5 = "" if imported.top5 is None else f", top-5 {percent(imported.top5)}"
    return [("published", f"top-1 {percent(imported.top1)}{top5} on all of {provenance.data}")]


def print_classes(classes: tuple[str, ...], evaluation: Evaluation) -> None:
    """The accuracy of each class, and the class that it is most often mistaken for."""
    correct = evaluation.confusion.diagonal()
    wrong = evaluation.confusion - correct.diag()
    print_table(
        [
            Column("class", wrap=True),
            Column("images", right=True),
            Column("correct", right=True),
            Column("most often mistaken for", wrap=True),
        ],
        [
            (
                short_name(name),
                count(int(row.sum())),
                percent(int(hits) / max(int(row.sum()), 1)),
                f"{short_name(classes[int(mistakes.argmax())])} ({int(mistakes.max())})" if mistakes.any() else "",
            )
            for name, row, hits, mistakes in zip(classes, evaluation.confusion, correct, wrong, strict=True)
            if row.any()
        ],
    )


def report(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    out: Annotated[Path | None, typer.Option(help="The page; report.html in the run folder by default.")] = None,
    data: MovedData = None,
    device: Device = None,
    json: Json = False,
) -> None:
    """Write an HTML report of a run: metrics, plots and worst mistakes."""
    from convatlas.cli.progress import loading_progress
    from convatlas.runs.report import write_report
    from convatlas.runs.run import load_run

    opened = load_run(run)
    written = write_report(opened, out, data=data, device=device, progress=loading_progress())
    if not json:
        print_line(written.path)
        return
    predictions, classes = written.predictions, opened.card.classes
    print_json(
        {
            "run": str(run),
            "report": str(written.path),
            "test_accuracy": predictions.accuracy,
            "test_interval": predictions.interval,
            "test_images": len(predictions),
            "ece": predictions.calibration.ece,
            "mean_confidence": predictions.mean_confidence,
            "nll": predictions.nll,
            "classes": [
                {
                    "class": classes[metrics.label],
                    "images": metrics.num_images,
                    "recall": metrics.recall,
                    "precision": metrics.precision,
                    "f1": metrics.f1,
                    "confused_with": None if metrics.confused_with is None else classes[metrics.confused_with],
                }
                for metrics in predictions.per_class
            ],
        }
    )


def predict(
    model: Trained,
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")],
    device: Device = None,
    csv: Annotated[bool, typer.Option("--csv", help="Print comma-separated values.")] = False,
    json: Json = False,
) -> None:
    """Classify images of any common format and size: the five most probable classes with their probabilities.

    In names, control characters are shown as \\n or \\x1b, and bytes that are not UTF-8 as \\xe9 (in JSON only these).
    In CSV an apostrophe stands before a name that a spreadsheet would compute, as '=1+1.
    """

    failed: list[ImageError] = []

    def note(error: ImageError) -> None:
        # One bad file must not cost the predictions for the others.
        print_error(str(error))
        failed.append(error)

    predictions = predict_files(model, files_of(images), device, note)
    if json:
        print_json(
            {
                "predictions": [
                    {"image": str(p.path), "classes": p.classes, "probabilities": p.probabilities} for p in predictions
                ]
            }
        )
    elif csv:
        print_csv(predictions)
    elif predictions:
        print_table(
            [
                Column("image", wrap=True),
                Column("class", wrap=True),
                Column("probability", right=True),
                Column("then", wrap=True),
            ],
            [
                (
                    str(p.path),
                    short_name(p.classes[0]),
                    f"{100 * p.probabilities[0]:.1f} %",
                    ", ".join(
                        f"{short_name(name)} {100 * probability:.1f} %"
                        for name, probability in zip(p.classes[1:], p.probabilities[1:], strict=True)
                    ),
                )
                for p in predictions
            ],
        )
    if failed:
        raise typer.Exit(2)


def predict_files(
    model: Path, files: list[Path], device: str | None, on_error: Callable[[ImageError], None]
) -> list[Prediction]:
    """What a model says of image files, or an artefact, which needs no torch."""
    from convatlas.deployment.manifest import is_artefact
    from convatlas.files.artefacts import check_no_artefact

    if not is_artefact(model):
        # A file of an artefact is named as such where there is no torch either.
        check_no_artefact(model)
        from convatlas.cli.progress import loading_progress
        from convatlas.runs.run import load_model

        return load_model(model, progress=loading_progress()).predict(files, device=device, on_error=on_error)
    from convatlas.deployment.predictor import Artefact
    from convatlas.errors import UserError

    if device is not None:
        raise UserError(f"{model} is an artefact, which computes on the CPU; leave `device` out")
    return Artefact.open(model).predict(files, on_error=on_error)


def files_of(paths: list[Path]) -> list[Path]:
    """The files, and the image files of the folders; what else those hold is named on standard error.

    Raises:
        UserError: a folder has none.
    """
    from convatlas.errors import UserError
    from convatlas.images.listing import list_files, summary

    files: list[Path] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        inside = list_files(path)
        others = summary(inside.unused, path)
        if not inside.images:
            raise UserError(f"{path} has no images in it{f', only {others}' if others else ''}")
        files += inside.images
        if others:
            print_error(f"not used of {path}: {others}")
    return files


def print_csv(predictions: list[Prediction]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    encoding = encoding_of(sys.stdout)
    num = max((len(p.classes) for p in predictions), default=0)
    writer.writerow(["image", *(f"{what}_{rank}" for rank in range(1, num + 1) for what in ("class", "probability"))])

    def cell(name: str) -> str:
        shown = visible(name, encoding)
        return f"'{shown}" if name.lstrip().startswith(COMPUTED) else shown

    for p in predictions:
        ranked = zip(p.classes, p.probabilities, strict=True)
        writer.writerow([cell(str(p.path)), *(part for name, share in ranked for part in (cell(name), f"{share:.6f}"))])
