"""convatlas compress, unpack and update, and the other verbs on a compressed file."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from convatlas.cli.compression import about_latencies, engine_of
from convatlas.runs.run import Run

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.slow
def test_a_model_becomes_one_small_file_that_is_used_and_updated(
    convatlas: Callable[..., Any], as_json: Callable[..., dict[str, Any]], run: Run, tmp_path: Path
) -> None:
    small = tmp_path / "small"
    given = ["--rounds", 1, "--bits", 4, "--epochs", 3, "--quiet", "--teacher", run.folder]
    status, out, err = convatlas("compress", run.folder, "--to", "14 KB", "--out", small, *given)
    assert (status, err) == (0, "")
    rows = [line.split() for line in out.splitlines() if line]
    assert [row[0] for row in rows[1:6]] == ["original", "pruned-1", "pruned-1-tuned", "shared", "shared-tuned"]
    file = small / "model.cva"
    facts = [
        f"model     {small}",
        f"one file  {file} ({file.stat().st_size / 1024:.1f} KiB)",
        f"stages    {small / 'stages'}",
    ]
    assert "\n".join(facts) in out
    assert file.stat().st_size <= 14_000
    again = as_json("compress", run.folder, "--to", "14 KB", "--out", small, *given)
    assert {name: again[name] for name in ("model", "file", "stages_folder")} == {
        "model": str(small),
        "file": str(file),
        "stages_folder": str(small / "stages"),
    }

    # The folder and the file are the same model to every verb.
    evaluation = as_json("evaluate", file)
    assert (evaluation["model"], evaluation["test_images"]) == (str(file), 355)
    assert as_json("evaluate", small) == evaluation | {"model": str(small)}
    page = Image.new("L", (28, 28), 255)
    page.paste(0, (13, 4, 16, 24))
    page.save(tmp_path / "one.png")
    of_both = [convatlas("predict", model, tmp_path / "one.png") for model in (small, file)]
    assert of_both[0] == of_both[1]
    assert (of_both[0].status, of_both[0].err) == (0, "")
    status, _, err = convatlas("report", file)
    assert (status, err.count("\n")) == (2, 1)
    assert f"{file} is a model without the record of its training" in err

    # A model folder made of the file is used like the file.
    status, out, err = convatlas("unpack", file)
    assert (status, out, err) == (0, f"{small / 'model'}\n", "")
    assert {path.name for path in (small / "model").iterdir()} == {"README.md", "model.json", "weights.safetensors"}
    assert as_json("evaluate", small / "model")["test_accuracy"] == evaluation["test_accuracy"]
    status, out, err = convatlas("unpack", file)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "holds something already" in err

    new, update, made = tmp_path / "again.cva", tmp_path / "to-again.cvu", tmp_path / "made.cva"
    status, out, err = convatlas("compress", small, "--to", "13 KB", "--out", new, *given[:-2])
    assert (status, err) == (0, "")
    assert f"\nmodel   {new} ({new.stat().st_size / 1024:.1f} KiB)\nstages  {tmp_path / 'again.stages'}\n" in out
    assert as_json("update", file, new, "--out", update) == {"file": str(update), "bytes": update.stat().st_size}
    status, out, err = convatlas("update", file, update, "--out", made)
    assert (status, err) == (0, "")
    assert made.read_bytes() == new.read_bytes()
    status, out, err = convatlas("update", new, update, "--out", made)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "updates another file than" in err


def test_the_smaller_model_lies_beside_the_run_whatever_its_name(
    convatlas: Callable[..., Any], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(run.folder, tmp_path / "lenet5-v1.5")
    monkeypatch.chdir(tmp_path / "lenet5-v1.5")
    given = ("--prune", 0.2, "--rounds", 1, "--epochs", 1, "--importance", "magnitude", "--quiet")
    assert convatlas("compress", ".", *given).status == 0
    assert convatlas("evaluate", tmp_path / "lenet5-v1.5-compressed").status == 0
    assert convatlas("compress", ".", *given[:2], "--out", "smaller").err.count("is, holds or lies in the model") == 1


def test_latencies_say_what_they_are_of() -> None:
    (line,) = about_latencies(engine_of("onnx"), compiled=False, quantized=False)
    assert line == "The target is measured in ONNX Runtime; the latencies above are those in PyTorch."
    assert list(about_latencies(None, compiled=False, quantized=False)) == []


def test_mistakes_are_one_line(convatlas: Callable[..., Any], run: Run, tmp_path: Path) -> None:
    for arguments, message in (
        (("compress", run.folder, "--to", "tiny"), "'tiny' is not a target"),
        (
            ("compress", run.folder, "--to", "5 ms", "--importance", "luck"),
            "'luck' is unknown; choose magnitude, taylor",
        ),
        (("compress", tmp_path, "--to", "5 ms"), "is not a run or model folder: it has no run.json and no model.json"),
        (("compress", tmp_path / "nothing", "--to", "5 ms"), "there is no "),
        (("compress", run.folder, "--bits", 4, "--data", tmp_path / "none"), "there is no folder"),
        (("unpack", tmp_path / "nothing"), "there is no file"),
        (("unpack", tmp_path), "there is no file"),
        (("update", tmp_path / "a", tmp_path / "b", "--out", tmp_path / "c"), "there is no"),
    ):
        status, out, err = convatlas(*arguments)
        assert (status, out, err.count("\n")) == (2, "", 1), arguments
        assert message in err
