"""MobileNet against its paper (Howard et al. 2017) and against the same network written out with plain functions."""

import math
from collections.abc import Iterator
from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import convatlas as ca
from convatlas import atlas
from convatlas.measure import cost_of, layers_of
from convatlas.networks import mobilenet
from convatlas.spec import Variant

MOBILENET = atlas.find("mobilenet")
# Table 1: stride and output channels of the layers after the first; one of stride 1 and 512 channels comes five times.
# The last has stride 2 in print, and yet the same size of map.
TABLE_1 = ((1, 64), (2, 128), (1, 128), (2, 256), (1, 256), (2, 512), *((1, 512),) * 5, (2, 1024), (1, 1024))
every_variant = pytest.mark.parametrize("variant", mobilenet.FAMILY.variants, ids=lambda variant: variant.name)


pytestmark = pytest.mark.usefixtures("one_thread")


def tiny(name: str, resolution: int) -> nn.Module:
    """Narrow, and with every number away from where it begins."""
    torch.manual_seed(0)
    network = ca.create(name, width=0.0625, resolution=resolution, num_classes=7).double().eval()
    for value in network.state_dict().values():
        if value.is_floating_point():
            value.add_(0.1 * torch.rand_like(value))
    return network


def written_out(network: nn.Module, strides: list[int], x: Tensor, *, separable: bool = True) -> Tensor:
    """The first convolution and the layers with those strides, depthwise filters map by map."""
    value: Iterator[Tensor] = iter(v for v in network.state_dict().values() if v.is_floating_point())
    first, *others = strides

    def normalized(maps: Tensor) -> Tensor:
        scale, shift, mean, variance = (next(value).view(-1, 1, 1) for _ in range(4))
        return F.relu((maps - mean) / (variance + 1e-5).sqrt() * scale + shift)

    def full(maps: Tensor, stride: int) -> Tensor:
        return normalized(F.conv2d(maps, next(value), None, stride, 1))

    def depthwise(maps: Tensor, stride: int) -> Tensor:
        filters = next(value)
        assert filters.shape == (maps.shape[1], 1, 3, 3)
        filtered = [F.conv2d(maps[:, m : m + 1], filters[m : m + 1], None, stride, 1) for m in range(maps.shape[1])]
        return normalized(torch.cat(filtered, 1))

    def pointwise(maps: Tensor) -> Tensor:
        return normalized(torch.einsum("nchw,dc->ndhw", maps, next(value)[:, :, 0, 0]))

    x = full(x, first)
    for stride in others:
        x = pointwise(depthwise(x, stride)) if separable else full(x, stride)
    outputs = F.linear(x.mean((2, 3)), next(value), next(value))
    assert next(value, None) is None
    return outputs


# --- what the paper prints ---------------------------------------------------------------------------------------

PARAMS = {1.0: 4_231_976, 0.75: 2_585_560, 0.5: 1_331_592, 0.25: 470_072}
MACS = {
    1.0: {224: 568_740_352, 192: 418_121_728, 160: 290_675_200, 128: 186_400_768},
    0.75: {224: 325_400_448, 192: 239_273_472, 160: 166_396_800, 128: 106_770_432},
    0.5: {224: 149_497_088, 192: 109_970_432, 160: 76_524_800, 128: 49_160_192},
    0.25: {224: 41_030_272, 192: 30_212_608, 160: 21_059_200, 128: 13_570_048},
}


@pytest.mark.at_once("resolution", [224, 192, 160, 128])
@pytest.mark.at_once("alpha", [1.0, 0.75, 0.5, 0.25])
def test_all_widths_and_resolutions_add_up_to_the_known_sums(alpha: float, resolution: int) -> None:
    spec = MOBILENET.spec.scaled(alpha, resolution=resolution)
    assert cost_of(MOBILENET.network, spec) == (PARAMS[alpha], MACS[alpha][resolution])


@pytest.mark.parametrize(
    ("name", "params", "macs"),
    [("mobilenet-conv", 29_294_088, 4_867_293_184), ("mobilenet-shallow", 2_887_976, 307_323_392)],
)
def test_the_other_networks_add_up_to_the_known_sums(name: str, params: int, macs: int) -> None:
    variant = atlas.find(name)
    assert cost_of(variant.network, variant.spec) == (params, macs)


def test_the_layers_are_those_of_the_papers_table() -> None:
    table = layers_of(MOBILENET.network, MOBILENET.spec)
    network = MOBILENET.network(MOBILENET.spec)
    depthwise = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d) and layer.groups > 1]
    pointwise = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1)]
    built = [(d.stride[0], p.out_channels) for d, p in zip(depthwise, pointwise, strict=True)]
    assert tuple(built) == TABLE_1
    assert all(layer.groups == layer.in_channels == layer.out_channels for layer in depthwise)
    sides = [row.output_shape[-1] for row in table if row.name.endswith("pointwise.conv")]
    assert sides == [112, 56, 56, 28, 28, 14, 14, 14, 14, 14, 14, 7, 7]


def test_a_separable_layer_costs_one_nth_and_a_ninth_of_a_full_one() -> None:
    # Section 3.1: 1/N + 1/D_K^2, N output channels and D_K = 3.
    full = atlas.find("mobilenet-conv")
    tables = [layers_of(variant.network, variant.spec) for variant in (MOBILENET, full)]
    compared = 0
    for number, stage in enumerate(MOBILENET.spec.stages):
        for i, channels in enumerate(stage):
            separable, whole = (table.part(f"stages.{number}.{i}").macs for table in tables)
            assert Fraction(separable, whole) == Fraction(1, channels) + Fraction(1, 9)
            compared += 1
    assert compared == 13


def test_most_of_the_multiplications_are_in_1x1_convolutions() -> None:
    # Table 2; for the first convolution it prints 1.19 %.
    table = layers_of(MOBILENET.network, MOBILENET.spec)

    def share(part: str) -> float:
        return round(100 * sum(row.macs for row in table if row.name.endswith(part)) / table.macs, 2)

    shares = [share(part) for part in ("pointwise.conv", "depthwise.conv", "conv1.conv", "fc")]
    assert shares == [94.86, 3.06, 1.91, 0.18]


def test_five_layers_of_512_maps_are_missing_from_the_shallow_network() -> None:
    deep, shallow = (
        [channels for stage in atlas.find(name).spec.stages for channels in stage]
        for name in ("mobilenet", "mobilenet-shallow")
    )
    assert [deep.count(num) - shallow.count(num) for num in (64, 128, 256, 512, 1024)] == [0, 0, 0, 5, 0]


@every_variant
def test_weights_begin_with_he_et_als_deviation_and_have_no_biases(variant: Variant) -> None:
    torch.manual_seed(0)
    for layer in variant.network(variant.spec.scaled(width=0.5)).modules():
        if isinstance(layer, nn.Conv2d):
            expected = math.sqrt(2 / layer.weight[0].numel())
            tolerance = 4.5 / math.sqrt(2 * layer.weight.numel())
            assert layer.weight.std().item() == pytest.approx(expected, rel=tolerance)
            assert layer.bias is None


# --- against the same computed otherwise -------------------------------------------------------------------------

STRIDES = [2, *(stride for stride, _ in TABLE_1)]
# The small-image stem: no stride before the third layer that has one.
ONE_LEFT_OUT = [1, *STRIDES[1:]]
SMALL_STRIDES = [1, 1, 1, *STRIDES[3:]]


@pytest.mark.at_once(
    ("resolution", "strides"),
    [
        (28, SMALL_STRIDES),
        (32, SMALL_STRIDES),
        (33, ONE_LEFT_OUT),
        (63, ONE_LEFT_OUT),
        (64, STRIDES),
        (75, STRIDES),
    ],
)
@pytest.mark.at_once(("name", "separable"), [("mobilenet", True), ("mobilenet-conv", False)])
def test_a_network_is_the_layers_of_the_table_in_turn(
    name: str, separable: bool, resolution: int, strides: list[int]
) -> None:
    network = tiny(name, resolution)
    x = torch.randn(2, 3, resolution, resolution, dtype=torch.float64)
    expected = written_out(network, strides, x, separable=separable)
    assert expected.std() > 1e-3
    assert torch.allclose(network(x), expected, rtol=1e-9, atol=1e-12)


def test_the_shallow_network_is_the_table_without_five_layers() -> None:
    network = tiny("mobilenet-shallow", 70)
    x = torch.randn(2, 3, 70, 70, dtype=torch.float64)
    strides = [*STRIDES[:7], *STRIDES[12:]]
    assert torch.allclose(network(x), written_out(network, strides, x), rtol=1e-9, atol=1e-12)


# --- scaling -----------------------------------------------------------------------------------------------------


def test_depth_repeats_the_layers_of_stride_1() -> None:
    assert MOBILENET.spec.scaled(depth=2).stages == (
        (64,) * 2,
        (128,) * 3,
        (256,) * 3,
        (512,) * 11,
        (1024,) * 3,
    )
    assert MOBILENET.spec.scaled(depth=0.2).stages == ((64,), (128,) * 2, (256,) * 2, (512,) * 2, (1024,) * 2)


@every_variant
def test_an_added_layer_has_stride_1_and_as_many_maps_out_as_in(variant: Variant) -> None:
    plain, deep = (variant.spec.scaled(width=0.25, depth=depth) for depth in (1, 3))
    network = variant.network(deep)
    added = [
        layer
        for before, layers in zip(plain.stages, network.stages, strict=True)
        for unit in list(layers)[len(before) :]
        for layer in unit.modules()
        if isinstance(layer, nn.Conv2d)
    ]
    assert added
    assert all(layer.in_channels == layer.out_channels and layer.stride == (1, 1) for layer in added)
