"""What an artefact says of itself, and what is not believed."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from convatlas.deployment import pages
from convatlas.deployment.manifest import (
    MANIFEST,
    FileSum,
    FloatLayer,
    GateFigures,
    Manifest,
    PairedLoss,
    Precision,
    RuntimeName,
    distribution_of,
    file_sum,
    is_artefact,
)
from convatlas.errors import UserError
from convatlas.files.typed_json import encoded
from convatlas.runs.run import Run

LOSS = PairedLoss(
    images="validation images",
    num_images=200,
    model_accuracy=0.9,
    artefact_accuracy=0.895,
    agreement=0.99,
    interval=(-0.4, 1.4),
)
GATE = GateFigures(
    num_images=24,
    batch_sizes=(1, 3, 8),
    logit_difference=1e-6,
    num_levels=0.0,
    changed_values=0.0,
    image_logit_difference=1e-6,
    executed="int8",
    loss=LOSS,
    num_calibration=40,
)


def manifest_in(folder: Path, run: Run) -> Manifest:
    """A manifest with the files that it names, which no runtime would load."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("model.onnx", "preprocessing.onnx"):
        (folder / name).write_bytes(name.encode())
    manifest = Manifest(
        runtime=RuntimeName.ONNX,
        precision=Precision.INT8,
        card=run.card,
        network="model.onnx",
        entrance="preprocessing.onnx",
        reframes_ink=True,
        outputs=("c1",),
        files=tuple(file_sum(folder / name) for name in ("model.onnx", "preprocessing.onnx")),
        float_layers=(FloatLayer(name="c1", reason="why not"),),
        gate=GATE,
    )
    (folder / MANIFEST).write_bytes(manifest.to_json())
    return manifest


@pytest.fixture
def folder(tmp_path: Path, finished: Callable[..., Run]) -> Path:
    manifest_in(tmp_path / "artefact", finished("lenet5"))
    return tmp_path / "artefact"


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path, finished: Callable[..., Run]) -> None:
    manifest = manifest_in(tmp_path, finished("lenet5"))
    assert Manifest.read(tmp_path) == manifest
    assert LOSS.loss == pytest.approx(0.5)
    manifest.check_files(tmp_path)
    assert is_artefact(tmp_path)
    assert not is_artefact(tmp_path / MANIFEST)


def test_one_of_before_calibration_was_counted_is_read(folder: Path) -> None:
    values = json.loads((folder / MANIFEST).read_bytes())
    assert values["gate"].pop("num_calibration") == 40
    # Without a checksum, as of one that was edited.
    del values["sha256"]
    (folder / MANIFEST).write_text(json.dumps(values))
    assert Manifest.read(folder).gate == replace(GATE, num_calibration=None)


@pytest.mark.parametrize(("num", "high", "unseen"), [(999, 1.4, 1.4), (999, -0.2, 0.0), (1000, 1.4, None)])
def test_few_images_say_what_they_could_not_show(num: int, high: float, unseen: float | None) -> None:
    assert replace(LOSS, num_images=num, interval=(-0.4, high)).unseen == unseen


def test_the_page_says_what_few_images_could_not_show(folder: Path) -> None:
    manifest = Manifest.read(folder)
    said = "So few images could not have shown a loss of up to 1.40 points."
    assert said in pages.proof(manifest)
    assert "It was calibrated on 40 other images." in pages.proof(manifest)
    many = replace(manifest, gate=replace(GATE, loss=replace(LOSS, num_images=1000), num_calibration=None))
    assert not [line for line in pages.proof(many) if "So few" in line or "calibrated" in line]


def test_reading_one_loads_neither_torch_nor_a_runtime(folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from convatlas.deployment.manifest import Manifest;"
        f"Manifest.read(Path({str(folder)!r}));"
        "assert not {'torch', 'onnx', 'onnxruntime', 'openvino', 'nncf'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "name", ["../model.onnx", "/etc/passwd", "..", "a/b", "a\\b", MANIFEST, ""], ids=lambda name: name or "empty"
)
def test_files_elsewhere_are_refused(name: str, folder: Path) -> None:
    manifest = Manifest.read(folder)
    files = (*manifest.files, FileSum(name=name, sha256="0" * 64, num_bytes=1))
    (folder / MANIFEST).write_bytes(replace(manifest, files=files).to_json())
    with pytest.raises(UserError, match="does not lie in the folder"):
        Manifest.read(folder)


def test_a_network_without_a_checksum_is_refused(folder: Path) -> None:
    manifest = Manifest.read(folder)
    (folder / MANIFEST).write_bytes(replace(manifest, files=manifest.files[1:]).to_json())
    with pytest.raises(UserError, match=r"has no checksum of 'model\.onnx'"):
        Manifest.read(folder)


def refused(folder: Path, **fields: object) -> str:
    (folder / MANIFEST).write_bytes(replace(Manifest.read(folder), **fields).to_json())  # type: ignore[arg-type]
    with pytest.raises(UserError) as error:
        Manifest.read(folder)
    return str(error.value)


def test_a_file_that_is_listed_twice_is_refused(folder: Path) -> None:
    files = Manifest.read(folder).files
    assert "lists a file twice" in refused(folder, files=(*files, replace(files[0], sha256="0" * 64)))


def test_what_a_runtime_reads_beside_a_network_has_a_checksum(folder: Path) -> None:
    for name in ("model.xml", "preprocessing.xml", "preprocessing.bin"):
        (folder / name).write_bytes(name.encode())
    files = [file_sum(folder / name) for name in ("model.xml", "preprocessing.xml", "preprocessing.bin")]
    of_openvino = {"runtime": RuntimeName.OPENVINO, "network": "model.xml", "entrance": "preprocessing.xml"}
    assert "has no checksum of 'model.bin'" in refused(folder, **of_openvino, files=tuple(files))


def test_a_network_of_another_runtime_is_refused(folder: Path) -> None:
    assert "'model.onnx' is none of OpenVINO, which end in .xml" in refused(folder, runtime=RuntimeName.OPENVINO)


def test_what_installed_a_package_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    for package in ("oddruntime", "bareruntime"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("__version__ = '2.0'")
    metadata = tmp_path / "oddruntime_gpu-1.5.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: oddruntime-gpu\nVersion: 1.5\n")
    (metadata / "top_level.txt").write_text("oddruntime\n")
    assert distribution_of("oddruntime") == ("oddruntime-gpu", "1.5")
    assert distribution_of("bareruntime") == ("bareruntime", "2.0")
    assert distribution_of("PIL")[0] == "pillow"


def change(path: Path) -> None:
    path.write_bytes(b"x" * path.stat().st_size)


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def link(path: Path) -> None:
    other = path.with_name("other")
    path.rename(other)
    path.symlink_to(other)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (Path.unlink, "is missing"),
        (change, "its checksum is not the one in artefact.json"),
        (lengthen, "its checksum is not the one in artefact.json"),
        (link, "is a link"),
    ],
)
def test_files_that_are_not_those_that_were_written_are_named(
    damage: Callable[[Path], None], message: str, folder: Path
) -> None:
    manifest = Manifest.read(folder)
    damage(folder / "preprocessing.onnx")
    with pytest.raises(UserError, match=rf"preprocessing\.onnx.*{message}.*export the model again$"):
        manifest.check_files(folder)


@pytest.mark.parametrize("num", [60, pytest.param(100_000, marks=pytest.mark.fuzz)])
def test_mutated_manifests_are_read_or_refused(
    num: int, folder: Path, mutate_json: Callable[[Any, random.Random], None]
) -> None:
    values = {"format": 1, **encoded(Manifest.read(folder))}
    for seed in range(num):
        draw = random.Random(seed)
        mutated = json.loads(json.dumps(values))
        # A manifest holds a card, which is mutated as cards are; of the rest any part.
        rest = {name: part for name, part in mutated.items() if isinstance(part, dict | list) and name != "card"}
        mutate_json(mutated["card"] if draw.random() < 0.5 else rest, draw)
        (folder / MANIFEST).write_text(json.dumps({**mutated, **rest}))
        with suppress(UserError):
            Manifest.read(folder).check_files(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"format": 99}', b"0" * 9_000_000])
def test_damaged_manifests_are_one_line(content: bytes, folder: Path) -> None:
    (folder / MANIFEST).write_bytes(content)
    with pytest.raises(UserError) as error:
        Manifest.read(folder)
    assert os.fspath(folder) in str(error.value)
