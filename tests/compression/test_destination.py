"""Where a compressed model goes: it is a model, what led there lies beside it, and nothing of anybody's is lost."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import convatlas as ca
from convatlas.compression import destination
from convatlas.compression.compress import Compression, compress
from convatlas.compression.stages import FineTuning
from convatlas.errors import UserError
from convatlas.models.model import Model
from convatlas.runs.options import Runtime
from convatlas.runs.run import Run
from convatlas.training import Interrupted, Progress

pytestmark = pytest.mark.usefixtures("one_thread")

TUNING = FineTuning(epochs=1, runtime=Runtime(autotune=False))


def four_bits(source: object, out: Path, **given: Any) -> Compression:
    return compress(source, None, out, **{"bits": 4, "fine_tuning": TUNING} | given)


@pytest.fixture(scope="module")
def run(finished: Callable[..., Run]) -> Run:
    return finished("lenet5", compressed=False)


@pytest.fixture(scope="module")
def made(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Compression:
    return four_bits(run, tmp_path_factory.mktemp("made") / "small")


def contents(folder: Path) -> dict[str, tuple[bytes | None, int]]:
    """Every path below a folder, with its bytes and its time."""
    return {
        str(path.relative_to(folder)): (path.read_bytes() if path.is_file() else None, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
    }


def test_the_folder_is_a_model_with_its_stages_in_it(made: Compression, run: Run, tmp_path: Path) -> None:
    folder = made.model.path
    assert {path.name for path in folder.iterdir()} == {"model.json", "weights.safetensors", "model.cva", "stages"}
    assert {path.name for path in made.folder.iterdir()} == {
        "quantized", "quantized-tuned", "stages.json", "size.svg", "latency.svg",
    }  # fmt: skip
    opened, image = ca.load(folder), Image.linear_gradient("L")
    assert isinstance(opened, Model)
    assert opened.evaluate().score == opened.card.score == ca.load(made.folder / "quantized-tuned").score
    assert opened.predict(image) == ca.load(made.file).predict(image)
    # What was compressed can be compressed further.
    again = four_bits(folder, tmp_path / "again", bits=2)
    assert again.file.stat().st_size < made.file.stat().st_size


def test_a_name_that_ends_in_cva_is_one_file(made: Compression, run: Run, tmp_path: Path) -> None:
    one = four_bits(run, tmp_path / "new" / "small.cva")
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"small.cva", "small.stages"}
    assert one.model.path == one.file == tmp_path / "new" / "small.cva"
    assert one.folder == tmp_path / "new" / "small.stages"
    assert one.file.read_bytes() == made.file.read_bytes()
    again = four_bits(run, one.file)
    assert (again.stages, again.model.card) == (one.stages, one.model.card)


def test_the_same_call_again_returns_at_once(made: Compression, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(made.model.path)
    # Not even the images are read.
    monkeypatch.setattr(Model, "load_data", None)
    again = four_bits(run.folder, made.model.path)
    assert (again.stages, again.file, again.model.card) == (made.stages, made.file, made.model.card)
    assert contents(made.model.path) == before
    with pytest.raises(UserError, match="was started with bits 4, not 3; choose a new place with `out`"):
        four_bits(run.folder, made.model.path, bits=3)


def refused_places(folder: Path) -> dict[str, str]:
    """Names of places that hold something, and what must be said."""
    (folder / "notes").mkdir()
    (folder / "notes" / "weights.safetensors").write_text("mine")
    (folder / "file").write_text("mine")
    (folder / "other.cva").write_text("mine")
    (folder / "folder.cva").mkdir()
    (folder / "beside.stages").mkdir()
    (folder / "beside.stages" / "mine").touch()
    (folder / "earlier" / "quantized").mkdir(parents=True)
    (folder / "earlier" / "stages.json").write_text('{"asked": {}, "stages": []}')
    return {
        "": "is, holds or lies in the model",
        "notes": "holds something already",
        "file": "is a file; choose a folder, or a name that ends in .cva",
        "other.cva": "is there already; choose another name",
        "folder.cva": "is there already; choose another name",
        "beside.cva": "beside.stages holds something already",
        "earlier": "holds stages of an earlier convatlas, each a model of its own; choose a new folder",
        "run": "is, holds or lies in the model",
        "run/small": "is, holds or lies in the model",
        "run/small.cva": "is, holds or lies in the model",
        "copy": "holds something already",
        "model": "holds something already",
        "copy.cva": "is there already",
    }


def test_a_place_that_holds_something_is_refused_before_any_work(run: Run, tmp_path: Path) -> None:
    shutil.copytree(run.folder, tmp_path / "run")
    shutil.copytree(run.folder, tmp_path / "copy")
    run.model.save(tmp_path / "model")
    run.model.save(tmp_path / "copy.cva")
    places = refused_places(tmp_path)
    before = contents(tmp_path)
    for name, message in places.items():
        with pytest.raises(UserError, match=message) as error:
            four_bits(tmp_path / "run", tmp_path / name)
        assert len(str(error.value).splitlines()) == 1
    with pytest.raises(UserError, match="is, holds or lies in the model"):
        four_bits(tmp_path / "copy.cva", tmp_path / "copy.cva")
    assert contents(tmp_path) == before


def test_a_place_around_the_model_is_refused(made: Compression) -> None:
    before = contents(made.model.path)
    with pytest.raises(UserError, match="is, holds or lies in the model"):
        four_bits(made.folder / "quantized", made.model.path)
    assert contents(made.model.path) == before


class Kill(BaseException):
    """Stands for the end of the process."""


@pytest.mark.slow
def test_killed_while_it_finishes_it_is_no_model_yet_and_continues(
    made: Compression, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "small"

    def compressing(function: str, number: int) -> None:
        """Dies in that call of a function."""
        calls = iter(range(number))
        working = getattr(destination, function)

        def dying(*given: object) -> object:
            if next(calls, None) is None:
                raise Kill
            return working(*given)

        with monkeypatch.context() as patch:
            patch.setattr(destination, function, dying)
            four_bits(run, out)

    # With the record of the stages, with a chart, with the weights, with the card.
    for function, number in (("write", 1), ("write", 2), ("write_weights", 0), ("write_card", 0)):
        with pytest.raises(Kill):
            compressing(function, number)
        with pytest.raises(UserError, match="is not a run or model folder"):
            ca.load(out)
    again = four_bits(run, out)
    assert again.model.card == made.model.card
    assert again.file.read_bytes() == made.file.read_bytes()


DYING = """
import os, signal, sys
from convatlas.compression import destination
destination.write_card = lambda *given: os.kill(os.getpid(), signal.SIGKILL)
sys.argv = ["convatlas", *sys.argv[1:]]
from convatlas.cli import main
main()
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kills as POSIX does")
def test_the_command_killed_at_its_very_end_is_continued_by_the_same_command(
    made: Compression, run: Run, tmp_path: Path
) -> None:
    given = ["compress", run.folder, "--bits", "4", "--epochs", "1", "--no-autotune", "--quiet"]
    out = tmp_path / "small"
    killed = subprocess.run([sys.executable, "-c", DYING, *given, "--out", out], capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (out / "model.json").exists()
    stages = contents(out / "stages" / "quantized-tuned")
    assert four_bits(run.folder, out).model.card == made.model.card
    # Nothing was trained again.
    assert contents(out / "stages" / "quantized-tuned") == stages


def test_a_folder_that_was_only_begun_may_be_begun_otherwise(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "small"
    with pytest.raises(UserError, match="cannot be reached"):
        compress(run, "0.1 KB", out, fine_tuning=TUNING)
    # As a process leaves it that was killed before it could say whose it is.
    (out / "stages" / "stages.json").unlink()
    assert four_bits(run, out).model.path == out


class Impatient(Progress):
    """Stops in the first training that begins."""

    def advance(self, num_images: int) -> None:
        signal.raise_signal(signal.SIGTERM)


def test_images_that_were_moved_are_named_anew(tmp_path: Path, write_images: Callable[..., Path]) -> None:
    generator = np.random.default_rng(0)
    drawn = [Image.fromarray(generator.integers(0, 256, (32, 32), np.uint8)) for _ in range(10)]
    images = write_images(tmp_path / "photos", {"cat": drawn[:5], "dog": drawn[5:]})
    run = ca.train("lenet5-modern", images, epochs=1, runtime=Runtime(autotune=False), out=tmp_path / "run")
    # Its card has the folder's name alone.
    model, out = run.model.save(tmp_path / "model"), tmp_path / "small"
    with pytest.raises(UserError, match="photos, whose place is not known; name the folder with `data`"):
        four_bits(model, out)
    with pytest.raises(UserError, match="the images of digits are not, or no longer, those that"):
        four_bits(model, out, data="digits")
    assert not out.exists()
    with pytest.raises(UserError, match=r"lies in the data .*photos, which is read as images"):
        four_bits(run, images / "cat" / "small.cva")
    assert not list(images.rglob("small*"))
    images = images.rename(tmp_path / "moved")
    with pytest.raises(Interrupted):
        four_bits(model, out, data=images, fine_tuning=replace(TUNING, progress=Impatient()))
    # The same images at another place are the same request, also to the training that was interrupted.
    images = images.rename(tmp_path / "again")
    made = four_bits(model, out, data=images)
    assert made.model.evaluate(images).score == made.model.card.score
    with pytest.raises(UserError, match=r"there is no folder .*photos; if .* was moved, name its place with `data`"):
        four_bits(run, tmp_path / "other")
    assert four_bits(run, tmp_path / "other", data=images).model.card.weights_sha256 == made.model.card.weights_sha256
