"""Cards and records of anybody: whatever they say, they are used or refused in one line, in bounded time and memory."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from convatlas.files.sealed_json import SHA256
from convatlas.runs.run import Run

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="only Linux tells what a process held at most"
)

FORMATS = Path(__file__).parent / "formats"
WORKER = Path(__file__).with_name("hostile_worker.py")
FINISHED = ("format-1", "format-1-folder", "format-2-folder", "format-2-int8", "format-2-taught", "format-3-folder")
HALF = ("half-choices", "half-paper", "half-taught", "half-folder")
FAMILIES = ("lenet5", "resnet20-cifar", "mobilenet")
MOST_BYTES = 2**30
"""That any use may take beyond what the process held before it: Python, PyTorch and what those keep."""
MOST_SECONDS = 10.0
"""Of processor time: a busy machine is not a failure."""
HANGS_S = 120
"""Of a clock: no busy machine takes so long."""


class Worker:
    """A process that uses folders; see `hostile_worker.py`."""

    def __init__(self) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-W", "ignore", str(WORKER)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def use(self, folder: Path) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        watch = threading.Timer(HANGS_S, self.process.kill)
        watch.start()
        self.process.stdin.write(json.dumps(str(folder)) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        watch.cancel()
        assert line, f"{folder} killed its process, or hung"
        answer: dict[str, Any] = json.loads(line)
        return answer


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    worker = Worker()
    yield worker
    worker.process.kill()
    worker.process.communicate()


@pytest.fixture(scope="module")
def folders(finished: Callable[..., Run], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Runs of all formats, finished and not, and models."""
    root = tmp_path_factory.mktemp("genuine")
    for name in (*FINISHED, *HALF, "format-2-choices", "format-2"):
        shutil.copytree(FORMATS / name, root / name, ignore=shutil.ignore_patterns("expected.safetensors"))
        record = root / name / "run.json"
        record.write_text(record.read_text().replace("FORMATS", str(FORMATS)))
    for name in FAMILIES:
        run = finished(name, compressed=False)
        shutil.copytree(run.folder, root / name)
        run.model.save(root / f"{name}-model")
    return sorted(root.iterdir())


def check(worker: Worker, folders: list[Path], place: Path, mutate: Callable[..., None], num: int, seed: int) -> str:
    """Use so many mutated folders; how it went, in words."""
    draw, ends, slowest, largest = random.Random(seed), Counter[str](), 0.0, 0
    troubles: list[tuple[Any, ...]] = []
    for number in range(num):
        genuine = draw.choice(folders)
        folder = place / f"{number}-{genuine.name}"
        shutil.copytree(genuine, folder)
        path = draw.choice(sorted(folder.glob("*.json")))
        values = json.loads(path.read_text())
        # Whoever forges a file forges its checksum, too.
        values.pop(SHA256, None)
        mutate(values, draw)
        path.write_text(json.dumps(values))
        answer = worker.use(folder)
        if answer["trouble"] or answer["seconds"] > MOST_SECONDS or answer["bytes"] > MOST_BYTES:
            answer["trouble"] = answer["trouble"][-2000:]
            troubles.append((folder.name, path.name, answer))
        ends.update(f"{use} {end}" for use, end in answer["ends"].items())
        slowest, largest = max(slowest, answer["seconds"]), max(largest, answer["bytes"])
        shutil.rmtree(folder)
    assert not troubles, f"{len(troubles)}: " + "\n\n".join(map(str, troubles[:5]))
    # What opens is used, too, and what does not is refused.
    assert num / 10 < ends["open done"] < 0.9 * num
    assert ends["predict done"] > num / 50
    return f"{num} folders, {slowest:.1f} s and {largest / 2**20:.0f} MiB at most, {dict(ends)}"


@pytest.mark.slow
def test_genuine_folders_are_used(worker: Worker, folders: list[Path], tmp_path: Path) -> None:
    for genuine in folders:
        shutil.copytree(genuine, folder := tmp_path / genuine.name)
        answer = worker.use(folder)
        assert not answer["trouble"]
        assert answer["ends"]["open"] == "done", genuine
        half = genuine.name in HALF
        assert answer["ends"].get("resume" if half else "predict") == ("begun" if half else "done"), answer


def test_mutated_cards_and_records_are_used_or_refused(
    worker: Worker, folders: list[Path], tmp_path: Path, mutate_json: Callable[..., None]
) -> None:
    check(worker, folders, tmp_path, mutate_json, 25, seed=0)


@pytest.mark.slow
def test_ten_thousand_mutated_cards_and_records_are_used_or_refused(
    worker: Worker, folders: list[Path], tmp_path: Path, mutate_json: Callable[..., None]
) -> None:
    print(check(worker, folders, tmp_path, mutate_json, 10_000, seed=1))
