"""Whatever byte of whatever file is not what was written: it is noticed in one line, or no result is another."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import convatlas as ca
from convatlas.compression.destination import Destination, Stage, StagesRecord
from convatlas.data.folder import Folder
from convatlas.draw import Lines, Series
from convatlas.errors import UserError
from convatlas.experiments import Budget, Statement, Topic
from convatlas.experiments.engine import ledger
from convatlas.experiments.engine.answers import Answers
from convatlas.experiments.engine.budget import Setting
from convatlas.experiments.engine.estimate import repeated
from convatlas.experiments.engine.statement import Measurement
from convatlas.experiments.engine.verdict import at_least
from convatlas.measure import Timing
from convatlas.models.codec.update import apply_update, write_update
from convatlas.models.folder import weights_checksum
from convatlas.models.model import Model
from convatlas.runs.options import Runtime, Validation
from convatlas.runs.run import Run, load_run, read_metrics
from convatlas.training.loop import Interrupted

pytestmark = pytest.mark.usefixtures("one_thread")

SIDE = 24
MANY = 100
REQUEST = {"model": "a run", "to": "2 MB", "prune": None, "rounds": 3, "lr": 1e-3}


@dataclass(frozen=True)
class Place:
    """Where the files of a kind lie."""

    work: Path
    """What is damaged and put back."""
    whole: Path
    """The same as it was written."""
    images: Path
    """An image folder, which stays as it is."""
    stop_at: Callable[[int], Any]
    finished: Callable[..., Run]
    """The fixtures."""

    def restore(self) -> None:
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.copytree(self.whole, self.work)


# --- how each kind is written, and what it is used for -----------------------------------------------------------


def write_run(place: Place) -> None:
    runtime = Runtime(autotune=False)
    ca.train("lenet1", epochs=1, validation=Validation(), runtime=runtime, out=place.work / "run")


def use_run(place: Place) -> object:
    run = load_run(place.work / "run")
    return run.card, run.record, weights_checksum(run.network), read_metrics(run)


def write_half_a_run(place: Place) -> None:
    with pytest.raises(Interrupted):
        ca.train(
            "lenet1",
            epochs=1,
            runtime=Runtime(autotune=False, checkpoint_steps=4),
            out=place.work / "run",
            progress=place.stop_at(9),
        )


def use_half_a_run(place: Place) -> object:
    run = ca.resume(place.work / "run")
    return run.card, [(row["epoch"], row["loss"], row["accuracy"]) for row in read_metrics(run)]


def write_stages(place: Place) -> None:
    own, timing = (
        place.finished("lenet1").model,
        Timing("PyTorch", (1e-3,)),
    )
    stages = tuple(Stage.of(name, own, size, timing, compiled=False) for name, size in (("a", 300), ("b", 200)))
    destination = Destination(place.work / "small")
    destination.begin(REQUEST)
    destination.finish(StagesRecord(request=REQUEST, stages=stages), own, small=True)


def use_stages(place: Place) -> object:
    destination = Destination(place.work / "small")
    record = destination.recorded(REQUEST, place.images)
    return record, weights_checksum(destination.open().network)


def write_compressed(place: Place) -> None:
    place.work.mkdir()
    for seed, name in enumerate(("old.cva", "new.cva")):
        place.finished("lenet1", seed).model.save(place.work / name)
    write_update(place.work / "old.cva", place.work / "new.cva", place.work / "update.cvu")


def use_compressed(place: Place) -> object:
    made = apply_update(place.work / "old.cva", place.work / "update.cvu", place.work / "made.cva")
    opened = ca.load(place.work / "new.cva")
    assert isinstance(opened, Model)
    return made.read_bytes(), opened.card, weights_checksum(opened.network)


def measure(setting: Setting) -> Measurement:
    line = Series("line", (1.0, 2.0), (3.0, 4.0), (0.1, 0.2))
    chart = Lines(name="chart", title="Chart", x="x", y="y", series=(line,))
    answers = Answers(np.array([0, 1], np.uint8), {"net": np.array([[0, 0], [0, 1]], np.uint8)})
    return Measurement(
        estimate=repeated((2.0, 2.5)), figures=(("figure", "1.5 s"),), charts=(chart,), note="a note", answers=answers
    )


TOPIC = Topic(
    id="some", title="Some", summary="", source="", method="", limitations="", minutes_quick=1, minutes_full=1,
    statements=(Statement(id="one", text="text", statistic="statistic", threshold=at_least(1), measure=measure),),
)  # fmt: skip


def write_result(place: Place) -> None:
    ledger.run(TOPIC, out=place.work, num_seeds=2)


def use_result(place: Place) -> object:
    return ledger.read(TOPIC, Budget.QUICK, place.work)


def use_folder(place: Place) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONVATLAS_CACHE", str(place.work))
        data = Folder(place.images).load(SIDE, skip_bad=True)
    pixels = [hashlib.sha256(split.images[:].tobytes()).digest() for split in (data.train, data.test)]
    found = data.checksum, data.train.names, data.train.labels.tolist(), data.train.reader.decoding, pixels
    return *found, [error.reason for error in data.skipped]


def write_folder(place: Place) -> None:
    place.work.mkdir()
    use_folder(place)


@dataclass(frozen=True)
class Kind:
    write: Callable[[Place], None]
    use: Callable[[Place], object]
    file: str
    """A pattern of one file in the folder."""
    room: str = "1GB"
    """Of the cache of decoded images."""
    largest: bool = True
    """Whether it is the largest of several, or the smallest."""
    few: int = 4
    """How often it is damaged by default; a hundred times in a slow test."""


KINDS = {
    "run.json": Kind(write_run, use_run, "run/run.json"),
    "model.json": Kind(write_run, use_run, "run/model.json"),
    "weights": Kind(write_run, use_run, "run/weights.safetensors"),
    "metrics.jsonl": Kind(write_run, use_run, "run/metrics.jsonl"),
    "checkpoint": Kind(write_half_a_run, use_half_a_run, "run/checkpoint.safetensors", few=2),
    "stages.json": Kind(write_stages, use_stages, "small/stages/stages.json"),
    "cva": Kind(write_compressed, use_compressed, "new.cva"),
    "cvu": Kind(write_compressed, use_compressed, "update.cvu"),
    "result.json": Kind(write_result, use_result, "some/quick/result.json", few=10),
    "cached pixels": Kind(write_folder, use_folder, "*.decoded/images"),
    "cached exact pixels": Kind(write_folder, use_folder, "*.decoded/images", largest=False),
    "cached JPEGs": Kind(write_folder, use_folder, "*.decoded/images", room="40KB"),
    "cache's index": Kind(write_folder, use_folder, "*.decoded/index.json", few=10),
    "cache's sources": Kind(write_folder, use_folder, "*.sources.json"),
}  # fmt: skip


@dataclass(frozen=True)
class Written:
    """Files of a kind, whole, and what they give."""

    kind: Kind
    place: Place
    result: object

    @property
    def file(self) -> Path:
        """The one to damage."""
        found = sorted(self.place.work.glob(self.kind.file), key=lambda path: path.stat().st_size)
        return found[-1 if self.kind.largest else 0]

    def check(self, damage: Callable[[bytes], bytes]) -> None:
        """Use the files with another content of the one: a line must say so, or there must be no difference."""
        self.place.restore()
        path = self.file
        path.write_bytes(damage(path.read_bytes()))
        try:
            found = self.kind.use(self.place)
        except UserError as error:
            message = str(error)
        else:
            assert found == self.result
            return
        assert len(message.splitlines()) == 1


@pytest.fixture(scope="module")
def places(
    tmp_path_factory: pytest.TempPathFactory, stop_at: Callable[[int], Any], finished: Callable[..., Run]
) -> Callable[[Kind], Place]:
    """`places(kind)` is where its files are whole; kinds that are written together lie together."""
    made: dict[tuple[object, str], Place] = {}

    def place(kind: Kind) -> Place:
        key = kind.write, kind.room
        if key not in made:
            root = tmp_path_factory.mktemp("files")
            made[key] = Place(root / "work", root / "whole", root / "images", stop_at, finished)
            write_images(root / "images")
            kind.write(made[key])
            shutil.move(root / "work", root / "whole")
        made[key].restore()
        return made[key]

    return place


@pytest.fixture(scope="module", params=KINDS)
def written(request: pytest.FixtureRequest, places: Callable[[Kind], Place]) -> Iterator[Written]:
    """The files of each kind in turn."""
    kind = KINDS[request.param]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONVATLAS_CACHE_LIMIT", kind.room)
        place = places(kind)
        yield Written(kind, place, kind.use(place))


def write_images(folder: Path) -> None:
    """Large photographs, gray and in color, an icon, and a file that is no image; all there for a while."""
    draw = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for number in range(4):
            shape = (6, 8) if number == 0 else (6, 8, 3)
            noise = Image.fromarray(draw.integers(0, 256, shape, dtype=np.uint8))
            noise.resize((160, 120), Image.Resampling.BICUBIC).save(folder / name / f"{number}.jpg")
    Image.new("L", (SIDE, SIDE), 99).save(folder / "cat" / "icon.png")
    (folder / "dog" / "page.jpg").write_text("<!DOCTYPE html>")
    for path in folder.rglob("*.*"):
        os.utime(path, (10**9, 10**9))


# --- the same for all --------------------------------------------------------------------------------------------


often = pytest.mark.parametrize("often", [False, pytest.param(True, marks=pytest.mark.slow)])


@often
def test_a_flipped_byte_is_noticed_or_without_effect(often: bool, written: Written) -> None:
    draw = random.Random(0)

    def flipped(content: bytes) -> bytes:
        place = draw.randrange(len(content))
        # One bit of it, as disks flip them: of text, a digit often becomes another, and a letter a letter.
        return content[:place] + bytes([content[place] ^ 1 << draw.randrange(8)]) + content[place + 1 :]

    for _ in range(MANY if often else written.kind.few):
        written.check(flipped)


@often
def test_a_file_that_was_cut_short_is_noticed_or_without_effect(often: bool, written: Written) -> None:
    draw = random.Random(0)
    # Of text, also without its last line.
    cuts: list[Callable[[bytes], int]] = [lambda content: content.rfind(b"\n", 0, -1) + 1]
    cuts += [lambda content: len(content) - 1, lambda content: 0, lambda content: draw.randrange(len(content))]
    for cut in cuts[: written.kind.few] + cuts[-1:] * (MANY if often else 0):
        written.check(lambda content, cut=cut: content[: cut(content)])
