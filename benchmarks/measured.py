"""How every benchmark here runs and reports: engines in turn, each in a process of its own, medians and spread."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch

RESULTS = Path(__file__).parent / "results"


def in_turn(script: str, engines: Sequence[str], rounds: int) -> dict[str, list[float]]:
    """Run `python script ENGINE` for each engine in turn, `rounds` times; each prints one number last."""
    return {engine: [line[-1] for line in lines] for engine, lines in lines_in_turn(script, engines, rounds).items()}


def lines_in_turn(script: str, engines: Sequence[str], rounds: int, *given: str) -> dict[str, list[list[float]]]:
    """As `in_turn`, for scripts whose last line is several numbers; `given` is for each engine, after its name.

    Thread pools of two engines in one process disturb each other, and a machine that slows down for a while must
    slow all of them down: hence the processes, and the turns.
    """
    figures: dict[str, list[list[float]]] = {engine: [] for engine in engines}
    for turn in range(rounds):
        for engine in engines:
            command = [sys.executable, script, engine, *given]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            figures[engine].append([float(word) for word in done.stdout.splitlines()[-1].split()])
            told = ", ".join(f"{figure:,.0f}" for figure in figures[engine][-1])
            print(f"{turn + 1}/{rounds} {engine}: {told}", file=sys.stderr, flush=True)
    return figures


def spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "n": len(values)}


class Target(NamedTuple):
    """What was wanted of a figure before it was measured."""

    name: str
    reached: float
    wanted: float
    at_least: bool = False
    """Whether it is a lower bound; otherwise it is an upper one."""

    @property
    def is_met(self) -> bool:
        return self.reached >= self.wanted if self.at_least else self.reached <= self.wanted

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.wanted:g}{'' if self.is_met else ', missed'}"


def judge(targets: Sequence[Target]) -> None:
    """Say what was wanted and what was reached, and exit with status 1 if a target was missed."""
    for target in targets:
        print(f"{target.name}: {target.reached:.4g}, wanted {target}", file=sys.stderr)
    if not all(target.is_met for target in targets):
        sys.exit(1)


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "capability": torch.backends.cpu.get_cpu_capability(),
    }


def write(name: str, command: str, figures: Mapping[str, Any]) -> None:
    """Put the figures with their command and machine into `results/NAME.json`, and print them."""
    record = {"command": command, "date": date.today().isoformat(), "machine": machine(), **figures}
    text = json.dumps(record, indent=2) + "\n"
    (RESULTS / f"{name}.json").write_text(text)
    print(text)


OPERATORS = (
    "roi_align", "_roi_align_backward", "ps_roi_align", "_ps_roi_align_backward", "roi_pool", "_roi_pool_backward",
    "ps_roi_pool", "_ps_roi_pool_backward", "qroi_align", "deform_conv2d", "_deform_conv2d_backward", "nms", "qnms",
)  # fmt: skip


@cache
def allow_torchvision() -> None:
    """Let torchvision be imported where its compiled operators are not: its import looks for their names."""
    for name in OPERATORS:
        torch.library.define(f"torchvision::{name}", "(Tensor x) -> Tensor")
