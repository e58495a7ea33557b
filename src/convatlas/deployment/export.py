"""A model shipped: an artefact in another runtime's form, written only if it answers as the model does."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from convatlas.data import check_outside
from convatlas.deployment import pages
from convatlas.deployment.forms import NETWORK, in_form_of, write_entrance, write_network
from convatlas.deployment.gate import Gate
from convatlas.deployment.int8 import quantize
from convatlas.deployment.manifest import (
    MANIFEST,
    PAGE,
    REQUIREMENTS,
    SCRIPT,
    FileSum,
    FloatLayer,
    GateFigures,
    Manifest,
    Precision,
    RuntimeName,
    file_sum,
    is_installed,
)
from convatlas.deployment.runtimes import runtime_module
from convatlas.deployment.samples import draw_samples
from convatlas.errors import UserError
from convatlas.files import SILENT, ProgressCallback, lock, occupied, write
from convatlas.images.resize import member
from convatlas.models.card import installed_versions
from convatlas.models.model import Model
from convatlas.runs.run import Run, load

UNPROVEN = GateFigures(
    num_images=0, batch_sizes=(), logit_difference=0.0, num_levels=0.0, changed_values=0.0,
    image_logit_difference=0.0, executed="",
)  # fmt: skip
"""Of an artefact that the gate has still to run."""


def export(
    source: str | Path | Run | Model,
    to: str | RuntimeName,
    out: str | Path,
    *,
    precision: str | Precision = Precision.FLOAT32,
    data: str | Path | None = None,
    outputs: Sequence[str] = (),
    max_loss: float = 0.5,
    progress: ProgressCallback = SILENT,
) -> Manifest:
    """Write a model as an artefact: a folder that its runtime, a script and people can use without torch.

    The artefact takes images of any size itself, and gives logits, probabilities and, if asked, feature maps. It is run
    in its own runtime before it appears at `out`; one that answers otherwise than the model is an error that says why.

    Args:
        source: a run, a model, or the path or name of one, see `load`.
        to: "onnx" or "openvino".
        out: the folder to make.
        precision: "float32", "bfloat16" (OpenVINO alone) or "int8".
        data: name or folder of the data set, if it was moved; of an imported model images like those it will see.
        outputs: layers whose feature maps the artefact is to give too, as `convatlas show` lists them.
        max_loss: points of accuracy that a lower precision may cost, on images held out from training.

    Raises:
        GateError: the artefact differs from the model.
        UserError: the runtime is not installed, the images are not found, or `out` holds something already.
    """
    opened = source if isinstance(source, Run | Model) else load(source, progress=progress)
    model = opened.model if isinstance(opened, Run) else opened
    runtime, precision = member(RuntimeName, "`to`", to), member(Precision, "`precision`", precision)
    out = Path(out)
    check(model, runtime, precision, out, max_loss)
    place = opened.record.data if data is None and isinstance(opened, Run) else data
    if place is not None:
        check_outside(out, place)
    with tempfile.TemporaryDirectory(prefix="convatlas-images-") as images:
        samples = draw_samples(opened, data, Path(images), progress)
        gate = Gate(model=model, samples=samples, outputs=tuple(outputs), max_loss=max_loss)
        # Beside its place, so that it appears there by one renaming.
        stage = out.absolute().with_name(f".{out.name}.part")
        try:
            with lock(stage):
                manifest = write_artefact(stage, model, runtime, precision, gate, progress)
            os.replace(stage, out)
        except BaseException:
            shutil.rmtree(stage, ignore_errors=True)
            raise
    return manifest


def check(model: Model, runtime: RuntimeName, precision: Precision, out: Path, max_loss: float) -> None:
    """
    Raises:
        UserError: the model cannot be exported so, or not there.
    """
    if precision is Precision.BFLOAT16 and runtime is RuntimeName.ONNX:
        raise UserError("ONNX Runtime does not compute in bfloat16 on CPUs; export to openvino, or in float32 or int8")
    if not 0 <= max_loss <= 100:
        raise UserError(f"`max_loss` {max_loss:g} does not work; it is in points of accuracy, 0 to 100")
    rounds_inputs = any(layer.input_low is not None for layer in model.card.quantization or ())
    if rounds_inputs and precision is not Precision.INT8:
        raise UserError(f"the layers of {model.name} round their inputs to 8 bits; export it in int8")
    if occupied(out):
        raise UserError(f"{out} holds something already; choose a new or empty folder with `out`")
    runtime_module(runtime)
    for package in ("onnx", "onnxscript", *(["nncf"] if precision is Precision.INT8 else [])):
        if not is_installed(package):
            raise UserError(f"this export needs {package}: pip install 'convatlas[{runtime}]'")


def write_artefact(
    folder: Path, model: Model, runtime: RuntimeName, precision: Precision, gate: Gate, progress: ProgressCallback
) -> Manifest:
    """Write an artefact and pass it through the gate; the manifest with the gate's figures comes last.

    Raises:
        GateError: it differs from the model.
    """
    for path in folder.iterdir():
        # What a killed process left; the lock is this one's.
        if not path.name.startswith("."):
            path.unlink()
    progress.say(f"writing the network for {runtime.package}")
    network = write_network(model, folder, gate.outputs)
    float_layers: tuple[FloatLayer, ...] = ()
    if precision is Precision.INT8:
        with tempfile.TemporaryDirectory(prefix="convatlas-int8-") as work:
            quantized = quantize(network, Path(work), NETWORK, runtime, gate, progress)
            float_layers = quantized.float_layers
            network.unlink()
            network = moved(quantized.path, folder)
    else:
        network = in_form_of(network, runtime)
    manifest = Manifest(
        runtime=runtime,
        precision=precision,
        card=model.card,
        network=network.name,
        entrance=in_form_of(write_entrance(model, folder), runtime).name,
        reframes_ink=model.preprocessing.ink is not None,
        outputs=gate.outputs,
        float_layers=float_layers,
        gate=UNPROVEN,
        versions=installed_versions() | {name: version(name) for name in packages_of(runtime)},
    )
    write(folder / SCRIPT, pages.script(manifest))
    write(folder / REQUIREMENTS, pages.requirements(manifest))
    write(folder / MANIFEST, replace(manifest, files=sums(folder)).to_json())
    progress.say("comparing it with the model, in a process of its own")
    manifest = replace(manifest, gate=gate.check(folder, precision), files=sums(folder))
    write(folder / PAGE, pages.page(manifest))
    manifest = replace(manifest, files=sums(folder))
    write(folder / MANIFEST, manifest.to_json())
    return manifest


def moved(path: Path, folder: Path) -> Path:
    """A network's file, with what belongs to it, moved into a folder as the model's."""
    for part in path.parent.glob(f"{path.stem}.*"):
        shutil.move(part, folder / f"model{part.suffix}")
    return folder / f"model{path.suffix}"


def sums(folder: Path) -> tuple[FileSum, ...]:
    """The checksums of an artefact's files but for its manifest."""
    paths = sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.name != MANIFEST)
    return tuple(map(file_sum, paths))


def packages_of(runtime: RuntimeName) -> list[str]:
    """Packages that an artefact's answers may depend on, of those that are installed."""
    found = []
    for name in (runtime.package, "onnxscript", "nncf"):
        try:
            version(name)
        except PackageNotFoundError:
            continue
        found.append(name)
    return found
