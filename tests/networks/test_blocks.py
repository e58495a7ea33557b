import math
import re
from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from torch import nn

from convatlas.errors import UserError
from convatlas.networks.blocks import (
    ConvNorm,
    ConvReLU,
    CrossEntropy,
    KaimingConv2d,
    LocalResponseNorm,
    check_width,
    conv_output_size,
    round_channels,
    scale_channels,
    scale_depth,
    scale_stage,
)

thousandths = st.integers(1, 4000).map(lambda n: n / 1000)


@pytest.mark.at_once(
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


@settings(max_examples=50)
@given(st.integers(1, 5000))
def test_width_one_leaves_channels_as_they_are(channels: int) -> None:
    assert scale_channels(channels, 1) == channels


@settings(max_examples=200)
@given(st.integers(1, 2000), thousandths)
def test_scaled_channels_are_the_nearest_that_the_rounding_knows(channels: int, width: float) -> None:
    assume(channels * width >= 0.5 and width != 1.0)
    scaled = scale_channels(channels, width)
    if channels * width <= 16:
        assert abs(scaled - channels * width) <= 0.5 + 1e-9
    elif scaled != channels:
        assert scaled % 8 == 0
        assert abs(scaled - channels * width) <= 4 + 1e-9


@settings(max_examples=300)
@given(st.integers(1, 300), thousandths, thousandths)
@example(30, 0.99, 1.0)
@example(84, 1.0, 1.01)
@example(16, 1.0, 1.04)
def test_a_greater_width_never_gives_fewer_channels(channels: int, one: float, other: float) -> None:
    narrow, wide = sorted((one, other))
    assume(channels * narrow >= 0.5)
    assert scale_channels(channels, narrow) <= scale_channels(channels, wide)


@pytest.mark.at_once("width", [0, -1, -0.001, float("nan"), float("inf"), -float("inf"), 1e9])
def test_a_width_that_is_no_multiplier_is_a_mistake_of_the_user(width: float) -> None:
    with pytest.raises(UserError, match=re.escape(f"width {width:g}")):
        check_width(width, [8])


@settings(max_examples=50)
@given(st.lists(st.integers(1, 500), min_size=1, max_size=5))
def test_the_narrowest_layer_says_the_smallest_width_that_works(channels: list[int]) -> None:
    with pytest.raises(UserError) as caught:
        check_width(0, channels)
    said = re.search(r"smallest width that works is ([\d.]+)", str(caught.value))
    assert said
    check_width(float(said[1]), channels)
    assert scale_channels(min(channels), float(said[1])) == 1
    with pytest.raises(UserError):
        check_width(float(said[1]) - 0.001, channels)


@pytest.mark.parametrize(("check", "most"), [(lambda n: check_width(n, [8]), 100), (lambda n: scale_depth(2, n), 1000)])
def test_a_multiplier_too_large_names_the_largest_that_is_not(check: Callable[[float], object], most: int) -> None:
    with pytest.raises(UserError, match=f"the largest (width|depth) that works is {most}$"):
        check(1e9)
    check(most)


@settings(max_examples=300)
@given(st.integers(1, 60), thousandths)
def test_units_are_the_exact_product_rounded_up_whatever_binary_fractions_say(units: int, depth: float) -> None:
    assert scale_depth(units, depth) == math.ceil(Fraction(str(depth)) * units)


@pytest.mark.at_once("depth", [1e-3, 1e-9, 1e-10, 1e-300])
def test_a_depth_however_small_leaves_a_unit(depth: float) -> None:
    assert scale_depth(3, depth) == 1


@pytest.mark.at_once("depth", [0, -0.0, -1, float("nan"), float("inf"), -float("inf")])
def test_a_depth_that_is_no_multiplier_is_a_mistake_of_the_user(depth: float) -> None:
    with pytest.raises(UserError, match=re.escape(f"depth {depth:g}")):
        scale_depth(2, depth)


@settings(max_examples=100)
@given(st.lists(st.integers(1, 99), min_size=1, max_size=8), thousandths)
def test_a_deeper_stage_ends_in_copies_of_its_last_unit(stage: list[int], depth: float) -> None:
    scaled = scale_stage(tuple(stage), depth)
    assert len(scaled) == scale_depth(len(stage), depth)
    assert scaled[: len(stage)] == tuple(stage[: len(scaled)])
    assert set(scaled[len(stage) :]) <= {stage[-1]}


def test_a_stage_of_no_units_stays_empty() -> None:
    assert scale_stage((), 3) == ()


@settings(max_examples=60)
@given(st.integers(1, 40), st.integers(1, 7), st.integers(1, 4), st.integers(0, 3))
def test_the_side_is_that_of_a_convolution(of: int, kernel: int, stride: int, padding: int) -> None:
    assume(of + 2 * padding >= kernel)
    out = F.conv2d(torch.zeros(1, 1, of, of), torch.zeros(1, 1, kernel, kernel), stride=stride, padding=padding)
    assert conv_output_size(of, kernel, stride, padding) == out.shape[-1]


@settings(max_examples=60)
@given(st.floats(0.5, 3000))
def test_eights_are_the_nearest_multiples_and_below_sixteen_the_nearest_whole_numbers(exact: float) -> None:
    rounded = round_channels(exact)
    assert isinstance(rounded, int)
    assert abs(rounded - exact) <= (0.5 if exact <= 16 else 4)
    assert exact <= 16 or rounded % 8 == 0


# --- layers ------------------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(
    channels=st.integers(1, 12),
    n=st.integers(1, 9),
    k=st.floats(0.5, 3),
    alpha=st.floats(1e-5, 1),
    beta=st.floats(0.1, 2),
)
def test_response_normalization_is_pytorchs_but_that_this_divides_alpha_by_n(
    channels: int, n: int, k: float, alpha: float, beta: float
) -> None:
    torch.manual_seed(channels)
    x = 3 * torch.randn(2, channels, 3, 4, dtype=torch.float64)
    theirs = nn.LocalResponseNorm(n, alpha=n * alpha, beta=beta, k=k)
    assert torch.allclose(LocalResponseNorm(n=n, k=k, alpha=alpha, beta=beta)(x), theirs(x), rtol=1e-10)


def test_response_normalization_has_the_papers_constants() -> None:
    # Krizhevsky et al. 2012, section 3.3: b = a / (2 + 0.0001 (sum of a^2 over five channels))^0.75.
    a = torch.tensor([30.0, 40.0, 10.0, 20.0, 50.0, 70.0, 60.0], dtype=torch.float64)
    expected = [a[i] / (2 + 1e-4 * a[max(0, i - 2) : i + 3].square().sum()) ** 0.75 for i in range(7)]
    found = LocalResponseNorm()(a.view(1, 7, 1, 1)).flatten()
    assert torch.allclose(found, torch.stack(expected), rtol=1e-12)


def test_response_normalization_hands_the_right_gradient_on() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 6, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(LocalResponseNorm(alpha=0.5), (x,))


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_convolutions_begin_with_two_over_their_fan_in_as_variance(groups: int) -> None:
    # He et al. 2015a, equation 10.
    torch.manual_seed(0)
    conv = KaimingConv2d(64, 128, 3, groups=groups)
    expected = math.sqrt(2 / (9 * 64 / groups))
    assert conv.weight.std().item() == pytest.approx(expected, rel=4 / math.sqrt(2 * conv.weight.numel()))
    assert conv.bias is not None
    assert not conv.bias.any()


@pytest.mark.at_once(("kernel", "stride"), [(1, 1), (1, 2), (3, 1), (3, 2), (5, 2), (7, 2)])
@pytest.mark.at_once("side_of_input", [8, 9])
def test_a_convolution_with_norm_keeps_the_side_or_halves_it(kernel: int, stride: int, side_of_input: int) -> None:
    torch.manual_seed(0)
    block = ConvNorm(3, 4, kernel, stride, eps=0.25).double().eval()
    for value in (block.norm.weight, block.norm.bias, block.norm.running_mean, block.norm.running_var):
        nn.init.uniform_(value, 0.5, 2)
    x = torch.randn(2, 3, side_of_input, side_of_input, dtype=torch.float64)
    outputs = block(x)
    assert outputs.shape[-1] == math.ceil(side_of_input / stride)
    y = F.conv2d(x, block.conv.weight, None, stride, kernel // 2)
    scale, shift, mean, variance = (
        value.view(-1, 1, 1)
        for value in (block.norm.weight, block.norm.bias, block.norm.running_mean, block.norm.running_var)
    )
    assert torch.allclose(outputs, (y - mean) / (variance + 0.25).sqrt() * scale + shift)


def test_rectification_comes_after_normalization() -> None:
    conv, norm = nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1).eval()
    nn.init.constant_(conv.weight, 1)
    nn.init.constant_(conv.bias, 0)  # type: ignore[arg-type]
    nn.init.constant_(norm.bias, -1)
    x = torch.tensor([-2.0, 0.5, 3.0]).view(3, 1, 1, 1)
    assert ConvReLU(conv)(x).flatten().tolist() == [0, 0.5, 3]
    assert ConvReLU(conv, norm)(x).flatten().tolist() == pytest.approx([0, 0, 2], abs=1e-4)


# --- losses ------------------------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(st.lists(st.floats(-20, 20), min_size=2, max_size=6), st.data())
def test_cross_entropy_is_minus_the_logarithm_of_the_right_classes_probability(
    outputs: list[float], data: st.DataObject
) -> None:
    right = data.draw(st.integers(0, len(outputs) - 1))
    exponents = [math.exp(output) for output in outputs]
    targets = torch.eye(len(outputs), dtype=torch.float64)[[right]]
    row = torch.tensor([outputs], dtype=torch.float64)
    loss = CrossEntropy().losses(row, targets).item()
    assert math.isclose(loss, -math.log(exponents[right] / sum(exponents)), rel_tol=1e-9, abs_tol=1e-9)
    expected = torch.tensor([[exponent / sum(exponents) for exponent in exponents]], dtype=torch.float64)
    assert torch.allclose(CrossEntropy().probabilities(row), expected)
