import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from convatlas.files.sealed_json import unsealed
from convatlas.runs.run import Run


@pytest.fixture
def copy(run: Run, tmp_path: Path) -> Path:
    """A finished run that a test may change."""
    shutil.copytree(run.folder, tmp_path / "copy")
    return tmp_path / "copy"


def test_report_prints_the_path_of_its_page_and_nothing_else(convatlas: Callable, copy: Path) -> None:
    assert convatlas("report", copy) == (0, f"{copy / 'report.html'}\n", "")
    page = (copy / "report.html").read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert page.endswith("</html>\n")


def test_report_writes_to_the_file_it_is_given(convatlas: Callable, copy: Path, tmp_path: Path) -> None:
    out = tmp_path / "a page.html"
    assert convatlas("report", copy, "--out", out) == (0, f"{out}\n", "")
    assert out.exists()
    assert not (copy / "report.html").exists()


def test_report_as_json_has_the_figures_of_the_page(as_json: Callable, run: Run, copy: Path) -> None:
    values = as_json("report", copy)
    assert values["run"] == str(copy)
    assert values["report"] == str(copy / "report.html")
    assert values["test_accuracy"] == pytest.approx(run.test_accuracy)
    assert values["test_interval"] == pytest.approx(run.score.interval)
    assert values["test_images"] == run.score.num_images
    assert 0 <= values["ece"] <= 1
    assert values["test_accuracy"] == pytest.approx(values["mean_confidence"], abs=values["ece"] + 1e-9)
    assert values["nll"] > 0
    classes = values["classes"]
    assert [row["class"] for row in classes] == list("0123456789")
    correct = sum(row["recall"] * row["images"] for row in classes)
    assert correct == pytest.approx(run.score.num_images - run.score.num_errors)
    for row in classes:
        assert set(row) == {"class", "images", "recall", "precision", "f1", "confused_with"}
        assert (row["confused_with"] is None) == (row["recall"] == 1)
    assert f"{100 * values['ece']:.2f} %" in (copy / "report.html").read_text()


def is_one_clear_line(answer: tuple[int, str, str], *words: str) -> None:
    status, out, err = answer
    assert (status, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert err.startswith("convatlas: ")
    assert all(word in err for word in words), err


def test_a_run_that_is_not_finished_or_no_run_is_one_line(convatlas: Callable, copy: Path) -> None:
    values = unsealed(json.loads((copy / "run.json").read_text()))
    (copy / "run.json").write_text(json.dumps(values | {"results": None}))
    is_one_clear_line(convatlas("report", copy), "is not finished", f"convatlas resume {copy}")
    is_one_clear_line(convatlas("report", copy / "nowhere"), "there is no ")


def test_data_that_is_gone_or_has_changed_is_one_line(convatlas: Callable, copy: Path, tmp_path: Path) -> None:
    values = unsealed(json.loads((copy / "run.json").read_text()))
    (copy / "run.json").write_text(json.dumps(values | {"data": str(tmp_path / "gone")}))
    is_one_clear_line(convatlas("report", copy), "gone")
    (copy / "run.json").write_text(json.dumps(values))
    card = unsealed(json.loads((copy / "model.json").read_text()))
    card["provenance"]["data_checksum"] = "0" * 64
    (copy / "model.json").write_text(json.dumps(card))
    is_one_clear_line(convatlas("report", copy), "are not, or no longer, those that")


def test_a_model_without_a_run_is_one_line(convatlas: Callable, run: Run, tmp_path: Path) -> None:
    for path in (tmp_path / "model", tmp_path / "model.cva"):
        run.model.save(path)
        answer = convatlas("report", path)
        is_one_clear_line(answer, f"{path} is a model without the record of its training: it has no run.json")


def test_a_page_that_cannot_be_written_is_one_line(convatlas: Callable, copy: Path, tmp_path: Path) -> None:
    is_one_clear_line(convatlas("report", copy, "--out", tmp_path / "no" / "page.html"), "there is no folder")
    (tmp_path / "folder").mkdir()
    is_one_clear_line(convatlas("report", copy, "--out", tmp_path / "folder"), str(tmp_path / "folder"))
