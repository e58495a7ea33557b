"""How accurate is the default recipe?

    python benchmarks/accuracy.py

Each run is `convatlas train NETWORK --data DATA --seed SEED` in a process of its own, with no other flag. It takes
about twenty minutes on two cores.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import measured


class Row(NamedTuple):
    network: str
    data: str
    num_seeds: int
    wanted: float
    """Test error in percent that the mean must not exceed."""
    paper: str


ROWS = (
    Row("lenet5", "digits", 5, 2.0, ""),
    Row("lenet5-modern", "digits", 5, 2.0, ""),
    Row("lenet1989", "usps", 3, 5.0, "5.0"),
    Row("lenet5", "usps", 3, 4.0, ""),
    Row("lenet5", "mnist", 3, 0.95, "0.95"),
    Row("lenet5-modern", "mnist", 3, 0.80, ""),
)


def run(row: Row, seed: int) -> tuple[float, float]:
    """Test error in percent, and the seconds of the whole command, starting Python and the plots included."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-c",
            "from convatlas.cli import main; main()",
            "train",
            row.network,
            "--quiet",
            "--json",
        ]
        command += ["--data", row.data, "--seed", str(seed), "--out", str(Path(folder) / "run")]
        begun = time.perf_counter()
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        return 100 * (1 - json.loads(done.stdout)["test_accuracy"]), time.perf_counter() - begun


def measure(row: Row) -> dict[str, object]:
    errors, seconds = zip(*(run(row, seed) for seed in range(row.num_seeds)), strict=True)
    figures = {
        "network": row.network,
        "data": row.data,
        "test_error_percent": {
            "mean": round(statistics.mean(errors), 4),
            "deviation": round(statistics.stdev(errors), 4),
            "each": [round(error, 4) for error in errors],
        },
        "wanted_percent": row.wanted,
        "paper_percent": row.paper,
        "command_seconds": measured.spread(seconds),
    }
    print(json.dumps(figures), file=sys.stderr, flush=True)
    return figures


def main() -> None:
    measured.write("accuracy", "python benchmarks/accuracy.py", {"rows": [measure(row) for row in ROWS]})


if __name__ == "__main__":
    main()
