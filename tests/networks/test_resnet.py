"""ResNet against its papers and against the same network written out with plain functions.

He, Zhang, Ren and Sun 2015 and 2016.
"""

import math
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import convatlas as ca
from convatlas import atlas
from convatlas.errors import UserError
from convatlas.measure import cost_of, layers_of
from convatlas.networks import resnet
from convatlas.networks.resnet import ResNetSpec, Shortcut
from convatlas.spec import Variant

every_variant = pytest.mark.at_once("variant", resnet.FAMILY.variants)


pytestmark = pytest.mark.usefixtures("one_thread")


def tiny(name: str, resolution: int, depth: float = 1) -> nn.Module:
    """Narrow, and with every number away from where it begins."""
    torch.manual_seed(0)
    width = 4 / atlas.find(name).spec.stem
    network = ca.create(name, width=width, depth=depth, resolution=resolution, num_classes=7).double().eval()
    for value in network.state_dict().values():
        if value.is_floating_point():
            value.add_(0.1 * torch.rand_like(value))
    return network


def written_out(network: nn.Module, x: Tensor, option: str, *, strided: int = 0, preact: bool = False) -> Tensor:
    """The network with that shortcut, the stride of a unit in the convolution number `strided`."""
    value: Iterator[Tensor] = iter(v for v in network.state_dict().values() if v.is_floating_point())
    spec = network.spec

    def convolution(weight: Tensor, maps: Tensor, stride: int) -> Tensor:
        return F.conv2d(maps, weight, None, stride, weight.shape[-1] // 2)

    def normalized(maps: Tensor) -> Tensor:
        scale, shift, mean, variance = (next(value).view(-1, 1, 1) for _ in range(4))
        return (maps - mean) / (variance + 1e-5).sqrt() * scale + shift

    def convolution_and_norm(maps: Tensor, stride: int = 1) -> Tensor:
        return normalized(convolution(next(value), maps, stride))

    def option_a(maps: Tensor, like: Tensor) -> Tensor:
        """Section 3.3: "with extra zero entries padded for increasing dimensions", at a stride of 2."""
        if maps.shape == like.shape:
            return maps
        padded = torch.zeros_like(like)
        step = 1 if maps.shape[2:] == like.shape[2:] else 2
        padded[:, : maps.shape[1]] = maps[:, :, ::step, ::step]
        return padded

    def unit(maps: Tensor, num: int, stride: int) -> Tensor:
        y = maps
        for i in range(num):
            y = convolution_and_norm(y, stride if i == strided else 1)
            y = y if i == num - 1 else F.relu(y)
        changes = maps.shape != y.shape
        if option == "C" or (option == "B" and changes):
            y = y + convolution_and_norm(maps, stride)
        elif option in "AB":
            y = y + option_a(maps, y)
        return F.relu(y)

    def preactivation_unit(maps: Tensor, num: int, stride: int, first: bool) -> Tensor:
        norms = [[next(value).view(-1, 1, 1) for _ in range(4)] for _ in range(num)]
        y = maps
        activated = maps
        for i, (scale, shift, mean, variance) in enumerate(norms):
            y = F.relu((y - mean) / (variance + 1e-5).sqrt() * scale + shift)
            activated = y if i == 0 else activated
            y = convolution(next(value), y, stride if i == strided else 1)
        if maps.shape == y.shape:
            # 2016, appendix: the first unit of the network activates before its two paths part.
            return y + (activated if first else maps)
        return y + (option_a(activated, y) if option == "A" else convolution(next(value), activated, stride))

    if spec.cifar:
        x = convolution(next(value), x, 1)
        x = x if preact else F.relu(normalized(x))
    else:
        x = F.relu(normalized(convolution(next(value), x, 1 if spec.resolution < 33 else 2)))
        x = x if spec.resolution < 64 else F.max_pool2d(x, 3, 2, 1)
    for number, stage in enumerate(spec.stages):
        for i, sizes in enumerate(stage):
            stride = 2 if number and not i else 1
            first = number == i == 0
            x = preactivation_unit(x, len(sizes), stride, first) if preact else unit(x, len(sizes), stride)
    x = F.relu(normalized(x)) if preact else x
    outputs = F.linear(x.mean((2, 3)), next(value), next(value))
    assert next(value, None) is None
    return outputs


def convolutions(module: nn.Module) -> list[nn.Conv2d]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]


# --- what the papers print ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "params", "macs"),
    [
        ("plain18", 11_515_688, 1_794_805_760),
        ("plain34", 21_623_848, 3_644_493_824),
        ("resnet18", 11_689_512, 1_814_073_344),
        ("resnet18-a", 11_515_688, 1_794_805_760),
        ("resnet18-c", 12_043_816, 1_878_298_624),
        ("resnet34", 21_797_672, 3_663_761_408),
        ("resnet34-a", 21_623_848, 3_644_493_824),
        ("resnet34-c", 22_716_840, 3_830_747_136),
        ("resnet50", 25_557_032, 3_857_973_248),
        ("resnet101", 44_549_160, 7_570_194_432),
        ("resnet152", 60_192_808, 11_282_415_616),
        ("resnet50-v1.5", 25_557_032, 4_089_184_256),
        ("resnet101-v1.5", 44_549_160, 7_801_405_440),
        ("resnet152-v1.5", 60_192_808, 11_513_626_624),
        ("resnet20-cifar", 269_722, 40_551_040),
        ("resnet32-cifar", 464_154, 68_862_592),
        ("resnet44-cifar", 658_586, 97_174_144),
        ("resnet56-cifar", 853_018, 125_485_696),
        ("resnet110-cifar", 1_727_962, 252_887_680),
        ("resnet1202-cifar", 19_421_274, 2_829_238_912),
    ],
)
def test_the_layers_add_up_to_the_known_sums(name: str, params: int, macs: int) -> None:
    variant = atlas.find(name)
    assert cost_of(variant.network, variant.spec) == (params, macs)


@pytest.mark.parametrize("layers", [20, 32, 44, 56, 110])
def test_a_plain_network_costs_what_its_residual_counterpart_costs(layers: int) -> None:
    # Section 4.1: option A has no parameters and no multiplications.
    plain, residual = (atlas.find(f"{kind}{layers}-cifar") for kind in ("plain", "resnet"))
    assert cost_of(plain.network, plain.spec) == cost_of(residual.network, residual.spec)


@every_variant
def test_a_network_has_the_layers_that_its_name_says(variant: Variant) -> None:
    # "n layers": the convolutions but for projections, and the fully connected one.
    layers = int("".join(c for c in variant.name.split("-")[0] if c.isdigit()))
    assert isinstance(variant.spec, ResNetSpec)
    assert 1 + sum(len(unit) for stage in variant.spec.stages for unit in stage) + 1 == layers


def test_the_maps_have_the_sides_that_the_paper_prints() -> None:
    # 2015, Table 1 and section 4.2.
    for name, sides in (("resnet34", [56, 28, 14, 7]), ("resnet50", [56, 28, 14, 7]), ("resnet20-cifar", [32, 16, 8])):
        variant = atlas.find(name)
        table = layers_of(variant.network, variant.spec)
        assert [table.part(f"stages.{i}").rows[-1].output_shape[-1] for i in range(len(sides))] == sides


def test_a_network_for_cifar_takes_images_from_24_px() -> None:
    spec = atlas.find("resnet20-cifar").spec
    assert spec.scaled(resolution=24).resolution == 24
    with pytest.raises(UserError, match="the smallest that works is 24 px"):
        spec.scaled(resolution=23)


def strides(name: str) -> list[list[int]]:
    """Of the convolutions in the first unit of each stage but the first."""
    network = ca.create(name, width=0.0625, resolution=32)
    return [[layer.stride[0] for layer in convolutions(stage[0].layers)] for stage in network.stages[1:]]


@pytest.mark.parametrize("layers", [50, 101, 152])
def test_a_bottleneck_has_its_stride_in_the_first_1x1_and_in_the_3x3_of_v1_5(layers: int) -> None:
    assert strides(f"resnet{layers}") == [[2, 1, 1]] * 3
    assert strides(f"resnet{layers}-v1.5") == [[1, 2, 1]] * 3


def shortcuts(name: str) -> list[str]:
    """What passes each unit of two stages."""
    network = ca.create(name, resolution=32, width=0.25)
    kinds = {
        nn.Identity: "identity",
        resnet.ZeroPadded: "zeros",
        resnet.ConvNorm: "projection",
        resnet.KaimingConv2d: "projection",
        type(None): "nothing",
    }
    return [kinds[type(unit.shortcut)] for stage in network.stages[:2] for unit in stage]


@pytest.mark.at_once(
    ("name", "expected"),
    [
        ("plain18", ["nothing"] * 4),
        ("resnet18-a", ["identity", "identity", "zeros", "identity"]),
        ("resnet18", ["identity", "identity", "projection", "identity"]),
        ("resnet18-c", ["projection"] * 4),
        ("resnet20-cifar", ["identity"] * 3 + ["zeros"] + ["identity"] * 2),
        ("resnet20-cifar-b", ["identity"] * 3 + ["projection"] + ["identity"] * 2),
        ("resnet20-cifar-c", ["projection"] * 6),
        # A bottleneck has four times as many maps as the first layer, so that its first unit changes the shape too.
        ("resnet50", ["projection", "identity", "identity"] + ["projection"] + ["identity"] * 3),
    ],
)
def test_the_shortcuts_are_those_of_the_papers_options(name: str, expected: list[str]) -> None:
    assert shortcuts(name) == expected


@pytest.mark.at_once("name", ["plain18", "resnet18-c", "resnet50", "resnet20-cifar-b", "resnet164-preact-cifar"])
def test_weights_begin_with_he_et_als_deviation_and_have_no_biases(name: str) -> None:
    variant = atlas.find(name)
    torch.manual_seed(0)
    depth = min(1, 20 / sum(map(len, variant.spec.stages)))
    for layer in convolutions(variant.network(variant.spec.scaled(width=0.5, depth=depth))):
        expected = math.sqrt(2 / layer.weight[0].numel())
        # Four and a half standard errors of the estimate: there are hundreds of layers.
        tolerance = 4.5 / math.sqrt(2 * layer.weight.numel())
        assert layer.weight.std().item() == pytest.approx(expected, rel=tolerance)
        assert layer.bias is None


# --- against the same computed otherwise -------------------------------------------------------------------------


@pytest.mark.at_once("resolution", [28, 32, 33, 63, 64, 75])
@pytest.mark.at_once(
    ("name", "option", "strided"),
    [
        ("plain18", "-", 0),
        ("resnet18-a", "A", 0),
        ("resnet18", "B", 0),
        ("resnet18-c", "C", 0),
        ("resnet50", "B", 0),
        ("resnet50-v1.5", "B", 1),
    ],
)
def test_a_network_is_what_the_paper_draws(name: str, option: str, strided: int, resolution: int) -> None:
    network = tiny(name, resolution)
    x = torch.randn(2, 3, resolution, resolution, dtype=torch.float64)
    expected = written_out(network, x, option, strided=strided)
    assert expected.std() > 1e-3
    assert torch.allclose(network(x), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.at_once("resolution", [24, 28, 32, 41])
@pytest.mark.at_once(
    ("name", "option"),
    [("plain20-cifar", "-"), ("resnet20-cifar", "A"), ("resnet20-cifar-b", "B"), ("resnet20-cifar-c", "C")],
)
def test_a_network_for_cifar_is_what_the_paper_describes(name: str, option: str, resolution: int) -> None:
    network = tiny(name, resolution)
    x = torch.randn(2, 3, resolution, resolution, dtype=torch.float64)
    assert torch.allclose(network(x), written_out(network, x, option), rtol=1e-9, atol=1e-12)


@pytest.mark.at_once(("name", "option"), [("resnet110-preact-cifar", "A"), ("resnet164-preact-cifar", "B")])
@pytest.mark.at_once("depth", [0.1, 1 / 18])
def test_preactivation_networks_normalize_and_rectify_before_they_convolve(
    name: str, option: str, depth: float
) -> None:
    # 2016, Figure 4(e) and section 5.
    network = tiny(name, 33, depth)
    x = torch.randn(2, 3, 33, 33, dtype=torch.float64)
    assert torch.allclose(network(x), written_out(network, x, option, preact=True), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["resnet110-preact-cifar", "resnet164-preact-cifar"])
def test_nothing_stands_between_a_preactivation_unit_and_the_next(name: str) -> None:
    # 2016, equation 3: with residual functions of zero, a stage hands its first sum on as it is.
    network = tiny(name, 28, 0.2)
    stage = network.stages[0]
    for unit in stage[1:]:
        nn.init.zeros_(unit.convs[-1].weight)
    x = torch.randn(2, 3, 28, 28, dtype=torch.float64)
    after_first = stage[0](network.conv1(x))
    assert (after_first < 0).any()
    assert torch.equal(stage[1:](after_first), after_first)


# --- scaling -----------------------------------------------------------------------------------------------------


@pytest.mark.at_once("name", ["plain18", "resnet18-c", "resnet34", "resnet50", "resnet20-cifar-b"])
def test_an_added_unit_copies_the_last_of_its_stage(name: str) -> None:
    variant = atlas.find(name)
    plain, deep = (variant.spec.scaled(width=0.25, depth=depth) for depth in (1, 2))
    for stage, deeper in zip(plain.stages, deep.stages, strict=True):
        assert deeper == stage + stage[-1:] * len(stage)
    network = variant.network(deep)
    for stage in network.stages:
        for unit in list(stage)[len(stage) // 2 :]:
            first, *_, last = convolutions(unit.layers)
            assert first.in_channels == last.out_channels
            assert {layer.stride for layer in convolutions(unit)} == {(1, 1)}
            if plain.shortcut in (Shortcut.A, Shortcut.B):
                assert isinstance(unit.shortcut, nn.Identity)


@pytest.mark.at_once(("layers", "deeper"), [(20, 32), (20, 56), (20, 110), (20, 1202)])
def test_depth_makes_of_one_of_the_papers_networks_another(layers: int, deeper: int) -> None:
    shallow, deep = (atlas.find(f"resnet{n}-cifar").spec for n in (layers, deeper))
    assert shallow.scaled(depth=(deeper - 2) / (layers - 2)) == deep
