"""An artefact that predicts, in its own runtime and without torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from convatlas.deployment.manifest import MANIFEST, Manifest
from convatlas.deployment.runtimes import Array, Session, open_network
from convatlas.errors import UserError
from convatlas.images import ImageError, ImageInput
from convatlas.models.prediction import Prediction

LOGITS, PROBABILITIES = "logits", "probabilities"
"""Names of a network's outputs."""


@dataclass(frozen=True)
class Artefact:
    """An artefact folder, opened in its runtime."""

    path: Path
    manifest: Manifest
    entrance: Session
    network: Session

    @classmethod
    def open(cls, path: str | Path, *, threads: int | None = None) -> Artefact:
        """
        Args:
            threads: of each computation; None: one for each core.

        Raises:
            UserError: it is no artefact or damaged, or its runtime is not installed or cannot load it.
        """
        folder = Path(path)
        manifest = Manifest.read(folder)
        manifest.check_files(folder)
        # Whole levels are exact in float32 alone.
        entrance = open_network(folder / manifest.entrance, manifest.runtime, threads=threads)
        network = open_network(folder / manifest.network, manifest.runtime, manifest.precision, threads=threads)
        if len(entrance.names) != 1 or not {LOGITS, PROBABILITIES, *manifest.outputs} <= set(network.names):
            raise UserError(f"the networks in {folder} have other outputs than its {MANIFEST} says; export it again")
        return cls(folder, manifest, entrance, network)

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of the outputs."""
        return self.manifest.card.classes

    def prepare(self, image: ImageInput) -> Array:
        """The network's input for one image: (1, channels, crop, crop).

        Raises:
            UserError: it cannot be used as an image, or the network reads ink and it is blank.
        """
        read = self.manifest.card.preprocessing.read(image)
        (prepared,) = self.entrance.run(np.asarray(read.convert("RGB"))).values()
        return prepared

    def predict(
        self, images: Sequence[ImageInput], *, on_error: Callable[[ImageError], None] | None = None
    ) -> list[Prediction]:
        """The most probable classes of each image.

        Args:
            on_error: called with each file that cannot be used, which is then left out; without it, the first such
                file is an error.

        Raises:
            UserError: an image cannot be used.
        """
        predictions = []
        for image in images:
            try:
                prepared = self.prepare(image)
            except ImageError as error:
                if on_error is None:
                    raise
                on_error(error)
                continue
            rows = self.network.run(prepared)[PROBABILITIES]
            if not isinstance(rows, np.ndarray) or rows.dtype != np.float32:
                raise UserError(f"the network in {self.path} gives no probabilities in float32; export the model again")
            if rows.shape != (1, len(self.classes)):
                raise UserError(
                    f"the network in {self.path} gives {rows.shape}, and there are {len(self.classes)} classes"
                )
            predictions.append(Prediction.of(image, self.classes, rows[0]))
        return predictions
