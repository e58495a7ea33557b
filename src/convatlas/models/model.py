"""A model: a network with its weights, its class names and its preprocessing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from convatlas import atlas
from convatlas.data import Dataset, Split, is_standard
from convatlas.errors import UserError
from convatlas.files import SILENT, ProgressCallback, clear_lock, occupied
from convatlas.images import ImageError, ImageInput, Preprocessing
from convatlas.models import folder
from convatlas.models.card import CARD, Card, Provenance
from convatlas.models.codec import container
from convatlas.models.device import resolve_device
from convatlas.models.evaluation import Evaluation, batch_size, evaluate, evaluation_batches
from convatlas.models.hub import README, readme_of
from convatlas.models.labeled_images import load_labeled, load_test_images
from convatlas.models.memory import freed_memory_kept
from convatlas.models.network import spec_of
from convatlas.models.prediction import Prediction
from convatlas.models.training_data import check_may_read, load_training_data, say_what_is_read
from convatlas.spec import Spec, Variant
from convatlas.weights.reading import is_checkpoint

ImageT = TypeVar("ImageT", bound=ImageInput)


@dataclass(frozen=True, eq=False)
class Model:
    """A network with its weights, its class names and its preprocessing; `convatlas.load` opens one.

    Its weights are read when they are first needed.
    """

    card: Card
    """What `model.json` says."""
    path: Path | None = None
    """The folder or the `.cva` file that it was opened from."""
    load_network: Callable[[], nn.Module] = field(repr=False, kw_only=True)
    """Builds the network and reads its weights; `network` calls it once."""

    @cached_property
    def network(self) -> nn.Module:
        """The `nn.Module` with its weights, in evaluation mode, on the CPU.

        Raises:
            UserError: the weights are missing or damaged.
        """
        return self.load_network()

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of the outputs."""
        return self.card.classes

    @property
    def preprocessing(self) -> Preprocessing:
        """How an image becomes the network's input."""
        return self.card.preprocessing

    @property
    def provenance(self) -> Provenance:
        """Where the model came from."""
        return self.card.provenance

    @property
    def variant(self) -> Variant:
        """The network's entry in the atlas."""
        return atlas.find(self.card.variant)

    @property
    def spec(self) -> Spec:
        """Every number that the network is built from; of a pruned network, with the channels that are left."""
        return spec_of(self.card)

    @property
    def name(self) -> str:
        """The name in messages: the path, or without one the variant."""
        return self.card.variant if self.path is None else str(self.path)

    @overload
    def predict(self, images: ImageInput, *, device: str | None = None) -> Prediction: ...

    @overload
    def predict(
        self,
        images: list[ImageT] | tuple[ImageT, ...],
        *,
        device: str | None = None,
        on_error: Callable[[ImageError], None] | None = None,
    ) -> list[Prediction]: ...

    def predict(
        self,
        images: ImageInput | list[ImageT] | tuple[ImageT, ...],
        *,
        device: str | None = None,
        on_error: Callable[[ImageError], None] | None = None,
    ) -> Prediction | list[Prediction]:
        """The most probable classes of one image, or of each of many.

        Args:
            images: a path, a PIL image, or a uint8 array (height, width, 3) in RGB order or (height, width) in gray;
                or a list of these, which is computed in batches.
            device: "cpu", "cuda" or "mps"; None: the fastest that this machine has.
            on_error: called with each file that cannot be used, which is then left out; without it, the first such
                file is an error.

        Raises:
            UserError: an image cannot be used, an array is not of uint8, or there is no such device.
        """
        if not isinstance(images, list | tuple):
            (prediction,) = self._predictions([images], resolve_device(device), None)
            return prediction
        return list(self._predictions(images, resolve_device(device), on_error))

    def _predictions(
        self, images: Sequence[ImageInput], device: torch.device, on_error: Callable[[ImageError], None] | None
    ) -> Iterator[Prediction]:
        with self.network_on(device) as network:
            for usable, inputs in self._batches(images, on_error):
                with torch.inference_mode():
                    outputs = network(torch.from_numpy(inputs).to(device))
                    probabilities = self.variant.objective.probabilities(outputs).float().cpu().numpy()
                for image, row in zip(usable, probabilities, strict=True):
                    yield Prediction.of(image, self.classes, row)

    def _batches(
        self, images: Sequence[ImageInput], on_error: Callable[[ImageError], None] | None
    ) -> Iterator[tuple[list[ImageInput], npt.NDArray[np.float32]]]:
        """Images that can be used, with the network's inputs (n, channels, height, width)."""
        size = batch_size(self.preprocessing.crop)
        for begin in range(0, len(images), size):
            usable, arrays = [], []
            for image in images[begin : begin + size]:
                try:
                    arrays.append(self.preprocessing.prepare(image))
                    usable.append(image)
                except ImageError as error:
                    if on_error is None:
                        raise
                    on_error(error)
            if usable:
                yield usable, np.stack(arrays)

    def evaluate(self, data: str | Path | Split | None = None, *, device: str | None = None) -> Evaluation:
        """The model's accuracy on its test images.

        Args:
            data: name or folder of the data set that the model was trained on, if it cannot be found by its own
                name; or any labeled images of the model's classes. Of an imported model, a data set whose classes are
                some of the model's: its test split, or all of it if it has none.
            device: "cpu", "cuda" or "mps"; None: the fastest that this machine has.

        Raises:
            UserError: the data set is not found, or is not the one that the model was trained on; or there is no such
                device.
        """
        split = data if isinstance(data, Split) else self.load_test_images(data)
        torch_device = resolve_device(device)
        with self.network_on(torch_device) as network:
            return evaluate(network, self.variant.objective, evaluation_batches(self.card, split, torch_device))

    def load_test_images(self, data: str | Path | None = None, *, progress: ProgressCallback = SILENT) -> Split:
        """The images that `evaluate` shows the model; see there."""
        if self.provenance.imported is None:
            return self.load_data(data, progress=progress).test
        return load_test_images(self._named(data), self.card, self.name, progress)

    def _named(self, data: str | Path | None) -> str | Path:
        """
        Raises:
            UserError: nobody named images for an imported model.
        """
        if data is None:
            raise UserError(
                f"{self.name} was imported, and its images are not known; name labeled ones of its classes with `data`"
            )
        return data

    def load_data(self, data: str | Path | None = None, *, progress: ProgressCallback = SILENT) -> Dataset:
        """The data set that the model was trained on, with its split.

        Args:
            data: its name or folder; None: as the card names it. Of an imported model, a data set whose classes are
                some of the model's.
            progress: called with the progress of downloads and of decoding.

        Raises:
            UserError: it is not found, or its images have changed.
        """
        if self.provenance.imported is not None:
            return load_labeled(self._named(data), self.card, self.name, progress)
        name = self.provenance.data if data is None else data
        if data is None:
            check_may_read(self.provenance.data, self.name)
            # Whoever wrote a card may have written any path into it.
            if not is_standard(self.provenance.data):
                raise UserError(
                    f"{self.name} was trained on the image folder {name}, whose place is not known; "
                    "name the folder with `data`"
                )
            say_what_is_read(self.provenance.data, f"the card of {self.name}", progress)
        return load_training_data(name, self.card, self.name, progress=progress)

    @contextmanager
    def network_on(self, device: torch.device) -> Iterator[nn.Module]:
        """Move the network to a device for the duration of a `with` block, in which freed memory is kept."""
        try:
            with freed_memory_kept():
                yield self.network.to(device)
        finally:
            self.network.cpu()

    def save(self, path: str | Path) -> Model:
        """Write the model as a folder or, if the path ends in `.cva`, as one compressed file, and open it from there.

        The folder has a README.md that the Hugging Face hub understands, so that it can be uploaded as it is.

        Raises:
            UserError: the folder is not empty, or there is no folder to write the file into.
        """
        path = Path(path)
        if path.suffix == container.SUFFIX:
            container.write_file(path, self.card, self.network)
        else:
            if occupied(path, but=(CARD, folder.WEIGHTS, README) if folder.is_begun(path, self.card) else ()):
                if (path / CARD).is_file():
                    clear_lock(path)
                raise UserError(f"{path} holds something already; choose a new or empty folder")
            folder.write_model(path, self.card, self.network, {README: readme_of(self.card)})
        return open_model(path)


def open_model(path: str | Path) -> Model:
    """Open a model folder or a `.cva` file.

    Raises:
        UserError: it is neither, or damaged.
    """
    path = Path(path)
    # False, too, where there can be no such path.
    if os.path.isfile(path):
        if path.suffix != container.SUFFIX and is_checkpoint(path):
            raise UserError(
                f"{path} is no model; if it has another library's weights, convatlas import {path} --as NETWORK "
                "--out FOLDER makes one of them"
            )
        file = container.read_file(path)
        return Model(file.card, path, load_network=lambda: container.read_network(path, file))
    if not os.path.exists(path):
        raise UserError(f"there is no {path}")
    card = folder.read_card(path)
    return Model(card, path, load_network=lambda: folder.read_network(path, card))
