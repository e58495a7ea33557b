"""Checkpoints: the whole state of training in one safe file.

The order of the pictures and every random number are functions of the seed, the epoch and the step
(`data.batches`), so that the step stands for both; what else there is lies in the file.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from convatlas.errors import UserError
from convatlas.files import write
from convatlas.training.progress import EpochMetrics

STATE = "state"
SHA256 = "sha256"
"""Of the file without this entry: safetensors itself does not notice a flipped bit."""


@dataclass
class State:
    """Where training stands, beside weights and optimiser."""

    step: int = 0
    """Steps done, over all epochs."""
    seconds: float = 0.0
    epoch_loss: float = 0.0
    """Summed over the pictures of the epoch so far."""
    epoch_right: int = 0
    epoch_pictures: int = 0
    metrics: list[EpochMetrics] = field(default_factory=list)

    def tally(self, loss: float, right: Tensor) -> None:
        """Count a batch with that mean loss and those answers (n,) right or wrong."""
        self.epoch_loss += loss * len(right)
        self.epoch_right += int(right.sum())
        self.epoch_pictures += len(right)

    def close_epoch(self, lr: float, seconds: float) -> EpochMetrics:
        """Turn the sums of the epoch into its metrics, and begin the next."""
        metrics: EpochMetrics = {
            "epoch": len(self.metrics) + 1,
            "loss": self.epoch_loss / self.epoch_pictures,
            "accuracy": self.epoch_right / self.epoch_pictures,
            "lr": lr,
            "seconds": round(seconds, 3),
        }
        self.metrics.append(metrics)
        self.epoch_loss, self.epoch_right, self.epoch_pictures = 0.0, 0, 0
        return metrics


def save(path: Path, state: State, network: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    """Write everything to `path`, whole or not at all."""
    tensors: dict[str, Tensor] = {f"network.{name}": value for name, value in network.state_dict().items()}
    for index, values in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": value for name, value in values.items()}
    # JSON writes a float so that reading gives the same bits.
    tensors[STATE] = torch.frombuffer(bytearray(json.dumps(asdict(state)).encode()), dtype=torch.uint8)
    tensors = {name: value.cpu().contiguous() for name, value in tensors.items()}
    write(path, save_tensors({**tensors, SHA256: _digest(tensors)}))


def _digest(tensors: dict[str, Tensor]) -> Tensor:
    return torch.frombuffer(bytearray(hashlib.sha256(save_tensors(tensors)).digest()), dtype=torch.uint8)


def load(path: Path, network: nn.Module, optimiser: torch.optim.Optimizer) -> State:
    """Put network and optimiser into the state that `path` holds.

    Raises:
        UserError: the file is damaged or another network's.
    """
    try:
        tensors = load_tensors(path.read_bytes())
        if not torch.equal(tensors.pop(SHA256), _digest(tensors)):
            raise ValueError("its checksum differs")
        state = State(**json.loads(bytes(tensors.pop(STATE).numpy())))
        network.load_state_dict(
            {name.removeprefix("network."): value for name, value in tensors.items() if name.startswith("network.")}
        )
        parameters = [value for group in optimiser.param_groups for value in group["params"]]
        restored: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("optimiser."):
                _, index, part = name.split(".", 2)
                # Into memory like the parameter's own, since a fused optimiser walks through both side by side, and
                # never the file's, which is not aligned: arithmetic may depend on alignment.
                like = parameters[int(index)]
                place = torch.empty_like(like if like.shape == value.shape else value)
                restored.setdefault(int(index), {})[part] = place.copy_(value)
        optimiser.load_state_dict({"state": restored, "param_groups": optimiser.state_dict()["param_groups"]})
    except (SafetensorError, RuntimeError, KeyError, IndexError, ValueError, TypeError) as error:
        raise UserError(f"{path} is damaged; delete it, and resume starts this run from its beginning") from error
    return state


class Pace:
    """When to write a checkpoint: every few seconds, and so seldom that writing takes a twentieth of the time."""

    INTERVAL_S = 5.0
    SHARE = 0.05

    def __init__(self) -> None:
        self._wait = self.INTERVAL_S
        self._last = time.monotonic()

    def due(self) -> bool:
        return time.monotonic() - self._last >= self._wait

    def written(self, took_s: float) -> None:
        self._wait = max(self.INTERVAL_S, took_s / self.SHARE)
        self._last = time.monotonic()
