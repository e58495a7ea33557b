"""Checkpoints: the whole state of training in one safe file, which a thread writes while training goes on.

The order of the images and all random numbers are functions of the seed, the epoch and the step (`data.batches`), so
that the step stands for them. The file holds everything else.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from convatlas.errors import UserError
from convatlas.files import num_bytes, read, write
from convatlas.recipe import Recipe
from convatlas.runs.earlier import metrics_row
from convatlas.runs.run import CHECKPOINT, METRICS
from convatlas.training.progress import EpochMetrics

PREVIOUS = f"previous-{CHECKPOINT}"
STATE = "state"
SHA256 = "sha256"
"""The checksum of all other entries: safetensors itself does not notice a flipped bit."""
EARLIER_STATE = {"epoch_right": "epoch_correct", "epoch_pictures": "epoch_images"}
EARLIER_PREFIX = "optimiser."
"""The words of earlier versions."""


@dataclass
class LoopState:
    """How far training is, beside its tensors."""

    step: int = 0
    """Steps done, over all epochs."""
    seconds: float = 0.0
    epoch_loss: float = 0.0
    """Summed over the images of the epoch so far."""
    epoch_correct: int = 0
    epoch_images: int = 0
    metrics: list[EpochMetrics] = field(default_factory=list)
    best_epoch: int = 0
    """The one whose weights are kept for their accuracy on validation images, from 1; 0: none yet."""
    head_accuracy: float | None = None
    """On validation images, of the network with its fitted head, before the first epoch."""

    def add_batch(self, loss: float, num_correct: int, num_images: int) -> None:
        """Count a batch.

        Args:
            loss: the sum over its images.
        """
        self.epoch_loss += loss
        self.epoch_correct += num_correct
        self.epoch_images += num_images

    def close_epoch(self, lr: float, seconds: float) -> EpochMetrics:
        """Turn the sums of the epoch into its metrics, and start the next."""
        metrics: EpochMetrics = {
            "epoch": len(self.metrics) + 1,
            "loss": self.epoch_loss / self.epoch_images,
            "accuracy": self.epoch_correct / self.epoch_images,
            "lr": lr,
            "seconds": round(seconds, 3),
        }
        self.metrics.append(metrics)
        self.epoch_loss, self.epoch_correct, self.epoch_images = 0.0, 0, 0
        return metrics


@dataclass
class TrainState:
    """What training changes, and a checkpoint holds."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    average: AveragedModel | None
    """The moving average of the weights, if the recipe asks for one."""
    state: LoopState = field(default_factory=LoopState)
    best: dict[str, Tensor] = field(default_factory=dict)
    """The weights of `state.best_epoch`."""

    @property
    def evaluated(self) -> nn.Module:
        """The network that is evaluated: the average, or without one the network itself."""
        if self.average is None:
            return self.network
        averaged: nn.Module = self.average.module
        return averaged

    def keep_best(self) -> None:
        self.best = {name: value.detach().clone() for name, value in self.evaluated.state_dict().items()}

    def snapshot(self) -> dict[str, Tensor]:
        """A copy of everything, on the CPU."""
        tensors: dict[str, Tensor] = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        for index, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in values.items()}
        if self.average is not None:
            tensors |= {f"average.{name}": value for name, value in self.average.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in self.best.items()}
        tensors = {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}
        # JSON writes a float so that reading gives the same bits.
        tensors[STATE] = torch.frombuffer(bytearray(json.dumps(asdict(self.state)).encode()), dtype=torch.uint8)
        return tensors

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Bring everything into the state of a snapshot.

        Raises:
            RuntimeError, LookupError, ValueError, TypeError, AttributeError: it is another training's.
        """

        def part(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

        values = {
            EARLIER_STATE.get(name, name): value for name, value in json.loads(bytes(tensors[STATE].numpy())).items()
        }
        state = LoopState(**values | {"metrics": [metrics_row(row) for row in values["metrics"]]})
        self.network.load_state_dict(part("network."))
        parameters = [value for group in self.optimizer.param_groups for value in group["params"]]
        restored: dict[int, dict[str, Tensor]] = {}
        for path, value in (part("optimizer.") | part(EARLIER_PREFIX)).items():
            index, name = path.split(".", 1)
            # In the memory format of the parameter, since a fused optimizer walks through both side by side, and not in
            # the file's memory, which is not aligned: arithmetic may depend on alignment.
            like = parameters[int(index)]
            place = torch.empty_like(like if like.shape == value.shape else value)
            restored.setdefault(int(index), {})[name] = place.copy_(value)
        self.optimizer.load_state_dict({"state": restored, "param_groups": self.optimizer.state_dict()["param_groups"]})
        if self.average is not None:
            self.average.load_state_dict(part("average."))
        self.best = {name: value.clone() for name, value in part("best.").items()}
        self.state = state


Tensors = tuple[Tensor, ...] | list[Tensor]


def make_ema(network: nn.Module, recipe: Recipe, num_steps: int) -> AveragedModel | None:
    """The exponential moving average (EMA) that the recipe asks for; None if it spans fewer than two steps."""
    horizon = recipe.ema * num_steps
    if horizon < 2:
        return None

    @torch.no_grad()
    def follow(averages: Tensors, values: Tensors, _: Tensor | int) -> None:
        if averages[0].is_floating_point():
            torch._foreach_lerp_(averages, values, 1 / horizon)
            return
        # Integer buffers are indices, such as a connection table; PyTorch's default average would round them down.
        for average, value in zip(averages, values, strict=True):
            average.copy_(value)

    return AveragedModel(network, multi_avg_fn=follow, use_buffers=True)


def digest(tensors: dict[str, Tensor]) -> Tensor:
    """SHA-256 (32,) over names, types, shapes and contents."""
    sha = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name]
        sha.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        sha.update(value.contiguous().view(-1).view(torch.uint8).numpy().data)
    return torch.frombuffer(bytearray(sha.digest()), dtype=torch.uint8)


def save(folder: Path, tensors: dict[str, Tensor], metrics: bytes) -> None:
    """Write a snapshot whole or not at all, and keep the one before."""
    content = save_tensors({**tensors, SHA256: digest(tensors)})
    if (folder / CHECKPOINT).exists():
        os.replace(folder / CHECKPOINT, folder / PREVIOUS)
    write(folder / CHECKPOINT, content)
    write(folder / METRICS, metrics)


def exists(folder: Path) -> bool:
    return (folder / CHECKPOINT).exists() or (folder / PREVIOUS).exists()


def remove(folder: Path) -> None:
    for name in (CHECKPOINT, PREVIOUS):
        (folder / name).unlink(missing_ok=True)


def check_room(folder: Path, num_weight_bytes: int) -> None:
    """Check, before a network is allocated, that its weights may lie in the checkpoint, if there is one.

    Raises:
        UserError: they are more than that.
    """
    sizes = {folder / name: num_bytes(folder / name) for name in (CHECKPOINT, PREVIOUS)}
    there = {path: size for path, size in sizes.items() if size is not None}
    if there and max(there.values()) < num_weight_bytes:
        raise damage(next(iter(there)))


def damage(path: Path) -> UserError:
    return UserError(f"{path} is damaged; delete it, and resume restarts this run from scratch")


def load(folder: Path, train_state: TrainState) -> str:
    """Bring the train_state into the newest state that is whole; without a checkpoint it stays as it is.

    Returns:
        a message for the user if the newest file is damaged and the previous one is used; otherwise "".

    Raises:
        UserError: no file is whole, or they are another network's.
    """
    damaged = []
    for path in (folder / CHECKPOINT, folder / PREVIOUS):
        try:
            tensors = load_tensors(read(path))
            if not torch.equal(tensors.pop(SHA256), digest(tensors)):
                raise ValueError("its checksum differs")
            train_state.restore(tensors)
        except FileNotFoundError:
            continue
        except (SafetensorError, RuntimeError, LookupError, ValueError, TypeError, AttributeError):
            damaged.append(path)
            continue
        if damaged:
            # Else it would become the one before at the next write, in place of the whole one.
            damaged[0].unlink(missing_ok=True)
            return f"{damaged[0]} is damaged; using the previous checkpoint"
        return ""
    if damaged:
        raise damage(damaged[0])
    return ""


class CheckpointWriter:
    """Writes snapshots of a run on a thread of its own: every few seconds, every `steps` steps, and on request.

    If writing is slow, it writes less often, so that writing takes at most 5 % of the time.
    """

    INTERVAL_S = 5.0
    SHARE = 0.05

    def __init__(self, folder: Path, steps: int | None) -> None:
        self.folder = folder
        self.steps = steps
        self._thread = ThreadPoolExecutor(1)
        self._writing: Future[float] | None = None
        self._wait = self.INTERVAL_S
        self._last = time.monotonic()

    def due(self, step: int) -> bool:
        """Whether to write now. By time only if the write before is done: snapshots must not pile up.

        Raises:
            OSError: the write before failed.
        """
        if self.steps is not None and step % self.steps == 0:
            return True
        if self._writing is not None and not self._writing.done():
            return False
        self.finish()
        return time.monotonic() - self._last >= self._wait

    def begin(self, train_state: TrainState) -> None:
        """Take a snapshot now and write it meanwhile.

        Raises:
            OSError: the write before failed.
        """
        self.finish()
        begun = time.monotonic()
        tensors, metrics = train_state.snapshot(), lines(train_state.state)
        self._last = time.monotonic()
        taken = self._last - begun

        def work() -> float:
            begun = time.monotonic()
            save(self.folder, tensors, metrics)
            return taken + time.monotonic() - begun

        self._writing = self._thread.submit(work)

    def finish(self) -> None:
        """Wait until the snapshot that `begin` took is written.

        Raises:
            OSError: it could not be.
        """
        if self._writing is not None:
            writing, self._writing = self._writing, None
            self._wait = max(self.INTERVAL_S, writing.result() / self.SHARE)

    def close(self) -> None:
        """End the thread, after what was begun."""
        self._thread.shutdown()


def lines(state: LoopState) -> bytes:
    """The metrics of all epochs, a line each."""
    return "".join(json.dumps(row) + "\n" for row in state.metrics).encode()


def write_metrics(folder: Path, state: LoopState) -> str:
    """Write the metrics of all epochs and return their SHA-256."""
    content = lines(state)
    write(folder / METRICS, content)
    return hashlib.sha256(content).hexdigest()
