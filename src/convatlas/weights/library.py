"""The libraries whose weights can be loaded, and which of our networks each of theirs is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from convatlas.spec import Scale
from convatlas.weights.checkpoint import Format
from convatlas.weights.mapping import Names

UNSCALED = Scale()
MULTIPLIERS = ("width", "depth", "phi")
"""What makes a network of other shapes of a variant; its resolution does not."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network of a library, and which of ours it is: the same outputs, for the same weights and inputs."""

    name: str
    """Theirs, as "resnet50"."""
    variant: str
    """Ours, as "resnet50-v1.5"."""
    scale: Scale = UNSCALED
    """Of ours, where theirs is a variant scaled: a MobileNet with another alpha."""
    departs_from: str = ""
    """Ours that a paper prints and that it is not, as "resnet50"; "": it is that network itself."""
    why: str = ""
    """What sets it apart from that one."""


def unlike(networks: Iterable[Network], scale: Scale) -> str:
    """What of a scale none of these networks has, as "`width` 0.5, not 1"; "" if one of them has all of it."""
    scales = [network.scale for network in networks]
    found = []
    for name in MULTIPLIERS:
        theirs, asked = dict.fromkeys(getattr(one, name) for one in scales), getattr(scale, name)
        if asked not in theirs:
            found.append(f"`{name}` {' or '.join(f'{value:g}' for value in theirs)}, not {asked:g}")
    return ", and ".join(found)


def as_named(tensors: Mapping[str, Tensor], spec: Any) -> Mapping[str, Tensor]:
    return tensors


def as_published(tensors: Mapping[str, Tensor]) -> None:
    return None


@dataclass(frozen=True, kw_only=True)
class Library:
    """A library, or a repository of weights."""

    name: str
    """What people type before the colon, as "torchvision"."""
    formats: tuple[Format, ...]
    """Of its files."""
    networks: tuple[Network, ...]
    names: Callable[[Any], Names]
    """The table of its tensors for a spec of one of these networks."""
    renamed: Callable[[Mapping[str, Tensor], Any], Mapping[str, Tensor]] = as_named
    """A checkpoint's tensors under the names that the table has, for a spec, where some files have others."""
    normalization: Callable[[Mapping[str, Tensor]], tuple[tuple[float, ...], tuple[float, ...]] | None] = as_published
    """Mean and standard deviation of pixels from 0 to 1, if the checkpoint itself says them; None: it does not."""
