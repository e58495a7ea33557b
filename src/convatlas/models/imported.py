"""Models of other libraries' weights, by name or from a checkpoint."""

from __future__ import annotations

from collections import Counter
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
from convatlas.weights.local import is_published_file
from convatlas.weights.mapping import COUNTERS
from convatlas.weights.published import Published
from convatlas.weights.reading import read_checkpoint
from convatlas.weights.taking import Taken, is_published, take_as, take_published

UNKNOWN = "unknown images"
"""What weights were trained on that nobody has published."""


@dataclass(frozen=True)
class ImportedModel:
    """A model, and how the tensors of its checkpoint became its weights."""

    model: Model
    taken: Taken
    notes_on_weights: tuple[str, ...]
    """Lines for people about what was assumed, which hold for whoever trains on these weights too."""
    notes_on_classes: tuple[str, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines for people about what was assumed."""
        return (*self.notes_on_weights, *self.notes_on_classes)


def load_published(name: str, *, progress: ProgressCallback = SILENT) -> Model:
    """The model of published weights, which are downloaded if they are not on this machine.

    Args:
        name: as "torchvision:resnet18"; `convatlas weights` lists them.
        progress: called with the progress of the download.

    Raises:
        UserError: there are no such weights, or they cannot be downloaded.
    """
    taken = take_published(name, progress)
    return model_of(taken, class_names(taken.published.data), is_theirs=True)


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
        UserError: it cannot be read, or is of another network; the message says which. Or its classes are not as many
            as the names, of which none may stand twice.
    """
    taken = take_as(read_checkpoint(Path(path), allow_nan=allow_nan), name)
    row, num = taken.published, taken.spec.num_classes
    names, notes_on_classes = named(classes, row, num, path)
    # Where nobody publishes a checksum, whoever calls the weights by their name is believed.
    is_theirs = is_published_file(row, Path(path), taken.sha256) or (
        row.checksum is None and is_published(name) and len(class_names(row.data)) == num
    )
    notes = [] if is_theirs else [f"preprocessing is taken to be that of {row.name}"]
    notes += [f"not used: {left}" for left in taken.mapped.ignored if not left.endswith(COUNTERS)]
    if kept := dict.fromkeys(name.partition(".")[0] for name in taken.mapped.kept):
        notes.append(f"not taken is what only training has, and begins anew: {', '.join(kept)}")
    return ImportedModel(
        model_of(taken, names, is_theirs=is_theirs), taken, tuple(notes), () if is_theirs else notes_on_classes
    )


def named(
    given: Sequence[str] | None, row: Published, num: int, path: str | Path
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of a checkpoint's classes, and lines for people about what was assumed of them.

    Args:
        given: by a person.
        row: the published weights that these may be.
        num: how many classes the checkpoint has.

    Raises:
        UserError: others than that many are given, or one twice.
    """
    if given is not None:
        if len(given) != num:
            raise UserError(f"{path} has {num} classes, and {len(given)} are named")
        if twice := [name for name, times in Counter(given).items() if times > 1]:
            raise UserError(f"two classes are called {twice[0]}; give each a name of its own")
        return tuple(given), ()
    theirs = class_names(row.data)
    if len(theirs) == num:
        return theirs, (f"classes are taken to be those of {row.data}",)
    return tuple(map(str, range(num))), (f"the names of its {num} classes are not known, so they are numbered",)


def model_of(taken: Taken, classes: tuple[str, ...], *, is_theirs: bool) -> Model:
    """
    Args:
        is_theirs: whether these are the very weights that were published, and not others of that network.
    """
    row, cost = taken.published, measure.cost_of(taken.variant.network, taken.spec)
    origin = Imported(weights="", sha256=taken.sha256)
    if is_theirs:
        origin = Imported(
            weights=row.name,
            sha256=taken.sha256,
            top1=fraction(row.top1),
            top5=fraction(row.top5),
            license=row.license,
        )
    card = Card(
        variant=taken.variant.name,
        spec=encoded(taken.spec),
        classes=classes,
        preprocessing=row.preprocessing,
        provenance=Provenance(method="imported", data=row.data if is_theirs else UNKNOWN, imported=origin),
        params=cost.params,
        macs=cost.macs,
    )
    return Model(card, load_network=taken.build)


def fraction(percent: float | None) -> float | None:
    return None if percent is None else percent / 100
