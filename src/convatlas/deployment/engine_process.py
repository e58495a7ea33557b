"""An engine with a network in a process of its own: thread pools of two engines in one process disturb each other."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convatlas.deployment import bench_child
from convatlas.deployment.manifest import Precision, RuntimeName
from convatlas.errors import UserError

EAGER, COMPILED = "PyTorch", "PyTorch compiled"
WARM_UP_S, TURN_S = 0.2, 0.25
"""Seconds of each engine before anything counts, and of each of its turns."""
MAX_REPEATS = 500


@dataclass(frozen=True, kw_only=True)
class TimedNetwork:
    """A network in what computes it."""

    model: str
    """What it is of: the path or name that was given."""
    name: str
    """ "PyTorch", "PyTorch compiled", "ONNX Runtime" or "OpenVINO"."""
    precision: Precision
    path: Path
    """The model, or the network's file."""
    runtime: RuntimeName | None
    """None: PyTorch."""
    num_bytes: int
    """On disk."""
    accuracy: float | None
    """On test images, a fraction; of an artefact in lower precision less what the gate found lost. None: not known."""
    shape: tuple[int, ...]
    """Of an image: (channels, height, width)."""


class EngineError(UserError):
    """An engine cannot compute a network, or not on this machine."""

    def __init__(self, engine: TimedNetwork, reason: str) -> None:
        super().__init__(f"{engine.name} in {engine.precision} fails on {engine.model}: {reason}")
        self.engine, self.reason = engine, reason


class EngineProcess:
    """The process of an engine."""

    def __init__(self, engine: TimedNetwork, process: subprocess.Popen[str]) -> None:
        self.engine, self.process = engine, process
        self.loaded: dict[str, Any] = {}
        self.peak_bytes = 0

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """
        Raises:
            EngineError: it fails, or the process ended.
        """
        assert self.process.stdin is not None, "a pipe"
        assert self.process.stdout is not None, "a pipe"
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        except (OSError, ValueError) as error:
            raise EngineError(self.engine, "its process ended; what it said stands above") from error
        if "error" in answer:
            raise EngineError(self.engine, answer["error"])
        self.peak_bytes = answer["peak_bytes"]
        return answer

    def run(self, batch_size: int, repeats: int) -> list[float]:
        """Seconds of each of some runs."""
        seconds: list[float] = self.ask({"batch_size": batch_size, "repeats": repeats})["seconds"]
        return seconds

    def repeats_for(self, batch_size: int) -> int:
        """How often a turn runs, after some runs that warm up."""
        once = min(self.run(batch_size, 3))
        self.run(batch_size, min(max(int(WARM_UP_S / once), 1), MAX_REPEATS))
        return min(max(int(TURN_S / once), 1), MAX_REPEATS)


@contextmanager
def engine_process(engine: TimedNetwork, threads: int, batch_sizes: Sequence[int]) -> Iterator[EngineProcess]:
    """An engine's process, loaded; it ends with the `with` block."""
    # -P: a file of the working folder is no module.
    command = [sys.executable, "-P", "-m", bench_child.__name__]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        started = EngineProcess(engine, process)
        try:
            started.loaded = started.ask(
                {
                    "path": str(engine.path.absolute()),
                    "runtime": engine.runtime,
                    "precision": engine.precision,
                    "compiled": engine.name == COMPILED,
                    "threads": threads,
                    "batch_sizes": list(batch_sizes),
                    "shape": engine.shape,
                }
            )
            yield started
        finally:
            process.kill()
