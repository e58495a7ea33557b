"""Names: which tensor of a checkpoint is which of a network, by a table of rules. Nothing is loaded by half."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor, nn

from convatlas.errors import UserError
from convatlas.formatting import plural

NUMBER = re.compile(r"\{(\w+)([+-]\d+)?\}")
COUNTERS = "num_batches_tracked"
"""Of batch normalization: a counter that only training without momentum reads."""
NUM_NAMED = 3
"""Tensors that a message names."""


@dataclass(frozen=True)
class Rule:
    """A row of a library's table: the layers of this name here have that name there.

    A number in braces stands for itself in both names, and may be shifted in the second, as in
    `Rule("stages.{s}.{u}.layers.{k}.conv", "layer{s+1}.{u}.conv{k+1}")`.
    """

    ours: str
    """A layer of the network."""
    theirs: str
    """A layer of the checkpoint; its tensors have the endings of PyTorch, as `weight`."""
    change: Callable[[Tensor], Tensor] | None = None
    """What makes our weight of theirs, where the two are laid out differently; with `only`, that tensor."""
    only: str = ""
    """The one tensor that this is about, as "weight"; "": all of the layer's."""

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Of our layers that this is about."""
        return re.compile(NUMBER.sub(lambda found: rf"(?P<{found[1]}>\d+)", self.ours.replace(".", r"\.")))

    def name_there(self, layer: str) -> str | None:
        """The checkpoint's name of our layer; None: the rule is about others."""
        match = self.pattern.fullmatch(layer)
        if match is None:
            return None
        return NUMBER.sub(lambda found: str(int(match[found[1]]) + int(found[2] or 0)), self.theirs)


@dataclass(frozen=True)
class Names:
    """How the tensors of one kind of network are called in one library."""

    rules: tuple[Rule, ...]
    """The first that fits counts."""
    ignored: tuple[str, ...] = ()
    """Regular expressions of the checkpoint's tensors that no network of ours has."""
    optional: tuple[str, ...] = ()
    """Parts of the network that only training has and a checkpoint may lack, or have in other shapes: such a part stays
    as it began."""

    def there(self, tensor: str) -> tuple[str, Rule] | None:
        """The checkpoint's name of our tensor, and the rule that says so; None: there is no rule for it."""
        layer, _, ending = tensor.rpartition(".")
        for rule in self.rules:
            if rule.only in ("", ending) and (found := rule.name_there(layer)) is not None:
                return f"{found}.{ending}", rule
        return None

    def missing_in(self, checkpoint: Mapping[str, Tensor]) -> list[str]:
        """What a checkpoint lacks of the tensors that every network of these names has, whatever its depth."""
        named = [
            f"{rule.theirs}.{rule.only or 'weight'}"
            for rule in self.rules
            if "{" not in rule.theirs and not rule.ours.startswith(self.optional)
        ]
        return [name for name in named if name not in checkpoint]

    def is_ignored(self, tensor: str) -> bool:
        return tensor.endswith(COUNTERS) or any(re.fullmatch(pattern, tensor) for pattern in self.ignored)


@dataclass(frozen=True)
class Row:
    """A line of the mapping report."""

    ours: str
    theirs: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Mapped:
    """The weights of a network, taken from a checkpoint."""

    tensors: dict[str, Tensor]
    """All that the network's state dict has, but for the counters of batch normalization and for what is kept."""
    rows: tuple[Row, ...]
    """Where each is from."""
    ignored: tuple[str, ...]
    """What the checkpoint has beside them."""
    kept: tuple[str, ...]
    """Tensors of the network's optional parts that stay as they began."""

    def load_into(self, network: nn.Module) -> None:
        """Copy them into the network that they were mapped to."""
        network.load_state_dict(network.state_dict() | self.tensors)


class MappingError(UserError):
    """A checkpoint is not of the network that it is mapped to."""

    def __init__(self, message: str, num_wrong: int = 1) -> None:
        """
        Args:
            num_wrong: tensors that are missing, left over or of another shape: the fewer, the nearer.
        """
        super().__init__(message)
        self.num_wrong = num_wrong


def mapped(checkpoint: Mapping[str, Tensor], names: Names, network: nn.Module, where: str) -> Mapped:
    """The tensors of a checkpoint under the network's names.

    Args:
        network: with the shapes that are expected; it may lie on the meta device.
        where: what messages call the checkpoint.

    Raises:
        MappingError: a tensor is missing, left over, or of another shape; the message names it.
    """
    found: dict[str, Tensor] = {}
    rows: list[Row] = []
    missing: list[str] = []
    wanted = {name: tensor for name, tensor in network.state_dict().items() if not name.endswith(COUNTERS)}
    kept = [name for part in names.optional for name in kept_of(part, wanted, checkpoint, names)]
    for ours, expected in wanted.items():
        if ours in kept:
            continue
        place = names.there(ours)
        if place is None or place[0] not in checkpoint:
            missing.append(ours if place is None else place[0])
            continue
        theirs, rule = place
        tensor = checkpoint[theirs]
        if rule.change is not None and ours.endswith(rule.only or "weight"):
            tensor = changed(tensor, rule.change, expected)
        if tensor.shape != expected.shape:
            raise MappingError(
                f"{where} does not fit: its {theirs} has the shape {tuple(checkpoint[theirs].shape)}, "
                f"and {ours} has {tuple(expected.shape)}"
            )
        found[ours] = tensor.to(expected.dtype)
        rows.append(Row(ours, theirs, tuple(tensor.shape)))
    if missing:
        raise MappingError(f"{where} does not fit: it has no {some(missing)}", len(missing))
    used = {row.theirs for row in rows}
    rest = [name for name in checkpoint if name not in used]
    if left := [name for name in rest if not names.is_ignored(name)]:
        raise MappingError(f"{where} does not fit: nothing here takes its {some(left)}", len(left))
    return Mapped(found, tuple(rows), tuple(rest), tuple(kept))


def changed(tensor: Tensor, change: Callable[[Tensor], Tensor], expected: Tensor) -> Tensor:
    """Their weight laid out as ours; as it is, if it is none of that size, which its shape then says."""
    if tensor.numel() != expected.numel():
        return tensor
    try:
        return change(tensor)
    except (RuntimeError, IndexError):
        # As many numbers, in another shape.
        return tensor


def kept_of(part: str, wanted: Mapping[str, Tensor], checkpoint: Mapping[str, Tensor], names: Names) -> list[str]:
    """The tensors of an optional part of the network, if the checkpoint does not have them all in their shapes."""
    inside = [name for name in wanted if name.startswith(f"{part}.")]
    for name in inside:
        place = names.there(name)
        if place is None or place[0] not in checkpoint or checkpoint[place[0]].shape != wanted[name].shape:
            return inside
    return []


def some(names: list[str]) -> str:
    more = f" and {plural(len(names) - NUM_NAMED, 'other tensor')}" if len(names) > NUM_NAMED else ""
    return f"{', '.join(names[:NUM_NAMED])}{more}"
