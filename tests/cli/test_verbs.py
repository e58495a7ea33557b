import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

import convatlas as ca
from convatlas.runs.run import Run


@pytest.fixture
def five(tmp_path: Path) -> Path:
    """A 5 in dark ink on a light page, as a person would draw it."""
    page = Image.new("RGB", (320, 240), (240, 238, 230))
    pen = ImageDraw.Draw(page)
    pen.line([(196, 48), (138, 48), (134, 112)], fill=(20, 20, 60), width=15, joint="curve")
    pen.arc([118, 100, 200, 190], start=-125, end=140, fill=(20, 20, 60), width=15)
    page.save(tmp_path / "five.jpg")
    return tmp_path / "five.jpg"


def test_train_prints_a_table_on_one_side_and_progress_on_the_other(convatlas: Callable, tmp_path: Path) -> None:
    answer = convatlas("train", "lenet1", "--epochs", 2, "--out", tmp_path / "run")
    assert answer.status == 0
    for fact in ("test accuracy", "95 % interval", "training time", "parameters     2,578", "MACs           91,520"):
        assert fact in answer.out
    assert "epoch 1/2" in answer.err
    assert "epoch 2/2" in answer.err
    assert "epoch" not in answer.out.replace("2 epochs", "")


def test_train_as_json_is_one_object_and_quiet_says_nothing(convatlas: Callable, tmp_path: Path) -> None:
    answer = convatlas("train", "lenet1", "--epochs", 1, "--out", tmp_path / "run", "--json", "--quiet")
    values = json.loads(answer.out)
    assert answer.err == ""
    assert 0 <= values["test_accuracy"] <= 1
    assert values["run"] == str(tmp_path / "run")
    assert values["test_accuracy"] == ca.load(tmp_path / "run").test_accuracy


def test_resume_of_a_finished_run_shows_its_table(convatlas: Callable, run: Run) -> None:
    answer = convatlas("resume", run.folder, "--json")
    assert json.loads(answer.out)["weights_sha256"] == run.results.weights_sha256


def test_evaluate_gives_the_accuracy_of_training_again(convatlas: Callable, run: Run) -> None:
    values = json.loads(convatlas("evaluate", run.folder, "--json").out)
    assert values["test_accuracy"] == run.test_accuracy
    assert np.array(values["confusion"]).trace() == values["test_images"] - values["test_errors"]
    table = convatlas("evaluate", run.folder).out
    assert f"{100 * run.test_accuracy:.2f} %" in table
    assert "most often taken for" in table


@pytest.mark.gpu
def test_evaluate_gives_the_same_on_a_gpu(run: Run) -> None:
    assert run.evaluate("cuda").accuracy == pytest.approx(run.evaluate("cpu").accuracy, abs=0.01)
    assert next(run.network.parameters()).device.type == "cpu"


def test_predict_reads_a_persons_own_drawing(convatlas: Callable, run: Run, five: Path) -> None:
    answer = convatlas("predict", run.folder, five)
    assert answer.status == 0
    assert answer.out.splitlines()[1].split()[1] == "5"


def test_predict_as_json_has_five_probabilities_that_fall(convatlas: Callable, run: Run, five: Path) -> None:
    (prediction,) = json.loads(convatlas("predict", run.folder, five, "--json").out)["predictions"]
    assert prediction["classes"][0] == "5"
    assert len(prediction["probabilities"]) == 5
    assert prediction["probabilities"] == sorted(prediction["probabilities"], reverse=True)
    assert sum(prediction["probabilities"]) <= 1.0001


def test_predict_as_csv_takes_folders_and_awkward_names(convatlas: Callable, run: Run, five: Path) -> None:
    folder = five.parent / "more, of them"
    folder.mkdir()
    for name in ('a "b".png', "[red].png"):
        Image.open(five).save(folder / name)
    rows = list(csv.DictReader(io.StringIO(convatlas("predict", run.folder, folder, five, "--csv").out)))
    assert [Path(row["image"]).name for row in rows] == ["[red].png", 'a "b".png', "five.jpg"]
    assert {row["class_1"] for row in rows} == {"5"}
    assert 0.2 < float(rows[0]["probability_1"]) <= 1


def test_one_bad_image_does_not_cost_the_answers_for_the_others(convatlas: Callable, run: Run, five: Path) -> None:
    bad = five.parent / "bad.jpg"
    bad.write_bytes(five.read_bytes()[:900])
    answer = convatlas("predict", run.folder, bad, five)
    assert answer.status == 2
    assert "bad.jpg" in answer.err
    assert len(answer.err.splitlines()) == 1
    assert "five.jpg" in answer.out
