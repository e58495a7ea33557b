"""EfficientNet against its paper (Tan and Le 2019) and against the same network written out with plain functions."""

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import convatlas as ca
from convatlas import atlas
from convatlas.errors import UserError
from convatlas.measure import cost_of, layers_of
from convatlas.networks.efficientnet import EfficientNetSpec, MBConv, SqueezeExcitation, round_filters
from convatlas.spec import Variant

B0 = atlas.find("efficientnet-b0")
FAMILY = [variant for family in atlas.families() if family.name == "EfficientNet" for variant in family.variants]
# Table 1: kernel, stride, output channels and layers of the stages of B0.
TABLE_1 = ((3, 1, 16, 1), (3, 2, 24, 2), (5, 2, 40, 2), (3, 2, 80, 3), (5, 1, 112, 3), (5, 2, 192, 4), (3, 1, 320, 1))


pytestmark = pytest.mark.usefixtures("one_thread")


def stirred(network: nn.Module) -> nn.Module:
    """With every number away from where it begins."""
    for value in network.state_dict().values():
        if value.is_floating_point():
            value.add_(0.1 * torch.rand_like(value))
    return network


def tiny(resolution: int, depth: float = 1) -> nn.Module:
    torch.manual_seed(0)
    network = ca.create("efficientnet-b0", width=0.25, depth=depth, resolution=resolution, num_classes=7)
    return stirred(network.double()).eval()


def written_out(network: nn.Module, strides: list[int], layers: list[int], x: Tensor) -> Tensor:
    """The first convolution and stages of so many blocks, each stage with its stride."""
    value: Iterator[Tensor] = iter(v for v in network.state_dict().values() if v.is_floating_point())
    first, *others = strides
    expansions, kernels = (1, 6, 6, 6, 6, 6, 6), [kernel for kernel, _, _, _ in TABLE_1]

    def swish(maps: Tensor) -> Tensor:
        return maps / (1 + (-maps).exp())

    def convolution(maps: Tensor, stride: int = 1, padding: int = 0, groups: int = 1) -> Tensor:
        maps = F.conv2d(maps, next(value), None, stride, padding, groups=groups)
        scale, shift, mean, variance = (next(value).view(-1, 1, 1) for _ in range(4))
        return (maps - mean) / (variance + 1e-3).sqrt() * scale + shift

    def excited(maps: Tensor) -> Tensor:
        squeezed = swish(F.linear(maps.mean((2, 3)), next(value)[:, :, 0, 0], next(value)))
        weights = 1 / (1 + (-F.linear(squeezed, next(value)[:, :, 0, 0], next(value))).exp())
        return maps * weights[:, :, None, None]

    def mbconv(maps: Tensor, expansion: int, kernel: int, stride: int) -> Tensor:
        y = swish(convolution(maps)) if expansion > 1 else maps
        assert y.shape[1] == expansion * maps.shape[1]
        y = convolution(excited(swish(convolution(y, stride, kernel // 2, y.shape[1]))))
        return y + maps if y.shape == maps.shape else y

    x = swish(convolution(x, first, 1))
    for expansion, kernel, stride, num in zip(expansions, kernels, others, layers, strict=True):
        for i in range(num):
            x = mbconv(x, expansion, kernel, 1 if i else stride)
    x = swish(convolution(x)).mean((2, 3))
    outputs = F.linear(x, next(value), next(value))
    assert next(value, None) is None
    return outputs


# --- what the paper prints ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "params", "macs"),
    [
        ("efficientnet-b0", 5_288_548, 385_814_752),
        ("efficientnet-b1", 7_794_184, 686_802_832),
        ("efficientnet-b2", 9_109_994, 993_561_872),
        ("efficientnet-b3", 12_233_232, 1_827_141_392),
        ("efficientnet-b4", 19_341_616, 4_393_771_024),
        ("efficientnet-b5", 30_389_784, 10_266_384_752),
        ("efficientnet-b6", 43_040_704, 19_067_593_536),
        ("efficientnet-b7", 66_347_960, 37_745_884_192),
    ],
)
def test_the_layers_add_up_to_the_known_sums(name: str, params: int, macs: int) -> None:
    variant = atlas.find(name)
    assert cost_of(variant.network, variant.spec) == (params, macs)


@pytest.mark.parametrize(
    ("sizes", "macs"),
    [
        # Table 3; of the first three the printed 1.8, 1.8 and 1.9 billion do not add up.
        ({"depth": 4}, 1.58),
        ({"width": 2}, 1.45),
        ({"resolution": 448}, 1.54),
        ({"depth": 1.4, "width": 1.2, "resolution": 291}, 1.8),
    ],
)
def test_b0_scaled_in_one_dimension_and_in_all_adds_up(sizes: dict[str, float], macs: float) -> None:
    found = cost_of(B0.network, B0.spec.scaled(**sizes)).macs / 1e9  # type: ignore[arg-type]
    assert found == pytest.approx(macs, abs=0.05 if len(sizes) > 1 else 0.005)


def test_the_stages_are_those_of_the_papers_table() -> None:
    # Table 1: the side of what goes into a stage.
    network = B0.network(B0.spec)
    built = []
    for stage in network.stages:
        (kernel, _), (stride, _) = stage[0].depthwise.conv.kernel_size, stage[0].depthwise.conv.stride
        built.append((kernel, stride, stage[-1].project.conv.out_channels, len(stage)))
    assert tuple(built) == TABLE_1
    table = layers_of(B0.network, B0.spec)
    inputs = [table["stem.conv"], *(table.part(f"stages.{i}").rows[-1] for i in range(7))]
    assert [row.output_shape[-1] for row in inputs] == [112, 112, 56, 28, 14, 14, 7, 7]
    assert table["head.conv"].output_shape == (1280, 7, 7)


@pytest.mark.at_once(
    ("name", "stem", "channels", "layers", "head"),
    [
        # As the authors' release rounds.
        ("efficientnet-b1", 32, [16, 24, 40, 80, 112, 192, 320], [2, 3, 3, 4, 4, 5, 2], 1280),
        ("efficientnet-b2", 32, [16, 24, 48, 88, 120, 208, 352], [2, 3, 3, 4, 4, 5, 2], 1408),
        ("efficientnet-b4", 48, [24, 32, 56, 112, 160, 272, 448], [2, 4, 4, 6, 6, 8, 2], 1792),
        ("efficientnet-b7", 64, [32, 48, 80, 160, 224, 384, 640], [4, 7, 7, 10, 10, 13, 4], 2560),
    ],
)
def test_the_scaled_networks_have_the_sizes_of_the_release(
    name: str, stem: int, channels: list[int], layers: list[int], head: int
) -> None:
    spec = atlas.find(name).spec
    assert isinstance(spec, EfficientNetSpec)
    assert (spec.stem, [stage.out_channels for stage in spec.stages], spec.head) == (stem, channels, head)
    assert [len(stage.blocks) for stage in spec.stages] == layers


@pytest.mark.at_once("variant", FAMILY)
def test_blocks_expand_six_times_and_squeeze_to_a_quarter_of_their_input(variant: Variant) -> None:
    in_channels = variant.spec.stem
    for number, (_, _, out_channels, blocks) in enumerate(variant.spec.stages):
        for expanded, squeezed in blocks:
            squeezes = variant.name != "efficientnet-lite0"
            assert (expanded, squeezed) == ((6 if number else 1) * in_channels, in_channels // 4 if squeezes else 0)
            in_channels = out_channels


@given(st.floats(1, 5000))
def test_maps_are_rounded_to_the_nearest_multiple_of_8_but_never_a_tenth_below(exact: float) -> None:
    rounded = round_filters(exact)
    assert rounded % 8 == 0
    assert rounded >= 8
    assert rounded >= 0.9 * exact
    nearest = max(8, math.floor(exact / 8 + 0.5) * 8)
    assert rounded == (nearest if nearest >= 0.9 * exact else nearest + 8)


@pytest.mark.at_once(("exact", "divisor", "channels"), [(6.4, 1, 6), (0.2, 1, 1), (9, 2, 10), (13, 4, 12), (11, 8, 16)])
def test_channels_are_rounded_to_another_divisor_likewise(exact: float, divisor: int, channels: int) -> None:
    assert round_filters(exact, divisor) == channels


def test_a_narrow_network_of_divisor_1_grows_evenly() -> None:
    assert isinstance(B0.spec, EfficientNetSpec)
    spec = replace(B0.spec, divisor=1).scaled(width=0.25)
    assert [stage.out_channels for stage in spec.stages] == [4, 6, 10, 20, 28, 48, 80]
    assert [stage.out_channels for stage in spec.scaled(width=1.25).stages] == [5, 8, 13, 25, 35, 60, 100]
    # In steps of 8 the narrowest keep their width, or double it.
    assert [stage.out_channels for stage in B0.spec.scaled(width=0.25).stages][:3] == [8, 8, 16]


@pytest.mark.parametrize("divisor", [0, -8])
def test_a_divisor_of_nothing_is_refused(divisor: int) -> None:
    assert isinstance(B0.spec, EfficientNetSpec)
    with pytest.raises(UserError, match=f"multiples of {divisor}; the divisor must be at least 1"):
        replace(B0.spec, divisor=divisor)


@settings(max_examples=20)
@given(st.floats(0.1, 3), st.floats(0.1, 3))
def test_every_width_is_a_multiple_of_8_that_is_not_a_tenth_below_the_exact_one(width: float, depth: float) -> None:
    spec = B0.spec.scaled(width, depth)
    pairs = [(spec.stem, 32), (spec.head, 1280)]
    pairs += [(stage.out_channels, base.out_channels) for stage, base in zip(spec.stages, B0.spec.stages, strict=True)]
    for channels, base in pairs:
        assert channels % 8 == 0
        assert channels >= 0.9 * width * base
    for stage, base_stage in zip(spec.stages, B0.spec.stages, strict=True):
        assert len(stage.blocks) == math.ceil(depth * len(base_stage.blocks) - 1e-9)


def test_weights_begin_with_he_et_als_deviation() -> None:
    torch.manual_seed(0)
    for layer in B0.network(B0.spec).modules():
        if isinstance(layer, nn.Conv2d):
            expected = math.sqrt(2 / layer.weight[0].numel())
            tolerance = 4.5 / math.sqrt(2 * layer.weight.numel())
            assert layer.weight.std().item() == pytest.approx(expected, rel=tolerance)
            assert layer.bias is None or not layer.bias.any()


# --- against the same computed otherwise -------------------------------------------------------------------------

STRIDES = [2, *(stride for _, stride, _, _ in TABLE_1)]
ONE_LEFT_OUT = [1, *STRIDES[1:]]
SMALL_STRIDES = [1, 1, 1, *STRIDES[3:]]


@pytest.mark.parametrize(
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
def test_a_network_is_the_stages_of_the_table_in_turn(resolution: int, strides: list[int]) -> None:
    network = tiny(resolution)
    x = torch.randn(2, 3, resolution, resolution, dtype=torch.float64)
    expected = written_out(network, strides, [layers for *_, layers in TABLE_1], x)
    assert expected.std() > 1e-3
    assert torch.allclose(network(x), expected, rtol=1e-9, atol=1e-12)


def test_a_deeper_network_repeats_the_last_block_of_each_stage() -> None:
    network = tiny(64, depth=2)
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    layers = [2 * layers for *_, layers in TABLE_1]
    assert torch.allclose(network(x), written_out(network, STRIDES, layers, x), rtol=1e-9, atol=1e-12)


def test_squeeze_and_excitation_weighs_each_map_by_a_number_between_0_and_1() -> None:
    torch.manual_seed(0)
    layer = stirred(SqueezeExcitation(6, 2))
    x = torch.randn(3, 6, 4, 4)
    with torch.no_grad():
        weights = layer(x) / x
    assert torch.allclose(weights, weights[..., :1, :1].expand_as(weights), atol=1e-5)
    assert ((weights > 0) & (weights < 1)).all()
    assert len(weights[..., 0, 0].unique()) == 18


# --- dropout and drop-connect ------------------------------------------------------------------------------------


def block_that_drops(drop: float, stride: int = 1) -> MBConv:
    """Itself in training and its layers in evaluation, so that no image depends on its company."""
    torch.manual_seed(0)
    block = MBConv(4, 8, 1, 4, 3, stride, drop, B0.spec)
    stirred(block).eval()
    block.training = True
    return block


@pytest.mark.parametrize("drop", [0.1, 0.35])
def test_drop_connect_leaves_the_block_out_for_whole_images_and_keeps_the_expectation(drop: float) -> None:
    block, num = block_that_drops(drop), 4000
    x = torch.randn(1, 4, 3, 3)
    with torch.no_grad():
        added = block(x.expand(num, -1, -1, -1)) - x
        inside = block.eval()(x) - x
    dropped = (added == 0).flatten(1).all(1)
    kept = (added - inside / (1 - drop)).abs().flatten(1).amax(1) < 1e-4
    assert (dropped ^ kept).all()
    # Four standard errors.
    assert dropped.double().mean().item() == pytest.approx(drop, abs=4 * math.sqrt(drop * (1 - drop) / num))
    spread = 4 * inside.abs().max().item() * math.sqrt(drop / (1 - drop) / num)
    assert torch.allclose(added.mean(0), inside[0], rtol=0, atol=spread)


def test_drop_connect_never_acts_in_evaluation_nor_on_a_block_without_a_shortcut() -> None:
    x = torch.randn(200, 4, 4, 4)
    always = block_that_drops(0.9).eval()
    assert torch.equal(always(x), always(x))
    strided = block_that_drops(0.9, stride=2)
    assert torch.equal(strided(x), strided(x))


def test_the_chance_of_drop_connect_rises_from_0_with_the_blocks() -> None:
    network = B0.network(B0.spec)
    chances = [block.drop for stage in network.stages for block in stage]
    assert chances == pytest.approx([0.2 * i / 16 for i in range(16)])


@pytest.mark.slow
def test_dropout_is_the_releases() -> None:
    # B0 to B7; a scaled network keeps it.
    assert [variant.spec.dropout for variant in FAMILY[:8]] == [0.2, 0.2, 0.3, 0.3, 0.4, 0.4, 0.5, 0.5]
    assert FAMILY[7].spec.scaled(0.5, 0.5).dropout == 0.5
    network = B0.network(B0.spec.scaled(0.25, resolution=28)).eval()
    seen: list[Tensor] = []
    network.fc.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x = torch.randn(40, 3, 28, 28)
    torch.manual_seed(0)
    for _ in range(2):
        network(x)
    # Dropout alone: in training batch normalization and drop-connect would change the answers too.
    network.training = True
    for _ in range(4):
        network(x)
    before, again, *dropped = seen
    assert torch.equal(before, again)
    assert (torch.stack(dropped) == 0).double().mean().item() == pytest.approx(0.2, abs=0.01)


# --- scaling -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", FAMILY[:3], ids=lambda variant: variant.name)
def test_an_added_block_copies_the_last_of_its_stage(variant: Variant) -> None:
    plain, deep = (variant.spec.scaled(width=0.5, depth=depth) for depth in (1, 2))
    network = variant.network(deep)
    for before, stage in zip(plain.stages, network.stages, strict=True):
        for block in stage[len(before.blocks) :]:
            assert block.residual
            first = block.depthwise if block.expand is None else block.expand
            assert first.conv.in_channels == block.project.conv.out_channels == before.out_channels
            assert block.depthwise.conv.stride == (1, 1)
            assert block.depthwise.conv.kernel_size == (before.kernel, before.kernel)


def test_phi_scales_b0_as_equation_3_says() -> None:
    # Section 3.3: depth 1.2^phi, width 1.1^phi, resolution 1.15^phi, so that MACs grow as 1.92^phi.
    network = ca.create("efficientnet-b0", phi=2)
    assert network.spec == B0.spec.scaled(width=1.1**2, depth=1.2**2, resolution=round(224 * 1.15**2))
    growth = cost_of(B0.network, B0.spec.compound(7)).macs / cost_of(B0.network, B0.spec).macs
    assert growth ** (1 / 7) == pytest.approx(1.92, rel=0.05)
