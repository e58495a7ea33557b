"""How accurate is the default recipe, how long does it take, and in how much memory?

    python benchmarks/accuracy.py [DATA...] [--side-by-side] [--out FOLDER]

Each run is `convatlas train NETWORK --data DATA --seed SEED` in a process of its own, with no other flag but a
network's `--width` where the row has one. With names of data sets, only their rows are measured, and the others stay as
they are. With `--side-by-side`, each core trains for itself: all is done sooner, and seconds and memory stay those of
the last time that it had the machine to itself. A training that is in the folder (`runs/accuracy`) is resumed, or not
done again; its seconds are the last ones too. `flowers-128` is a folder of that name in `CONVATLAS_DATA`. At the end
stands what was wanted; if a row missed it, the status is 1. All of it takes about two hours on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import measured


class Row(NamedTuple):
    network: str
    data: str
    num_seeds: int
    wanted: float | None
    """Test error in percent that the mean must not exceed. None: nothing is wanted."""
    paper: str = ""
    width: float = 1.0

    @property
    def name(self) -> str:
        return f"{self.network} on {self.data}"


ROWS = (
    Row("lenet5", "digits", 5, 2.0),
    Row("lenet5-modern", "digits", 5, 2.0),
    Row("lenet1989", "usps", 3, 5.0, "5.0"),
    Row("lenet5", "usps", 3, 4.0),
    Row("lenet5", "mnist", 3, 0.95, "0.95"),
    Row("lenet5-modern", "mnist", 3, 0.80),
    Row("resnet20-cifar", "fashion-mnist", 1, 7.0),
    Row("resnet20-cifar", "cifar10", 1, 20.0),
    # Its images have about 32 pixels of detail, and labels are wrong: features of ImageNet's networks reach 26 %.
    Row("resnet18", "flowers-128", 3, None, width=0.5),
)
FOLDERS = ("flowers-128",)


class Measured(NamedTuple):
    error: float
    """Of the test images, in percent."""
    seconds: float
    """Of the whole command, with starting Python and the plots."""
    peak_gb: float
    is_whole: bool
    """Whether the command trained from the beginning to the end."""


def run(row: Row, seed: int, out: Path, threads: int | None = None) -> Measured:
    """
    Args:
        out: the folder of all runs.
        threads: None: as many as training chooses.
    """
    place = str(Path(os.environ["CONVATLAS_DATA"]) / row.data) if row.data in FOLDERS else row.data
    folder = out / f"{row.network}-{row.data}-{seed}"
    is_whole = not (folder / "run.json").exists()
    command = [sys.executable, "-m", "convatlas"]
    if is_whole:
        command += ["train", row.network, "--data", place, "--seed", str(seed), "--out", str(folder)]
        if row.width != 1:
            command += ["--width", str(row.width)]
    else:
        command += ["resume", str(folder)]
    begun = time.perf_counter()
    limited = {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
    process = subprocess.Popen(
        [*command, "--quiet", "--json"], stdout=subprocess.PIPE, text=True, env=os.environ | limited
    )
    assert process.stdout is not None
    told = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise subprocess.CalledProcessError(status, command)
    figures = json.loads(told)
    error = 100 * figures["test_errors"] / figures["test_images"]
    return Measured(error, time.perf_counter() - begun, peak(usage), is_whole)


def peak(usage: resource.struct_rusage) -> float:
    """The most memory that a process and what it started held, in GB."""
    return usage.ru_maxrss * 1024 / 1e9


def figures_of(row: Row, runs: Sequence[Measured]) -> dict[str, Any]:
    errors = [one.error for one in runs]
    figures = {
        "network": row.network,
        "data": row.data,
        "width": row.width,
        "test_error_percent": {
            "mean": round(statistics.mean(errors), 4),
            "std": round(statistics.stdev(errors), 4) if len(errors) > 1 else None,
            "each": [round(error, 4) for error in errors],
        },
        "wanted_percent": row.wanted,
        "paper_percent": row.paper,
        "command_seconds": measured.spread([one.seconds for one in runs]),
        "peak_gb": round(max(one.peak_gb for one in runs), 2),
        "date": date.today().isoformat(),
    }
    print(json.dumps(figures), file=sys.stderr, flush=True)
    return figures


def target(figures: Mapping[str, Any]) -> measured.Target | None:
    """What was wanted of a row, in percent; None: nothing."""
    if figures["wanted_percent"] is None:
        return None
    name = f"test error of {figures['network']} on {figures['data']}, %"
    return measured.Target(name, figures["test_error_percent"]["mean"], figures["wanted_percent"])


def main(chosen: list[str], out: Path, *, side_by_side: bool) -> None:
    known = json.loads((measured.RESULTS / "accuracy.json").read_text())["rows"]
    rows = {f"{figures['network']} on {figures['data']}": figures for figures in known}
    workers, threads = (os.cpu_count() or 1, 1) if side_by_side else (1, None)
    with ThreadPoolExecutor(workers) as pool:
        wanted = [row for row in ROWS if not chosen or row.data in chosen]
        begun = {row: [pool.submit(run, row, seed, out, threads) for seed in range(row.num_seeds)] for row in wanted}
        for row, runs in begun.items():
            before = rows.get(row.name, {})
            measurements = [one.result() for one in runs]
            rows[row.name] = figures_of(row, measurements)
            if side_by_side or not all(one.is_whole for one in measurements):
                rows[row.name] |= {name: before.get(name) for name in ("command_seconds", "peak_gb")}
            # Each is kept as it comes: the whole takes long.
            ordered = [rows[one.name] for one in ROWS if one.name in rows]
            measured.write("accuracy", "python benchmarks/accuracy.py", {"rows": ordered})
    targets = [target(rows[row.name]) for row in wanted]
    measured.judge([one for one in targets if one is not None])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("data", nargs="*")
    parser.add_argument("--side-by-side", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("runs") / "accuracy")
    arguments = parser.parse_args()
    main(arguments.data, arguments.out, side_by_side=arguments.side_by_side)
