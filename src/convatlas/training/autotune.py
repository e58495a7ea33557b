"""Autotuning: a short benchmark before training finds the fastest execution settings on this machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from convatlas.data.batches import Batch
from convatlas.formatting import plural
from convatlas.images.parallel import available_cores
from convatlas.models.device import computes_bfloat16
from convatlas.runs.options import MAX_THREADS, Execution
from convatlas.spec import Objective
from convatlas.training.step import Step, to_memory_format

MIN_TRAINING_S = 20.0
"""A training that is shorter than this is not measured."""
SHARE = 0.03
"""Part of the training's time that measuring may take, compiling apart."""
MAX_TIME_RATIO = 0.95
"""Other settings win if they take less than this fraction of the time; a smaller gain may be noise."""
MAX_STEPS = 5
COMPILING_S = 60.0
"""About what compiling a large network takes."""
MIN_COMPILE_RATIO = 10
"""Compiling is tried if that many times its duration is left to train."""
FEW_CHANNELS = 16
"""See `supports_channels_last`."""


def available_threads(local_world_size: int) -> int:
    """Threads for each of the processes on this machine, so that no two compete for a core."""
    if local_world_size == 1:
        return min(torch.get_num_threads(), MAX_THREADS)
    # torchrun gives each process one thread, unless it is told otherwise.
    return min(max(available_cores() // local_world_size, 1), MAX_THREADS)


def supports_channels_last(network: nn.Module) -> bool:
    """Whether a network can be trained in the channels-last memory format.

    The oneDNN of PyTorch 2.13 writes out of bounds in the backward pass of a strided 1x1 convolution with few input
    channels (seen with 8 to 16 channels, 5 images of 16 pixels, two threads, AVX512), and the process dies.
    """
    return not any(
        isinstance(layer, nn.Conv2d)
        and layer.kernel_size == (1, 1)
        and layer.stride != (1, 1)
        and layer.in_channels < FEW_CHANNELS
        for layer in network.modules()
    )


@dataclass(frozen=True)
class Autotuner:
    """Measures steps of training on copies of a network."""

    build: Callable[[], tuple[nn.Module, torch.optim.Optimizer]]
    """A new network in training mode on the device, and its optimizer."""
    objective: Objective
    batch: Batch
    may_compile: bool = True
    """A network whose layers are unfrozen one after another would be compiled anew each time, which takes minutes."""

    def choose(self, plain: Execution, num_steps: int) -> tuple[Execution, str]:
        """The fastest settings for `num_steps` steps, and a line of timings; "" if training is too short to measure."""
        begun = time.monotonic()
        first = fastest = self.seconds(plain, MAX_STEPS * 4.0)
        planned = num_steps * first
        if planned < MIN_TRAINING_S:
            return plain, ""
        best, told = plain, [f"plain {1000 * first:.0f}"]
        for name, change in self.changes(plain, planned):
            left = SHARE * planned - (time.monotonic() - begun)
            if left < 2 * first and "compiled" not in change:
                continue
            tried = replace(best, **change)
            try:
                took = self.seconds(tried, left / 3)
            except RuntimeError as error:
                if not tried.compiled:
                    raise
                told.append(f"not compiled ({str(error).splitlines()[0][:80]})")
                continue
            told.append(f"{name} {1000 * took:.0f}")
            if took < MAX_TIME_RATIO * fastest:
                best, fastest = tried, took
        return best, f"{', '.join(told)} ms per step; chosen: {best.describe()}"

    def changes(self, plain: Execution, planned_s: float) -> list[tuple[str, dict[str, Any]]]:
        """What to try in turn, each on top of what won before."""
        device = self.batch.inputs.device.type
        changes: list[tuple[str, dict[str, Any]]] = []
        if computes_bfloat16(device):
            changes.append(("bfloat16", {"bfloat16": True}))
        if plain.channels_last:
            changes.append(("contiguous", {"channels_last": False}))
        if device == "cpu" and plain.threads > 1:
            half = plain.threads // 2
            changes.append((plural(half, "thread"), {"threads": half}))
        if self.may_compile and planned_s > MIN_COMPILE_RATIO * COMPILING_S:
            changes.append(("compiled", {"compiled": True}))
        return changes

    def seconds(self, execution: Execution, within: float) -> float:
        """Seconds per step: the median over as many steps as fit into `within` seconds, after one warmup step."""
        # The caller's random numbers are the caller's.
        with torch.random.fork_rng():
            return self._seconds(execution, within)

    def _seconds(self, execution: Execution, within: float) -> float:
        threads = torch.get_num_threads()
        torch.set_num_threads(execution.threads)
        try:
            network, optimizer = self.build()
            weights = torch.ones(self.batch.targets.shape[1], device=self.batch.targets.device)
            size = self.batch.global_batch_size
            step = Step.prepared(
                to_memory_format(network, execution), self.objective, execution, class_weights=weights, batch_size=size
            )
            times: list[float] = []
            begun = time.monotonic()
            while len(times) < 2 or (len(times) <= MAX_STEPS and time.monotonic() - begun < within):
                start = time.monotonic()
                optimizer.zero_grad(set_to_none=True)
                step.gradient(self.batch)
                optimizer.step()
                times.append(time.monotonic() - start)
                if len(times) == 1:
                    begun = time.monotonic()
        finally:
            torch.set_num_threads(threads)
        return statistics.median(times[1:])
