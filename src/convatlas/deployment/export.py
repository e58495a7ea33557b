"""A model shipped: an artefact in another runtime's form, written only if it answers as the model does."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from convatlas.data import check_outside
from convatlas.deployment.artefact import write_artefact
from convatlas.deployment.bench import bench
from convatlas.deployment.engine_process import EngineError
from convatlas.deployment.entrance import check_interpolation
from convatlas.deployment.forms import check_keeps_floats, check_outputs
from convatlas.deployment.gate import Gate, GateError
from convatlas.deployment.manifest import Manifest, Precision, RuntimeName
from convatlas.deployment.runtimes import check_packages
from convatlas.deployment.samples import draw_samples
from convatlas.errors import UserError
from convatlas.files import SILENT, ProgressCallback, lock, put_folder
from convatlas.images.resize import member
from convatlas.models.device import computes_bfloat16
from convatlas.models.model import Model
from convatlas.runs.run import Run, load


@dataclass(frozen=True, kw_only=True)
class Tried:
    """A runtime and a precision, and what came of it."""

    runtime: RuntimeName
    precision: Precision
    latency_ms: float | None
    """The median for one image, timed in turn with the others; None: it was refused, or cannot be timed."""
    refused: str
    """Why; "" if it passed the gate and was timed."""


@dataclass(frozen=True, kw_only=True)
class Fastest:
    """The artefact that was the fastest of those that passed the gate."""

    manifest: Manifest
    tried: tuple[Tried, ...]


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
        precision: "float32" or "int8"; for OpenVINO also "bfloat16", or "mixed" of both.
        data: name or folder of the data set, if it was moved; of an imported model images like those it will see.
        outputs: layers whose feature maps the artefact is to give too, as `convatlas show` lists them.
        max_loss: points of accuracy that a lower precision may cost, on images held out from training.

    Raises:
        GateError: the artefact differs from the model.
        UserError: the runtime is not installed, the images are not found, or `out` holds something already.
    """
    runtime, precision, out = member(RuntimeName, "`to`", to), member(Precision, "`precision`", precision), Path(out)
    opened = source if isinstance(source, Run | Model) else load(source, progress=progress)
    check(model_of(opened), runtime, precision)
    with prepared(opened, out, data, (precision,), outputs, max_loss, progress) as (gate, stage):
        folder = stage / "artefact"
        folder.mkdir()
        manifest = write_artefact(folder, gate.model, runtime, precision, gate, progress)
        put_folder(folder, out)
    return manifest


def export_fastest(
    source: str | Path | Run | Model,
    out: str | Path,
    *,
    to: str | RuntimeName | None = None,
    data: str | Path | None = None,
    outputs: Sequence[str] = (),
    max_loss: float = 0.5,
    progress: ProgressCallback = SILENT,
) -> Fastest:
    """Write the artefact that is the fastest on this machine, of all runtimes and precisions that pass the gate.

    Args:
        to: this runtime alone; None: all that are installed.

    Raises:
        GateError: none passes.
        UserError: see `export`.
    """
    out = Path(out)
    runtimes = [one for one in RuntimeName if one.is_installed] if to is None else [member(RuntimeName, "`to`", to)]
    if not runtimes:
        raise UserError("no runtime is installed: pip install 'convatlas[onnx,openvino]'")
    # What no runtime can do is the person's to mend; what one precision cannot do leaves the others.
    for runtime in runtimes:
        check_packages(runtime)
    opened = source if isinstance(source, Run | Model) else load(source, progress=progress)
    with prepared(opened, out, data, tuple(Precision), outputs, max_loss, progress) as (gate, stage):
        tried: dict[Path, Tried] = {}
        for runtime, precision in product(runtimes, Precision):
            folder = stage / f"{runtime}-{precision}"
            why = why_not(folder, runtime, precision, gate, progress)
            tried[folder] = Tried(runtime=runtime, precision=precision, latency_ms=None, refused=why)
        passed = {folder: one for folder, one in tried.items() if not one.refused}
        if not passed:
            first = next(iter(tried.values()))
            raise GateError(f"nothing passes the gate; of {first.runtime} in {first.precision}: {first.refused}")
        tried |= timed(passed, progress)
        times = {folder: one.latency_ms for folder, one in tried.items() if one.latency_ms is not None}
        fastest = min(times, key=lambda folder: times[folder])
        manifest = Manifest.read(fastest)
        put_folder(fastest, out)
    return Fastest(manifest=manifest, tried=tuple(tried.values()))


def why_not(folder: Path, runtime: RuntimeName, precision: Precision, gate: Gate, progress: ProgressCallback) -> str:
    """Make a folder with an artefact in it; why that cannot be, or does not pass the gate, and "" if it does."""
    try:
        check(gate.model, runtime, precision)
    except UserError as error:
        progress.say(f"{runtime} in {precision} is not among them: {error}")
        return str(error)
    folder.mkdir()
    try:
        write_artefact(folder, gate.model, runtime, precision, gate, progress)
    except GateError as error:
        progress.say(f"{runtime} in {precision} is not among them: {error}")
        return str(error)
    return ""


def timed(passed: Mapping[Path, Tried], progress: ProgressCallback) -> dict[Path, Tried]:
    """The artefacts of some folders with their latencies; of one that cannot be timed, why.

    Raises:
        EngineError: none can be.
    """
    errors: list[EngineError] = []
    found = bench(list(passed), on_error=errors.append, progress=progress)
    times = {Path(one.model): one.p50_ms for one in found}
    failed = {Path(error.engine.model): f"it cannot be timed: {error.reason}" for error in errors}
    return {
        folder: replace(one, latency_ms=times.get(folder), refused=failed.get(folder, ""))
        for folder, one in passed.items()
    }


def model_of(opened: Run | Model) -> Model:
    return opened.model if isinstance(opened, Run) else opened


@contextmanager
def prepared(
    opened: Run | Model,
    out: Path,
    data: str | Path | None,
    precisions: Collection[Precision],
    outputs: Sequence[str],
    max_loss: float,
    progress: ProgressCallback,
) -> Iterator[tuple[Gate, Path]]:
    """The gate with its images, and a folder beside `out`: one renaming puts what is made in there in its place, and
    what is left is removed.

    Raises:
        UserError: the preprocessing has no graph, there is no such layer, the images are not found, or `out` cannot be
            written.
    """
    check_interpolation(model_of(opened).preprocessing.interpolation)
    check_outputs(model_of(opened), outputs)
    if not 0 <= max_loss <= 100:
        raise UserError(f"`max_loss` {max_loss:g} does not work; it is in points of accuracy, 0 to 100")
    if out.is_symlink() or out.is_mount() or out.resolve() == Path.cwd():
        raise UserError(
            f"{out} cannot be replaced, for it is a link, a mount or where you are; name another with `out`"
        )
    # Hidden files count too: the finished folder takes the place of an empty one alone.
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"{out} holds something already; choose a new or empty folder with `out`")
    place = opened.record.data if data is None and isinstance(opened, Run) else data
    if place is not None:
        check_outside(out, place)
    stage = out.absolute().with_name(f".{out.name}.part")
    with tempfile.TemporaryDirectory(prefix="convatlas-images-") as images:
        samples = draw_samples(opened, data, Path(images), precisions, progress)
        gate = Gate(model=model_of(opened), samples=samples, outputs=tuple(outputs), max_loss=max_loss)
        try:
            with lock(stage):
                # What a killed process left.
                clear(stage)
                try:
                    yield gate, stage
                finally:
                    clear(stage)
        finally:
            # Unless another process has it.
            with suppress(OSError):
                stage.rmdir()


def clear(stage: Path) -> None:
    """Remove all folders in one; what is left is the lock of this process."""
    for path in stage.iterdir():
        if path.is_dir():
            shutil.rmtree(path)


def check(model: Model, runtime: RuntimeName, precision: Precision) -> None:
    """
    Raises:
        UserError: the model cannot be exported so, or not on this machine.
    """
    if precision.of_floats is Precision.BFLOAT16 and runtime is RuntimeName.ONNX:
        raise UserError("ONNX Runtime does not compute in bfloat16 on CPUs; export to openvino, or in float32 or int8")
    if precision is Precision.MIXED and not computes_bfloat16("cpu"):
        raise UserError("this processor does not multiply in bfloat16, without which mixed is int8; export it in int8")
    if not precision.has_int8:
        check_keeps_floats(model)
    check_packages(runtime, precision)
