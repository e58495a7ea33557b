"""From a run to a folder that predicts without torch, and the ways that do not lead there."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from PIL import Image

import convatlas as ca
import convatlas.deployment.export
from convatlas.data import Split
from convatlas.deployment.artefact import sums
from convatlas.deployment.bench import bench, engines_of, of_artefact, pareto_charts
from convatlas.deployment.engine_process import EngineError
from convatlas.deployment.export import Tried, export, export_fastest, timed
from convatlas.deployment.gate import Gate
from convatlas.deployment.int8 import quantize
from convatlas.deployment.manifest import (
    MANIFEST,
    PAGE,
    REQUIREMENTS,
    SCRIPT,
    Manifest,
    PairedLoss,
    Precision,
    RuntimeName,
)
from convatlas.deployment.predictor import LOGITS, Artefact
from convatlas.deployment.samples import as_files, draw_samples, for_calibration, some
from convatlas.errors import UserError
from convatlas.files import SILENT, LockedError, lock
from convatlas.images import ImageError, Interpolation, decode
from convatlas.models.card import Imported
from convatlas.models.model import Model
from convatlas.runs.run import Run

WITHOUT_TORCH = """
import importlib.abc, sys

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Blocked())
"""


@pytest.fixture(scope="module")
def run(finished: Callable[..., Run]) -> Run:
    return finished("lenet5", compressed=False)


@pytest.fixture(scope="module")
def folder(shipped: Path) -> Path:
    return shipped


def in_process(code: str, *arguments: object, blocked: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run code in a process in which some packages are not installed."""
    whole = WITHOUT_TORCH.replace("{blocked}", repr(set(blocked))) + code
    command = [sys.executable, "-P", "-c", whole, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


COMMAND = "from convatlas.cli import main; sys.argv = ['convatlas', *sys.argv[1:]]; main()"


def test_the_folder_holds_what_it_takes_and_nothing_else(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [MANIFEST, PAGE, REQUIREMENTS, SCRIPT, "model.onnx", "preprocessing.onnx"]
    )
    manifest = Manifest.read(folder)
    manifest.check_files(folder)
    assert manifest.reframes_ink
    assert manifest.outputs == ("c1", "f6")


def test_an_artefact_predicts_what_the_model_predicts(run: Run, folder: Path, drawings: list[Path]) -> None:
    artefact = Artefact.open(folder)
    for own, found in zip(run.predict(drawings), artefact.predict(drawings), strict=True):
        assert found.path == own.path
        assert found.classes == own.classes
        assert found.probabilities == pytest.approx(own.probabilities, abs=1e-5)


def test_its_feature_maps_are_the_networks(run: Run, folder: Path, drawings: list[Path]) -> None:
    artefact = Artefact.open(folder)
    prepared = artefact.prepare(drawings[0])
    found = artefact.network.run(prepared)
    with torch.inference_mode():
        logits, maps = ca.features(run.network, ["c1", "f6"]).with_output(torch.from_numpy(prepared))
    assert found[LOGITS] == pytest.approx(logits.numpy(), abs=1e-4)
    for name, expected in maps.items():
        assert np.abs(found[name] - expected.numpy()).max() < 1e-5


def test_the_command_predicts_with_it_without_torch(run: Run, folder: Path, drawings: list[Path]) -> None:
    blocked = ("torch", "onnx", "onnxscript", "nncf", "openvino")
    ended = in_process(COMMAND, "predict", folder, *drawings, "--json", blocked=blocked)
    assert ended.stderr == ""
    answers = json.loads(ended.stdout)["predictions"]
    assert [one["classes"][0] for one in answers] == [own.classes[0] for own in run.predict(drawings)]


def test_a_file_of_it_is_named_without_torch(folder: Path) -> None:
    ended = in_process(COMMAND, "predict", folder / "model.onnx", "docs/five.png", blocked=("torch",))
    assert ended.stderr == f"convatlas: {folder / 'model.onnx'} is a file of an artefact; name its folder, {folder}\n"


def test_the_script_predicts_with_its_two_packages(run: Run, folder: Path, drawings: list[Path]) -> None:
    blocked = ("torch", "convatlas", "onnx", "typer", "rich", "safetensors")
    code = "import runpy; path = sys.argv.pop(1); runpy.run_path(path, run_name='__main__')"
    ended = in_process(code, folder / SCRIPT, *drawings, blocked=blocked)
    assert ended.stderr == ""
    lines = ended.stdout.splitlines()
    for line, own in zip(lines, run.predict(drawings), strict=True):
        assert line.startswith(f"{own.path}: {own.classes[0]} {100 * own.probabilities[0]:.1f} %, {own.classes[1]}")


def test_the_script_says_in_a_line_what_it_cannot_read(folder: Path, tmp_path: Path) -> None:
    blank, text = tmp_path / "blank.png", tmp_path / "text.png"
    Image.new("L", (40, 40), 255).save(blank)
    text.write_text("no image")
    for path, said in ((blank, "blank: there is no ink on it to read"), (text, "cannot identify image file")):
        ended = subprocess.run([sys.executable, folder / SCRIPT, path], capture_output=True, text=True)
        assert ended.returncode == 1
        assert ended.stderr.startswith(f"{path}: {said}")
        assert "Traceback" not in ended.stderr


def test_the_script_goes_on_after_what_it_cannot_read(folder: Path, drawings: list[Path], tmp_path: Path) -> None:
    missing = tmp_path / "missing.png"
    given = [drawings[0], missing, drawings[1]]
    ended = subprocess.run([sys.executable, folder / SCRIPT, *given], capture_output=True, text=True)
    assert ended.returncode == 1
    assert [line.partition(": ")[0] for line in ended.stdout.splitlines()] == [str(drawings[0]), str(drawings[1])]
    assert ended.stderr.startswith(f"{missing}: ")
    assert ended.stderr.count("\n") == 1
    ended = subprocess.run([sys.executable, folder / SCRIPT, "--json", *given], capture_output=True, text=True)
    assert ended.returncode == 1
    assert [one["image"] for one in json.loads(ended.stdout)["predictions"]] == [str(drawings[0]), str(drawings[1])]


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


@pytest.mark.parametrize("damage", [Path.unlink, shorten])
@pytest.mark.parametrize("name", [MANIFEST, "model.onnx"])
def test_the_script_in_a_damaged_folder_says_a_line(
    name: str, damage: Callable[[Path], None], folder: Path, tmp_path: Path
) -> None:
    copied = Path(shutil.copytree(folder, tmp_path / "artefact"))
    damage(copied / name)
    ended = subprocess.run([sys.executable, copied / SCRIPT, "docs/five.png"], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith(f"{copied} is damaged or incomplete; export the model again: ")
    assert ended.stderr.count("\n") == 1


def test_the_script_says_how_it_is_called(folder: Path) -> None:
    for words in ([], ["--json"]):
        ended = subprocess.run([sys.executable, folder / SCRIPT, *words], capture_output=True, text=True)
        assert (ended.returncode, ended.stdout) == (2, "")
        assert ended.stderr == "Classify images: python predict.py IMAGE...  (--json for programs)\n"


def test_the_script_reads_no_image_that_would_fill_the_memory(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    Image.new("1", (20_000, 20_000)).save(path)
    ended = subprocess.run([sys.executable, folder / SCRIPT, path], capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"{path}: Image size (400000000 pixels) exceeds limit")
    assert ended.stderr.count("\n") == 1


def test_images_that_cannot_be_used_are_named(folder: Path, drawings: list[Path], tmp_path: Path) -> None:
    artefact, failed = Artefact.open(folder), list[ImageError]()
    missing = tmp_path / "missing.png"
    found = artefact.predict([drawings[0], missing], on_error=failed.append)
    assert len(found) == 1
    assert [error.path for error in failed] == [missing]
    with pytest.raises(ImageError):
        artefact.predict([missing])


def test_a_network_with_other_outputs_than_it_says_is_one_line(folder: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(folder, tmp_path / "artefact"))
    manifest = Manifest.read(copied)
    (copied / MANIFEST).write_bytes(replace(manifest, outputs=("c9",)).to_json())
    with pytest.raises(UserError, match=r"have other outputs than its artefact\.json says; export it again$"):
        Artefact.open(copied)
    fewer = replace(manifest.card, classes=manifest.card.classes[:9], spec={**manifest.card.spec, "num_classes": 9})
    (copied / MANIFEST).write_bytes(replace(manifest, card=fewer).to_json())
    with pytest.raises(UserError, match=r"gives \(1, 10\), and there are 9 classes"):
        Artefact.open(copied).predict(["docs/five.png"])


def test_a_network_that_gives_other_things_than_numbers_is_one_line(folder: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(folder, tmp_path / "artefact"))
    whole = onnx.load(copied / "model.onnx")
    for make in (
        helper.make_node("Cast", ["softmax"], ["probabilities"], to=TensorProto.DOUBLE),
        helper.make_node("SequenceConstruct", ["softmax"], ["probabilities"]),
    ):
        network = copy.deepcopy(whole)
        for node in network.graph.node:
            node.output[:] = ["softmax" if name == "probabilities" else name for name in node.output]
        network.graph.node.append(make)
        given = next(output for output in network.graph.output if output.name == "probabilities")
        double = helper.make_tensor_type_proto(TensorProto.DOUBLE, None)
        single = helper.make_tensor_type_proto(TensorProto.FLOAT, None)
        given.type.CopyFrom(double if make.op_type == "Cast" else helper.make_sequence_type_proto(single))
        onnx.save(network, copied / "model.onnx")
        (copied / MANIFEST).write_bytes(replace(Manifest.read(copied), files=sums(copied)).to_json())
        with pytest.raises(UserError, match="gives no probabilities in float32"):
            Artefact.open(copied).predict(["docs/five.png"])


# --- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"to": "onyx"}, "`to` 'onyx' is unknown; it must be one of onnx, openvino"),
        ({"precision": "int4"}, "`precision` 'int4' is unknown"),
        ({"precision": "bfloat16"}, "ONNX Runtime does not compute in bfloat16"),
        ({"outputs": ["c9"]}, "there is no layer 'c9'"),
        ({"outputs": ["c1", "c1"]}, "`outputs` names a layer twice"),
        ({"max_loss": -1}, "`max_loss` -1 does not work"),
        ({"data": "no-such-set"}, "no-such-set"),
    ],
    ids=str,
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    arguments: dict[str, object], message: str, run: Run, tmp_path: Path
) -> None:
    out = tmp_path / "artefact"
    with pytest.raises(UserError) as error:
        export(run, **{"to": "onnx", "out": out, **arguments})  # type: ignore[arg-type]
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("to", "outputs", "missing", "message"),
    [
        (None, ("c9",), None, "there is no layer 'c9'"),
        ("openvino", (), "openvino", "this needs openvino: pip install 'convatlas[openvino]'"),
        (None, (), "onnxscript", "this needs onnxscript: pip install 'convatlas[onnx]'"),
    ],
    ids=["layer", "runtime", "package"],
)
def test_a_mistake_is_not_taken_for_a_refusal_of_all(
    to: str | None,
    outputs: tuple[str, ...],
    missing: str | None,
    message: str,
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if missing is not None:
        # To Python it is not installed then.
        monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        export_fastest(run, tmp_path / "artefact", to=to, outputs=outputs)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_not_taken_for_a_refusal(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_a_full_disk(*_: object) -> None:
        raise UserError("model.xml cannot be written: no space left")

    monkeypatch.setattr(convatlas.deployment.export, "write_artefact", on_a_full_disk)
    with pytest.raises(UserError, match=r"^model\.xml cannot be written"):
        export_fastest(run, tmp_path / "artefact")
    assert list(tmp_path.iterdir()) == []


def test_one_that_cannot_be_timed_leaves_the_others(folder: Path, tmp_path: Path) -> None:
    other = broken(folder, tmp_path / "broken")
    passed = Tried(runtime=RuntimeName.ONNX, precision=Precision.FLOAT32, latency_ms=None, refused="")
    found = timed({other: passed, folder: passed}, SILENT)
    assert (found[folder].latency_ms or 0) > 0
    assert found[folder].refused == ""
    assert found[other].latency_ms is None
    assert found[other].refused.startswith("it cannot be timed: ")


def test_a_folder_that_holds_something_is_left_alone(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(UserError, match="holds something already"):
        export(run, "onnx", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_place_where_no_folder_can_be_put_is_refused_at_first(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, hidden, link = tmp_path / "here", tmp_path / "hidden", tmp_path / "link"
    for folder in (here, hidden):
        folder.mkdir()
    (hidden / ".mine").touch()
    link.symlink_to(here)
    monkeypatch.chdir(here)
    for out, message in ((".", "or where you are"), (link, "is a link"), (hidden, "holds something already")):
        with pytest.raises(UserError, match=message):
            export(run, "onnx", out)
    assert {path.name for path in tmp_path.rglob("*")} == {"here", "hidden", "link", ".mine"}


def test_what_another_process_makes_there_stays(run: Run, tmp_path: Path) -> None:
    stage = tmp_path / ".artefact.part"
    with lock(stage):
        (stage / "artefact").mkdir()
        with pytest.raises(LockedError):
            export(run, "onnx", tmp_path / "artefact")
        assert (stage / "artefact").is_dir()


@pytest.mark.parametrize("interpolation", [Interpolation.NEAREST, Interpolation.BOX])
def test_an_interpolation_without_a_graph_is_refused_at_first(
    interpolation: Interpolation, run: Run, tmp_path: Path, with_preprocessing: Callable[..., Model]
) -> None:
    model, out = with_preprocessing(run.model, interpolation=interpolation), tmp_path / "artefact"
    for to_export in (lambda: export(model, "onnx", out, data="none"), lambda: export_fastest(model, out, data="none")):
        with pytest.raises(UserError, match=f"^{interpolation} interpolation is not exported"):
            to_export()


def as_imported(model: Model) -> Model:
    provenance = replace(model.card.provenance, imported=Imported(weights="lib:net", sha256="0" * 64))
    return Model(replace(model.card, provenance=provenance), load_network=model.load_network)


def labeled(folder: Path, classes: tuple[str, ...], num: int) -> Path:
    for number, name in enumerate(classes):
        for i in range(num):
            path = folder / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.random.default_rng((number, i)).integers(0, 256, (40, 40, 3), np.uint8)).save(path)
    return folder


@pytest.mark.parametrize("precision", Precision)
def test_one_training_image_of_a_class_is_enough_for_the_gate(
    precision: Precision, model: Model, tmp_path: Path
) -> None:
    folder = labeled(tmp_path / "data", model.classes, 2)
    samples = draw_samples(as_imported(model), folder, tmp_path, [precision])
    assert len(samples.gate) == len(model.classes)
    assert (samples.held_out is None) == (precision is Precision.FLOAT32)
    assert samples.calibration is None
    assert samples.missing.startswith("every class has one training image") == precision.has_int8


def test_images_that_have_other_classes_say_why_int8_has_none(model: Model, tmp_path: Path) -> None:
    folder = labeled(tmp_path / "data", ("cow", "owl"), 3)
    imported = as_imported(model)
    samples = draw_samples(imported, folder, tmp_path, [Precision.INT8])
    assert len(samples.gate) == 6
    gate = Gate(model=imported, samples=samples)
    with pytest.raises(UserError, match=r"there are none: the class cow of .* is none of the 6"):
        quantize(tmp_path / "x", tmp_path, "", RuntimeName.ONNX, Precision.INT8, gate, SILENT)


def test_groups_that_cannot_be_split_hinder_int8_alone(model: Model, tmp_path: Path) -> None:
    split = Split(np.zeros((40, 3, 8, 8), np.uint8), np.arange(40) % 2, groups=np.arange(40) % 2)
    assert len(some(split, 8, 0)) == 8
    with pytest.raises(UserError, match="in too few groups"):
        for_calibration(split, 0, judges=True)


def test_an_imported_model_needs_images(run: Run, tmp_path: Path) -> None:
    imported = as_imported(run.model)
    with pytest.raises(UserError, match="its images are not known; name a folder of such images with `data`"):
        export(imported, "onnx", tmp_path / "artefact")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_an_imported_model_is_exported_with_any_images(run: Run, drawings: list[Path], tmp_path: Path) -> None:
    imported = as_imported(run.model)
    manifest = export(imported, "onnx", tmp_path / "artefact", data=drawings[0].parent)
    assert manifest.gate.num_images == len(drawings)
    with pytest.raises(UserError, match="int8 is calibrated on labeled images, and there are none"):
        export(imported, "onnx", tmp_path / "int8", precision="int8", data=drawings[0].parent)


@pytest.mark.slow
@pytest.mark.parametrize("package", ["onnxscript", pytest.param("onnxruntime", marks=pytest.mark.slow)])
def test_a_package_that_is_not_installed_is_named_with_what_installs_it(package: str, run: Run, tmp_path: Path) -> None:
    ended = in_process(COMMAND, "export", run.folder, "--to", "onnx", "--out", tmp_path / "out", blocked=(package,))
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert package in ended.stderr
    assert "pip install 'convatlas[onnx]'" in ended.stderr


@pytest.mark.slow
def test_a_latency_in_a_runtime_takes_the_packages_of_an_export(run: Run, tmp_path: Path) -> None:
    words = ("compress", run.folder, "--to", "5 ms", "--engine", "onnx", "--out", tmp_path / "out")
    ended = in_process(COMMAND, *words, blocked=("onnxscript",))
    assert (ended.returncode, ended.stderr) == (
        2,
        "convatlas: this needs onnxscript: pip install 'convatlas[onnx]'\n",
    )


def test_images_without_files_are_written_small_wide_and_tall(tmp_path: Path) -> None:
    split = Split(np.random.default_rng(0).integers(0, 256, (8, 3, 32, 32), np.uint8), np.arange(8) % 2)
    sizes = [decode(path).size for path in as_files(split, tmp_path)]
    assert sizes == [(74, 99), (32, 32), (99, 74), (32, 32)] * 2


def test_test_images_are_never_drawn(run: Run, tmp_path: Path) -> None:
    samples = draw_samples(run, None, tmp_path, [Precision.INT8])
    dataset = run.load_data()
    tested = {image.tobytes() for image in dataset.test.images[:]}
    drawn = [np.asarray(Image.open(path)) for path in samples.gate]
    assert samples.held_out is not None
    assert samples.calibration is not None
    drawn += [*samples.held_out.images[:], *samples.calibration.images[:]]
    # A few digits are in both splits, written alike.
    shared = {image.tobytes() for image in dataset.train.images[:]} & tested
    assert not {image.tobytes() for image in drawn} & (tested - shared)
    assert samples.held_out_kind == "training images"


@pytest.mark.slow
def test_a_killed_export_leaves_nothing_that_hurts(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "artefact"
    command = [sys.executable, "-m", "convatlas", "export", str(run.folder), "--to", "onnx", "--out", str(out)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "comparing" in line:
                os.kill(process.pid, signal.SIGKILL)
    assert not out.exists()
    export(run, "onnx", out)
    assert [path.name for path in tmp_path.iterdir()] == ["artefact"]


FEW_BYTES = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="there is no such limit")
@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_a_disk_that_fills_is_one_line_and_leaves_nothing(runtime: str, run: Run, tmp_path: Path) -> None:
    out = tmp_path / "artefact"
    ended = in_process(FEW_BYTES + COMMAND, "export", run.folder, "--to", runtime, "--out", out, "--quiet")
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.count("\n") == 1
    assert "Traceback" not in ended.stderr
    assert list(tmp_path.iterdir()) == []


# --- bench -----------------------------------------------------------------------------------------------------------


def test_engines_are_timed_in_turns(folder: Path) -> None:
    found = bench([folder], batch_sizes=[1, 2, 1], threads=1, rounds=2)
    assert [one.batch_size for one in found] == [1, 2]
    for one in found:
        assert one.engine == "ONNX Runtime"
        assert 0 < one.p50_ms <= one.p90_ms <= one.p99_ms
        assert one.images_per_s == pytest.approx(1000 * one.batch_size / one.p50_ms)
        assert one.num_runs >= 2
        assert one.load_ms > 0
        assert one.first_ms > 0
        assert one.peak_bytes > 2**20
        assert one.num_bytes > (folder / "model.onnx").stat().st_size
    latency, size = pareto_charts(found)
    assert len(latency.series) == len(size.series) == 1
    assert latency.highest_y == size.highest_y == 100


def broken(folder: Path, copied: Path) -> Path:
    """An artefact with a network that no runtime loads, and its checksum."""
    shutil.copytree(folder, copied)
    (copied / "model.onnx").write_bytes(b"\x0a\x00no network")
    (copied / MANIFEST).write_bytes(replace(Manifest.read(copied), files=sums(copied)).to_json())
    return copied


def test_an_engine_that_fails_is_left_out(folder: Path, tmp_path: Path) -> None:
    failed, other = list[EngineError](), broken(folder, tmp_path / "broken")
    found = bench([other, folder], threads=1, rounds=1, on_error=failed.append)
    assert [one.model for one in found] == [str(folder)]
    assert [error.engine.model for error in failed] == [str(other)]
    assert str(failed[0]).startswith(f"ONNX Runtime in float32 fails on {other}: ")
    for sources in ([other, folder], [other]):
        with pytest.raises(EngineError):
            bench(sources, threads=1, rounds=1, on_error=failed.append if len(sources) == 1 else None)


def test_an_accuracy_is_the_models_less_what_was_lost(folder: Path, tmp_path: Path) -> None:
    manifest = Manifest.read(folder)
    assert manifest.card.score is not None
    assert of_artefact(str(folder), manifest).accuracy == manifest.card.score.accuracy
    # In lower precision what was lost was measured on other images.
    loss = PairedLoss(
        images="validation images", num_images=1000, model_accuracy=0.9, artefact_accuracy=0.89, agreement=0.99,
        interval=(0.5, 1.5),
    )  # fmt: skip
    lossy = replace(manifest, precision=Precision.INT8, gate=replace(manifest.gate, loss=loss))
    assert of_artefact(str(folder), lossy).accuracy == pytest.approx(manifest.card.score.accuracy - 0.01)


def test_a_model_that_computes_in_8_bits_is_timed_as_it_is_and_no_other(tmp_path: Path) -> None:
    source = Path(__file__).parents[1] / "formats" / "int8.cva"
    engines = list(engines_of(str(source), tmp_path / "forms", SILENT))
    assert [(one.name, one.precision) for one in engines] == [("PyTorch", "float32")]


@pytest.mark.slow
def test_a_model_is_timed_in_every_engine(run: Run) -> None:
    found = bench([run.folder], threads=1, rounds=1)
    engines = {(one.engine, one.precision) for one in found}
    assert {(name, "float32") for name in ("PyTorch", "PyTorch compiled", "ONNX Runtime", "OpenVINO")} <= engines


@pytest.mark.parametrize(
    "arguments", [{"batch_sizes": [0]}, {"batch_sizes": []}, {"rounds": 0}, {"threads": 0}, {"threads": -1}], ids=str
)
def test_what_cannot_be_timed_is_one_line(arguments: dict[str, object], folder: Path) -> None:
    with pytest.raises(UserError, match=r"`(batch|rounds|threads)`"):
        bench([folder], **arguments)  # type: ignore[arg-type]
