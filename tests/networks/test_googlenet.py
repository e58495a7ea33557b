"""GoogLeNet against its paper (Szegedy et al. 2014) and against the same network written out with plain functions."""

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import convatlas as ca
from convatlas import atlas
from convatlas.errors import UserError
from convatlas.measure import cost_of, layers_of
from convatlas.networks import googlenet
from convatlas.networks.googlenet import DiscountedAuxiliaries
from convatlas.spec import Layers, Variant

GOOGLENET = atlas.find("googlenet")
# Table 1: #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj
MODULES = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
SMALL_OF_79 = [28, 32, 38, 39, 78]
every_variant = pytest.mark.at_once("variant", googlenet.FAMILY.variants)


pytestmark = pytest.mark.usefixtures("one_thread")


def tiny(name: str = "googlenet", resolution: int = 91, width: float = 0.04, depth: float = 1) -> nn.Module:
    """Narrow, and with every number away from where it begins."""
    torch.manual_seed(0)
    sizes = {"width": width, "depth": depth, "resolution": resolution, "num_classes": 7}
    network = ca.create(name, **sizes).double().eval()  # type: ignore[arg-type]
    for value in network.state_dict().values():
        if value.is_floating_point():
            value.add_(0.1 * torch.rand_like(value))
    return network


def written_out(network: nn.Module, x: Tensor, *, five: int = 5, pool4: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Figure 3: the outputs, and those of the two auxiliary classifiers, with dropout where the network trains."""
    value: Iterator[Tensor] = iter(v for v in network.state_dict().values() if v.is_floating_point())
    spec, training = network.spec, network.training

    def convolution(maps: Tensor, padding: int = 0, stride: int = 1) -> Tensor:
        weight = next(value)
        if not spec.batch_norm:
            return F.relu(F.conv2d(maps, weight, next(value), stride, padding))
        scale, shift, mean, variance = (next(value).view(-1, 1, 1) for _ in range(4))
        maps = (F.conv2d(maps, weight, None, stride, padding) - mean) / (variance + 1e-3).sqrt()
        return F.relu(maps * scale + shift)

    def response_norm(maps: Tensor) -> Tensor:
        return maps if spec.batch_norm else F.local_response_norm(maps, 5, alpha=1e-4, beta=0.75, k=1.0)

    def pool(maps: Tensor, kernel: int = 3) -> Tensor:
        return F.max_pool2d(maps, kernel, 2, ceil_mode=True)

    def inception(maps: Tensor, reduced: bool) -> Tensor:
        one = convolution(maps)
        three = convolution(convolution(maps) if reduced else maps, padding=1)
        large = convolution(convolution(maps) if reduced else maps, padding=five // 2)
        pooled = F.max_pool2d(maps, 3, 1, 1)
        return torch.cat([one, three, large, convolution(pooled) if reduced else pooled], 1)

    def auxiliary(maps: Tensor) -> Tensor:
        maps = convolution(F.avg_pool2d(maps, 5, 3))
        units = F.relu(F.linear(maps.flatten(1), next(value), next(value)))
        return F.linear(F.dropout(units, 0.7, training), next(value), next(value))

    x = convolution(x, 3, 1 if spec.resolution < 39 else 2)
    x = response_norm(x if spec.resolution < 79 else pool(x))
    x = pool(response_norm(convolution(convolution(x), 1)))
    heads = []
    for stage in spec.stages:
        for letter, sizes in zip("abcde", stage, strict=False):
            x = inception(x, reduced=sizes[-1] > 0)
            if stage is spec.stages[1] and letter in "ad":
                heads.append(x)
        if stage is spec.stages[0]:
            x = pool(x)
        elif stage is spec.stages[1]:
            x = pool(x, pool4)
    outputs = F.linear(F.dropout(x.mean((2, 3)), 0.4, training), next(value), next(value))
    first, second = heads
    return outputs, auxiliary(first), auxiliary(second)


# --- what the paper prints ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "params", "macs"),
    [
        ("googlenet", 6_998_552, 1_582_671_872),
        # As other libraries count theirs.
        ("googlenet-bn-3x3", 6_624_904, 1_498_376_192),
    ],
)
def test_the_layers_add_up_to_the_known_sums(name: str, params: int, macs: int) -> None:
    variant = atlas.find(name)
    assert cost_of(variant.network, variant.spec) == (params, macs)


def test_the_auxiliary_classifiers_count_apart() -> None:
    table = layers_of(GOOGLENET.network, GOOGLENET.spec)
    assert table.params + table.training_only_params == 13_378_280
    assert table.params == 6_998_552
    assert sum(value.numel() for value in GOOGLENET.network(GOOGLENET.spec).parameters()) == 13_378_280


# Table 1: in K of 1024 and in millions these are 9.25 112 160 380 367 439 498 591 848 1019 1410 1001 and
# 118 360 128 304 74 88 100 119 170 51 71 1.
@pytest.mark.parametrize(
    ("row", "params", "macs"),
    [
        ("conv1", 9_472, 118_013_952),
        ("conv2", 114_944, 359_661_568),
        ("inception3.a", 163_696, 128_049_152),
        ("inception3.b", 388_736, 304_267_264),
        ("inception4.a", 376_176, 73_608_192),
        ("inception4.b", 449_160, 87_908_352),
        ("inception4.c", 510_104, 99_850_240),
        ("inception4.d", 605_376, 118_515_712),
        ("inception4.e", 868_352, 169_996_288),
        ("inception5.a", 1_043_456, 51_079_168),
        ("inception5.b", 1_444_080, 70_697_984),
        ("fc", 1_025_000, 1_024_000),
    ],
)
def test_a_row_of_the_papers_table_adds_up(row: str, params: int, macs: int) -> None:
    table = layers_of(GOOGLENET.network, GOOGLENET.spec)
    of_row = Layers((*table.part(f"{row}_reduce"), *table.part(row)))
    assert (of_row.params, of_row.macs) == (params, macs)


def test_the_maps_have_the_sides_that_the_paper_prints() -> None:
    # Table 1, "output size"; the auxiliary classifiers see 4 x 4 (section 5).
    table = layers_of(GOOGLENET.network, GOOGLENET.spec)
    sides = {name: table[name].output_shape[-1] for name in ("conv1.conv", "pool1", "conv2.conv", "pool2", "pool3")}
    assert sides == {"conv1.conv": 112, "pool1": 56, "conv2.conv": 56, "pool2": 28, "pool3": 14}
    assert table["pool4"].output_shape[-1] == 7
    assert GOOGLENET.spec.auxiliary_feature_size == 4
    network = GOOGLENET.network(GOOGLENET.spec)
    assert network.auxiliary_4a.fc1.in_features == network.auxiliary_4d.fc1.in_features == 4 * 4 * 128
    assert (network.auxiliary_4a.conv.conv.in_channels, network.auxiliary_4d.conv.conv.in_channels) == (512, 528)


def test_modules_have_the_sizes_of_the_papers_table() -> None:
    network = GOOGLENET.network(GOOGLENET.spec.scaled(resolution=79))
    for name, (n1x1, r3x3, n3x3, r5x5, n5x5, pool_proj) in MODULES.items():
        module = network.get_submodule(f"inception{name[0]}.{name[1]}")
        built = [(layer.out_channels, layer.kernel_size[0]) for layer in convolutions(module)]
        assert built == [(n1x1, 1), (r3x3, 1), (n3x3, 3), (r5x5, 1), (n5x5, 5), (pool_proj, 1)]


def convolutions(module: nn.Module) -> list[nn.Conv2d]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]


def test_the_paper_has_no_batch_normalization_two_response_normalizations_and_biases_everywhere() -> None:
    network = tiny()
    kinds = [type(layer).__name__ for layer in network.modules()]
    assert "BatchNorm2d" not in kinds
    assert kinds.count("LocalResponseNorm") == 2
    assert all(layer.bias is not None for layer in convolutions(network))


@pytest.mark.parametrize("name", ["googlenet-bn", "googlenet-bn-3x3"])
def test_batch_normalization_replaces_biases_and_response_normalization(name: str) -> None:
    network = tiny(name)
    kinds = [type(layer).__name__ for layer in network.modules()]
    assert "LocalResponseNorm" not in kinds
    assert kinds.count("BatchNorm2d") == kinds.count("KaimingConv2d") > 0
    assert all(layer.bias is None for layer in convolutions(network))


@pytest.mark.at_once(
    ("name", "kernel"), [("googlenet", 5), ("googlenet-naive", 5), ("googlenet-bn", 5), ("googlenet-bn-3x3", 3)]
)
def test_the_5x5_branch_is_5x5_but_where_the_name_says_otherwise(name: str, kernel: int) -> None:
    network = tiny(name)
    branches = [module.five.conv.conv for module in network.modules() if isinstance(module, googlenet.Inception)]
    assert len(branches) == 9
    assert {layer.kernel_size for layer in branches} == {(kernel, kernel)}


@every_variant
def test_weights_begin_with_he_et_als_deviation(variant: Variant) -> None:
    torch.manual_seed(0)
    for layer in convolutions(variant.network(variant.spec.scaled(width=0.25, resolution=79))):
        expected = math.sqrt(2 / layer.weight[0].numel())
        tolerance = 4.5 / math.sqrt(2 * layer.weight.numel())
        assert layer.weight.std().item() == pytest.approx(expected, rel=tolerance)
        assert layer.bias is None or not layer.bias.any()


# --- against the same computed otherwise -------------------------------------------------------------------------


@pytest.mark.at_once("resolution", [79, 91, *SMALL_OF_79])
@pytest.mark.at_once("name", ["googlenet", "googlenet-naive", "googlenet-bn"])
def test_a_network_is_what_the_paper_draws(name: str, resolution: int) -> None:
    network = tiny(name, resolution)
    x = torch.randn(2, 3, resolution, resolution, dtype=torch.float64)
    expected, _, _ = written_out(network, x)
    assert expected.std() > 1e-3
    assert torch.allclose(network(x), expected, rtol=1e-9, atol=1e-12)


def test_the_network_of_other_libraries_has_3x3_filters_and_pools_2x2_before_its_last_stage() -> None:
    network = tiny("googlenet-bn-3x3")
    x = torch.randn(2, 3, 91, 91, dtype=torch.float64)
    assert torch.allclose(network(x), written_out(network, x, five=3, pool4=2)[0], rtol=1e-9, atol=1e-12)


@pytest.mark.at_once("resolution", [79, 91, *SMALL_OF_79])
def test_in_training_the_auxiliary_classifiers_answer_too(resolution: int) -> None:
    network = tiny(resolution=resolution).train()
    x = torch.randn(2, 3, resolution, resolution, dtype=torch.float64)
    torch.manual_seed(1)
    expected = written_out(network, x)
    torch.manual_seed(1)
    outputs = network(x)
    assert len(outputs) == 3
    for part, written in zip(outputs, expected, strict=True):
        assert torch.allclose(part, written, rtol=1e-9, atol=1e-12)


@every_variant
def test_heads_answer_in_training_and_are_absent_in_evaluation(variant: Variant) -> None:
    spec = variant.spec.scaled(width=0.04, resolution=28)
    network = variant.network(spec)
    x = torch.randn(4, 3, 28, 28)
    outputs = network.train()(x)
    assert isinstance(outputs, tuple)
    assert [part.shape for part in outputs] == [(4, 1000)] * 3
    called: list[str] = []
    for name in ("auxiliary_4a", "auxiliary_4d"):
        network.get_submodule(name).register_forward_hook(lambda layer, _, __: called.append(layer))
    assert network.eval()(x).shape == (4, 1000)
    assert called == []


def small_spec() -> googlenet.GoogLeNetSpec:
    spec = GOOGLENET.spec.scaled(width=0.04, resolution=28)
    assert isinstance(spec, googlenet.GoogLeNetSpec)
    return spec


def test_without_auxiliary_classifiers_all_else_begins_the_same() -> None:
    torch.manual_seed(3)
    whole = googlenet.GoogLeNet(small_spec()).state_dict()
    torch.manual_seed(3)
    network = googlenet.GoogLeNet(replace(small_spec(), supervised=False))
    left = network.state_dict()
    assert set(left) == {name for name in whole if not name.startswith("auxiliary")}
    assert all(torch.equal(value, whole[name]) for name, value in left.items())
    assert isinstance(network.train()(torch.randn(2, 3, 28, 28)), Tensor)


def test_a_module_may_have_filters_of_one_size_alone() -> None:
    x = torch.randn(2, 6, 9, 9)
    spec = replace(small_spec(), pooled=False)
    three = googlenet.Inception(6, googlenet.InceptionChannels(0, 4, 8, 0, 0, 0), spec)
    assert three.three is not None
    assert torch.equal(three(x), three.three(x))
    pooled = googlenet.Inception(6, googlenet.InceptionChannels(0, 0, 0, 0, 0, 0), small_spec())
    assert torch.equal(pooled(x), F.max_pool2d(x, 3, 1, 1))


def test_a_module_of_nothing_is_refused() -> None:
    nothing = ((googlenet.InceptionChannels(0, 0, 0, 0, 0, 0),),) * 3
    with pytest.raises(UserError, match="without filters"):
        replace(small_spec(), stages=nothing, pooled=False)


def test_auxiliary_losses_count_three_tenths() -> None:
    # Section 5: "the losses of the auxiliary classifiers were weighted by 0.3".
    torch.manual_seed(0)
    targets = torch.eye(5, dtype=torch.float64)[[0, 3, 1]]
    own, first, second = torch.randn(3, 3, 5, dtype=torch.float64)

    def cross_entropy(outputs: Tensor) -> float:
        return -(targets * outputs.softmax(1).log()).sum(1).mean().item()

    expected = cross_entropy(own) + 0.3 * cross_entropy(first) + 0.3 * cross_entropy(second)
    loss = DiscountedAuxiliaries().losses((own, first, second), targets).mean()
    assert loss.item() == pytest.approx(expected)
    assert DiscountedAuxiliaries().losses(own, targets).mean().item() == pytest.approx(cross_entropy(own))


# --- scaling -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["googlenet", "googlenet-bn", "googlenet-bn-3x3"])
def test_an_added_module_copies_the_last_of_its_stage(name: str) -> None:
    variant = atlas.find(name)
    plain, deep = (variant.spec.scaled(depth=depth) for depth in (1, 2))
    for stage, deeper in zip(plain.stages, deep.stages, strict=True):
        assert deeper == stage + stage[-1:] * len(stage)
    network = variant.network(deep.scaled(width=0.125))
    for stage in (network.inception3, network.inception4, network.inception5):
        added = list(stage)[len(stage) // 2 :]
        assert {module.one.conv.in_channels for module in added} == {module.out_channels for module in added}
        assert {layer.stride for module in added for layer in convolutions(module)} == {(1, 1)}


@pytest.mark.at_once(("depth", "first", "last"), [(0.2, 0, 0), (0.4, 0, 1), (1, 0, 3), (2, 0, 7)])
def test_auxiliary_classifiers_stand_after_the_first_and_after_four_fifths_of_stage_4(
    depth: float, first: int, last: int
) -> None:
    network = tiny(resolution=28, depth=depth).train()
    x = torch.randn(2, 3, 28, 28, dtype=torch.float64)
    seen: dict[str, Tensor] = {}
    modules = list(network.inception4)
    for name, layer in (("first", modules[first]), ("last", modules[last])):
        layer.register_forward_hook(lambda _, __, output, name=name: seen.update({name: output}))
    read: list[Tensor] = []
    for name in ("auxiliary_4a", "auxiliary_4d"):
        network.get_submodule(name).register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    network(x)
    assert read[0] is seen["first"]
    assert read[1] is seen["last"]


def test_modules_beyond_z_are_named_and_built() -> None:
    network = tiny(resolution=28, depth=6)
    names = [name for name, _ in network.inception4.named_children()]
    assert names[:3] == ["a", "b", "c"]
    assert len(names) == len(set(names)) == 30
    assert network(torch.randn(1, 3, 28, 28, dtype=torch.float64)).shape == (1, 7)
