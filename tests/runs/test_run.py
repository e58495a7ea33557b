"""What lies in a folder or a file is opened as what it is: a run, or a model without one."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import convatlas as ca
from convatlas.errors import UserError
from convatlas.models.card import CARD
from convatlas.models.folder import WEIGHTS
from convatlas.models.model import Model
from convatlas.runs.options import Runtime
from convatlas.runs.report import write_report
from convatlas.runs.run import METRICS, RECORD, Run, from_anywhere, load, load_model, load_run, read_metrics
from convatlas.spec import Scale

IMAGE = Image.linear_gradient("L").resize((28, 28))


def one_line(work: Callable[[], object], *words: str) -> None:
    with pytest.raises(UserError) as caught:
        work()
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    for word in words:
        assert word in message


def unfinished(run: Run) -> Run:
    """The folder as it is before the end of its training."""
    run.card = replace(run.card, score=None, weights_sha256=None)
    run.record = replace(run.record, results=None)
    run.write()
    (run.folder / WEIGHTS).unlink()
    return load_run(run.folder)


# Loading.


def test_a_run_a_model_folder_and_a_file_are_opened_as_what_they_are(finished: Run, tmp_path: Path) -> None:
    run = load(finished.folder)
    assert isinstance(run, Run)
    assert (run.card, run.record, run.format_version) == (finished.card, finished.record, 3)
    model = run.model.save(tmp_path / "model")
    file = run.model.save(tmp_path / "model.cva")
    for saved in (model, file):
        assert saved.path is not None
        for path in (saved.path, str(saved.path)):
            opened = load(path)
            assert isinstance(opened, Model)
            assert opened.card == saved.card
    # A run has a model, and is none.
    assert isinstance(run.model, Model)
    assert not isinstance(run, Model)
    assert ca.load is load


def test_a_run_predicts_and_evaluates_with_its_model(finished: Run) -> None:
    model = finished.model
    assert finished.predict(IMAGE) == model.predict(IMAGE)
    assert finished.predict([IMAGE, IMAGE]) == model.predict([IMAGE, IMAGE])
    own, others = finished.evaluate(), model.evaluate()
    assert torch.equal(own.confusion, others.confusion)
    assert own.score == finished.score == finished.card.score
    assert finished.test_accuracy == own.accuracy
    assert finished.evaluate("digits", device="cpu").accuracy == own.accuracy
    assert finished.evaluate(finished.load_data().test.take(np.arange(9))).num_images == 9
    assert (finished.variant, finished.spec, finished.network) == (model.variant, model.spec, model.network)
    assert (model.path, model.card) == (finished.folder, finished.card)


def test_load_model_opens_the_model_of_each(finished: Run, tmp_path: Path) -> None:
    paths = finished.folder, tmp_path / "model", tmp_path / "model.cva"
    for path in paths[1:]:
        finished.model.save(path)
    expected = finished.predict(IMAGE)
    for path in paths:
        model = load_model(path)
        assert isinstance(model, Model)
        assert model.path == path
        assert model.predict(IMAGE) == expected


def test_what_is_neither_is_one_line(tmp_path: Path) -> None:
    for opening in (load, load_model):
        one_line(
            partial(opening, tmp_path), f"{tmp_path} is not a run or model folder: it has no run.json and no model.json"
        )
        one_line(partial(opening, tmp_path / "nowhere"), f"there is no {tmp_path / 'nowhere'}")
    one_line(lambda: load_run(tmp_path), f"{tmp_path} is not a run folder: it has no run.json")
    one_line(lambda: load_run(tmp_path / "nowhere"), f"there is no {tmp_path / 'nowhere'}")
    (tmp_path / "text").write_text("neither")
    for opening in (load, load_model):
        one_line(partial(opening, tmp_path / "text"), "text is damaged or no compressed model of convatlas")
        one_line(partial(opening, "torchvison:resnet18"), "there is no torchvison:resnet18; did you mean torchvision:")
    one_line(lambda: from_anywhere("torchvison"), "there is no torchvison; did you mean torchvision?")


def test_a_model_where_a_run_is_needed_is_one_line(finished: Run, tmp_path: Path) -> None:
    for path in (tmp_path / "model", tmp_path / "model.cva"):
        finished.model.save(path)
        for needs_a_run in (load_run, ca.resume):
            one_line(
                partial(needs_a_run, path), f"{path} is a model without the record of its training: it has no run.json"
            )


def test_a_run_whose_card_is_gone_or_damaged_is_one_line(damaged: Run) -> None:
    card = (damaged.folder / CARD).read_bytes()
    (damaged.folder / CARD).unlink()
    one_line(lambda: load(damaged.folder), f"{damaged.folder} is not a model folder: it has no model.json")
    (damaged.folder / CARD).write_bytes(card[:-20])
    one_line(lambda: load(damaged.folder), f"{damaged.folder / CARD} is damaged or was not written by convatlas")


@pytest.mark.parametrize("changes", [{"score": None}, {"weights_sha256": None}], ids=["score", "weights"])
def test_a_finished_run_with_an_unfinished_model_is_one_line(changes: dict[str, Any], damaged: Run) -> None:
    (damaged.folder / CARD).write_bytes(replace(damaged.card, **changes).to_json())
    one_line(lambda: load(damaged.folder), f"{damaged.folder / CARD} is another model's")


# Before training is finished.


def test_an_unfinished_run_says_how_to_go_on(damaged: Run) -> None:
    run = unfinished(damaged)
    assert isinstance(load(run.folder), Run)
    assert not run.is_finished
    assert run.spec.num_classes == len(run.card.classes) == 10
    works: tuple[Callable[[], object], ...] = (
        lambda: run.model,
        lambda: run.network,
        lambda: run.results,
        lambda: run.score,
        lambda: run.test_accuracy,
        lambda: run.predict(IMAGE),
        lambda: run.evaluate(),
        lambda: load_model(run.folder),
        lambda: write_report(run),
    )
    for work in works:
        one_line(work, f"{run.folder} is not finished; convatlas resume {run.folder} goes on with it")


def test_a_run_that_was_killed_between_its_card_and_its_record_is_not_finished(damaged: Run) -> None:
    (damaged.folder / RECORD).write_bytes(replace(damaged.record, results=None).to_json())
    run = load_run(damaged.folder)
    assert not run.is_finished
    resumed = ca.resume(run.folder)
    assert resumed.is_finished
    assert load_run(run.folder).card == resumed.card


# The data set.


def test_data_that_moved_is_found_where_it_is_said_to_be(
    tmp_path: Path, write_images: Callable[[Path, dict[str, list[Image.Image]]], Path]
) -> None:
    images = {
        name: [Image.effect_noise((30, 30), 40 + 30 * number + number_of) for number_of in range(6)]
        for number, name in enumerate(("cat", "dog"))
    }
    root = write_images(tmp_path / "images", images)
    run = ca.train(
        "lenet1",
        root,
        epochs=1,
        scale=Scale(resolution=28),
        runtime=Runtime(autotune=False),
        out=tmp_path / "run",
    )
    expected = run.evaluate()
    root.rename(tmp_path / "moved")
    one_line(lambda: run.evaluate(), "there is no folder")
    one_line(lambda: run.load_data(), "there is no folder")
    assert torch.equal(run.evaluate(tmp_path / "moved").confusion, expected.confusion)
    assert torch.equal(load_model(run.folder).evaluate(tmp_path / "moved").confusion, expected.confusion)
    # A model knows the folder's name, and not where it was.
    assert run.card.provenance.data == "images"
    assert run.record.data == str(root)
    assert str(tmp_path) not in (run.folder / CARD).read_text()
    (tmp_path / "moved" / "cat" / "000.png").unlink()
    one_line(lambda: run.evaluate(tmp_path / "moved"), f"those that {run.folder} was trained on: ")


# Writing and metrics.


def test_what_is_written_is_read_again(finished: Run, tmp_path: Path) -> None:
    before = Run(tmp_path, finished.card, finished.record)
    before.write()
    assert sorted(path.name for path in tmp_path.iterdir()) == [CARD, RECORD]
    after = load_run(tmp_path)
    assert (after.card, after.record) == (before.card, before.record)
    one_line(lambda: after.network, f"{tmp_path / WEIGHTS} is missing")


def test_the_card_is_written_before_the_record(finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("convatlas.runs.run.write", fail)
    with pytest.raises(OSError, match="No space left"):
        Run(tmp_path, finished.card, finished.record).write()
    # A folder with a record has a card too.
    assert [path.name for path in tmp_path.iterdir()] == [CARD]


def test_a_run_says_nothing_of_this_machine_in_its_card(finished: Run) -> None:
    assert str(finished.folder.parent) not in (finished.folder / CARD).read_text()


def test_metrics_are_read_as_training_wrote_them(finished: Run) -> None:
    rows = read_metrics(finished)
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert rows == [json.loads(line) for line in (finished.folder / METRICS).read_text().splitlines()]
    assert {"loss", "accuracy", "val_loss", "val_accuracy"} <= set(rows[0])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "is missing"),
        (b"", "is damaged"),
        (b"{", "is damaged"),
        (b"[]", "is damaged"),
        (b"5", "is damaged"),
        (b"\xff\xfe", "is damaged"),
        (b"[" * 100_000, "is damaged"),
        (b'{"epoch": 1}', "is damaged"),
        (b'{"epoch": 1, "loss": "x", "accuracy": 0}', "is damaged"),
        (b'{"epoch": 1, "loss": NaN, "accuracy": 0}', "is damaged"),
        (b'{"epoch": 1, "loss": 1e999, "accuracy": 0}', "is damaged"),
        (b'{"epoch": 1, "loss": 1' + b"0" * 400 + b', "accuracy": 0}', "is damaged"),
    ],
    ids=lambda value: repr(value)[:50],
)
def test_damaged_metrics_are_one_line(content: bytes | None, words: str, damaged: Run) -> None:
    """With the record's checksum of them, and where an earlier version wrote none."""
    path = damaged.folder / METRICS
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    one_line(lambda: read_metrics(damaged), f"{path} {words}")
    damaged.record = replace(damaged.record, metrics_sha256=None)
    one_line(lambda: read_metrics(damaged), f"{path} {words}")


def test_other_metrics_than_the_runs_are_damage(damaged: Run) -> None:
    path = damaged.folder / METRICS
    lines = path.read_bytes().splitlines(keepends=True)
    for content in (lines[:-1], lines[::-1], [*lines, lines[-1]], [line.replace(b"1", b"2") for line in lines]):
        path.write_bytes(b"".join(content))
        one_line(lambda: read_metrics(damaged), f"{path} is damaged or not this run's", RECORD)


def test_damaged_weights_are_one_line(damaged: Run) -> None:
    path = damaged.folder / WEIGHTS
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=re.escape(f"{path} is damaged or not this model's")):
        _ = load_run(damaged.folder).network
    shutil.rmtree(damaged.folder)
