"""The trained weights that training starts from, wherever they are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from convatlas.errors import UserError
from convatlas.files import SILENT, ProgressCallback
from convatlas.images import Preprocessing, ResizeMode
from convatlas.models.card import StartedFrom
from convatlas.models.hub import is_on_hub
from convatlas.models.imported import import_checkpoint, load_published
from convatlas.models.model import Model
from convatlas.networks.heads import without_memory
from convatlas.runs.options import InitFrom, WeightConstraint
from convatlas.runs.run import from_anywhere, load_model
from convatlas.spec import Scale, Spec, Variant
from convatlas.spec.quantization import Quantization
from convatlas.training.fine_tuning import Backbone
from convatlas.weights.libraries import LIBRARIES
from convatlas.weights.library import Library, unlike
from convatlas.weights.offers import defaults, in_place_of, none_published
from convatlas.weights.reading import is_finite, read_checkpoint
from convatlas.weights.taking import check_is_of, is_published, published_for

MODEL_FILES = (".cva",)
"""Files that are whole models."""
BARE = ".safetensors"


@dataclass(frozen=True)
class StartingWeights:
    """Weights by the names of our tensors, and the model that has them."""

    tensors: Mapping[str, Tensor]
    model: Model | None
    """None for a bare file of our own tensors."""
    notes: tuple[str, ...] = ()
    """Lines for people about what was assumed of another library's file."""


def open_weights(where: str, variant: Variant, progress: ProgressCallback = SILENT) -> StartingWeights:
    """The weights of a network.

    Args:
        where: a run or model folder, a `.cva` file, a `.safetensors` file with our names of tensors, another library's
            checkpoint, the name of published weights, or of a model on the hub.
        progress: called with the progress of a download.

    Raises:
        UserError: it is none of these, damaged, of another network, or not trained: some weights are no numbers.
    """
    path = Path(where)
    notes: tuple[str, ...] = ()
    if is_published(where):
        model = load_published(where, progress=progress)
    elif is_on_hub(where):
        model = load_model(where, progress=progress)
    elif path.suffix == BARE and (tensors := own_tensors(path, variant)) is not None:
        return StartingWeights(tensors, None)
    elif path.is_file() and path.suffix not in MODEL_FILES:
        imported = import_checkpoint(path, variant.name)
        model, notes = imported.model, imported.notes_on_weights
    else:
        model = load_model(path)
    tensors = model.network.state_dict()
    # Who imports a model may allow what a checkpoint may not have.
    if wrong := next((name for name, tensor in tensors.items() if not is_finite(tensor)), None):
        raise UserError(f"{where} cannot be trained on: its {wrong} holds numbers that are infinite or none (NaN)")
    return StartingWeights(tensors, model, notes)


def own_tensors(path: Path, variant: Variant) -> Mapping[str, Tensor] | None:
    """The tensors of a file with our names; None if its names are another library's.

    Raises:
        UserError: it is missing or damaged, or holds what no network has.
    """
    tensors = read_checkpoint(path).tensors
    own, found = map(kinds_of_names, (without_memory(variant, variant.spec).state_dict(), tensors))
    # Others call some of theirs as we do, as `fc.weight`, and of another depth a network has more parts or fewer.
    return tensors if len(own & found) > min(len(own), len(found)) / 2 else None


def kinds_of_names(tensors: Mapping[str, Tensor]) -> set[str]:
    """The names of tensors without numbers, which differ with the depth of a network."""
    return {re.sub(r"\d+", "", name) for name in tensors}


def full_name(where: str, variant: Variant, scale: Scale | None) -> str:
    """Where weights are, found again from anywhere: a whole path, or the whole name of published weights or of the hub.

    Args:
        where: see `open_weights`; a library alone, as "torchvision", stands for its default weights of the network.
        scale: of the network; None: it has a spec of its own, which may have any.

    Raises:
        UserError: there are none, or they are of another network, or of one of another width or depth.
    """
    library = next((library for library in LIBRARIES if library.name == where), None)
    if library is not None:
        return default_of(library, variant, scale)
    if is_published(where):
        check_is_of(where, variant, scale)
    return from_anywhere(where)


def default_of(library: Library, variant: Variant, scale: Scale | None) -> str:
    """The name of a library's default weights of a network.

    Raises:
        UserError: it has none; the message says what else there is.
    """
    rows = defaults(variant.name, scale)
    of_library = [row for row in rows if row.library == library.name]
    if of_library:
        return of_library[0].name
    own = [network for network in library.networks if network.variant == variant.name]
    difference = unlike(own, scale) if own and scale is not None else ""
    line = f"{library.name} has {'' if difference else 'no '}weights of {variant.name}"
    line += f" with {difference}" if difference else ""
    hints = [f"there are {', '.join(row.name for row in rows)}"] if rows else []
    hints += [
        f"its {network.name} is {network.variant}, for {network.why}"
        for whose, network in in_place_of(variant.name, scale, (library,))
    ]
    raise UserError("; ".join([line, *hints]))


def notes_on_published(variant: Variant, scale: Scale) -> tuple[str, ...]:
    """A line for who trains a network on photographs from nothing, if there are published weights of it, or of one that
    libraries have in its place."""
    rows = defaults(variant.name, scale)
    if not rows:
        others = in_place_of(variant.name, scale)
        name = f"{variant.name} at this width and depth" if published_for(variant.name) else variant.name
        return tuple(
            f"{none_published(name, others)}; to start from those train {network.variant} with --from {library.name}"
            for library, network in others[:1]
        )
    named = [row.name + (f" ({row.top1:.1f} % on {row.data})" if row.top1 else "") for row in rows]
    return (f"there are published weights of it: {', '.join(named)}; start from them with --from {rows[0].library}",)


@dataclass(frozen=True)
class Start:
    """The weights that training starts from."""

    init_from: InitFrom
    weights: StartingWeights

    @classmethod
    def opened(
        cls, init_from: InitFrom, variant: Variant, scale: Scale | None, progress: ProgressCallback = SILENT
    ) -> Start:
        """
        Args:
            scale: see `full_name`.
            progress: called with the progress of a download.

        Raises:
            UserError: there are none, or they are another network's.
        """
        where = full_name(init_from.path, variant, scale)
        return cls(replace(init_from, path=where), open_weights(where, variant, progress))

    @property
    def preprocessing(self) -> Preprocessing | None:
        """What the weights learned on; None for a bare file of weights."""
        return None if self.weights.model is None else self.weights.model.preprocessing

    def learned_side(self, variant: Variant, scale: Scale) -> int | None:
        """Side in pixels of the images that the weights of a variant learned on; None if it is unknown, or if phi is to
        change it."""
        model = self.weights.model
        if model is None or model.card.variant != variant.name or scale.phi:
            return None
        return model.preprocessing.crop

    @property
    def mode(self) -> ResizeMode | None:
        """How the images became squares that the weights learned on; None for published ones, whose images are others
        than a person's, and for a bare file of weights."""
        model = self.weights.model
        return None if model is None or model.provenance.imported is not None else model.preprocessing.mode

    @property
    def origin(self) -> StartedFrom | None:
        """Whose weights training starts from, also by way of models that were made of them; None: they began here."""
        model = self.weights.model
        if model is None:
            return None
        before = model.provenance.imported or model.provenance.started_from
        if is_on_hub(self.init_from.path):
            return StartedFrom(
                weights=self.init_from.path,
                sha256=model.card.weights_sha256 or "",
                license="" if before is None else before.license,
            )
        return before and StartedFrom(weights=before.weights, sha256=before.sha256, license=before.license)

    def check(self, variant: Variant, spec: Spec) -> tuple[str, ...]:
        """
        Returns:
            Lines for people about what is assumed, or not taken as it is.

        Raises:
            UserError: the weights do not fit the network, or have no quantization where that is to be kept.
        """
        if self.init_from.constraint is None:
            adapted = Backbone.of(self.weights.tensors, variant, spec, self.init_from.path).adapted
            return (*self.weights.notes, *adapted.notes)
        if self.init_from.constraint is WeightConstraint.QUANTIZED and not self.quantization:
            raise UserError(f"{self.init_from.path} has 32-bit weights; there is no quantization to keep")
        return ()

    @property
    def quantization(self) -> Quantization | None:
        """Of the network that is trained."""
        if self.init_from.constraint is not WeightConstraint.QUANTIZED or self.weights.model is None:
            return None
        return self.weights.model.card.quantization
