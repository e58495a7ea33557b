"""Commands that are killed and repeated: a server that runs them, and how what they leave is compared."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from convatlas.files.sealed_json import SHA256

SERVER = Path(__file__).with_name("server.py")
MARK = "CONVATLAS_TEST_OF_KILLS"
TIMED = {"seconds", "when", "val_seconds", "metrics_sha256", SHA256}
"""What is never twice the same in JSON: times, and checksums of what holds them."""
UNLIKE = ("latency.svg", "study.db", ".sources.json", "checkpoint.safetensors")
"""Ends of the names of files that are never twice the same: of times, and of when images were last changed. What a
checkpoint holds shows in the weights that training from it ends in."""


@dataclass(frozen=True)
class Ended:
    status: int
    seconds: float
    output: str
    moments: list[str]
    """At which it can be killed, with what was changed before or after each."""


class Server:
    """Runs commands in a folder, and kills them."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.folder = root / "work"
        """In which they run; its path stands in what they write, so it is always the same."""
        one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MPLBACKEND": "agg"}
        self._process = subprocess.Popen(
            [sys.executable, str(SERVER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | one_thread,
        )
        assert self._answer() == "ready\n", "the server does not start"

    def close(self) -> None:
        self._process.communicate()

    def run(self, task: list[str] | str, *, kill_at: int | None = None, kill_after_s: float | None = None) -> Ended:
        """
        Args:
            task: the arguments of the command, or a program that uses the library.
            kill_at: at which of its moments it is killed.
        """
        job = {
            "task": task,
            "kill_at": kill_at,
            "kill_after_s": kill_after_s,
            "folder": str(self.folder),
            "output": str(self._root / "output"),
            "moments": str(self._root / "moments"),
            "environment": {MARK: str(self._root), "CONVATLAS_CACHE": str(self.folder / "cache")},
        }
        assert self._process.stdin is not None
        print(json.dumps(job), file=self._process.stdin, flush=True)
        ended = json.loads(self._answer())
        texts = [(self._root / name).read_text() for name in ("output", "moments")]
        return Ended(ended["status"], ended["seconds"], texts[0], texts[1].splitlines())

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def survivors(self, timeout_s: float) -> list[str]:
        """The commands of processes that the killed ones started, and that do not end in time."""
        survivors = []
        for process in Path("/proc").glob("[0-9]*"):
            # Others end meanwhile.
            with suppress(OSError):
                if f"{MARK}={self._root}".encode() in (process / "environ").read_bytes():
                    handle = os.pidfd_open(int(process.name))
                    if not select.select([handle], [], [], timeout_s)[0]:
                        survivors.append((process / "cmdline").read_text().replace("\0", " "))
                    os.close(handle)
        return survivors

    def contents(self) -> dict[str, Any]:
        """All files and folders, also hidden ones, with what can be compared of their contents.

        A trial of a sweep keeps its checkpoint; one that was continued keeps the one before, too.
        """
        return {
            path.relative_to(self.folder).as_posix(): None if path.is_dir() else content(path)
            for path in sorted(self.folder.rglob("*"))
            if not path.match("trials/*/previous-checkpoint.safetensors")
        }


def content(path: Path) -> Any:
    if path.name.endswith(UNLIKE):
        return path.exists()
    if path.suffix in (".json", ".jsonl"):
        return [untimed(json.loads(line)) for line in json_documents(path)]
    return path.read_bytes()


def json_documents(path: Path) -> list[str]:
    text = path.read_text()
    return text.splitlines() if path.suffix == ".jsonl" else [text]


def untimed(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: untimed(part) for name, part in value.items() if name not in TIMED}
    return [untimed(part) for part in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("kills"))
    yield server
    server.close()


def write_images(folder: Path) -> None:
    """Two classes of 15 images: noise that is bright at the top, or at the bottom."""
    generator = np.random.default_rng(0)
    for name, rows in (("bottom", slice(14, 28)), ("top", slice(14))):
        (folder / name).mkdir(parents=True)
        for number in range(15):
            pixels = generator.integers(0, 120, (28, 28), np.uint8)
            pixels[rows] += 100
            image = folder / name / f"{number:02}.png"
            Image.fromarray(pixels).save(image)
            # Long ago, so that their digests are remembered.
            os.utime(image, (0, 0))


@pytest.fixture(scope="module")
def before(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a person has: images, two runs, and each as one file."""
    server.folder.mkdir()
    write_images(server.folder / "images")
    program = """
import convatlas as ca
for name, seed in (("run", 0), ("other", 1)):
    run = ca.train("lenet5-modern", "images", epochs=2, batch_size=8, seed=seed, out=name,
                   runtime=ca.Runtime(autotune=False))
    run.model.save(f"{name}.cva")
"""
    ended = server.run(program)
    assert ended.status == 0, ended.output
    ended = server.run(["update", "run.cva", "other.cva", "--out", "update.cvu"])
    assert ended.status == 0, ended.output
    shutil.rmtree(server.folder / "cache")
    return server.folder.rename(tmp_path_factory.mktemp("before") / "work")
