"""What a person sees on standard error while something runs: bars in a terminal, and lines of epochs."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar
from rich.text import Text

from convatlas.cli.console import count, duration, percent, print_error, print_line
from convatlas.cli.streams import encoding_of
from convatlas.data import Dataset
from convatlas.files import SILENT, ProgressCallback
from convatlas.files.progress import SilentProgress, Unit
from convatlas.formatting import visible
from convatlas.runs.run import Run
from convatlas.torchrun import Worker
from convatlas.training import Progress
from convatlas.training.progress import EpochMetrics

NUM_LINES = 100
NOT_VALIDATED = -1.0


def progress_on(quiet: bool) -> Progress:
    if quiet or not Worker.from_env().is_main:
        return Progress()
    return BarProgress() if sys.stderr.isatty() else LineProgress()


def loading_progress(quiet: bool = False) -> ProgressCallback:
    """Shows downloads and decoding, in a terminal, and what a record names before it is read."""
    if quiet:
        return SILENT
    return LoadingBar() if sys.stderr.isatty() else LoadingLines()


class LoadingLines(SilentProgress):
    """Lines, and nothing while work goes on."""

    def say(self, line: str) -> None:
        print_error(line)


class LoadingBar(LoadingLines):
    """A bar for each piece of work; that of a download stays, that of decoding goes."""

    def __init__(self) -> None:
        self._bar: Bar | None = None

    def begin(self, title: str, total: int | None, unit: Unit) -> None:
        self._bar = Bar(
            # A folder's name may look like rich's own markup.
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn() if unit == "bytes" else MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=unit != "bytes",
        )
        self._task = self._bar.add_task(visible(title, encoding_of(sys.stderr)), total=total)
        self._bar.start()

    def advance(self, num: int) -> None:
        if self._bar is not None:
            self._bar.advance(self._task, num)

    def end(self) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._bar = None


def epoch_line(metrics: EpochMetrics, num_epochs: int) -> str:
    width = len(str(num_epochs))
    val_accuracy = metrics.get("val_accuracy")
    return (
        f"epoch {metrics['epoch']:{width}}/{num_epochs}  loss {metrics['loss']:.4f}"
        f"  training accuracy {percent(metrics['accuracy']):>8}"
        + (f"  validation accuracy {percent(val_accuracy):>8}" if val_accuracy is not None else "")
        + f"  {duration(metrics['seconds'])}"
    )


class LineProgress(Progress):
    """A line for each epoch; of many epochs, for about a hundred, evenly, and for the best and the last one."""

    loading: ProgressCallback = LoadingLines()
    _best_accuracy = NOT_VALIDATED
    _best = _last = ""
    """The lines of these epochs, as long as they are not printed."""

    def begin(self, run: Run, images: Dataset, num_steps: int, step: int) -> None:
        for line in images.remarks:
            print_error(line)
        print_line(
            f"{run.card.variant} on {run.record.data}: {count(len(images.train))} images at "
            f"{run.card.preprocessing.crop} px, {len(run.card.classes)} classes, on {run.record.device}, "
            f"in {run.folder}",
            err=True,
        )
        if step:
            print_line(f"resuming after step {count(step)} of {count(num_steps)}", err=True)

    def say(self, line: str) -> None:
        print_line(line, err=True)

    def end_epoch(self, metrics: EpochMetrics, num_epochs: int) -> None:
        line, epoch = epoch_line(metrics, num_epochs), metrics["epoch"]
        is_due = epoch in (1, num_epochs) or epoch % max(round(num_epochs / NUM_LINES), 1) == 0
        if is_due:
            print_line(line, err=True)
        self._last = "" if is_due else line
        accuracy = metrics.get("val_accuracy", NOT_VALIDATED)
        if accuracy >= self._best_accuracy:
            self._best_accuracy, self._best = accuracy, self._last

    def close(self) -> None:
        # Patience or a signal may end training at any epoch.
        for line in dict.fromkeys((self._best, self._last)):
            if line:
                print_line(line, err=True)
        self._best_accuracy, self._best, self._last = NOT_VALIDATED, "", ""


class BarProgress(LineProgress):
    """The same lines above a live bar."""

    def __init__(self) -> None:
        self.loading = LoadingBar()
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

    def end_epoch(self, metrics: EpochMetrics, num_epochs: int) -> None:
        self._bar.print(Text(epoch_line(metrics, num_epochs)))

    def close(self) -> None:
        self._bar.stop()


class RateColumn(ProgressColumn):
    """Recent images per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f} images/s" if task.speed else "")
