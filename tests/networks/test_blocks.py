import math
import re
from fractions import Fraction

import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from convatlas.errors import UserError
from convatlas.networks.blocks import CrossEntropy, check_spec, scale_channels, scale_units

thousandths = st.integers(1, 4000).map(lambda n: n / 1000)


@pytest.mark.parametrize(
    ("channels", "width", "scaled"),
    [
        (6, 0.5, 3),
        (6, 0.25, 2),  # 1.5
        (6, 0.75, 5),  # 4.5
        (16, 0.5, 8),
        (10, 1.5, 15),
        (16, 1.0, 16),
        (16, 1.1, 16),  # 17.6
        (16, 2.0, 32),
        (64, 0.75, 48),
        (120, 0.5, 64),  # 60
        (84, 2.0, 168),
        (20, 1.0, 20),
    ],
)
def test_channels_are_whole_up_to_sixteen_and_multiples_of_eight_above(
    channels: int, width: float, scaled: int
) -> None:
    assert scale_channels(channels, width) == scaled


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 5000))
def test_width_one_leaves_channels_as_they_are(channels: int) -> None:
    assert scale_channels(channels, 1) == channels


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 2000), thousandths)
def test_scaled_channels_are_the_nearest_that_the_rounding_knows(channels: int, width: float) -> None:
    assume(channels * width >= 0.5 and width != 1.0)
    scaled = scale_channels(channels, width)
    if channels * width <= 16:
        assert abs(scaled - channels * width) <= 0.5 + 1e-9
    elif scaled != channels:
        assert scaled % 8 == 0
        assert abs(scaled - channels * width) <= 4 + 1e-9


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 300), thousandths, thousandths)
@example(30, 0.99, 1.0)
@example(84, 1.0, 1.01)
@example(16, 1.0, 1.04)
def test_a_greater_width_never_gives_fewer_channels(channels: int, one: float, other: float) -> None:
    narrow, wide = sorted((one, other))
    assume(channels * narrow >= 0.5)
    assert scale_channels(channels, narrow) <= scale_channels(channels, wide)


@pytest.mark.parametrize("width", [0, -1, -0.001, float("nan"), float("inf"), -float("inf")])
def test_a_width_that_is_no_multiplier_is_a_mistake_of_the_user(width: float) -> None:
    with pytest.raises(UserError, match=re.escape(f"width {width:g}")):
        scale_channels(8, width)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 500))
def test_a_layer_that_vanishes_names_the_smallest_width_that_keeps_it(channels: int) -> None:
    with pytest.raises(UserError) as caught:
        scale_channels(channels, 0)
    said = re.search(r"smallest width that works is ([\d.]+)", str(caught.value))
    assert said
    assert scale_channels(channels, float(said[1])) == 1
    with pytest.raises(UserError):
        scale_channels(channels, float(said[1]) - 0.001)


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 60), thousandths)
def test_units_are_the_exact_product_rounded_up_whatever_binary_fractions_say(units: int, depth: float) -> None:
    assert scale_units(units, depth) == math.ceil(Fraction(str(depth)) * units)


@pytest.mark.parametrize("depth", [1e-3, 1e-9, 1e-10, 1e-300])
def test_a_depth_however_small_leaves_a_unit(depth: float) -> None:
    assert scale_units(3, depth) == 1


@pytest.mark.parametrize("depth", [0, -0.0, -1, float("nan"), float("inf"), -float("inf")])
def test_a_depth_that_is_no_multiplier_is_a_mistake_of_the_user(depth: float) -> None:
    with pytest.raises(UserError, match=re.escape(f"depth {depth:g}")):
        scale_units(2, depth)


def test_the_smallest_numbers_of_a_spec_are_allowed() -> None:
    check_spec(num_classes=1, in_channels=1, resolution=28, smallest_resolution=28)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [({"num_classes": 0}, "0 classes"), ({"in_channels": 0}, "1 channel"), ({"resolution": 27}, "works is 28 px")],
)
def test_a_spec_that_cannot_work_is_a_one_line_error(wrong: dict[str, int], says: str) -> None:
    numbers = {"num_classes": 2, "in_channels": 3, "resolution": 28, "smallest_resolution": 28} | wrong
    with pytest.raises(UserError, match=says) as caught:
        check_spec(**numbers)
    assert len(str(caught.value).splitlines()) == 1


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-20, 20), min_size=2, max_size=6), st.data())
def test_cross_entropy_is_minus_the_logarithm_of_the_right_classes_probability(
    outputs: list[float], data: st.DataObject
) -> None:
    right = data.draw(st.integers(0, len(outputs) - 1))
    exponents = [math.exp(output) for output in outputs]
    targets = torch.eye(len(outputs), dtype=torch.float64)[[right]]
    row = torch.tensor([outputs], dtype=torch.float64)
    loss = CrossEntropy().loss(row, targets).item()
    assert math.isclose(loss, -math.log(exponents[right] / sum(exponents)), rel_tol=1e-9, abs_tol=1e-9)
    expected = torch.tensor([[exponent / sum(exponents) for exponent in exponents]], dtype=torch.float64)
    assert torch.allclose(CrossEntropy().probabilities(row), expected)
