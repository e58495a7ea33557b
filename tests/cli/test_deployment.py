"""convatlas export and convatlas bench: what they print, and what a mistake is told."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from convatlas.cli.compression import beside
from convatlas.cli.deployment import print_gate
from convatlas.deployment.artefact import sums
from convatlas.deployment.manifest import MANIFEST, Manifest, PairedLoss, Precision
from convatlas.runs.run import Run


@pytest.mark.slow
def test_what_the_gate_found_is_printed(run: Run, convatlas: Callable, tmp_path: Path) -> None:
    out = tmp_path / "artefact"
    status, said, err = convatlas("export", run.folder, "--to", "onnx", "--out", out)
    assert status == 0, err
    lines = dict(line.split("  ", 1) for line in said.splitlines() if "  " in line)
    assert lines["runtime"].strip().startswith("onnxruntime")
    assert float(lines["logits differ by"].split()[0]) < 1e-5
    assert f"Try an image of your own:  convatlas predict {out} IMAGE" in said
    assert err.splitlines() == [
        "convatlas: writing the network for onnxruntime",
        "convatlas: comparing it with the model, in a process of its own",
    ]


def test_what_few_images_could_not_show_is_printed(shipped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = Manifest.read(shipped)
    loss = PairedLoss(
        images="training images", num_images=2, model_accuracy=1.0, artefact_accuracy=1.0, agreement=1.0,
        interval=(-30.0, 49.0),
    )  # fmt: skip
    for num_images in (2, 1000):
        gate = replace(manifest.gate, loss=replace(loss, num_images=num_images), num_calibration=2)
        print_gate(replace(manifest, precision=Precision.INT8, gate=gate))
        lines = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
        said = "a loss of up to 49.00 points: the images are too few for that"
        assert lines.get("not shown", "").strip() == (said if num_images == 2 else "")
        assert lines["calibrated on"].strip() == "2 other images"


def test_what_is_made_of_a_model_lies_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "v1.5").mkdir()
    (tmp_path / "net.cva").touch()
    monkeypatch.chdir(tmp_path / "v1.5")
    assert beside(Path(), "onnx-int8") == tmp_path / "v1.5-onnx-int8"
    assert beside(Path("../v1.5"), "onnx-int8") == Path("../v1.5-onnx-int8")
    assert beside(Path("../net.cva"), "onnx-int8") == Path("../net-onnx-int8")
    assert beside(Path("torchvision:resnet18"), "onnx-int8") == Path("torchvision-resnet18-onnx-int8")


def test_an_artefact_predicts_as_its_run_does(shipped: Path, finished: Callable[..., Run], convatlas: Callable) -> None:
    folder = finished("lenet5", compressed=False).folder
    own, found = (convatlas("predict", model, "docs/five.png") for model in (folder, shipped))
    assert own == found


def test_an_artefact_computes_on_the_cpu(shipped: Path, convatlas: Callable) -> None:
    status, _, err = convatlas("predict", shipped, "docs/five.png", "--device", "cpu")
    assert status == 2
    assert err == f"convatlas: {shipped} is an artefact, which computes on the CPU; leave --device out\n"


def test_a_damaged_artefact_is_one_line(shipped: Path, convatlas: Callable, tmp_path: Path) -> None:
    for name in ("artefact.json", "model.onnx", "preprocessing.onnx"):
        (tmp_path / name).write_bytes((shipped / name).read_bytes())
    (tmp_path / "model.onnx").write_bytes(b"no network")
    status, out, err = convatlas("predict", tmp_path, "docs/five.png")
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert "export the model again" in err


@pytest.mark.parametrize("verb", ["evaluate", "compress", "report", "resume"])
def test_verbs_that_need_the_model_say_so(verb: str, shipped: Path, convatlas: Callable) -> None:
    status, _, err = convatlas(verb, shipped)
    assert status == 2
    assert err.count("\n") == 1
    assert f"{shipped} is not a" in err or f"{shipped} is an artefact" in err


ALREADY = "is an artefact already, for convatlas predict and bench; name the run or model that it was exported from"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["export", "", "--to", "onnx"], ALREADY),
        (["evaluate", ""], ALREADY),
        (["resume", ""], ALREADY),
        (["predict", "artefact.json", "docs/five.png"], "is a file of an artefact; name its folder, "),
        (["predict", "model.onnx", "docs/five.png"], "is a file of an artefact; name its folder, "),
        (["bench", "model.onnx"], "is a file of an artefact; name its folder, "),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
def test_an_artefact_in_the_place_of_a_model_is_named(
    words: list[str], message: str, shipped: Path, convatlas: Callable
) -> None:
    verb, name, *rest = words
    status, out, err = convatlas(verb, shipped / name, *rest)
    assert (status, out) == (2, "")
    assert err == f"convatlas: {shipped / name} {message}{shipped if 'folder' in message else ''}\n"


@pytest.mark.parametrize("words", [["predict", "docs/five.png"], ["bench"], ["evaluate"]], ids=lambda words: words[0])
def test_an_artefact_that_lost_its_manifest_is_named(
    words: list[str], shipped: Path, convatlas: Callable, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(shipped, tmp_path / "artefact"))
    (folder / MANIFEST).unlink()
    status, out, err = convatlas(words[0], folder, *words[1:])
    assert (status, out) == (2, "")
    assert err == f"convatlas: {folder} is an artefact without its artefact.json; export the model again\n"


def test_bench_prints_a_row_a_batch(shipped: Path, as_json: Callable, convatlas: Callable, tmp_path: Path) -> None:
    plots = tmp_path / "plots"
    status, out, _ = convatlas("bench", shipped, "--batch", "1,2", "--rounds", 1, "--threads", 1, "--plots", plots)
    assert status == 0
    assert out.splitlines()[0].split()[:4] == ["engine", "precision", "batch", "p50"]
    assert out.count("ONNX Runtime") == 2
    assert {path.name for path in plots.iterdir()} == {"latency.svg", "size.svg"}
    (one,) = as_json("bench", shipped, "--rounds", 1, "--threads", 1)["measurements"]
    assert (one["engine"], one["batch_size"], one["threads"]) == ("ONNX Runtime", 1, 1)


def test_figures_are_printed_before_anything_is_drawn(shipped: Path, convatlas: Callable, tmp_path: Path) -> None:
    (tmp_path / "plots").touch()
    words = ("--rounds", 1, "--threads", 1, "--quiet", "--plots", tmp_path / "plots")
    status, out, err = convatlas("bench", shipped, *words)
    assert (status, err.count("\n")) == (2, 1)
    assert "ONNX Runtime" in out


def test_an_engine_that_fails_is_a_line(shipped: Path, convatlas: Callable, as_json: Callable, tmp_path: Path) -> None:
    other = tmp_path / "broken"
    shutil.copytree(shipped, other)
    (other / "model.onnx").write_bytes(b"\x0a\x00no network")
    (other / MANIFEST).write_bytes(replace(Manifest.read(other), files=sums(other)).to_json())
    words = ("bench", other, shipped, "--rounds", 1, "--threads", 1)
    status, out, err = convatlas(*words, "--quiet")
    assert (status, err) == (0, "")
    assert f"\nleft out: ONNX Runtime in float32 fails on {other}: " in out
    (failed,) = as_json(*words)["failed"]
    assert failed["why"]
    assert (failed["model"], failed["engine"], failed["precision"]) == (str(other), "ONNX Runtime", "float32")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["export"], "say which runtime it is for with --to, onnx or openvino, or find the --fastest"),
        (["export", "--to", "onyx"], "--to 'onyx' is unknown; it must be one of onnx, openvino"),
        (["export", "--fastest", "--precision", "int8"], "--fastest finds the precision too; leave --precision out"),
        (["export", "--to", "onnx", "--max-loss", "-1"], "--max-loss -1 does not work"),
        (["bench", "--batch", "a"], "--batch 'a' does not work; it takes sizes such as 1,8"),
        (["bench", "--batch", "0"], "--batch takes sizes from 1 on, as 1,8"),
        (["bench", "--threads", "0"], "--threads 0 does not work; it must be at least 1"),
        (["bench", "--rounds", "0"], "--rounds 0 does not work; it must be at least 1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line(words: list[str], message: str, run: Run, convatlas: Callable) -> None:
    status, out, err = convatlas(words[0], run.folder, *words[1:])
    assert (status, out) == (2, "")
    assert err.startswith(f"convatlas: {message}")
    assert err.count("\n") == 1
