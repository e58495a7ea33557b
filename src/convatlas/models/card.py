"""A model's card, `model.json`: all that it takes to use a model, but for its weights. Nothing here loads torch."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Self

from convatlas.errors import UserError
from convatlas.files.names import CARD as CARD
from convatlas.files.sealed_json import sealed_json
from convatlas.files.typed_json import as_file_error, decoded, encoded, parsed_object, shown
from convatlas.images import Preprocessing
from convatlas.spec.quantization import Quantization

FORMAT = 1


def installed_versions() -> dict[str, str]:
    """Of Python and of the packages that a result depends on."""
    packages = ("convatlas", "torch", "numpy", "pillow")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


@dataclass(frozen=True, kw_only=True)
class Score:
    """How a model did on its test images."""

    accuracy: float
    """A fraction."""
    interval: tuple[float, float]
    """The 95 % confidence interval of the accuracy (Wilson)."""
    num_errors: int
    num_images: int


@dataclass(frozen=True, kw_only=True)
class Imported:
    """The checkpoint that weights were taken from."""

    weights: str
    """Whose, as "torchvision:resnet18"; "": not known, for it is no file that was published."""
    sha256: str
    """Of the checkpoint's file."""
    top1: float | None = None
    """Published accuracy on the test images of the data set, a fraction; None: none is known."""
    top5: float | None = None
    """How often the right class is among the five most probable ones, a fraction, as published."""
    license: str = ""
    """Of the weights, as far as it is known."""


@dataclass(frozen=True, kw_only=True)
class StartedFrom:
    """Weights of others that training started from."""

    weights: str
    """Whose, as "torchvision:resnet18" or "hf:OWNER/NAME"; "": not known."""
    sha256: str
    """Of their file."""
    license: str = ""
    """Of the weights, as far as it is known."""


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where a model came from."""

    method: str
    """How its weights were made: "trained", "imported", "pruned to ...", "quantized to 4 bits"."""
    data: str
    """What it was trained on: a standard data set, `hf:NAME`, or the name of an image folder without its path; or what
    those say who published its weights, or "unknown images"."""
    data_checksum: str = ""
    """Of the contents of the data set's files, its labels and its classes; see `Dataset.checksum`. "": unknown, for the
    weights were imported."""
    seed: int = 0
    """The seed of its training, which also drew the train/test split of an image folder that has none."""
    imported: Imported | None = None
    """Where its weights came from, if it was not trained here; it stays with what is made of it without training."""
    started_from: StartedFrom | None = None
    """Whose weights its training started from, also by way of models in between; None: they began here."""
    skip_bad: bool = False
    """Whether unusable images were left out."""
    labels: str | None = None
    """The table that says the classes of the images, below the data set's folder; None: their folders do."""
    group_by: str | None = None
    """Its column of what stands on one side of the split alone; None: there is none."""
    parent_sha256: str | None = None
    """SHA-256 of the weights that these were derived from without training, by pruning or quantization."""
    versions: dict[str, str] = field(default_factory=installed_versions)


@dataclass(frozen=True, kw_only=True)
class Card:
    """What `model.json` says of a model. Reading one loads no torch."""

    variant: str
    """The network's name in the atlas."""
    spec: dict[str, Any]
    """The fields of the network's spec; `models.network.spec_of` makes the spec of them."""
    classes: tuple[str, ...]
    """In the order of the outputs."""
    preprocessing: Preprocessing
    provenance: Provenance
    params: int
    """Trainable parameters, without those that only training uses."""
    macs: int
    """Multiply-accumulates for one image."""
    quantization: Quantization | None = None
    """Of weights and inputs, layer by layer; None: all are 32-bit floats."""
    score: Score | None = None
    """Of its test images; None while the network is trained."""
    weights_sha256: str | None = None
    """Of `weights.safetensors`; None while the network is trained, and in a `.cva` file, which has its own."""
    calibration: None = None
    """Reserved for calibration parameters, such as a softmax temperature."""

    def __post_init__(self) -> None:
        outputs = self.spec.get("num_classes")
        if len(self.classes) != outputs:
            raise UserError(f"it names {len(self.classes)} classes, and its network has {shown(outputs)} outputs")
        if self.spec.get("in_channels") != self.preprocessing.channels:
            raise UserError(
                f"its images have {self.preprocessing.channels} channels, and its network reads "
                f"{shown(self.spec.get('in_channels'))}"
            )

    def to_json(self) -> bytes:
        """The content of `model.json`."""
        return sealed_json({"format": FORMAT, **encoded(self)})

    @classmethod
    def from_json(cls, content: bytes, where: str) -> Self:
        """Read what `to_json` wrote.

        Args:
            where: the file, for messages.

        Raises:
            UserError: it is damaged, contradicts itself, or a newer version wrote it.
        """
        with as_file_error(where):
            return cls.from_values(parsed_object(content, FORMAT))

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        """The card of a JSON object.

        Raises:
            MalformedJsonError, UserError: it is not valid.
        """
        return decoded(cls, {name: value for name, value in values.items() if name != "format"})
