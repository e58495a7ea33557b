"""How exactly training sees its images is noted in the record and said, and no run is refused for it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import convatlas as ca
from convatlas.data.folder import Folder
from convatlas.data.images import Decoding
from convatlas.errors import UserError
from convatlas.runs.report import facts
from convatlas.runs.run import Run, load_run
from convatlas.training import Interrupted, Progress
from convatlas.training.distribution import Processes
from convatlas.training.plan import load_everywhere

EXACT, JPEG = Decoding.EXACT, Decoding.JPEG
UNTUNED = ca.Runtime(device="cpu", autotune=False)


class Listener(Progress):
    """Hears what is said, and stops the training after a step if it is told so."""

    def __init__(self, stop: bool = False) -> None:
        self.lines: list[str] = []
        self.stop = stop

    def say(self, line: str) -> None:
        self.lines.append(line)

    def advance(self, num_images: int) -> None:
        if self.stop:
            signal.raise_signal(signal.SIGTERM)


@pytest.fixture(scope="module")
def animals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten soft images of 48 pixels in each of two classes."""
    root = tmp_path_factory.mktemp("images") / "animals"
    generator = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for number in range(10):
            coarse = generator.integers(0, 256, (4, 4, 3), dtype=np.uint8)
            Image.fromarray(coarse).resize((48, 48)).save(root / name / f"{number}.png")
    return root


@pytest.fixture
def room(decoded_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Decoding], None]:
    """`room(JPEG)` empties the cache and leaves it room for JPEG alone."""

    def give(decoding: Decoding) -> None:
        shutil.rmtree(decoded_cache, ignore_errors=True)
        monkeypatch.setenv("CONVATLAS_CACHE_LIMIT", "40KB" if decoding is JPEG else "1GB")

    return give


def train(animals: Path, out: Path, listener: Listener) -> Run:
    return ca.train("lenet1", animals, epochs=2, batch_size=4, runtime=UNTUNED, out=out, progress=listener)


@pytest.mark.parametrize("began", [EXACT, JPEG])
def test_what_training_sees_is_noted_and_jpeg_is_said(
    began: Decoding, animals: Path, room: Callable[[Decoding], None], tmp_path: Path
) -> None:
    room(began)
    listener = Listener()
    run = train(animals, tmp_path / "run", listener)
    assert run.record.decoding == load_run(run.folder).record.decoding == (began,)
    assert dict(facts(run))["images read as"] == ("JPEG" if began is JPEG else "exact pixels")
    if began is JPEG:
        (line,) = listener.lines
        assert f"keeps the images of {animals} as JPEG, for want of room" in line
        assert "set CONVATLAS_CACHE_LIMIT higher and run convatlas cache clear" in line
    else:
        assert listener.lines == []
    # The data set is the same to whoever keeps it otherwise.
    room(EXACT if began is JPEG else JPEG)
    assert run.evaluate(device="cpu").score == run.score


@pytest.mark.parametrize(("began", "then"), [(EXACT, JPEG), (JPEG, EXACT), (JPEG, JPEG), (EXACT, EXACT)])
def test_a_run_goes_on_with_another_kind_of_cache_and_says_so(
    began: Decoding, then: Decoding, animals: Path, room: Callable[[Decoding], None], tmp_path: Path
) -> None:
    room(began)
    with pytest.raises(Interrupted):
        train(animals, tmp_path / "run", Listener(stop=True))
    room(then)
    for _ in range(2):
        # What was said once is still true.
        listener = Listener(stop=True)
        with pytest.raises(Interrupted):
            ca.resume(tmp_path / "run", progress=listener)
        if began is not then:
            (line,) = listener.lines
            assert f"as {then.describe()} now, and read them as {began.describe()} when this run began" in line
            assert "its weights will differ from those of an undisturbed run" in line
        else:
            assert len(listener.lines) == (then is JPEG)
    run = ca.resume(tmp_path / "run")
    assert run.record.decoding == ((began,) if began is then else (began, then))
    assert dict(facts(run))["images read as"] == ", then ".join(map(Decoding.describe, run.record.decoding))


class OfTwoMachines(Processes):
    """This machine's process, and that of another one whose cache has room for pixels."""

    def all_gather(self, value: Any) -> list[Any]:
        return [value, EXACT if isinstance(value, Decoding) else value]


def test_machines_whose_caches_hold_the_images_in_different_ways_are_told_what_to_do(
    animals: Path, room: Callable[[Decoding], None]
) -> None:
    """What each finds out of the images by itself would differ."""
    room(EXACT)
    dataset = load_everywhere(lambda: Folder(animals).load(48), OfTwoMachines())
    room(JPEG)
    assert Folder(animals).load(48).checksum == dataset.checksum
    with pytest.raises(UserError) as caught:
        load_everywhere(lambda: Folder(animals).load(48), OfTwoMachines())
    message = str(caught.value)
    assert f"the images of {animals} in different ways (JPEG and exact pixels)" in message
    assert "set the same CONVATLAS_CACHE_LIMIT on each machine, run convatlas cache clear there" in message


APART = """
import os, sys
from pathlib import Path
rank = os.environ["RANK"]
os.environ |= {"CONVATLAS_CACHE": f"{sys.argv.pop(1)}/{rank}", "CONVATLAS_CACHE_LIMIT": ("1GB", "40KB")[int(rank)]}
from convatlas.cli import main
main()
"""


@pytest.mark.slow
def test_processes_whose_caches_hold_the_images_in_different_ways_do_not_train_together(
    animals: Path, tmp_path: Path
) -> None:
    (tmp_path / "program.py").write_text(APART)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words = [tmp_path / "program.py", tmp_path, "train", "lenet1", "--data", animals, "--out", tmp_path / "run"]
    done = subprocess.run(
        [*torchrun, *map(str, words)], capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode != 0
    assert "in different ways (JPEG and exact pixels); set the same CONVATLAS_CACHE_LIMIT on each" in done.stderr
    assert not (tmp_path / "run").exists()
