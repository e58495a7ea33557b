"""What a network of the atlas costs and how its paper trains it: the figures of `list`, `show` and `compare`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from convatlas import atlas
from convatlas.formatting import count
from convatlas.measure.table import cost_of, layers_of
from convatlas.recipe import Recipe
from convatlas.spec import Family, Layers, Spec, Variant


@dataclass(frozen=True, kw_only=True)
class VariantCost:
    """A variant at its paper's scale."""

    family: Family
    variant: Variant
    params: int
    """Trainable parameters, without those that only training uses."""
    macs: int
    """Multiply-accumulates for one image."""


def variant_costs(families: Iterable[Family] | None = None, *, released: bool = True) -> tuple[VariantCost, ...]:
    """A row for each variant, in the order of the families; without families, for the whole atlas.

    A variant's year, input and published result are `row.variant.paper.year`, `row.variant.spec` and
    `row.variant.published`.

    Args:
        released: whether networks that libraries released and no paper prints are among them.
    """
    rows = []
    for family in atlas.families() if families is None else families:
        for variant in family.variants:
            if variant.released and not released:
                continue
            cost = cost_of(variant.network, variant.spec)
            rows.append(VariantCost(family=family, variant=variant, params=cost.params, macs=cost.macs))
    return tuple(rows)


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """What a device stores and computes for one image."""

    params: int
    """Trainable parameters, without those that only training uses."""
    training_only_params: int
    """As of GoogLeNet's auxiliary heads."""
    macs: int
    """Multiply-accumulates of convolutions and fully connected layers, biases not counted."""
    peak_activation_bytes: int
    """The most memory that activations take at once, the input included, as 32-bit numbers."""
    weight_bytes_32_bits: int
    weight_bytes_16_bits: int
    weight_bytes_8_bits: int

    @classmethod
    def of(cls, layers: Layers) -> Footprint:
        return cls(
            params=layers.params,
            training_only_params=layers.training_only_params,
            macs=layers.macs,
            peak_activation_bytes=layers.peak_activation_bytes,
            weight_bytes_32_bits=layers.weight_bytes(32),
            weight_bytes_16_bits=layers.weight_bytes(16),
            weight_bytes_8_bits=layers.weight_bytes(8),
        )


@dataclass(frozen=True, kw_only=True)
class NetworkSummary:
    """A variant at one scale, layer by layer and as a whole."""

    variant: Variant
    spec: Spec
    layers: Layers
    footprint: Footprint

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width)"""
        return self.spec.in_channels, self.spec.resolution, self.spec.resolution


def summarize(variant: Variant, spec: Spec | None = None) -> NetworkSummary:
    """The layer table and the footprint of a variant, without allocating its weights.

    Args:
        spec: the scale, as from `atlas.scale`; None: the paper's own.
    """
    spec = variant.spec if spec is None else spec
    layers = layers_of(variant.network, spec)
    return NetworkSummary(variant=variant, spec=spec, layers=layers, footprint=Footprint.of(layers))


@dataclass(frozen=True, kw_only=True)
class RecipeSetting:
    """One setting of a paper's recipe."""

    name: str
    """Field of `Recipe` or of its `Augmentation`, as "batch_size"."""
    value: Any
    text: str
    """The value for people, as "4,096" or "times 0.97 every 2.4 epochs"."""
    source: str | None
    """Where the paper prints it, as "section 3.2"; None: the paper does not print it."""


def recipe_settings(recipe: Recipe | None) -> tuple[RecipeSetting, ...]:
    """What a recipe sets, without fields that have their default; empty for a paper without a recipe."""
    if recipe is None:
        return ()
    sources = {name: source for names, source in recipe.sources for name in names.split(", ")}
    return tuple(
        RecipeSetting(
            name=field.name,
            value=value,
            text=_text(value, recipe.epochs),
            source=sources.get(field.name),
        )
        for part in (recipe, recipe.augmentation)
        for field in dataclasses.fields(part)
        if field.name not in ("name", "augmentation", "sources")
        and (value := getattr(part, field.name)) != field.default
    )


def _text(value: Any, epochs: int) -> str:
    """A recipe's value for people.

    Args:
        epochs: length of the training, in which a schedule says when its rate changes.
    """
    if isinstance(value, bool):
        return "yes"
    if isinstance(value, int):
        return count(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else str(value.describe(epochs))
