"""An artefact written into a folder: the files of a model's network and preprocessing, and what stands beside them."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

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
    GateFigures,
    Manifest,
    Precision,
    RuntimeName,
    distribution_of,
    file_sum,
    is_installed,
)
from convatlas.files import ProgressCallback, write
from convatlas.models.card import installed_versions
from convatlas.models.model import Model

UNPROVEN = GateFigures(
    num_images=0, batch_sizes=(), logit_difference=0.0, num_levels=0.0, changed_values=0.0,
    image_logit_difference=0.0, executed="",
)  # fmt: skip
"""Of an artefact that the gate has still to run."""


def write_artefact(
    folder: Path, model: Model, runtime: RuntimeName, precision: Precision, gate: Gate, progress: ProgressCallback
) -> Manifest:
    """Write an artefact and pass it through the gate; the manifest with the gate's figures comes last.

    Raises:
        GateError: it differs from the model.
    """
    progress.say(f"writing the network for {runtime.package}")
    network = write_network(model.network, model.variant, folder, gate.outputs)
    quantized = None
    if precision.has_int8:
        with tempfile.TemporaryDirectory(prefix="convatlas-int8-") as work:
            quantized = quantize(network, Path(work), NETWORK, runtime, precision, gate, progress)
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
        float_layers=() if quantized is None else quantized.float_layers,
        int8_latency=None if quantized is None else quantized.latency,
        weight_bits=None if quantized is None else quantized.weight_bits,
        gate=UNPROVEN,
        versions=installed_versions() | {name: distribution_of(name)[1] for name in packages_of(runtime)},
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
    return [name for name in (runtime.package, "onnxscript", "nncf") if is_installed(name)]
