"""AlexNet against its papers and against the same network written out with plain functions, tower by tower.

Krizhevsky, Sutskever and Hinton 2012; Krizhevsky 2014.
"""

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import convatlas as ca
from convatlas import atlas
from convatlas.errors import UserError
from convatlas.measure import cost_of, layers_of
from convatlas.networks.alexnet import AlexNet, AlexNetSpec, FourLayerSpec, num_neurons

ALEXNET, ONE_TOWER, WITH_NORM = (atlas.find(name) for name in ("alexnet", "alexnet-owt", "alexnet-bn"))


pytestmark = pytest.mark.usefixtures("one_thread")


def tiny(name: str, resolution: int = 105, depth: float = 1) -> nn.Module:
    """Narrow, and with every number away from where it begins."""
    torch.manual_seed(0)
    network = ca.create(name, width=0.1, depth=depth, resolution=resolution, num_classes=7).double().eval()
    for value in network.state_dict().values():
        if value.is_floating_point():
            value.add_(0.1 * torch.rand_like(value))
    return network


def numbers(network: nn.Module) -> Iterator[Tensor]:
    """Weights, biases and statistics in the order of the network."""
    return iter(value for value in network.state_dict().values() if value.is_floating_point())


def response_norm(x: Tensor) -> Tensor:
    """2012, section 3.3: k = 2, n = 5, alpha = 10^-4, beta = 0.75, over all N channels of the layer."""
    channels = x.shape[1]
    normalized = []
    for i in range(channels):
        neighbors = x[:, max(0, i - 2) : min(channels - 1, i + 2) + 1].square().sum(1)
        normalized.append(x[:, i] / (2 + 1e-4 * neighbors) ** 0.75)
    return torch.stack(normalized, 1)


def two_towers(network: nn.Module, x: Tensor) -> Tensor:
    """2012, Figure 2: half of the channels on each processor; the layers that read both are the third and the last."""
    value = numbers(network)

    def towers(inputs: list[Tensor], stride: int = 1, padding: int = 0) -> list[Tensor]:
        weights, biases = next(value).chunk(2), next(value).chunk(2)
        return [
            F.relu(F.conv2d(maps, weight, bias, stride, padding))
            for maps, weight, bias in zip(inputs, weights, biases, strict=True)
        ]

    def normalized(inputs: list[Tensor]) -> list[Tensor]:
        return [response_norm(maps) for maps in inputs]

    def pooled(inputs: list[Tensor]) -> list[Tensor]:
        return [F.max_pool2d(maps, 3, 2) for maps in inputs]

    skipped = network.spec.num_skipped_downsamplings
    top, bottom = normalized(towers([x, x], 2 if skipped else 4, 5 if skipped else 0))
    towers2 = pooled(normalized(towers([top, bottom] if skipped > 1 else pooled([top, bottom]), padding=2)))
    both = torch.cat(towers2, 1)
    maps = towers(towers([both, both], padding=1), padding=1)
    for _ in network.conv5:
        maps = towers(maps, padding=1)
    units = torch.cat(pooled(maps), 1).flatten(1)
    units = F.relu(units @ next(value).T + next(value))
    units = F.relu(units @ next(value).T + next(value))
    outputs = units @ next(value).T + next(value)
    assert next(value, None) is None
    return outputs


# --- what the papers print ---------------------------------------------------------------------------------------


@pytest.mark.at_once(
    ("name", "params", "macs"),
    [
        ("alexnet", 60_965_224, 724_406_816),
        ("alexnet-owt", 61_838_248, 838_788_800),
        # As other libraries ship it.
        ("alexnet-owt-256", 61_100_840, 714_188_480),
        # A number for each channel to scale it and one to shift it, over 96 + 256 + 384 + 384 + 256 channels.
        ("alexnet-bn", 60_965_224 + 2 * 1376, 724_406_816),
        # 5 x 5 weights for each pair of channels, biases, and 4 x 4 places of 64 channels in the last layer.
        *(
            (
                name,
                25 * (3 * 32 + 32 * 32 + 32 * 64) + 32 + 32 + 64 + (4 * 4 * 64 + 1) * 10,
                25 * (32**2 * 3 * 32 + 16**2 * 32 * 32 + 8**2 * 32 * 64) + 4 * 4 * 64 * 10,
            )
            for name in ("alexnet-cifar", "alexnet-cifar-tanh", "alexnet-cifar-lrn")
        ),
    ],
)
def test_the_layers_add_up_to_the_known_sums(name: str, params: int, macs: int) -> None:
    variant = atlas.find(name)
    assert cost_of(variant.network, variant.spec) == (params, macs)


def test_the_maps_are_those_of_the_papers_figure() -> None:
    # Figure 2: 55 x 55 x 48, 27 x 27 x 128 and three times 13 x 13 in each tower.
    table = layers_of(ALEXNET.network, ALEXNET.spec)
    assert [row.output_shape for row in table if row.macs] == [
        (96, 55, 55), (256, 27, 27), (384, 13, 13), (384, 13, 13), (256, 13, 13), (4096,), (4096,), (1000,),
    ]  # fmt: skip
    assert num_neurons(table) == 290_400 + 186_624 + 64_896 + 64_896 + 43_264 + 4096 + 4096 + 1000 == 659_272


def test_the_second_fourth_and_fifth_convolutions_read_their_own_half_only() -> None:
    network = ca.create("alexnet", width=0.1)
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    assert [layer.groups for layer in convolutions] == [1, 2, 1, 2, 2]
    assert [layer.kernel_size[0] for layer in convolutions] == [11, 5, 3, 3, 3]
    assert all(
        layer.groups == 1 for layer in ca.create("alexnet-owt", width=0.1).modules() if isinstance(layer, nn.Conv2d)
    )


def test_biases_of_one_begin_where_the_paper_puts_them() -> None:
    # Section 5: in the second, fourth and fifth convolutional and in the hidden fully connected layers.
    biases = {
        name.removesuffix(".bias"): set(value.tolist())
        for name, value in ca.create("alexnet", width=0.1, depth=2).named_parameters()
        if name.endswith("bias")
    }
    assert biases == {
        "conv1.conv": {0},
        "conv2.conv": {1},
        "conv3.conv": {0},
        "conv4.conv": {1},
        "conv5.0.conv": {1},
        "conv5.1.conv": {1},
        "fc6": {1},
        "fc7": {1},
        "fc8": {0},
    }


@pytest.mark.parametrize(("width", "deviation"), [(0.25, 0.02), (1, 0.01)])
@pytest.mark.parametrize("name", ["alexnet", "alexnet-owt", "alexnet-owt-256", "alexnet-bn"])
def test_weights_begin_with_a_deviation_of_a_hundredth_and_more_in_a_narrow_network(
    name: str, width: float, deviation: float
) -> None:
    torch.manual_seed(0)
    network = ca.create(name, width=width, resolution=99)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            # Four times the standard error of the estimate.
            assert layer.weight.std().item() == pytest.approx(deviation, rel=4 / math.sqrt(2 * layer.weight.numel()))
            assert layer.weight.mean().abs().item() < 4 * deviation / math.sqrt(layer.weight.numel())


# --- against the same computed otherwise -------------------------------------------------------------------------


@pytest.mark.at_once("resolution", [28, 44, 45, 98, 99, 105])
def test_alexnet_is_two_towers_that_meet_in_the_third_layer(resolution: int) -> None:
    network = tiny("alexnet", resolution)
    x = torch.randn(2, 3, resolution, resolution, dtype=torch.float64)
    expected = two_towers(network, x)
    assert expected.std() > 1e-3
    assert torch.allclose(network(x), expected, rtol=1e-9, atol=1e-12)


def test_a_deeper_alexnet_repeats_the_fifth_convolution_in_its_towers() -> None:
    network = tiny("alexnet", depth=3)
    x = torch.randn(2, 3, 105, 105, dtype=torch.float64)
    assert torch.allclose(network(x), two_towers(network, x), rtol=1e-9, atol=1e-12)


def test_the_network_of_one_tower_is_a_plain_sequence() -> None:
    network = tiny("alexnet-owt")
    value = numbers(network)

    def convolution(maps: Tensor, stride: int, padding: int) -> Tensor:
        return F.relu(F.conv2d(maps, next(value), next(value), stride, padding))

    image = torch.randn(2, 3, 105, 105, dtype=torch.float64)
    x = F.max_pool2d(convolution(image, 4, 2), 3, 2)
    x = F.max_pool2d(convolution(x, 1, 2), 3, 2)
    for _ in range(3):
        x = convolution(x, 1, 1)
    x = F.max_pool2d(x, 3, 2).flatten(1)
    x = F.relu(F.linear(x, next(value), next(value)))
    x = F.relu(F.linear(x, next(value), next(value)))
    assert torch.allclose(network(image), F.linear(x, next(value), next(value)), rtol=1e-9, atol=1e-12)


def test_batch_normalization_stands_between_convolution_and_rectification() -> None:
    network = tiny("alexnet-bn")
    value = numbers(network)

    def convolution(maps: Tensor, stride: int, padding: int, groups: int) -> Tensor:
        maps = F.conv2d(maps, next(value), next(value), stride, padding, groups=groups)
        scale, shift, mean, variance = (next(value).view(-1, 1, 1) for _ in range(4))
        return F.relu((maps - mean) / (variance + 1e-5).sqrt() * scale + shift)

    image = torch.randn(2, 3, 105, 105, dtype=torch.float64)
    x = F.max_pool2d(convolution(image, 4, 0, 1), 3, 2)
    x = F.max_pool2d(convolution(x, 1, 2, 2), 3, 2)
    for groups in (1, 2, 2):
        x = convolution(x, 1, 1, groups)
    x = F.max_pool2d(x, 3, 2).flatten(1)
    x = F.relu(F.linear(x, next(value), next(value)))
    x = F.relu(F.linear(x, next(value), next(value)))
    assert torch.allclose(network(image), F.linear(x, next(value), next(value)), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("hidden", "after"), [("fc6", "fc7"), ("fc7", "fc8")])
def test_half_of_the_units_of_both_hidden_layers_are_dropped_in_training_only(hidden: str, after: str) -> None:
    network = tiny("alexnet")
    x = torch.randn(2, 3, 105, 105, dtype=torch.float64)
    layer = network.get_submodule(hidden)
    nn.init.zeros_(layer.weight)
    nn.init.ones_(layer.bias)
    seen: list[Tensor] = []
    network.get_submodule(after).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    torch.manual_seed(0)
    for _ in range(50):
        network.train()(x)
    network.eval()(x)
    *trained, evaluated = seen
    assert (evaluated == 1).all()
    assert set(torch.cat(trained).unique().tolist()) == {0, 2}
    # 50 x 2 x 408 units: three standard errors are 0.0075.
    assert (torch.cat(trained) == 0).double().mean().item() == pytest.approx(0.5, abs=0.0075)


def in_sequence(name: str, depth: int = 1) -> nn.Sequential:
    """The four layers of Figure 1 as a plain sequence of PyTorch's layers."""

    def act() -> nn.Module:
        return nn.Tanh() if name.endswith("tanh") else nn.ReLU()

    def norm() -> nn.Module:
        # PyTorch divides alpha by the number of neighbors.
        return nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0) if name.endswith("lrn") else nn.Identity()

    added = [layer for _ in range(depth - 1) for layer in (nn.Conv2d(16, 16, 5, padding=2), act())]
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 5, padding=2), act(), norm(), nn.MaxPool2d(3, 2, ceil_mode=True)),
        *(nn.Conv2d(8, 8, 5, padding=2), act(), norm(), nn.AvgPool2d(3, 2, ceil_mode=True)),
        *(nn.Conv2d(8, 16, 5, padding=2), act(), *added, nn.AvgPool2d(3, 2, ceil_mode=True)),
        *(nn.Flatten(), nn.LazyLinear(7)),
    )


@pytest.mark.at_once("resolution", [28, 31, 32, 33, 40])
@pytest.mark.at_once(
    ("name", "depth"), [("alexnet-cifar", 1), ("alexnet-cifar-tanh", 1), ("alexnet-cifar-lrn", 1), ("alexnet-cifar", 3)]
)
def test_the_network_of_four_layers_is_a_plain_sequence(name: str, depth: int, resolution: int) -> None:
    torch.manual_seed(0)
    network = ca.create(name, width=0.25, depth=depth, resolution=resolution, num_classes=7).double()
    plain = in_sequence(name, depth).double()
    # Images as bright as this are what response normalization acts on.
    x = 50 * torch.randn(2, 3, resolution, resolution, dtype=torch.float64)
    plain(x)
    plain.load_state_dict(dict(zip(plain.state_dict(), network.state_dict().values(), strict=True)))
    assert torch.allclose(network(x), plain(x), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["alexnet-cifar", "alexnet-cifar-tanh", "alexnet-cifar-lrn"])
def test_the_weights_of_four_layers_suit_their_activation(name: str) -> None:
    torch.manual_seed(0)
    network = ca.create(name, width=4, in_channels=1)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            fan_out, fan_in = layer.weight.shape[0] * layer.weight[0, 0].numel(), layer.weight[0].numel()
            variance = 2 / (fan_in + fan_out) if name.endswith("tanh") else 2 / fan_in
            few = 4 / math.sqrt(2 * layer.weight.numel())
            assert layer.weight.std().item() == pytest.approx(math.sqrt(variance), rel=few)
            assert not layer.bias.any()


# --- what the paper leaves out to compare ------------------------------------------------------------------------


def own(**changes: bool | float) -> AlexNet:
    """Narrow, with the seed's weights, in training."""
    spec = ALEXNET.spec.scaled(width=0.1, resolution=105)
    assert isinstance(spec, AlexNetSpec)
    torch.manual_seed(0)
    return AlexNet(replace(spec, num_classes=7, **changes)).double()


def test_without_rectification_every_hidden_layer_is_squashed() -> None:
    network = own(rectified=False).eval()
    # The biases of one are for rectified units.
    assert all(not bias.any() for name, bias in network.named_parameters() if name.endswith("bias"))
    seen: list[Tensor] = []
    for name in ("lrn1", "lrn2", "conv4", "conv5", "pool5", "fc7", "fc8"):
        network.get_submodule(name).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.normal_(layer.weight, std=0.2)
    network(torch.randn(2, 3, 105, 105, dtype=torch.float64))
    assert len(seen) == 7
    for units in seen:
        assert -1 <= units.min() < -0.5
        assert 0.5 < units.max() <= 1


@pytest.mark.parametrize(("resolution", "sides"), [(227, (27, 13, 6)), (105, (12, 6, 3)), (32, (16, 8, 4))])
def test_windows_that_do_not_overlap_halve(resolution: int, sides: tuple[int, int, int]) -> None:
    spec = ALEXNET.spec.scaled(width=0.1, resolution=resolution)
    assert isinstance(spec, AlexNetSpec)
    apart = replace(spec, overlapping=False)
    table = layers_of(AlexNet, apart)
    assert [row.output_shape[-1] for row in table if row.name in ("pool1", "pool2", "pool5")][-2:] == list(sides[1:])
    assert apart.feature_size == sides[-1]
    windows = {
        (layer.kernel_size, layer.stride) for layer in AlexNet(apart).modules() if isinstance(layer, nn.MaxPool2d)
    }
    assert windows == {(2, 2)}


def test_without_dropout_training_computes_what_the_finished_network_does() -> None:
    x = torch.randn(2, 3, 105, 105, dtype=torch.float64)
    network = own(dropout=0.0)
    assert torch.equal(network.train()(x), network.eval()(x))
    assert not torch.equal(own().train()(x), network(x))


@pytest.mark.parametrize("dropout", [-0.1, 1.0, math.nan])
def test_dropout_that_leaves_nothing_is_refused(dropout: float) -> None:
    spec = ALEXNET.spec
    assert isinstance(spec, AlexNetSpec)
    with pytest.raises(UserError, match=r"dropout .* must be from 0 to below 1"):
        replace(spec, dropout=dropout)


# --- scaling -----------------------------------------------------------------------------------------------------


@given(st.floats(0.02, 3))
def test_both_towers_are_equally_wide_at_any_width(width: float) -> None:
    spec = ALEXNET.spec.scaled(width=width)
    assert isinstance(spec, AlexNetSpec)
    assert all(channels % 2 == 0 for channels in spec.convolutions)


@pytest.mark.parametrize("variant", [ALEXNET, ONE_TOWER, WITH_NORM], ids=lambda variant: variant.name)
def test_an_added_unit_copies_the_fifth_convolution(variant: atlas.Variant) -> None:
    plain, deep = (layers_of(variant.network, variant.spec.scaled(depth=depth)) for depth in (1, 3))
    fifth = plain["conv5.0.conv"]
    for name in ("conv5.1.conv", "conv5.2.conv"):
        assert deep[name].output_shape == fifth.output_shape
        # in = out: 256 channels, of which each reads those of its tower.
        towers = 2 if variant is not ONE_TOWER else 1
        assert deep[name].params == 256 * (256 // towers * 9 + 1)
    assert {row.name for row in plain} < {row.name for row in deep}
    assert all(deep[row.name].params == row.params for row in plain)


def test_the_network_of_four_layers_repeats_its_third_convolution() -> None:
    spec = FourLayerSpec(lrn=True)
    deep = spec.scaled(width=0.5, depth=2.5, resolution=28)
    assert deep == replace(spec, convolutions=(16, 16, 32, 32, 32), resolution=28)
    with pytest.raises(UserError, match=r"the smallest width that works is 0\.016"):
        spec.scaled(width=0.01)
