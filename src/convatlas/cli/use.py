"""convatlas evaluate, convatlas report, convatlas predict"""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Annotated

import typer

from convatlas.cli.console import Column, Device, Json, complain, count, percent, print_facts, print_json, print_table


def evaluate(
    run: Annotated[Path, typer.Argument(help="A run folder, or a compressed file.")],
    device: Device = None,
    json: Json = False,
) -> None:
    """Answer the test images of a run again."""
    from convatlas.cli.progress import loading_progress
    from convatlas.models.codec.container import load

    opened = load(run)
    evaluation = opened.evaluate(device, loading_progress())
    low, high = evaluation.interval
    if json:
        print_json(
            {
                "run": str(run),
                "test_accuracy": evaluation.accuracy,
                "test_interval": [low, high],
                "test_errors": evaluation.num_errors,
                "test_images": evaluation.num_images,
                "test_loss": evaluation.loss,
                "classes": opened.record.classes,
                "confusion": evaluation.confusion.tolist(),
            }
        )
        return
    right = evaluation.num_images - evaluation.num_errors
    print_facts(
        [
            ("network", opened.record.variant),
            ("data", opened.record.data),
            (
                "test accuracy",
                f"{percent(evaluation.accuracy)} ({count(right)} of {count(evaluation.num_images)})",
            ),
            ("95 % interval", f"{percent(low)} to {percent(high)}"),
            ("test loss", f"{evaluation.loss:.4f}"),
        ]
    )
    typer.echo()
    correct = evaluation.confusion.diagonal()
    # The class that each one is most often taken for, beside itself.
    wrong = evaluation.confusion - correct.diag()
    print_table(
        [
            Column("class", wrap=True),
            Column("images", right=True),
            Column("right", right=True),
            Column("most often taken for", wrap=True),
        ],
        [
            (
                name,
                count(int(row.sum())),
                percent(int(right) / max(int(row.sum()), 1)),
                f"{opened.record.classes[int(mistakes.argmax())]} ({int(mistakes.max())})" if mistakes.any() else "",
            )
            for name, row, right, mistakes in zip(
                opened.record.classes, evaluation.confusion, correct, wrong, strict=True
            )
        ],
    )


def report(
    run: Annotated[Path, typer.Argument(help="A run folder, or a compressed file.")],
    out: Annotated[Path | None, typer.Option(help="The page; report.html in the run folder.")] = None,
    device: Device = None,
    json: Json = False,
) -> None:
    """Write a page about a run: its figures, its plots and its worst mistakes."""
    from convatlas.cli.progress import loading_progress
    from convatlas.models.codec.container import load
    from convatlas.runs.report import write_report

    opened = load(run)
    written = write_report(opened, out, device, loading_progress())
    if not json:
        typer.echo(written.path)
        return
    answers, classes = written.answers, opened.record.classes
    print_json(
        {
            "run": str(run),
            "report": str(written.path),
            "test_accuracy": answers.accuracy,
            "test_interval": answers.interval,
            "test_images": len(answers),
            "ece": answers.calibration.ece,
            "mean_confidence": answers.mean_confidence,
            "nll": answers.nll,
            "classes": [
                {
                    "class": classes[figures.label],
                    "images": figures.num_images,
                    "recall": figures.recall,
                    "precision": figures.precision,
                    "f1": figures.f1,
                    "taken_for": None if figures.taken_for is None else classes[figures.taken_for],
                }
                for figures in answers.of_classes
            ],
        }
    )


def predict(
    run: Annotated[Path, typer.Argument(help="A run folder, or a compressed file.")],
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")],
    csv: Annotated[bool, typer.Option("--csv", help="Print comma-separated values.")] = False,
    json: Json = False,
) -> None:
    """Classify images of any common format and size: the five likeliest classes with their probabilities."""
    from convatlas.errors import UserError
    from convatlas.images import ImageError, files_below
    from convatlas.models.codec.container import load

    opened = load(run)
    paths: list[Path] = []
    for path in images:
        if path.is_dir():
            inside = sorted(files_below(path))
            if not inside:
                raise UserError(f"{path} has no images in it")
            paths += inside
        else:
            paths.append(path)
    predictions, failed = [], False
    for path in paths:
        try:
            predictions.append(opened.predict(path))
        except ImageError as error:
            # One bad file must not cost the answers for the others.
            complain(str(error))
            failed = True
    if json:
        print_json(
            {
                "predictions": [
                    {"image": str(p.path), "classes": p.classes, "probabilities": p.probabilities} for p in predictions
                ]
            }
        )
    elif csv:
        _print_csv([(str(p.path), list(zip(p.classes, p.probabilities, strict=True))) for p in predictions])
    elif predictions:
        print_table(
            [
                Column("image", wrap=True),
                Column("answer", wrap=True),
                Column("probability", right=True),
                Column("then", wrap=True),
            ],
            [
                (
                    str(p.path),
                    p.classes[0],
                    f"{100 * p.probabilities[0]:.1f} %",
                    ", ".join(
                        f"{name} {100 * probability:.1f} %"
                        for name, probability in zip(p.classes[1:], p.probabilities[1:], strict=True)
                    ),
                )
                for p in predictions
            ],
        )
    if failed:
        raise typer.Exit(2)


def _print_csv(rows: list[tuple[str, list[tuple[str, float]]]]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    num = max((len(ranked) for _, ranked in rows), default=0)
    writer.writerow(["image", *(f"{what}_{rank}" for rank in range(1, num + 1) for what in ("class", "probability"))])
    for path, ranked in rows:
        writer.writerow([path, *(cell for name, p in ranked for cell in (name, f"{p:.6f}"))])
