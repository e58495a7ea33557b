"""Whose network a checkpoint is, and its weights as ours."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from convatlas.errors import UserError, unknown
from convatlas.files import SILENT, ProgressCallback
from convatlas.networks import FAMILIES
from convatlas.networks.heads import shaped_by, without_memory
from convatlas.spec import Scale, Spec, Variant
from convatlas.weights.checkpoint import Checkpoint
from convatlas.weights.libraries import LIBRARIES
from convatlas.weights.library import Library, Network, unlike
from convatlas.weights.local import read_published
from convatlas.weights.mapping import Mapped, MappingError, Names, mapped, some
from convatlas.weights.published import Published, find_published, published
from convatlas.weights.reading import read_checkpoint


@dataclass(frozen=True)
class Taken:
    """The weights of one of our networks, taken from a checkpoint."""

    published: Published
    """Whose weights these are, or whose preprocessing they are taken to have."""
    variant: Variant
    spec: Spec
    """With the classes and the input channels that the checkpoint has."""
    mapped: Mapped
    sha256: str
    """Of the checkpoint's file."""

    def build(self) -> nn.Module:
        """The network with these weights, in evaluation mode, on the CPU."""
        # What the checkpoint does not have is the same every time, so that a model has one checksum.
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(0)
            network = self.variant.network(self.spec)
        self.mapped.load_into(network)
        return network.eval()


Candidate = tuple[Library, Network]
VARIANTS = {variant.name: variant for family in FAMILIES for variant in family.variants}


def candidates() -> Iterator[Candidate]:
    """Every network of every library."""
    return ((library, network) for library in LIBRARIES for network in library.networks)


def is_published(name: str) -> bool:
    """Whether that is written like the name of published weights, as "torchvision:resnet18", and not like a path."""
    return name.partition(":")[0] in {library.name for library in LIBRARIES}


def check_spelling(name: str) -> None:
    """Tell a path that nothing is at from a library's name with a slip in it.

    Raises:
        UserError: it is such a name; the message has the right one.
    """
    library, *rest = name.split(":")
    near = difflib.get_close_matches(library.lower(), [known.name for known in LIBRARIES], n=1, cutoff=0.8)
    # False, too, where there can be no such path.
    if near and not is_published(name) and not os.path.exists(name):
        raise UserError(f"there is no {name}; did you mean {':'.join([*near, *rest])}?")


def take_published(name: str, progress: ProgressCallback = SILENT) -> Taken:
    """Published weights by their name; they are downloaded if they are not on this machine.

    Raises:
        UserError: there are none of that name, or they cannot be downloaded.
    """
    row = find_published(name)
    return take_as(read_published(row, progress), row.name)


def take_for(variant: Variant, scale: Scale, weights: str | Path) -> Taken:
    """The weights of a network.

    Args:
        scale: of the network.
        weights: the name of published ones, or the file of a checkpoint.

    Raises:
        UserError: there are none, or they are of another network.
    """
    check_spelling(str(weights))
    if not is_published(str(weights)):
        return take_as(read_checkpoint(Path(weights)), variant.name)
    check_is_of(str(weights), variant, scale)
    return take_published(str(weights))


def check_is_of(name: str, variant: Variant, scale: Scale | None) -> None:
    """Hold published weights against the network that they are for, before they are downloaded.

    Args:
        scale: of the network; None: it has a spec of its own, which may have any.

    Raises:
        UserError: there are none of that name, or they are of another network, or of one of another width or depth.
    """
    theirs = network_of(find_published(name))
    if theirs.variant != variant.name:
        raise UserError(f"{name} is {theirs.variant}, and not {variant.name}")
    if scale is not None and (difference := unlike([theirs], scale)):
        raise UserError(f"{name} is {variant.name} with {difference}")


def take_as(checkpoint: Checkpoint, name: str) -> Taken:
    """The weights of a checkpoint that somebody says is of this network.

    Args:
        name: a variant of the atlas, as "resnet50-v1.5", or published weights, as "torchvision:resnet50".

    Raises:
        UserError: there is no such network, or the checkpoint is of another one, or is known to be other published
            weights; the message says which.
    """
    if is_published(name):
        row = find_published(name)
        of_network = (other for other in published() if (other.library, other.network) == (row.library, row.network))
        told = [other for other in of_network if other.is_of_file(checkpoint.sha256)]
        if told and row not in told:
            raise UserError(f"{checkpoint.path} is {told[0].name}, and not {row.name}; call it so")
        return take_or_tell(checkpoint, [pair for pair in candidates() if is_of(row, pair)], row.name, row)
    if name not in VARIANTS:
        raise unknown("network", name, VARIANTS)
    for known_row in published():
        if not known_row.is_of_file(checkpoint.sha256):
            continue
        taken = take_as(checkpoint, known_row.name)
        if taken.variant.name != name:
            raise other_network(checkpoint, taken, name)
        return taken
    of_format = (pair for pair in candidates() if checkpoint.format in pair[0].formats)
    return take_or_tell(checkpoint, [pair for pair in of_format if pair[1].variant == name], name)


def take_or_tell(checkpoint: Checkpoint, pairs: list[Candidate], name: str, row: Published | None = None) -> Taken:
    """What `take` takes, or the error that says whose weights these are.

    Args:
        pairs: the networks that the checkpoint is said to be of.
        name: what somebody calls it.

    Raises:
        UserError: it is of none of them.
    """
    try:
        if not pairs:
            raise MappingError(
                f"{checkpoint.path} does not fit: nobody publishes weights of {name} as {checkpoint.format}"
            )
        return take(checkpoint, pairs, row)
    except MappingError as error:
        for pair in candidates():
            if checkpoint.format not in pair[0].formats or pair in pairs:
                continue
            try:
                taken = take(checkpoint, [pair])
            except MappingError:
                continue
            raise other_network(checkpoint, taken, name) from error
        raise


def is_of(row: Published, candidate: Candidate) -> bool:
    library, network = candidate
    return (row.library, row.network) == (library.name, network.name)


def network_of(row: Published) -> Network:
    """Which of our networks published weights are of."""
    return next(network for library, network in candidates() if is_of(row, (library, network)))


def published_for(name: str) -> tuple[Published, ...]:
    """All published weights of a library, or of one of our networks.

    Raises:
        UserError: there is neither a library nor a network of that name.
    """
    known = (*(library.name for library in LIBRARIES), *VARIANTS)
    if name not in known:
        raise unknown("network or library", name, known)
    return tuple(row for row in published() if name in (row.library, network_of(row).variant))


def other_network(checkpoint: Checkpoint, taken: Taken, name: str) -> UserError:
    row = taken.published
    network = network_of(row)
    why = f": {network.why}" if network.why else ""
    if is_published(name):
        return UserError(
            f"{checkpoint.path} has the weights of {row.library}'s {row.network}, which is {taken.variant.name} here, "
            f"and not of {name}; call it {row.library}:{row.network}"
        )
    return UserError(
        f"{checkpoint.path} has the weights of {row.library}'s {row.network}, which is not {name} but "
        f"{taken.variant.name}{why}"
    )


def take(checkpoint: Checkpoint, pairs: Iterable[Candidate], row: Published | None = None) -> Taken:
    """The weights of the first of these networks that the checkpoint is of.

    Args:
        pairs: at least one.
        row: whose weights these are; None: unknown.

    Raises:
        MappingError: it is of none of them; the message says what differs from the one that it is nearest to.
    """
    errors: list[MappingError] = []
    for library, network in pairs:
        whose = find_published(f"{library.name}:{network.name}") if row is None else row
        variant = VARIANTS[network.variant]
        spec = variant.spec.at(replace(network.scale, resolution=whose.preprocessing.crop))
        names, where = library.names(spec), str(checkpoint.path)
        tensors = library.renamed(checkpoint.tensors, spec)
        try:
            # Before a network is built for it.
            if missing := names.missing_in(tensors):
                raise MappingError(f"{where} does not fit: it has no {some(missing)}", len(missing))
            spec = with_ends_of(tensors, names, variant, spec, where)
            weights = mapped(tensors, names, without_memory(variant, spec), where)
        except MappingError as error:
            errors.append(error)
            continue
        return Taken(as_in(checkpoint, library, whose), variant, spec, weights, checkpoint.sha256)
    raise min(errors, key=lambda error: error.num_wrong)


def as_in(checkpoint: Checkpoint, library: Library, row: Published) -> Published:
    """The row with the normalization that the checkpoint says, if it says one."""
    found = library.normalization(checkpoint.tensors)
    if found is None:
        return row
    mean, std = found
    return replace(row, preprocessing=replace(row.preprocessing, mean=mean, std=std, value_range=1.0))


def with_ends_of(tensors: Mapping[str, Tensor], names: Names, variant: Variant, spec: Spec, where: str) -> Spec:
    """The spec with the checkpoint's numbers of classes and of input channels."""
    found = {}
    for field, axis in (("num_classes", 0), ("in_channels", 1)):
        place = names.there(shaped_by(variant, spec, field)[0])
        tensor = None if place is None else tensors.get(place[0])
        if tensor is not None and tensor.dim() > axis:
            found[field] = int(tensor.shape[axis])
    try:
        return replace(spec, **found)
    except UserError as error:
        raise MappingError(f"{where} does not fit: {error}") from error
