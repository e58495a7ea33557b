"""A data set that was moved is named anew, and only if it is the same."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

import convatlas as ca
from convatlas.runs.run import load_run
from convatlas.training import Interrupted, Progress
from convatlas.training.loop import train_or_resume

UNTUNED = ca.Runtime(device="cpu", autotune=False)


class StopAtOnce(Progress):
    def advance(self, num_images: int) -> None:
        signal.raise_signal(signal.SIGTERM)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for shade, name in ((40, "dark"), (220, "light")):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(6):
            Image.new("RGB", (30, 30), (shade + number,) * 3).save(tmp_path / "images" / name / f"{number}.png")
    return tmp_path / "images"


@pytest.fixture
def stopped(images: Path, tmp_path: Path) -> Path:
    """A run on the images that was stopped after its first step."""
    with pytest.raises(Interrupted):
        ca.train("lenet1", images, epochs=2, batch_size=4, runtime=UNTUNED, out=tmp_path / "run", progress=StopAtOnce())
    return tmp_path / "run"


def is_one_clear_line(answer: tuple[int, str, str], *words: str) -> None:
    status, out, err = answer
    assert (status, out) == (2, "")
    assert len(err.splitlines()) == 1, err
    for word in words:
        assert word in err


def test_resume_goes_on_where_the_data_is_now_and_the_run_remembers_it(
    images: Path, stopped: Path, convatlas: Callable, tmp_path: Path
) -> None:
    undisturbed = ca.train("lenet1", images, epochs=2, batch_size=4, runtime=UNTUNED, out=tmp_path / "undisturbed")
    moved = images.rename(tmp_path / "moved")
    is_one_clear_line(
        convatlas("resume", stopped), f"there is no folder {images}; if the data set of {stopped} was moved", "--data"
    )
    assert convatlas("resume", stopped, "--data", moved).status == 0
    run = load_run(stopped)
    assert run.record.data == str(moved)
    assert run.card.weights_sha256 == undisturbed.card.weights_sha256
    for verb in ("evaluate", "report"):
        assert convatlas(verb, stopped).status == 0


def test_other_data_is_refused_and_nothing_is_changed(
    images: Path, stopped: Path, convatlas: Callable, tmp_path: Path
) -> None:
    content = (stopped / "run.json").read_bytes()
    other = tmp_path / "other"
    shutil.copytree(images, other)
    (other / "dark").rename(other / "dim")
    answer = convatlas("resume", stopped, "--data", other)
    is_one_clear_line(answer, f"the images of {other} are not", "other classes (missing: dark; new: dim)", "--data")
    is_one_clear_line(
        convatlas("resume", stopped, "--data", "digits"), "other classes (missing: dark, light; new: 0, 1"
    )
    is_one_clear_line(convatlas("resume", stopped, "--data", tmp_path / "nowhere"), "there is no folder")
    assert (stopped / "run.json").read_bytes() == content


def test_a_finished_run_is_told_its_new_place_and_a_report_only_reads(
    images: Path, stopped: Path, convatlas: Callable, tmp_path: Path
) -> None:
    before = ca.resume(stopped)
    moved = images.rename(tmp_path / "moved")
    content = (stopped / "run.json").read_bytes()
    for verb in ("evaluate", "report"):
        is_one_clear_line(convatlas(verb, stopped), f"there is no folder {images}", "name its place with --data")
        assert convatlas(verb, stopped, "--data", moved).status == 0
    (moved / "dark" / "5.png").unlink()
    for verb in ("evaluate", "report", "resume"):
        is_one_clear_line(convatlas(verb, stopped, "--data", moved), "are not, or no longer, those that")
    assert (stopped / "run.json").read_bytes() == content
    shutil.copy(moved / "dark" / "4.png", moved / "dark" / "5.png")
    is_one_clear_line(convatlas("report", stopped, "--data", moved), "the same classes, but other images")
    Image.new("RGB", (30, 30), (45,) * 3).save(moved / "dark" / "5.png")
    assert convatlas("resume", stopped, "--data", moved).status == 0
    after = load_run(stopped)
    assert after.record.data == str(moved)
    assert (after.record.results, after.card) == (before.record.results, before.card)
    assert convatlas("evaluate", stopped).status == 0


def test_the_same_request_goes_on_where_it_says_that_the_data_is(images: Path, stopped: Path, tmp_path: Path) -> None:
    moved = images.rename(tmp_path / "moved")
    request = ca.Request(network="lenet1", data=moved, epochs=2, batch_size=4, runtime=UNTUNED)
    run = train_or_resume(request, stopped, Progress())
    assert run.record.data == str(moved)
    # A finished run needs no images.
    shutil.rmtree(moved)
    assert train_or_resume(request, stopped, Progress()).record == run.record
