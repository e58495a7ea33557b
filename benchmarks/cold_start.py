"""How long does a shipped network take from nothing to an answer, and how large is what it needs?

    python benchmarks/cold_start.py

LeNet-5 on digits is exported to ONNX Runtime, and the two packages of its `requirements.txt`, with what these need, are
installed into an empty folder. Its `predict.py` then runs in processes that see only Python's own library and that
folder: each starts Python, imports the runtime, loads the network and classifies one image.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import measured

import convatlas as ca

RUNS = 10
MAX_S, MAX_MB = 1.0, 200.0
IMAGE = Path(__file__).parent.parent / "docs" / "five.png"


def seconds_of(script: Path, packages: Path) -> float:
    """From starting Python to the answer."""
    # -s, -S: neither a user's packages nor those that are installed here.
    command = [sys.executable, "-s", "-S", str(script), str(IMAGE)]
    began = time.perf_counter()
    subprocess.run(command, env={**os.environ, "PYTHONPATH": str(packages)}, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = ca.train("lenet5", epochs=5, out=Path(folder) / "run", runtime=ca.Runtime(autotune=False))
        artefact, packages = Path(folder) / "artefact", Path(folder) / "packages"
        manifest = ca.export(run, "onnx", artefact)
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(packages)]
        subprocess.run([*install, "--requirement", str(artefact / "requirements.txt")], check=True)
        megabytes = sum(path.stat().st_size for path in packages.rglob("*") if path.is_file()) / 1e6
        seconds = [seconds_of(artefact / "predict.py", packages) for _ in range(1 + RUNS)][1:]
    spread = measured.spread(seconds)
    figures = {
        "seconds": spread,
        "environment_mb": round(megabytes, 1),
        "artefact_kb": round(sum(file.num_bytes for file in manifest.files) / 1e3, 1),
        "runtime": manifest.versions["onnxruntime"],
    }
    measured.write("cold_start", "python benchmarks/cold_start.py", figures)
    measured.judge(
        [
            measured.Target("seconds to an answer", spread["median"], MAX_S),
            measured.Target("MB of packages", megabytes, MAX_MB),
        ]
    )


if __name__ == "__main__":
    main()
