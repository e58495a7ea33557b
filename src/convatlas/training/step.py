"""One training step: from a batch to its gradient, in micro-batches if asked, over all processes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from convatlas.data import Split
from convatlas.data.batches import Batch, Shard
from convatlas.runs.options import Execution
from convatlas.spec import Objective
from convatlas.training.distribution import Processes


@dataclass(frozen=True)
class StepResult:
    """What a step came to."""

    losses: Tensor
    """(n,), of this process's images."""
    norm: Tensor
    """Of the gradient, over all processes."""
    loss: float
    """The sum over all images of all processes; the counts likewise."""
    num_correct: int
    num_images: int
    is_finite: bool
    """Whether the loss and the gradient are finite numbers."""

    @classmethod
    def of(cls, losses: Tensor, correct: Tensor, norm: Tensor, processes: Processes) -> Self:
        """From this process's losses (n,), which predictions are correct (n,), and the norm of the gradient."""
        not_finite = norm.isfinite().logical_not()
        sums = torch.stack([value.double().sum() for value in (losses, correct, not_finite)])
        # One transfer from the device for all of them.
        loss, num_correct, num_not_finite, num = processes.all_reduce_sum(
            torch.cat([sums, sums.new_tensor([len(losses)])])
        ).tolist()
        is_finite = math.isfinite(loss) and not num_not_finite
        return cls(losses, norm, loss, int(num_correct), int(num), is_finite)


class AuxiliaryLoss(Protocol):
    """A loss in addition to that of the targets, such as a teacher's."""

    def losses(self, target_losses: Tensor, outputs: Tensor, inputs: Tensor) -> Tensor:
        """The losses (batch,) of outputs (batch, classes) for inputs, from those (batch,) of the targets."""
        ...


@dataclass(frozen=True)
class Step:
    network: nn.Module
    """What is trained, with gradients that are the mean over all processes."""
    objective: Objective
    execution: Execution
    processes: Processes
    class_weights: Tensor
    """(classes,)"""
    batch_size: int
    """Of a whole batch, over all processes."""
    micro_batch: int | None
    """Micro-batch size for gradient accumulation; None: the whole batch at once."""
    compiled: Callable[[Tensor], Any]
    """The same network, compiled if `execution` says so."""
    auxiliary: AuxiliaryLoss | None

    @classmethod
    def prepared(
        cls,
        network: nn.Module,
        objective: Objective,
        execution: Execution,
        *,
        class_weights: Tensor,
        batch_size: int,
        micro_batch: int | None = None,
        processes: Processes | None = None,
        auxiliary: AuxiliaryLoss | None = None,
    ) -> Self:
        """The step of a network, computed as `execution` says."""
        processes = processes or Processes()
        network = processes.wrap_ddp(network, class_weights.device)
        compiled = torch.compile(network, dynamic=False) if execution.compiled else network
        return cls(
            network, objective, execution, processes, class_weights, batch_size, micro_batch, compiled, auxiliary
        )

    def gradient(self, batch: Batch) -> StepResult:
        """Add the gradient of the mean loss over the whole batch to the parameters'."""
        losses, correct = [], []
        for part, last in parts(batch, self.micro_batch):
            with nullcontext() if last else self.processes.no_sync(self.network):
                outputs = self.outputs(part)
                # Those of auxiliary heads come after the network's own.
                own = outputs if isinstance(outputs, Tensor) else outputs[0]
                unweighted = self.objective.losses(outputs, part.targets)
                if self.auxiliary is not None:
                    unweighted = self.auxiliary.losses(unweighted, own, part.inputs)
                weighted = unweighted * (part.targets @ self.class_weights)
                # DistributedDataParallel takes the mean over processes; the batch's is wanted.
                (weighted.sum() * (self.processes.world_size / batch.global_batch_size)).backward()
            losses.append(weighted.detach())
            correct.append(own.argmax(1) == part.labels)
        gradients = [value.grad for value in self.network.parameters() if value.grad is not None]
        return StepResult.of(torch.cat(losses), torch.cat(correct), get_total_norm(gradients), self.processes)

    def outputs(self, part: Batch) -> Tensor | tuple[Tensor, ...]:
        """What the network gives for a piece of a batch, in single precision."""
        inputs = part.inputs if self.execution.channels_last else part.inputs.contiguous()
        # The last batch of an epoch may have another size, which would be compiled anew.
        network = self.compiled if part.global_batch_size == self.batch_size else self.network
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=self.execution.bfloat16):
            outputs = network(inputs)
        return outputs.float() if isinstance(outputs, Tensor) else tuple(values.float() for values in outputs)


def parts(batch: Batch, size: int | None) -> Iterator[tuple[Batch, bool]]:
    """A batch in even pieces of at most `size` images, each with whether it is the last.

    A single image makes no piece, unless that is asked for: batch normalization has nothing to compare it with. So a
    piece may have one more.
    """
    num = len(batch.labels)
    num_parts = -(-num // size) if size else 1
    # A shard of no images is a piece too: the other processes wait for its part of the gradient.
    num_parts = max(num_parts if size == 1 else min(num_parts, num // 2), 1)
    for i in range(num_parts):
        piece = Shard(i, num_parts).part(num)
        inputs, targets, labels, indices, global_batch_size = batch
        part = Batch(inputs[piece], targets[piece], labels[piece], indices[piece], global_batch_size)
        yield part, i == num_parts - 1


def class_weights(split: Split, num_classes: int, *, balanced: bool) -> Tensor:
    """Weights (classes,): all 1, or such that each class counts the same, with a mean over the images of 1."""
    if not balanced:
        return torch.ones(num_classes)
    counts = np.bincount(split.labels, minlength=num_classes)
    return torch.tensor(len(split) / (np.maximum(counts, 1) * num_classes), dtype=torch.float32)


def to_memory_format(network: nn.Module, execution: Execution) -> nn.Module:
    """The network with its weights in that order in memory."""
    memory = torch.channels_last if execution.channels_last else torch.contiguous_format
    moved: nn.Module = network.to(memory_format=memory)  # type: ignore[call-overload]
    return moved


def seed_dropout(device: torch.device, seed: int) -> None:
    """Make what a network draws at random (dropout) a function of the step, as the batch is.

    Seeds one device: torch.manual_seed asks every kind of device, which takes a twentieth of a small network's step.
    """
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)
