"""A run's metrics as TensorBoard reads them."""

from __future__ import annotations

from convatlas.data import Dataset
from convatlas.errors import UserError
from convatlas.runs.run import Run
from convatlas.training.progress import EpochMetrics, Progress

FOLDER = "tensorboard"
"""In the run folder; `tensorboard --logdir RUN` shows it."""


class TensorBoardProgress(Progress):
    """Writes every epoch's metrics into the run folder, and passes everything on."""

    def __init__(self, watcher: Progress) -> None:
        """
        Raises:
            UserError: TensorBoard is not installed.
        """
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UserError("event files need TensorBoard: pip install 'convatlas[tensorboard]'") from error
        self.watcher = watcher
        self.loading = watcher.loading
        self._summary = SummaryWriter

    def begin(self, run: Run, images: Dataset, num_steps: int, step: int) -> None:
        # What a killed run had written beyond its checkpoint is dropped.
        done = step * run.record.recipe.epochs // num_steps
        try:
            self._writer = self._summary(str(run.folder / FOLDER), purge_step=done + 1)
        except UnicodeEncodeError as error:
            raise UserError(
                f"TensorBoard writes into no folder as {str(run.folder)!r}; name another with `out`"
            ) from error
        self.watcher.begin(run, images, num_steps, step)

    def say(self, line: str) -> None:
        self.watcher.say(line)

    def advance(self, num_images: int) -> None:
        self.watcher.advance(num_images)

    def end_epoch(self, metrics: EpochMetrics, num_epochs: int) -> None:
        self.watcher.end_epoch(metrics, num_epochs)
        epoch = metrics["epoch"]
        for name, value in (
            ("training/loss", metrics["loss"]),
            ("training/accuracy", metrics["accuracy"]),
            ("training/lr", metrics["lr"]),
            ("validation/loss", metrics.get("val_loss")),
            ("validation/accuracy", metrics.get("val_accuracy")),
        ):
            if value is not None:
                self._writer.add_scalar(name, value, epoch)
        self._writer.flush()

    def close(self) -> None:
        self.watcher.close()
        self._writer.close()
