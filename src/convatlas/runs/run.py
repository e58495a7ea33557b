"""A run: the folder that training leaves behind, and what one can do with it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import nn

from convatlas import atlas, data
from convatlas.data.batches import Shard
from convatlas.errors import UserError
from convatlas.files import SILENT, ProgressCallback, write
from convatlas.models.device import device_named
from convatlas.models.evaluation import Evaluation, evaluate
from convatlas.runs.record import Record, Results
from convatlas.spec import Variant

RECORD = "run.json"
WEIGHTS = "weights.safetensors"
CHECKPOINT = "checkpoint.safetensors"
METRICS = "metrics.jsonl"

EVALUATED_AT_ONCE = 500
EVALUATED_PIXELS = 2**19
"""Of a batch, at most: a network that keeps 64 maps of the input's size holds 128 MiB of each then."""


@dataclass(frozen=True)
class Prediction:
    path: Path
    classes: tuple[str, ...]
    """Up to five, the likeliest first."""
    probabilities: tuple[float, ...]


@dataclass
class Run:
    """A run folder and its record. `load` opens one; `train` returns one."""

    folder: Path
    record: Record

    @property
    def variant(self) -> Variant:
        return atlas.find(self.record.variant)

    @property
    def test_accuracy(self) -> float:
        """The fraction of test images that the finished run answered rightly."""
        return self.results.test_accuracy

    @property
    def results(self) -> Results:
        """What the finished run came to.

        Raises:
            UserError: the run is not finished.
        """
        if self.record.results is None:
            raise UserError(f"{self.folder} is not finished; convatlas resume {self.folder} goes on with it")
        return self.record.results

    @cached_property
    def network(self) -> nn.Module:
        """The trained network in evaluation mode, on the CPU.

        Raises:
            UserError: the run is not finished, or its weights are damaged, missing or another run's.
        """
        checksum = self.results.weights_sha256
        path = self.folder / WEIGHTS
        try:
            content = path.read_bytes()
        except FileNotFoundError as error:
            raise UserError(f"{path} is missing") from error
        if hashlib.sha256(content).hexdigest() != checksum:
            raise UserError(f"{path} is damaged or not this run's: its checksum is not the one in {RECORD}")
        network = self.record.network()
        try:
            network.load_state_dict(load_tensors(content))
        except (SafetensorError, RuntimeError) as error:
            raise UserError(f"{path} does not fit the network in {RECORD}") from error
        return network.eval()

    def predict(self, image: str | Path | Image.Image) -> Prediction:
        """The likeliest classes of one image: a file of any common format, or a decoded image.

        Raises:
            UserError: the file cannot be used as an image.
        """
        preprocessing = self.record.preprocessing
        path = Path() if isinstance(image, Image.Image) else Path(image)
        inputs = preprocessing.prepare(image)[None]
        with torch.inference_mode():
            probabilities = self.variant.objective.probabilities(self.network(torch.from_numpy(inputs)))[0]
        best = probabilities.topk(min(5, len(self.record.classes)))
        return Prediction(
            path=path,
            classes=tuple(self.record.classes[i] for i in best.indices.tolist()),
            probabilities=tuple(best.values.tolist()),
        )

    def evaluate(self, device: str | None = None, progress: ProgressCallback = SILENT) -> Evaluation:
        """Answer the test images again.

        Args:
            device: "cpu", "cuda" or "mps"; without it, the fastest that is there.
            progress: is told of downloads and of decoding.

        Raises:
            UserError: the data set is gone, or not the one that the run was trained on; or there is no such device.
        """
        return self.judge(self.load_data(progress).test, device)

    def judge(self, split: data.Split, device: str | None = None) -> Evaluation:
        """Answer images of the classes that the run was trained on; see `evaluate`."""
        place = device_named(device)
        with self.network_on(place) as network:
            return evaluate(network, self.variant.objective, self.judging(split, place))

    @contextmanager
    def network_on(self, device: torch.device) -> Iterator[nn.Module]:
        """The trained network on that device, for a while."""
        try:
            yield self.network.to(device)
        finally:
            self.network.cpu()

    def judging(self, split: data.Split, device: torch.device, shard: Shard | None = None) -> data.Batches:
        """Unchanged images to judge the network on, of which this process gets its shard."""
        return data.Batches(
            split,
            self.record.preprocessing,
            num_classes=len(self.record.classes),
            batch_size=max(min(EVALUATED_AT_ONCE, EVALUATED_PIXELS // self.record.spec.resolution**2), 1),
            device=device,
            shard=shard,
        )

    def report(self, out: Path | None = None, device: str | None = None) -> Path:
        """Answer the test images again and write a page about the run, as `report.html` in its folder or as `out`.

        Raises:
            UserError: see `evaluate`; or there is no folder to write `out` into.
        """
        # Who only predicts needs neither plots nor templates.
        from convatlas.runs.report import write_report

        return write_report(self, out, device).path

    def load_data(self, progress: ProgressCallback = SILENT) -> data.Dataset:
        """The data set of the run, with its split.

        Raises:
            UserError: the data set is gone, or not the one that the run was trained on.
        """
        record = self.record
        images = data.find(record.data).load(
            record.preprocessing.resizing, seed=record.seed, skip_bad=record.skip_bad, progress=progress
        )
        if images.checksum != record.data_checksum:
            raise UserError(f"the images of {record.data} have changed since {self.folder} was trained on them")
        return images

    def write_record(self) -> None:
        write(self.folder / RECORD, self.record.to_json())

    def write_weights(self, network: nn.Module) -> str:
        """Write the network's weights and return their SHA-256."""
        content = save_tensors({name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()})
        write(self.folder / WEIGHTS, content)
        return hashlib.sha256(content).hexdigest()


def load(folder: str | Path) -> Run:
    """Open a run folder.

    Raises:
        UserError: it is no run folder, or its record is damaged.
    """
    folder = Path(folder)
    path = folder / RECORD
    if not path.is_file():
        raise UserError(f"{folder} is no run folder: it has no {RECORD}")
    return Run(folder, Record.from_json(path.read_bytes(), str(path)))


def read_metrics(run: Run) -> list[dict[str, Any]]:
    """The rows of `metrics.jsonl`, one for each epoch.

    Raises:
        UserError: the file is missing or damaged.
    """
    path = run.folder / METRICS
    try:
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        if not rows or not all(math.isfinite(row[name]) for row in rows for name in ("epoch", "loss", "accuracy")):
            raise ValueError("no numbers")
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing") from error
    except (ValueError, TypeError, LookupError) as error:
        raise UserError(f"{path} is damaged or was not written by convatlas") from error
    return rows
