"""What list, show and compare print, as the library gives it."""

from __future__ import annotations

import dataclasses

import pytest

from convatlas import atlas
from convatlas.measure import Footprint, cost_of, layers_of, recipe_settings, summarize, variant_costs
from convatlas.spec import Variant

every_variant = pytest.mark.at_once("variant", atlas.variants())


def test_every_variant_has_a_row_in_the_order_of_the_atlas() -> None:
    families = atlas.families()[:2]
    rows = variant_costs(families)
    assert [(row.family.name, row.variant.name) for row in rows] == [
        (family.name, variant.name) for family in families for variant in family.variants
    ]
    for row in rows:
        assert (row.params, row.macs) == cost_of(row.variant.network, row.variant.spec)


@pytest.mark.parametrize("name", ["googlenet", "lenet5", "mobilenet"])
def test_a_footprint_is_that_of_the_layer_table(name: str) -> None:
    variant = atlas.find(name)
    table = layers_of(variant.network, variant.spec)
    summary = summarize(variant)
    assert summary.layers == table
    assert summary.footprint == Footprint(
        params=table.params,
        training_only_params=table.training_only_params,
        macs=table.macs,
        peak_activation_bytes=table.peak_activation_bytes,
        weight_bytes_32_bits=4 * table.params,
        weight_bytes_16_bits=2 * table.params,
        weight_bytes_8_bits=table.params,
    )
    assert summary.input_shape == (variant.spec.in_channels, variant.spec.resolution, variant.spec.resolution)


def test_a_scaled_summary_is_of_the_scaled_network() -> None:
    variant = atlas.find("mobilenet")
    spec = atlas.scale(variant, width=0.5, resolution=96)
    summary = summarize(variant, spec)
    assert (summary.variant, summary.spec, summary.input_shape) == (variant, spec, (3, 96, 96))
    assert summary.footprint.params == cost_of(variant.network, spec).params


@every_variant
def test_every_source_of_a_recipe_is_given(variant: Variant) -> None:
    sources = variant.recipe.sources if variant.recipe else ()
    expected = {name: source for names, source in sources for name in names.split(", ")}
    given = {setting.name: setting.source for setting in recipe_settings(variant.recipe)}
    assert {name: source for name, source in given.items() if source is not None} == expected


@every_variant
def test_every_setting_of_a_recipe_is_a_field_with_its_value(variant: Variant) -> None:
    for setting in recipe_settings(variant.recipe):
        assert variant.recipe is not None
        parts = (variant.recipe, variant.recipe.augmentation)
        (part,) = [part for part in parts if setting.name in {field.name for field in dataclasses.fields(part)}]
        assert setting.value == getattr(part, setting.name)
        assert setting.text


def test_values_of_a_recipe_are_written_for_people() -> None:
    settings = {setting.name: setting for setting in recipe_settings(atlas.find("resnet20-cifar").recipe)}
    texts = {name: setting.text for name, setting in settings.items()}
    assert texts["optimizer"] == "sgd"
    assert texts["lr"] == "0.1"
    assert texts["epochs"] == "164"
    assert texts["flip"] == "yes"
    assert texts["schedule"] == "0.1 for 82 epochs, 0.01 for 41 epochs, 0.001 for 41 epochs"
    assert settings["weight_decay"].source == "section 4.2"
    assert "label_smoothing" not in settings
    assert recipe_settings(None) == ()
