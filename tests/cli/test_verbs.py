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
    assert json.loads(answer.out)["weights_sha256"] == run.card.weights_sha256


def test_evaluate_gives_the_accuracy_of_training_again(convatlas: Callable, run: Run) -> None:
    values = json.loads(convatlas("evaluate", run.folder, "--json").out)
    assert values["model"] == str(run.folder)
    assert values["test_accuracy"] == run.test_accuracy
    assert np.array(values["confusion"]).trace() == values["test_images"] - values["test_errors"]
    table = convatlas("evaluate", run.folder).out
    assert f"{100 * run.test_accuracy:.2f} %" in table
    assert "most often mistaken for" in table


@pytest.mark.gpu
def test_evaluate_gives_the_same_on_a_gpu(run: Run) -> None:
    assert run.evaluate(device="cuda").accuracy == pytest.approx(run.evaluate(device="cpu").accuracy, abs=0.01)
    assert next(run.network.parameters()).device.type == "cpu"


def test_predict_reads_a_persons_own_drawing(convatlas: Callable, run: Run, five: Path) -> None:
    answer = convatlas("predict", run.folder, five)
    assert answer.status == 0
    assert answer.out.splitlines()[1].split()[1] == "5"


def test_predict_as_json_has_five_probabilities_that_fall(convatlas: Callable, run: Run, five: Path) -> None:
    (prediction,) = json.loads(convatlas("predict", run.folder, five, "--json").out)["predictions"]
    assert prediction["image"] == str(five)
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


def test_no_name_in_csv_is_a_formula(
    convatlas: Callable, run: Run, five: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = ["=1+1.png", "+1.png", "@sum.png", " =1.png", "a=1.png"]
    for name in names:
        Image.open(five).save(name)
    rows = list(csv.DictReader(io.StringIO(convatlas("predict", run.folder, *names, "--csv").out)))
    assert [row["image"] for row in rows] == ["'=1+1.png", "'+1.png", "'@sum.png", "' =1.png", "a=1.png"]


def test_one_bad_image_does_not_cost_the_predictions_for_the_others(convatlas: Callable, run: Run, five: Path) -> None:
    bad = five.parent / "bad.jpg"
    bad.write_bytes(five.read_bytes()[:900])
    answer = convatlas("predict", run.folder, bad, five)
    assert answer.status == 2
    assert "bad.jpg" in answer.err
    assert len(answer.err.splitlines()) == 1
    assert "five.jpg" in answer.out


# A model without a run, and every option of training.


def test_a_model_folder_and_a_file_are_used_as_the_run_is(
    convatlas: Callable, as_json: Callable, run: Run, five: Path, tmp_path: Path
) -> None:
    expected = as_json("evaluate", run.folder)
    answer = convatlas("predict", run.folder, five)
    for path in (tmp_path / "model", tmp_path / "model.cva"):
        run.model.save(path)
        assert as_json("evaluate", path) == expected | {"model": str(path)}
        assert convatlas("predict", path, five) == answer


def photographs(root: Path) -> Path:
    for part, num in (("train", 6), ("test", 3)):
        for shade, name in ((40, "dark"), (220, "light")):
            (root / part / name).mkdir(parents=True)
            for number in range(num):
                Image.new("RGB", (40, 36), (shade + number,) * 3).save(root / part / name / f"{number}.png")
    return root


def test_a_model_of_an_image_folder_is_evaluated_where_the_folder_is_named(
    convatlas: Callable, as_json: Callable, tmp_path: Path
) -> None:
    data = photographs(tmp_path / "images")
    out = tmp_path / "run"
    options = ("--resolution", 28, "--epochs", 1, "--no-autotune", "--quiet")
    assert convatlas("train", "lenet1", "--data", data, "--out", out, *options).status == 0
    run = ca.load(out)
    assert isinstance(run, Run)
    run.model.save(tmp_path / "model.cva")
    status, printed, err = convatlas("evaluate", tmp_path / "model.cva")
    assert (status, printed, len(err.splitlines())) == (2, "", 1)
    assert "image folder images, whose place is not known; name the folder with --data" in err
    expected = run.evaluate().confusion.tolist()
    for model in (out, tmp_path / "model.cva"):
        assert as_json("evaluate", model, "--data", data)["confusion"] == expected
    status, _, err = convatlas("evaluate", tmp_path / "model.cva", "--data", data / "train")
    assert (status, len(err.splitlines())) == (2, 1)


def test_predict_computes_where_it_is_told(convatlas: Callable, run: Run, five: Path) -> None:
    assert convatlas("predict", run.folder, five, "--device", "cpu") == convatlas("predict", run.folder, five)
    status, out, err = convatlas("predict", run.folder, five, "--device", "abacus")
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert "there is no device 'abacus'" in err


def test_every_option_of_training_is_in_the_record(convatlas: Callable, run: Run, tmp_path: Path) -> None:
    teacher = tmp_path / "teacher.cva"
    run.model.save(teacher)
    options = [
        *("--epochs", 1, "--batch-size", 90, "--lr", 0.003, "--seed", 3, "--class-weights", "balanced"),
        *("--width", 0.5, "--depth", 1, "--resolution", 30, "--val-split", 0.2, "--patience", 2),
        *("--teacher", teacher, "--temperature", 3, "--distill-weight", 0.25, "--attention-weight", 10),
        *("--device", "cpu", "--no-autotune", "--micro-batch", 45, "--checkpoint-steps", 4, "--quiet"),
    ]
    out = tmp_path / "run"
    status, _, err = convatlas("train", "lenet5-modern", "--out", out, *options)
    assert (status, err) == (0, "")
    trained = ca.load(out)
    assert isinstance(trained, Run)
    record, recipe = trained.record, trained.record.recipe
    assert (recipe.epochs, recipe.batch_size, recipe.lr, record.seed) == (1, 90, 0.003, 3)
    assert record.scale == ca.Scale(width=0.5, depth=1, resolution=30)
    assert record.class_weights == "balanced"
    assert record.validation == ca.Validation(val_split=0.2, patience=2)
    assert record.distillation == ca.Distillation(
        teacher=str(teacher), temperature=3, distill_weight=0.25, attention_weight=10
    )
    assert record.runtime == ca.Runtime(device="cpu", autotune=False, micro_batch=45, checkpoint_steps=4)
    assert record.init_from is None


@pytest.mark.parametrize("suffix", ["", ".cva"])
def test_training_starts_from_a_model_too(suffix: str, convatlas: Callable, run: Run, tmp_path: Path) -> None:
    before = tmp_path / f"before{suffix}"
    run.model.save(before)
    options = ("--from", before, "--freeze", "--epochs", 1, "--no-autotune", "--quiet")
    status, _, err = convatlas("train", "lenet5-modern", "--out", tmp_path / "run", *options)
    assert (status, err) == (0, "")
    trained = ca.load(tmp_path / "run")
    assert isinstance(trained, Run)
    assert trained.record.init_from == ca.InitFrom(path=str(before), freeze=True)


@pytest.mark.parametrize("verb", ["train", "resume", "find-lr", "evaluate", "report", "predict", "compress", "unpack"])
def test_help_says_what_each_option_does(verb: str, convatlas: Callable) -> None:
    status, out, err = convatlas(verb, "--help")
    assert (status, err) == (0, "")
    from typer.main import get_command

    from convatlas.cli.app import app

    for option in get_command(app).commands[verb].params:  # type: ignore[attr-defined]
        assert getattr(option, "help", None), option.name
        assert option.opts[0] in out or option.name.upper() in out or str(option.metavar) in out
