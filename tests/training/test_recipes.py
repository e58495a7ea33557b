from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convatlas import atlas, measure
from convatlas.errors import UserError
from convatlas.networks.lenet import RECIPE_1998
from convatlas.spec import Recipe
from convatlas.training import recipes


@settings(max_examples=50, deadline=None)
@given(num_steps=st.integers(1, 5000))
def test_the_default_rate_climbs_to_its_peak_and_falls_towards_nothing(num_steps: int) -> None:
    rates = [recipes.rate(recipes.DEFAULT, 10, num_steps, step) for step in range(num_steps)]
    peak = rates.index(max(rates))
    assert all(0 <= rate <= recipes.DEFAULT.lr for rate in rates)
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert peak <= num_steps * recipes.DEFAULT.warm_up + 1
    if num_steps > 100:
        assert max(rates) > 0.95 * recipes.DEFAULT.lr
        assert rates[-1] < 0.01 * recipes.DEFAULT.lr


def test_the_rates_of_1998_are_those_of_section_iii_b() -> None:
    steps_per_epoch = 3
    passes = [recipes.rate(RECIPE_1998, steps_per_epoch, 60, epoch * steps_per_epoch) for epoch in range(20)]
    assert passes == [0.0005] * 2 + [0.0002] * 3 + [0.0001] * 3 + [0.00005] * 4 + [0.00001] * 8


def find(recipe: str, name: str, **scale: float) -> Recipe:
    variant = atlas.find(name)
    return recipes.find(recipe, variant, measure.layers_of(variant.network, variant.spec.scaled(**scale)))


def test_a_recipe_is_found_by_its_word() -> None:
    assert find("default", "lenet5") is recipes.DEFAULT
    assert find("paper", "lenet5") is RECIPE_1998


def test_a_variant_without_a_paper_recipe_says_so() -> None:
    with pytest.raises(UserError, match="no paper recipe of lenet1989"):
        find("paper", "lenet1989")


def test_an_unknown_recipe_names_the_near_one() -> None:
    with pytest.raises(UserError, match="did you mean paper"):
        find("papre", "lenet5")


@pytest.mark.parametrize("name", ["alexnet", "vgg11", "googlenet", "squeezenet"])
def test_deep_networks_that_normalise_nothing_train_at_a_lower_rate(name: str) -> None:
    assert find("default", name) == replace(recipes.DEFAULT, lr=recipes.DEEP_LR)
    assert recipes.DEFAULT.lr > recipes.DEEP_LR


@pytest.mark.parametrize("name", ["lenet5-modern", "alexnet-bn", "vgg11-bn", "plain18", "mobilenet", "efficientnet-b0"])
def test_shallow_and_normalised_networks_train_at_the_full_rate(name: str) -> None:
    assert find("default", name) is recipes.DEFAULT


def test_what_makes_a_network_deep_is_its_scale() -> None:
    assert find("default", "lenet5-modern", depth=10).lr == recipes.DEEP_LR
