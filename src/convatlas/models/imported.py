"""Models of other libraries' weights, by name or from a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from convatlas import measure
from convatlas.errors import UserError
from convatlas.files import SILENT, ProgressCallback
from convatlas.files.typed_json import encoded
from convatlas.models.card import Card, Imported, Provenance
from convatlas.models.model import Model
from convatlas.weights.classes import class_names
from convatlas.weights.mapping import COUNTERS
from convatlas.weights.reading import read_checkpoint
from convatlas.weights.taking import Taken, is_published, take_as, take_published


@dataclass(frozen=True)
class ImportedModel:
    """A model, and how the tensors of its checkpoint became its weights."""

    model: Model
    taken: Taken
    notes: tuple[str, ...]
    """Lines for people about what was assumed."""


def load_published(name: str, *, progress: ProgressCallback = SILENT) -> Model:
    """The model of published weights, which are downloaded if they are not on this machine.

    Args:
        name: as "torchvision:resnet18"; `convatlas weights` lists them.
        progress: called with the progress of the download.

    Raises:
        UserError: there are no such weights, or they cannot be downloaded.
    """
    taken = take_published(name, progress)
    return model_of(taken, class_names(taken.published.data))


def import_checkpoint(
    path: str | Path, name: str, *, classes: Sequence[str] | None = None, allow_nan: bool = False
) -> ImportedModel:
    """The model of a checkpoint of another library.

    Args:
        path: the file.
        name: a network of the atlas, as "resnet50-v1.5", or published weights, as "torchvision:resnet50", whose
            preprocessing and classes the checkpoint has.
        classes: the class names, in the order of the outputs; None: those of the published weights.
        allow_nan: take weights that are not finite, too.

    Raises:
        UserError: it cannot be read, or is of another network; the message says which.
    """
    taken = take_as(read_checkpoint(Path(path), allow_nan=allow_nan), name)
    row, num = taken.published, taken.spec.num_classes
    notes = [] if is_published(name) else [f"preprocessing and classes are taken to be those of {row.name}"]
    notes += [f"not used: {left}" for left in taken.mapped.ignored if not left.endswith(COUNTERS)]
    if kept := dict.fromkeys(name.partition(".")[0] for name in taken.mapped.kept):
        notes.append(f"not taken is what only training has, and begins anew: {', '.join(kept)}")
    names = class_names(row.data) if classes is None else tuple(classes)
    if len(names) != num:
        if classes is not None:
            raise UserError(f"{path} has {num} classes, and {len(names)} are named")
        names = tuple(map(str, range(num)))
        notes.append(f"the names of its {num} classes are not known, so they are numbered")
    return ImportedModel(model_of(taken, names), taken, tuple(notes))


def model_of(taken: Taken, classes: tuple[str, ...]) -> Model:
    row, cost = taken.published, measure.cost_of(taken.variant.network, taken.spec)
    card = Card(
        variant=taken.variant.name,
        spec=encoded(taken.spec),
        classes=classes,
        preprocessing=row.preprocessing,
        provenance=Provenance(
            method="imported",
            data=row.data,
            imported=Imported(
                weights=row.name,
                sha256=taken.sha256,
                top1=fraction(row.top1),
                top5=fraction(row.top5),
                license=row.license,
            ),
        ),
        params=cost.params,
        macs=cost.macs,
    )
    return Model(card, load_network=taken.build)


def fraction(percent: float | None) -> float | None:
    return None if percent is None else percent / 100
