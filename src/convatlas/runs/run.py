"""A run: a model and the record of its training, in one folder."""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from convatlas import atlas
from convatlas.data import Dataset, Split
from convatlas.errors import UserError
from convatlas.files import SILENT, ProgressCallback, read, write
from convatlas.files.artefacts import check_no_artefact
from convatlas.files.names import RECORD as RECORD
from convatlas.files.typed_json import MAX_BYTES, as_file_error, parsed_object
from convatlas.models import earlier as earlier_models
from convatlas.models.bounds import check
from convatlas.models.card import CARD, Card, Score
from convatlas.models.evaluation import Evaluation
from convatlas.models.folder import read_card, read_network, write_card
from convatlas.models.hub import fetch_from_hub, is_on_hub
from convatlas.models.imported import load_published
from convatlas.models.model import Model, open_model
from convatlas.models.network import spec_of
from convatlas.models.training_data import check_may_read, load_training_data, say_what_is_read
from convatlas.runs import earlier
from convatlas.runs.record import FORMAT, Record, TrainingResults
from convatlas.spec import Spec, Variant
from convatlas.weights.taking import check_spelling, is_published

CHECKPOINT = "checkpoint.safetensors"
METRICS = "metrics.jsonl"
REQUIRED = {"epoch", "loss", "accuracy"}
OPTIONAL = {"lr", "seconds", "val_loss", "val_accuracy"}
"""Of a row of it."""
MAX_METRICS_BYTES = 2**25
"""Of that file; 100,000 epochs take less."""


@dataclass
class Run:
    """A folder with the record of its training and, once that is finished, its model.

    `convatlas.train` returns one, and `convatlas.load` opens one. It predicts and evaluates with its model.
    """

    folder: Path
    card: Card
    """The model's; without weights until the training is finished."""
    record: Record
    format_version: int = FORMAT
    """The format version of the `run.json` that was read."""

    @property
    def is_finished(self) -> bool:
        """Whether the training has ended, so that there is a model."""
        return self.record.results is not None

    @property
    def results(self) -> TrainingResults:
        """What the training came to: epochs, seconds, images.

        Raises:
            UserError: the training is not finished.
        """
        if self.record.results is None:
            raise UserError(f"{self.folder} is not finished; convatlas resume {self.folder} goes on with it")
        return self.record.results

    @cached_property
    def model(self) -> Model:
        """The trained model.

        Raises:
            UserError: the training is not finished.
        """
        _ = self.results
        folder, card = self.folder, self.card
        return Model(card, folder, load_network=lambda: read_network(folder, card))

    @property
    def network(self) -> nn.Module:
        """The model's `nn.Module`; see `Model.network`."""
        return self.model.network

    @property
    def variant(self) -> Variant:
        """The network's entry in the atlas."""
        return atlas.find(self.card.variant)

    @property
    def spec(self) -> Spec:
        """Every number that the network is built from."""
        return spec_of(self.card)

    @property
    def score(self) -> Score:
        """How the trained model did on its test images.

        Raises:
            UserError: the training is not finished.
        """
        _ = self.results
        assert self.card.score is not None, "training writes it with the results"
        return self.card.score

    @property
    def test_accuracy(self) -> float:
        """The trained model's, as a fraction."""
        return self.score.accuracy

    @property
    def predict(self):  # type: ignore[no-untyped-def]  # the overloads of the model's
        """See `Model.predict`."""
        return self.model.predict

    def evaluate(self, data: str | Path | Split | None = None, *, device: str | None = None) -> Evaluation:
        """The model's accuracy on the run's test images.

        Args:
            data: the run's data set, by name or by folder, if it was moved; or any labeled images of its
                classes.
            device: "cpu", "cuda" or "mps"; None: the fastest that this machine has.

        Raises:
            UserError: the data set is gone, or not the one that the run was trained on; or there is no such device.
        """
        split = data if isinstance(data, Split) else self.load_test_images(data)
        return self.model.evaluate(split, device=device)

    def load_test_images(self, data: str | Path | None = None, *, progress: ProgressCallback = SILENT) -> Split:
        """The run's test images; see `load_data`."""
        return self.load_data(data, progress=progress).test

    def load_data(self, data: str | Path | None = None, *, progress: ProgressCallback = SILENT) -> Dataset:
        """The run's data set, with its split.

        Args:
            data: its name or folder, if it was moved.
            progress: called with the progress of downloads and of decoding.

        Raises:
            UserError: the data set is gone, or not the one that the run was trained on.
        """
        results = self.record.results
        return load_training_data(
            self.data_name(data, progress=progress),
            self.card,
            str(self.folder),
            num_train=None if results is None else results.train_images,
            progress=progress,
        )

    def data_name(self, data: str | Path | None = None, *, progress: ProgressCallback = SILENT) -> str | Path:
        """What `data.find` finds the run's data set by; where only the record names it, that is said.

        Args:
            data: its name or folder, if it was moved.

        Raises:
            UserError: it is not where the record says, or a finished run's would be read from the hub.
        """
        if data is not None:
            return data
        name = self.record.data
        # Who resumes a run has begun it; a finished one may come from anybody.
        if self.is_finished:
            check_may_read(name, str(self.folder))
        try:
            say_what_is_read(name, str(self.folder / RECORD), progress)
        except UserError as error:
            raise UserError(
                f"{error}; if the data set of {self.folder} was moved, name its place with `data`"
            ) from error
        return name

    @property
    def followed(self) -> list[str]:
        """What resuming reads because the record says so, beside the data set: a line each."""
        init_from, distillation = self.record.init_from, self.record.distillation
        where = self.folder / RECORD
        if self.is_finished:
            return []
        return [
            *([f"reading the weights of {init_from.path}, which {where} names"] if init_from is not None else []),
            *([f"reading the teacher {distillation.teacher}, which {where} names"] if distillation is not None else []),
        ]

    def write(self) -> None:
        """Write the card and then the record: a folder with a record has both."""
        write_card(self.folder, self.card)
        write(self.folder / RECORD, self.record.to_json())


def load(path: str | Path, *, progress: ProgressCallback = SILENT) -> Run | Model:
    """Open a run folder, a model folder, a `.cva` file, or published weights.

    Args:
        path: of a folder or file; the name of published weights, as "torchvision:resnet18"; or of a model on the
            Hugging Face hub, as "hf:OWNER/NAME@REVISION". What is not on this machine is downloaded.
        progress: called with the progress of a download.

    Returns:
        a `Run` if the folder holds the record of its training, otherwise a `Model`.

    Raises:
        UserError: it is none of these, or damaged.
    """
    if is_published(str(path)):
        return load_published(str(path), progress=progress)
    if is_on_hub(str(path)):
        return open_model(fetch_from_hub(str(path)))
    check_spelling(str(path))
    path = Path(path)
    check_no_artefact(path)
    # These are false, too, where there can be no such path.
    if os.path.isfile(path / RECORD):
        return load_run(path)
    if os.path.isdir(path) and not os.path.isfile(path / CARD):
        raise UserError(f"{path} is not a run or model folder: it has no {RECORD} and no {CARD}")
    return open_model(path)


def from_anywhere(path: str) -> str:
    """What `load` finds the same by from any working folder: a whole path, or a name that is none.

    Raises:
        UserError: it is the name of a library or of its weights, with a slip in it.
    """
    check_spelling(path)
    return path if is_published(path) or is_on_hub(path) else str(Path(path).resolve())


def load_run(folder: str | Path) -> Run:
    """Open a run folder.

    Raises:
        UserError: it is none, or damaged.
    """
    folder = Path(folder)
    path = folder / RECORD
    try:
        content = read(path, MAX_BYTES)
    except FileNotFoundError as error:
        if not folder.exists():
            raise UserError(f"there is no {folder}") from error
        check_no_artefact(folder)
        is_model = (folder / CARD).is_file() or folder.is_file()
        kind = "a model without the record of its training" if is_model else "not a run folder"
        raise UserError(f"{folder} is {kind}: it has no {RECORD}") from error
    with as_file_error(str(path)):
        values = parsed_object(content, FORMAT)
        if values["format"] <= earlier_models.FORMAT:
            card = earlier_models.card_from_record(values)
            check(card)
            return Run(folder, card, Record.from_values(earlier.record_values(values)), values["format"])
        record = Record.from_values(values)
    card = read_card(folder)
    if record.results is not None and (card.score is None or card.weights_sha256 is None):
        raise UserError(f"{folder / CARD} is another model's: the run is finished, and the model in the card is not")
    return Run(folder, card, record)


def load_model(path: str | Path, *, progress: ProgressCallback = SILENT) -> Model:
    """The model of what `load` opens.

    Raises:
        UserError: it is none of these, is damaged, or the run is not finished.
    """
    opened = load(path, progress=progress)
    return opened.model if isinstance(opened, Run) else opened


def read_metrics(run: Run) -> list[dict[str, Any]]:
    """The rows of `metrics.jsonl`, one for each epoch.

    Raises:
        UserError: the file is missing or damaged.
    """
    path, written = run.folder / METRICS, run.record.metrics_sha256
    try:
        content = read(path, MAX_METRICS_BYTES)
        if written is not None and hashlib.sha256(content).hexdigest() != written:
            raise UserError(f"{path} is damaged or not this run's: its checksum is not the one in {RECORD}")
        rows = [earlier.metrics_row(json.loads(line)) for line in content.decode().splitlines()]
        if not rows or not all(math.isfinite(row[name]) for row in rows for name in REQUIRED | (OPTIONAL & row.keys())):
            raise ValueError("no numbers")
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing") from error
    except UserError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError) as error:
        raise UserError(f"{path} is damaged or was not written by convatlas") from error
    return rows
