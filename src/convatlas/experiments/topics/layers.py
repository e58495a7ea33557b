"""The layers of a network of the atlas, to be counted."""

from __future__ import annotations

from convatlas import atlas, measure
from convatlas.spec import Layers


def layers_of(name: str, *, width: float = 1.0, resolution: int | None = None) -> Layers:
    """Of a network by its name, scaled; see `Spec.scaled`."""
    variant = atlas.find(name)
    return measure.layers_of(variant.network, variant.spec.scaled(width=width, resolution=resolution))
