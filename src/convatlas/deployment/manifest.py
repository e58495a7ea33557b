"""An artefact's manifest, `artefact.json`: what it is, what it answers, and the proof. Nothing here loads torch."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Self

from convatlas.errors import UserError
from convatlas.files import read
from convatlas.files.artefacts import MANIFEST as MANIFEST
from convatlas.files.sealed_json import sealed_json
from convatlas.files.typed_json import MAX_BYTES, as_file_error, decoded, encoded, parsed_object
from convatlas.models.card import Card, installed_versions

SCRIPT, PAGE, REQUIREMENTS = "predict.py", "README.md", "requirements.txt"
FORMAT = 1
FEW = 1000
"""Images below which it is said what loss they could not show."""
CHUNK = 2**20
"""Bytes that are hashed at a time."""


class RuntimeName(StrEnum):
    """What runs an artefact."""

    ONNX = "onnx"
    """ONNX Runtime."""
    OPENVINO = "openvino"

    @property
    def package(self) -> str:
        """What `predict.py` needs installed."""
        return {RuntimeName.ONNX: "onnxruntime", RuntimeName.OPENVINO: "openvino"}[self]

    @property
    def label(self) -> str:
        """What people call it."""
        return {RuntimeName.ONNX: "ONNX Runtime", RuntimeName.OPENVINO: "OpenVINO"}[self]

    @property
    def suffix(self) -> str:
        """Of a network's file."""
        return {RuntimeName.ONNX: ".onnx", RuntimeName.OPENVINO: ".xml"}[self]

    @property
    def is_installed(self) -> bool:
        """Whether it can be run here."""
        return is_installed(self.package)


class Precision(StrEnum):
    """What an artefact computes in."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    """Products in bfloat16, on processors that have it."""
    INT8 = "int8"
    """Products in 8-bit integers, but for layers that stay in float32."""
    MIXED = "mixed"
    """As int8, and what it leaves in float32 is in bfloat16."""

    @property
    def has_int8(self) -> bool:
        """Whether it is quantized on images."""
        return self in (Precision.INT8, Precision.MIXED)

    @property
    def of_floats(self) -> Precision:
        """What it computes in where there are no 8-bit integers."""
        return Precision.BFLOAT16 if self in (Precision.BFLOAT16, Precision.MIXED) else Precision.FLOAT32


@dataclass(frozen=True, kw_only=True)
class FileSum:
    """A file of the artefact, with its checksum."""

    name: str
    sha256: str
    num_bytes: int


@dataclass(frozen=True, kw_only=True)
class FloatLayer:
    """A layer of an artefact in 8 bits that computes in float32, or bfloat16 where that is mixed in."""

    name: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Int8Latency:
    """The median for one image where the artefact was made, timed in turn with the network in float32."""

    int8_ms: float
    float32_ms: float

    @property
    def is_faster(self) -> bool:
        """Whether 8 bits gain time there, and not only size."""
        return self.int8_ms < self.float32_ms


@dataclass(frozen=True, kw_only=True)
class PairedLoss:
    """What lower precision costs: model and artefact, on the same images."""

    images: str
    """Which: "validation images" or "training images", or of an imported model "labeled images". Test images are never
    used."""
    num_images: int
    model_accuracy: float
    """A fraction."""
    artefact_accuracy: float
    agreement: float
    """The fraction of images for which both name the same class."""
    interval: tuple[float, float]
    """95 % confidence interval of the loss, in points of accuracy."""

    @property
    def loss(self) -> float:
        """Points of accuracy that were lost; below 0, if it gained."""
        return 100 * (self.model_accuracy - self.artefact_accuracy)

    @property
    def unseen(self) -> float | None:
        """Points of accuracy that may be lost without that so few images show it; None: they are not few."""
        return max(self.interval[1], 0.0) if self.num_images < FEW else None


@dataclass(frozen=True, kw_only=True)
class GateFigures:
    """How far the artefact, run in its own runtime in a process of its own, is from the model."""

    num_images: int
    batch_sizes: tuple[int, ...]
    logit_difference: float
    """The largest on prepared images, as a fraction of the largest logit."""
    num_levels: float
    """The largest difference of a value that the artefact prepares, in levels of 255."""
    changed_values: float
    """The fraction of prepared values that differ by more than a hundredth of a level."""
    image_logit_difference: float
    """The largest difference of logits from image file to answer, as a fraction of the largest logit."""
    executed: str
    """The lowest precision of the products, as the runtime tells it; where int8 and bfloat16 are among them, mixed."""
    products: dict[str, int] = field(default_factory=dict)
    """How many products it computes in which precision."""
    loss: PairedLoss | None = None
    """Of lower precision; None: float32."""
    num_calibration: int | None = None
    """Training images that it was calibrated on; None: not in 8 bits, or an earlier version did not say."""

    @property
    def computed(self) -> str:
        """`products` in words."""
        return ", ".join(f"{num} in {precision}" for precision, num in self.products.items())


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What `artefact.json` says."""

    runtime: RuntimeName
    precision: Precision
    card: Card
    """The model's: classes in the order of the outputs, preprocessing, provenance, accuracy."""
    network: str
    """The file of the network: prepared images (n, channels, side, side) to `logits` and `probabilities` (n, classes),
    and to `outputs`."""
    entrance: str
    """The file of the preprocessing: an image (height, width, 3), uint8, RGB, of any size to (1, channels, side,
    side)."""
    reframes_ink: bool
    """Whether whoever calls `entrance` first finds the ink of a drawing, as `predict.py` does: a graph cannot."""
    outputs: tuple[str, ...] = ()
    """Layers whose feature maps the network gives too, under these names."""
    files: tuple[FileSum, ...] = ()
    """All others of the folder."""
    float_layers: tuple[FloatLayer, ...] = ()
    int8_latency: Int8Latency | None = None
    """None: not in 8 bits."""
    weight_bits: int | None = None
    """What weights in int8 use: 8, or 7 where it was made on a processor that adds products in 16 bits (x86 without
    VNNI), which would overflow. None: not in 8 bits."""
    gate: GateFigures
    versions: dict[str, str] = field(default_factory=installed_versions)

    def to_json(self) -> bytes:
        """The content of `artefact.json`."""
        return sealed_json({"format": FORMAT, **encoded(self)})

    @classmethod
    def read(cls, folder: Path) -> Self:
        """
        Raises:
            UserError: there is none, it is damaged, or a newer version wrote it.
        """
        path = folder / MANIFEST
        try:
            content = read(path, MAX_BYTES)
        except FileNotFoundError as error:
            raise UserError(f"{folder} is not an artefact: it has no {MANIFEST}") from error
        with as_file_error(str(path)):
            values = parsed_object(content, FORMAT)
            manifest = decoded(cls, {name: value for name, value in values.items() if name != "format"})
            manifest.check_names()
        return manifest

    def check_names(self) -> None:
        """
        Raises:
            UserError: a file lies elsewhere, or one that is needed is not listed, or of another kind.
        """
        names = [file.name for file in self.files]
        for name in (*names, self.network, self.entrance):
            if name in ("", ".", "..") or name != Path(name).name or "\\" in name or name == MANIFEST:
                raise UserError(f"its file {name!r} does not lie in the folder")
        if len(set(names)) < len(names):
            raise UserError("it lists a file twice")
        for name in (self.network, self.entrance):
            if Path(name).suffix != self.runtime.suffix:
                raise UserError(
                    f"its file {name!r} is none of {self.runtime.label}, which end in {self.runtime.suffix}"
                )
            # What a runtime reads is held against its checksum, the weights too.
            for read_too in (name, *([f"{Path(name).stem}.bin"] if self.runtime is RuntimeName.OPENVINO else [])):
                if read_too not in names:
                    raise UserError(f"it has no checksum of {read_too!r}")

    def check_files(self, folder: Path) -> None:
        """Hold the files against their checksums.

        Raises:
            UserError: one is missing, a link, or not what was written.
        """
        for file in self.files:
            path = folder / file.name
            if path.is_symlink():
                raise UserError(f"{path} is a link, and an artefact's files lie in its folder; export the model again")
            if not path.is_file():
                raise UserError(f"{path} is missing; export the model again")
            # A file of another size need not be read.
            if path.stat().st_size != file.num_bytes or file_sum(path) != file:
                raise UserError(
                    f"{path} is damaged or not this artefact's: its checksum is not the one in {MANIFEST}; "
                    "export the model again"
                )


def is_installed(package: str) -> bool:
    """Whether a package can be imported, without importing it."""
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def distribution_of(package: str) -> tuple[str, str]:
    """The name and version of what installed a package: onnxruntime comes in onnxruntime-gpu and others too."""
    found = packages_distributions().get(package, [])
    if not found:
        # Built from source, without metadata.
        return package, str(getattr(importlib.import_module(package), "__version__", "unknown"))
    name = package if package in found else found[0]
    return name, version(name)


def file_sum(path: Path) -> FileSum:
    """A file's checksum, read in parts."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(CHUNK):
            digest.update(part)
    return FileSum(name=path.name, sha256=digest.hexdigest(), num_bytes=os.path.getsize(path))


def is_artefact(path: str | Path) -> bool:
    """Whether an artefact lies there."""
    return os.path.isfile(os.path.join(path, MANIFEST))
