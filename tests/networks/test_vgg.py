"""VGG against its paper (Simonyan and Zisserman 2014) and against the same network written out with plain functions."""

import math
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import convatlas as ca
from convatlas import atlas
from convatlas.measure import cost_of, layers_of
from convatlas.networks import vgg
from convatlas.spec import Variant

# Table 1: a line for each column; numbers are output channels of 3x3 convolutions, in brackets of 1x1; M max pooling.
TABLE_1 = {
    "vgg11": "64 M 128 M 256 256 M 512 512 M 512 512 M",
    "vgg13": "64 64 M 128 128 M 256 256 M 512 512 M 512 512 M",
    "vgg16-1x1": "64 64 M 128 128 M 256 256 (256) M 512 512 (512) M 512 512 (512) M",
    "vgg16": "64 64 M 128 128 M 256 256 256 M 512 512 512 M 512 512 512 M",
    "vgg19": "64 64 M 128 128 M 256 256 256 256 M 512 512 512 512 M 512 512 512 512 M",
}
every_variant = pytest.mark.at_once("variant", vgg.FAMILY.variants)


pytestmark = pytest.mark.usefixtures("one_thread")


def tiny(name: str, resolution: int, depth: float = 1) -> nn.Module:
    """Narrow, and with every number away from where it begins."""
    torch.manual_seed(0)
    network = ca.create(name, width=0.06, depth=depth, resolution=resolution, num_classes=7).double().eval()
    for value in network.state_dict().values():
        if value.is_floating_point():
            value.add_(0.1 * torch.rand_like(value))
    return network


def numbers(network: nn.Module) -> Iterator[Tensor]:
    """Weights, biases and statistics in the order of the network."""
    return iter(value for value in network.state_dict().values() if value.is_floating_point())


def written_out(network: nn.Module, column: str, x: Tensor, *, norm: bool = False, pools: int = 5) -> Tensor:
    """A column of Table 1, of whose max pooling the last `pools` are kept."""
    value = numbers(network)
    skipped = 5 - pools
    for layer in column.split():
        if layer == "M":
            skipped -= 1
            x = x if skipped >= 0 else F.max_pool2d(x, 2)
            continue
        x = F.conv2d(x, next(value), next(value), padding=0 if "(" in layer else 1)
        if norm:
            scale, shift, mean, variance = (next(value).view(-1, 1, 1) for _ in range(4))
            x = (x - mean) / (variance + 1e-5).sqrt() * scale + shift
        x = F.relu(x)
    x = F.dropout(F.relu(F.linear(x.flatten(1), next(value), next(value))), 0.5, network.training)
    x = F.dropout(F.relu(F.linear(x, next(value), next(value))), 0.5, network.training)
    x = F.linear(x, next(value), next(value))
    assert next(value, None) is None
    return x


# --- what the paper prints ---------------------------------------------------------------------------------------


@pytest.mark.at_once(
    ("name", "params", "macs"),
    [
        ("vgg11", 132_863_336, 7_609_090_048),
        ("vgg11-lrn", 132_863_336, 7_609_090_048),
        ("vgg13", 133_047_848, 11_308_466_176),
        ("vgg16-1x1", 133_638_952, 11_770_888_192),
        ("vgg16", 138_357_544, 15_470_264_320),
        ("vgg19", 143_667_240, 19_632_062_464),
        # As other libraries count theirs.
        ("vgg11-bn", 132_868_840, 7_609_090_048),
        ("vgg13-bn", 133_053_736, 11_308_466_176),
        ("vgg16-bn", 138_365_992, 15_470_264_320),
        ("vgg19-bn", 143_678_248, 19_632_062_464),
    ],
)
def test_the_layers_add_up_to_the_known_sums(name: str, params: int, macs: int) -> None:
    variant = atlas.find(name)
    assert cost_of(variant.network, variant.spec) == (params, macs)


@pytest.mark.at_once("name", TABLE_1)
def test_the_convolutions_and_pools_are_those_of_the_papers_table(name: str) -> None:
    built = []
    for layer in ca.create(name, width=1 / 64).modules():
        if isinstance(layer, nn.Conv2d):
            channels = str(64 * layer.out_channels)
            assert layer.stride == (1, 1)
            built.append(channels if layer.kernel_size == (3, 3) else f"({channels})")
        elif isinstance(layer, nn.MaxPool2d):
            built.append("M")
    assert " ".join(built) == TABLE_1[name]


def test_the_lrn_configuration_normalizes_after_its_first_convolution_and_nowhere_else() -> None:
    table = layers_of(atlas.find("vgg11-lrn").network, atlas.find("vgg11-lrn").spec)
    kinds = [row.kind for row in table]
    assert kinds[:3] == ["Conv2d", "LocalResponseNorm", "MaxPool2d"]
    assert kinds.count("LocalResponseNorm") == 1


@every_variant
def test_weights_begin_as_glorot_and_bengio_draw_them(variant: Variant) -> None:
    torch.manual_seed(0)
    network = variant.network(variant.spec.scaled(width=0.25, resolution=64))
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            out, read, *window = layer.weight.shape
            bound = math.sqrt(6 / (math.prod(window) * (out + read)))
            assert layer.weight.abs().max().item() <= bound
            # The deviation of a uniform distribution, within four standard errors of the estimate.
            tolerance = 4 / math.sqrt(5 * layer.weight.numel())
            assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=tolerance)
            assert not layer.bias.any()


# --- against the same computed otherwise -------------------------------------------------------------------------


@pytest.mark.at_once("name", TABLE_1)
def test_a_network_is_its_column_of_the_table(name: str) -> None:
    network = tiny(name, 70)
    x = torch.randn(2, 3, 70, 70, dtype=torch.float64)
    expected = written_out(network, TABLE_1[name], x)
    assert expected.std() > 1e-3
    assert torch.allclose(network(x), expected, rtol=1e-9, atol=1e-12)


def test_half_of_the_hidden_units_are_dropped_in_training() -> None:
    # Section 3.1: "dropout regularization for the first two fully-connected layers (dropout ratio set to 0.5)".
    network = tiny("vgg11", 32).train()
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    torch.manual_seed(1)
    expected = written_out(network, TABLE_1["vgg11"], x, pools=3)
    torch.manual_seed(1)
    assert torch.allclose(network(x), expected, rtol=1e-9, atol=1e-12)
    assert not torch.allclose(network(x), expected)


@pytest.mark.at_once("name", ["vgg11", "vgg13", "vgg16", "vgg19"])
def test_batch_normalization_stands_between_convolution_and_rectification(name: str) -> None:
    network = tiny(f"{name}-bn", 70)
    x = torch.randn(2, 3, 70, 70, dtype=torch.float64)
    assert torch.allclose(network(x), written_out(network, TABLE_1[name], x, norm=True), rtol=1e-9, atol=1e-12)


@pytest.mark.at_once(("resolution", "pools"), [(28, 3), (32, 3), (33, 4), (63, 4)])
def test_small_images_are_not_pooled_after_the_first_stages(resolution: int, pools: int) -> None:
    network = tiny("vgg13", resolution)
    x = torch.randn(2, 3, resolution, resolution, dtype=torch.float64)
    assert torch.allclose(network(x), written_out(network, TABLE_1["vgg13"], x, pools=pools), rtol=1e-9, atol=1e-12)


def test_the_lrn_configuration_is_the_first_with_response_normalization() -> None:
    network, plain = tiny("vgg11-lrn", 70), tiny("vgg11", 70)
    plain.load_state_dict(network.state_dict())
    x = torch.randn(2, 3, 70, 70, dtype=torch.float64)
    weight, bias, *_ = numbers(network)
    normed = F.relu(F.conv2d(x, weight, bias, padding=1))
    # Krizhevsky et al. 2012: alpha is not divided by n, in PyTorch it is.
    normed = F.max_pool2d(F.local_response_norm(normed, 5, alpha=5e-4, beta=0.75, k=2.0), 2)
    for stage in plain.stages[1:]:
        normed = stage(normed)
    units = F.relu(plain.fc7(F.relu(plain.fc6(normed.flatten(1)))))
    assert torch.allclose(network(x), plain.fc8(units), rtol=1e-9, atol=1e-12)
    assert not torch.allclose(network(x), plain(x), rtol=1e-3)


# --- scaling -----------------------------------------------------------------------------------------------------


@every_variant
def test_an_added_unit_copies_the_last_convolution_of_its_stage(variant: Variant) -> None:
    plain, deep = (variant.spec.scaled(depth=depth) for depth in (1, 2))
    for stage, deeper in zip(plain.stages, deep.stages, strict=True):
        assert deeper == stage + stage[-1:] * len(stage)
    tables = [layers_of(variant.network, spec) for spec in (plain, deep)]
    for number, stage in enumerate(plain.stages):
        of_stage = [table.part(f"stages.{number}").of_kind("Conv2d").rows for table in tables]
        last, added = of_stage[0][-1], of_stage[1][len(stage) :]
        channels, kernel = stage[-1]
        assert {row.output_shape for row in added} == {last.output_shape}
        assert {row.params for row in added} == {channels * (channels * kernel**2 + 1)}
