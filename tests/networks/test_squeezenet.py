"""SqueezeNet against its paper (Iandola et al. 2016) and against the same network written out with plain functions."""

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import convatlas as ca
from convatlas import atlas
from convatlas.errors import UserError
from convatlas.measure import cost_of, layers_of
from convatlas.networks import squeezenet
from convatlas.spec import Variant

# Figure 2 and Table 1: the modules after which the paper pools, and those that its simple bypass passes.
POOLED_AFTER = {"": (4, 8), "1.0-pytorch": (4, 8), "1.1": (3, 5)}
BYPASSED = (3, 5, 7, 9)
every_variant = pytest.mark.at_once("variant", squeezenet.FAMILY.variants)


pytestmark = pytest.mark.usefixtures("one_thread")


def tiny(name: str, resolution: int) -> nn.Module:
    """Narrow, and with every number away from where it begins."""
    torch.manual_seed(0)
    network = ca.create(name, width=0.0625, resolution=resolution, num_classes=7).double().eval()
    for value in network.state_dict().values():
        value.add_(0.1 * torch.rand_like(value))
    return network


def written_out(network: nn.Module, x: Tensor, *, bypass: str = "none", release: str = "") -> Tensor:
    """Figure 2, with that bypass; `release` is one that rectifies conv10; 1.1 pools earlier."""
    value: Iterator[Tensor] = iter(network.state_dict().values())
    resolution = network.spec.resolution
    kernel = 3 if release == "1.1" else 7

    def convolution(maps: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
        return F.conv2d(maps, next(value), next(value), stride, padding)

    def fire(maps: Tensor, number: int) -> Tensor:
        squeezed = F.relu(convolution(maps))
        expanded = torch.cat([F.relu(convolution(squeezed)), F.relu(convolution(squeezed, padding=1))], 1)
        if bypass in ("simple", "complex") and number in BYPASSED:
            return expanded + maps
        return expanded + convolution(maps) if bypass == "complex" else expanded

    x = F.relu(convolution(x, 1, kernel // 2) if resolution < 33 else convolution(x, 2))
    x = x if resolution < 64 else F.max_pool2d(x, 3, 2, ceil_mode=True)
    for number in range(2, 10):
        x = fire(x, number)
        if number in POOLED_AFTER[release]:
            x = F.max_pool2d(x, 3, 2, ceil_mode=True)
    x = convolution(F.dropout(x, 0.5, network.training))
    assert next(value, None) is None
    return (F.relu(x) if release else x).mean((2, 3))


# --- what the paper prints ---------------------------------------------------------------------------------------


@pytest.mark.at_once(
    ("name", "resolution", "params", "macs"),
    [
        ("squeezenet", 227, 1_248_424, 832_667_936),
        ("squeezenet", 224, 1_248_424, 818_924_576),
        ("squeezenet1.0-pytorch", 227, 1_248_424, 832_667_936),
        ("squeezenet1.1", 224, 1_235_496, 349_151_936),
        ("squeezenet-simple-bypass", 227, 1_248_424, 832_667_936),
    ],
)
def test_the_layers_add_up_to_the_known_sums(name: str, resolution: int, params: int, macs: int) -> None:
    variant = atlas.find(name)
    assert cost_of(variant.network, variant.spec.scaled(resolution=resolution)) == (params, macs)


def test_the_complex_bypass_adds_four_projections() -> None:
    variant = atlas.find("squeezenet-complex-bypass")
    table = layers_of(variant.network, variant.spec)
    added = {row.name.split(".")[-2]: row.params for row in table if row.name.endswith("bypass")}
    # 97 x 128, 129 x 256, 257 x 384, 385 x 512 with the biases.
    assert added == {"fire2": 12_416, "fire4": 33_024, "fire6": 98_688, "fire8": 197_120}
    assert table.params == 1_248_424 + 341_248


def test_the_maps_are_those_of_the_papers_table() -> None:
    # Table 1, "output size" and the column of parameters.
    variant = atlas.find("squeezenet")
    table = layers_of(variant.network, variant.spec)
    sides = [row.output_shape[-1] for row in table if row.kind in ("Conv2d", "MaxPool2d")]
    assert (sides[0], sides[-1]) == (111, 13)
    assert [row.output_shape[-1] for row in table.of_kind("MaxPool2d")] == [55, 27, 13]
    params = [table.part(f"stages.{stage}.fire{number}").params for number, stage in enumerate("00011112", 2)]
    assert params == [11_920, 12_432, 45_344, 49_440, 104_880, 111_024, 188_992, 197_184]
    assert (table["conv1.conv"].params, table["conv10"].params) == (14_208, 513_000)


def test_half_of_the_filters_that_expand_are_1x1() -> None:
    # Section 4.1.2: "percentage of 3x3 filters" 50 %; the squeeze ratio is 0.125 (section 5.1).
    for stage in atlas.find("squeezenet").spec.stages:
        for s1x1, e1x1, e3x3 in stage:
            assert e1x1 == e3x3
            assert 8 * s1x1 == e1x1 + e3x3


@every_variant
def test_weights_begin_with_he_et_als_deviation_and_with_a_hundredth_in_the_last_layer(variant: Variant) -> None:
    torch.manual_seed(0)
    for name, layer in variant.network(variant.spec.scaled(width=0.5)).named_modules():
        if isinstance(layer, nn.Conv2d):
            expected = 0.01 if name == "conv10" else math.sqrt(2 / layer.weight[0].numel())
            tolerance = 4.5 / math.sqrt(2 * layer.weight.numel())
            assert layer.weight.std().item() == pytest.approx(expected, rel=tolerance)
            assert not layer.bias.any()


# --- the paper's design space ------------------------------------------------------------------------------------


def test_the_papers_metaparameters_make_the_papers_network() -> None:
    # Section 5.1: base_e = 128, incr_e = 128, pct3x3 = 0.5, freq = 2, SR = 0.125.
    paper = atlas.find("squeezenet").spec
    assert squeezenet.from_metaparameters() == paper
    assert squeezenet.from_metaparameters(base_e=128, incr_e=128, pct3x3=0.5, freq=2, sr=0.125) == paper


@pytest.mark.parametrize(("sr", "printed_mb"), [(0.125, 4.8), (0.75, 19)])
def test_the_sizes_of_figure_3_are_those_of_their_squeeze_ratios(sr: float, printed_mb: float) -> None:
    variant = atlas.find("squeezenet")
    size = 4 * cost_of(variant.network, squeezenet.from_metaparameters(sr=sr)).params / 2**20
    assert abs(size - printed_mb) < (0.1 if printed_mb < 10 else 1)


def test_metaparameters_say_how_modules_are_made() -> None:
    spec = squeezenet.from_metaparameters(base_e=40, incr_e=10, pct3x3=0.2, freq=3, sr=0.1, stages=(1, 3))
    # 40 maps in the first three modules and 50 after; a fifth of them from 3x3, a tenth squeezed.
    assert spec.stages == (((4, 32, 8),), ((4, 32, 8), (4, 32, 8), (5, 40, 10)))


def test_the_smallest_share_of_filters_is_one() -> None:
    few, many = (squeezenet.from_metaparameters(base_e=16, pct3x3=part, sr=0.001).stages[0][0] for part in (0.001, 1.0))
    assert few == (1, 15, 1)
    assert many == (1, 1, 15)


def test_the_same_modules_pooled_earlier_have_as_many_parameters_and_less_to_compute() -> None:
    network = atlas.find("squeezenet").network
    late, early = (cost_of(network, squeezenet.from_metaparameters(stages=stages)) for stages in ((3, 4, 1), (1, 1, 6)))
    assert late.params == early.params
    assert early.macs < late.macs


@pytest.mark.at_once(
    ("wrong", "words"),
    [
        ({"base_e": 1}, "base_e 1 makes no network; it must be at least 2"),
        ({"incr_e": -1}, "incr_e -1 makes no network; it must be at least 0"),
        ({"freq": 0}, "freq 0 makes no network"),
        ({"conv1": 0}, "conv1 0 makes no network"),
        ({"pct3x3": 0.0}, "pct3x3 0 is not a fraction of the filters"),
        ({"pct3x3": 1.5}, "pct3x3 1.5 is not a fraction"),
        ({"sr": math.nan}, "sr nan is not a fraction"),
        ({"stages": (3, 0, 1)}, r"stages \(3, 0, 1\) have no module between two poolings"),
        ({"stages": ()}, "have no module"),
    ],
)
def test_metaparameters_that_make_no_network_are_told(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        squeezenet.from_metaparameters(**wrong)


# --- against the same computed otherwise -------------------------------------------------------------------------


@pytest.mark.at_once("resolution", [28, 32, 33, 63, 64, 75])
@pytest.mark.at_once(
    ("name", "bypass", "release"),
    [
        ("squeezenet", "none", ""),
        ("squeezenet1.0-pytorch", "none", "1.0-pytorch"),
        ("squeezenet1.1", "none", "1.1"),
        ("squeezenet-simple-bypass", "simple", ""),
        ("squeezenet-complex-bypass", "complex", ""),
    ],
)
def test_a_network_is_what_the_paper_draws(name: str, bypass: str, release: str, resolution: int) -> None:
    network = tiny(name, resolution)
    x = torch.randn(2, 3, resolution, resolution, dtype=torch.float64)
    expected = written_out(network, x, bypass=bypass, release=release)
    assert expected.std() > 1e-3
    assert torch.allclose(network(x), expected, rtol=1e-9, atol=1e-12)


def test_half_of_the_maps_before_the_last_layer_are_dropped_in_training() -> None:
    # Section 3.3: "Dropout with a ratio of 50% is applied after the fire9 module".
    network = tiny("squeezenet", 28).train()
    x = torch.randn(2, 3, 28, 28, dtype=torch.float64)
    torch.manual_seed(1)
    expected = written_out(network, x)
    torch.manual_seed(1)
    assert torch.allclose(network(x), expected, rtol=1e-9, atol=1e-12)
    assert not torch.allclose(network(x), expected)


def test_outputs_of_the_paper_may_be_negative_and_those_of_the_release_are_not() -> None:
    x = torch.randn(8, 3, 64, 64, dtype=torch.float64)
    outputs = {}
    for name in ("squeezenet", "squeezenet1.0-pytorch", "squeezenet1.1"):
        network = tiny(name, 64)
        nn.init.normal_(network.conv10.weight)
        nn.init.zeros_(network.conv10.bias)
        outputs[name] = network(x)
    assert (outputs["squeezenet"] < 0).any()
    assert (outputs["squeezenet1.0-pytorch"] >= 0).all()
    assert (outputs["squeezenet1.1"] >= 0).all()


# --- scaling -----------------------------------------------------------------------------------------------------


@every_variant
def test_an_added_module_copies_the_last_of_its_stage(variant: Variant) -> None:
    plain, deep = (variant.spec.scaled(width=0.25, depth=depth) for depth in (1, 2))
    for stage, deeper in zip(plain.stages, deep.stages, strict=True):
        assert deeper == stage + stage[-1:] * len(stage)
    network = variant.network(deep)
    for stage in network.stages:
        fires = [layer for layer in stage if isinstance(layer, squeezenet.Fire)]
        for fire in fires[len(fires) // 2 :]:
            assert fire.squeeze.conv.in_channels == fire.out_channels
            assert isinstance(fire.bypass, nn.Identity) == deep.bypass
    assert network.eval()(torch.zeros(1, 3, deep.resolution, deep.resolution)).shape == (1, 1000)
