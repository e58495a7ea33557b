import math
import subprocess
import sys
from dataclasses import FrozenInstanceError, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convatlas.spec import Claim, Layer, Layers, Optimiser, Recipe, Verdict

RECIPE = Recipe(name="some", optimiser=Optimiser.ADAMW, lr=0.01, batch_size=32, epochs=20, epochs_of=64000)


def layer(name: str, *, params: int = 0, macs: int = 0) -> Layer:
    return Layer(name=name, kind="Linear", output_shape=(1,), params=params, macs=macs, receptive_field=1)


@pytest.mark.parametrize(
    ("printed", "value", "last_digit"),
    [
        ("60,000", 60000, 1),
        ("340,908", 340908, 1),
        ("0.95 %", 0.95, 0.01),
        ("5.0 %", 5.0, 0.1),
        ("2.6 thousand", 2600, 100),
        ("17 thousand", 17000, 1000),
        ("4.2 million", 4200000, 100000),
    ],
)
def test_a_claim_is_worth_what_is_printed_and_as_precise_as_its_last_digit(
    printed: str, value: float, last_digit: float
) -> None:
    claim = Claim("figure", printed, "section 1")
    assert math.isclose(claim.value, value, rel_tol=1e-12)
    assert math.isclose(claim.last_digit, last_digit, rel_tol=1e-12)


def test_the_verdicts_bear_the_words_that_people_read() -> None:
    assert [str(verdict) for verdict in Verdict] == ["holds", "erratum", "not tested here", "disagrees"]


def test_a_layer_table_adds_up_its_rows() -> None:
    table = Layers((layer("a", params=3, macs=50), layer("b", params=4, macs=7)))
    assert (table.params, table.macs) == (7, 57)
    assert [row.name for row in table] == ["a", "b"]
    assert table["b"].params == 4


def test_an_empty_layer_table_costs_nothing() -> None:
    assert (Layers(()).params, Layers(()).macs) == (0, 0)


def test_a_claim_and_a_recipe_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        RECIPE.lr = 1.0  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        Claim("figure", "1", "section 1").printed = "2"  # type: ignore[misc]


@pytest.mark.parametrize(("num_pictures", "epochs"), [(64000, 20), (8000, 40), (1000, 80), (64, 200), (1_000_000, 20)])
def test_smaller_sets_get_more_passes_with_the_cube_root(num_pictures: int, epochs: int) -> None:
    assert RECIPE.epochs_for(num_pictures) == epochs


def test_a_broken_number_of_passes_is_rounded_up() -> None:
    # 20 x cbrt(64000 / 63999) is just above 20.
    assert RECIPE.epochs_for(63999) == 21


def test_a_recipe_without_a_measure_keeps_its_epochs() -> None:
    recipe = replace(RECIPE, epochs_of=None)
    assert recipe.epochs_for(1) == recipe.epochs_for(10**9) == 20


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 200_000), st.integers(1, 200_000))
def test_fewer_pictures_never_get_fewer_passes_nor_more_steps(one: int, other: int) -> None:
    fewer, more = sorted((one, other))
    assert RECIPE.epochs_for(fewer) >= RECIPE.epochs_for(more)
    # Up to one pass that rounding up adds.
    assert fewer * (RECIPE.epochs_for(fewer) - 1) <= more * RECIPE.epochs_for(more)


def test_speaking_of_networks_loads_no_torch() -> None:
    code = "import sys, convatlas, convatlas.spec, convatlas.errors; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
