"""The atlas: find a network by its name, and build it at any scale."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

from torch import nn

from convatlas.errors import unknown
from convatlas.networks import FAMILIES
from convatlas.networks.heads import head_of
from convatlas.spec import Family, Scale, Spec, Variant
from convatlas.weights.adapting import adapted
from convatlas.weights.taking import take_for


def families() -> tuple[Family, ...]:
    """Every family, oldest first."""
    return FAMILIES


def variants() -> tuple[Variant, ...]:
    """Every variant of every family."""
    return tuple(variant for family in FAMILIES for variant in family.variants)


def find(name: str) -> Variant:
    """The variant with this name.

    Raises:
        UserError: there is none; the message gives the nearest names.
    """
    rows = {variant.name: variant for variant in variants()}
    if name not in rows:
        raise unknown("network", name, rows)
    return rows[name]


def scale(
    variant: Variant,
    *,
    num_classes: int | None = None,
    in_channels: int | None = None,
    width: float = 1.0,
    depth: float = 1.0,
    resolution: int | None = None,
    phi: float = 0.0,
) -> Spec:
    """The variant's spec, scaled. For the arguments and errors see `create`."""
    spec = variant.spec.compound(phi, width=width, depth=depth, resolution=resolution)
    return replace(
        spec,
        num_classes=spec.num_classes if num_classes is None else num_classes,
        in_channels=spec.in_channels if in_channels is None else in_channels,
    )


def create(
    name: str,
    *,
    num_classes: int | None = None,
    in_channels: int | None = None,
    width: float = 1.0,
    depth: float = 1.0,
    resolution: int | None = None,
    phi: float = 0.0,
    weights: str | Path | None = None,
) -> nn.Module:
    """Build a network, with newly initialized weights or published ones. By default it is as the paper prints it.

    Args:
        name: a variant's name, as "lenet5"; `variants()` has them all.
        num_classes: outputs of the network; None: as many as the paper's has, or as the weights have. 0: no head, and
            the outputs are what the head would read, its features; if that is a map, its mean. (LeNets but `lenet5` and
            `lenet5-modern` squash them as they squash outputs.)
        in_channels: 1 for gray images, 3 for color.
        width: multiplier of every internal channel count; MobileNet's alpha.
        depth: multiplier of the layers or blocks that the paper repeats.
        resolution: side of the square input, in pixels; MobileNet's rho is `resolution` / 224.
        phi: EfficientNet's compound coefficient: multiplies depth, width and resolution by 1.2, 1.1 and 1.15 to the
            power of phi, besides the other multipliers. For other constants see `Spec.compound`.
        weights: published weights by name, as "torchvision:resnet18", or the file of another library's checkpoint; they
            must be of this network. With other classes than theirs the head is new; for gray images the first filters
            are summed over the colors; a warning says so. None: new weights.

    Returns:
        A module from images (batch, in_channels, resolution, resolution) to outputs (batch, num_classes), in training
        mode. Its `spec` holds every number that it is built from. Outputs are logits, except in the LeNet family:
        `lenet5` returns negative squared distances to the class codes, the others but `lenet5-modern` scaled tanh
        activations. In training mode GoogLeNet returns a tuple: its own outputs, then its two auxiliary classifiers'.

    Raises:
        UserError: an unknown name, or a size that cannot work; the message says the nearest that does. Or the weights
            cannot be read, or are of another network.
    """
    variant = find(name)
    spec = scale(
        variant,
        # Removed below.
        num_classes=1 if num_classes == 0 else num_classes,
        in_channels=in_channels,
        width=width,
        depth=depth,
        resolution=resolution,
        phi=phi,
    )
    taken = None if weights is None else take_for(variant, Scale(width=width, depth=depth, phi=phi), weights)
    if taken is not None and num_classes is None:
        spec = replace(spec, num_classes=taken.spec.num_classes)
    network = variant.network(spec)
    if taken is not None:
        fitting = adapted(taken.mapped.tensors, variant, spec, str(weights))
        # Without a head, none is new.
        for note in fitting.notes if num_classes != 0 else ():
            warnings.warn(f"{name}: {note}", stacklevel=2)
        fitting.load_into(network)
    if num_classes == 0:
        network.set_submodule(head_of(variant, spec), nn.Identity())
    return network
