"""Training as it is seen on standard error: a bar and a line an epoch in a terminal, lines elsewhere."""

from __future__ import annotations

import sys

import typer
from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.text import Text

from convatlas.cli.console import complain, count, duration, percent, speaks
from convatlas.data import Dataset
from convatlas.runs.run import Run
from convatlas.training import Progress
from convatlas.training.progress import EpochMetrics


def progress_on(quiet: bool) -> Progress:
    if quiet or not speaks():
        return Progress()
    return BarProgress() if sys.stderr.isatty() else LineProgress()


def epoch_line(metrics: EpochMetrics, num_epochs: int) -> str:
    width = len(str(num_epochs))
    held_out = metrics.get("val_accuracy")
    return (
        f"epoch {metrics['epoch']:{width}}/{num_epochs}  loss {metrics['loss']:.4f}"
        f"  training accuracy {percent(metrics['accuracy']):>8}"
        + (f"  validation accuracy {percent(held_out):>8}" if held_out is not None else "")
        + f"  {duration(metrics['seconds'])}"
    )


class LineProgress(Progress):
    """Plain lines."""

    def begin(self, run: Run, images: Dataset, num_steps: int, step: int) -> None:
        for error in images.skipped:
            complain(f"left out {error}")
        typer.echo(
            f"{run.card.variant} on {run.record.data}: {count(len(images.train))} images of "
            f"{run.card.preprocessing.resolution} px, {len(run.card.classes)} classes, on {run.record.device}, in {run.folder}",
            err=True,
        )
        if step:
            typer.echo(f"resuming after step {count(step)} of {count(num_steps)}", err=True)

    def say(self, line: str) -> None:
        typer.echo(line, err=True)

    def epoch(self, metrics: EpochMetrics, num_epochs: int) -> None:
        typer.echo(epoch_line(metrics, num_epochs), err=True)


class BarProgress(LineProgress):
    """A live bar below the lines."""

    def __init__(self) -> None:
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            RateColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )

    def begin(self, run: Run, images: Dataset, num_steps: int, step: int) -> None:
        super().begin(run, images, num_steps, step)
        num_images = len(images.train) * run.record.recipe.epochs
        self._task = self._bar.add_task(run.card.variant, total=num_images, completed=num_images * step // num_steps)
        self._bar.start()

    def advance(self, num_images: int) -> None:
        self._bar.advance(self._task, num_images)

    def epoch(self, metrics: EpochMetrics, num_epochs: int) -> None:
        self._bar.print(Text(epoch_line(metrics, num_epochs)))

    def close(self) -> None:
        self._bar.stop()


class RateColumn(ProgressColumn):
    """Images a second, of late."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f} images/s" if task.speed else "")
