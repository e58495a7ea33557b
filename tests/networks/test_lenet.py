"""LeNet against its papers and against other ways of computing the same.

1989: LeCun et al., Neural Computation 1(4). 1990: LeCun et al., NIPS 2. 1998: LeCun et al., Proceedings of the IEEE.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import convatlas as ca
from convatlas import atlas
from convatlas.measure import layers, layers_of
from convatlas.networks import codes, lenet
from convatlas.networks.claims.lenet import num_connections
from convatlas.spec import Layers

# 1998, Table I: a column for each map of C3, a row for each map of S2.
TABLE_I = """
X...XXX..XXXX.XX
XX...XXX..XXXX.X
XXX...XXX..X.XXX
.XXX..XXXX..X.XX
..XXX..XXXX.XX.X
...XXX..XXXX.XXX
"""
# 1990, Table 1: a column for each map of H3, a row for each map of H2.
TABLE_1_OF_1990 = """
XXX.XX......
.XXXXX......
......XXX.XX
.......XXXXX
"""


def columns(table: str) -> list[list[int]]:
    """For each column, the rows that are marked."""
    rows = table.split()
    return [[i for i, row in enumerate(rows) if row[m] == "X"] for m in range(len(rows[0]))]


def num_params(network: nn.Module) -> int:
    return sum(value.numel() for value in network.parameters() if value.requires_grad)


def connections(table: Layers) -> dict[str, int]:
    """For each layer, as the papers count."""
    return {row.name: num_connections(Layers((row,))) for row in table}


def separate_convolutions(x: Tensor, table: list[list[int]], weight: Tensor, stride: int = 1) -> Tensor:
    """Each map the sum of one-channel convolutions over the maps it reads, the weights in the table's order."""
    kernels = iter(weight)
    maps = []
    for row in table:
        parts = [F.conv2d(x[:, i : i + 1], next(kernels)[None, None], stride=stride) for i in row]
        maps.append(torch.stack(parts).sum(0))
    assert next(kernels, None) is None
    return torch.cat(maps, 1)


def sum_of_four(x: Tensor) -> Tensor:
    height, width = x.shape[2] // 2 * 2, x.shape[3] // 2 * 2
    x = x[:, :, :height, :width]
    return x[:, :, 0::2, 0::2] + x[:, :, 1::2, 0::2] + x[:, :, 0::2, 1::2] + x[:, :, 1::2, 1::2]


# --- what the papers print ---------------------------------------------------------------------------------------


@pytest.mark.at_once(
    ("name", "params"),
    [
        ("lenet1989", 9760),  # 1989, section 3.3
        ("lenet1", 2578),  # 1990, section 3.3
        ("lenet5", 60000),  # 1998, section II.B
        ("lenet5-modern", 61706),  # 156 + 2,416 + 48,120 + 10,164 + 850
    ],
)
def test_the_built_network_has_exactly_the_parameters_of_the_paper(name: str, params: int) -> None:
    assert num_params(ca.create(name)) == params


@pytest.mark.parametrize(
    ("name", "total"),
    [("lenet1989", 64660), ("lenet1", 98442), ("lenet5", 340908)],  # 1989, 3.3; 1990, 3.3; 1998, II.B
)
def test_the_built_network_has_exactly_the_connections_of_the_paper(name: str, total: int) -> None:
    assert num_connections(layers(ca.create(name))) == total


def test_lenet4_has_about_17000_parameters_and_260000_connections() -> None:
    # 1998, section III.C.
    table = layers(ca.create("lenet4"))
    assert abs(num_params(ca.create("lenet4")) - 17000) < 1000
    assert abs(num_connections(table) - 260000) < 10000


def test_lenet5_has_the_connections_of_every_layer_that_the_paper_prints() -> None:
    # 1998, section II.B; the output layer has a connection for each of 84 x 10 components.
    assert connections(layers(ca.create("lenet5"))) == {
        "c1": 122304,
        "s2": 5880,
        "c3": 151600,
        "s4": 2000,
        "c5": 48120,
        "f6": 10164,
        "output": 840,
    }


def test_lenet5_has_the_parameters_of_every_layer_that_the_paper_prints() -> None:
    # 1998, section II.B; the codes of the output are fixed.
    params = {row.name: row.params for row in layers(ca.create("lenet5"))}
    assert params == {"c1": 156, "s2": 12, "c3": 1516, "s4": 32, "c5": 48120, "f6": 10164, "output": 0}


def test_lenet5_has_the_maps_that_the_paper_draws() -> None:
    # 1998, Figure 2.
    assert [row.output_shape for row in layers(ca.create("lenet5"))] == [
        (6, 28, 28), (6, 14, 14), (16, 10, 10), (16, 5, 5), (120, 1, 1), (84,), (10,),
    ]  # fmt: skip


def test_lenet1_has_the_maps_that_the_paper_draws() -> None:
    # 1990, section 3.3.
    assert [row.output_shape for row in layers(ca.create("lenet1"))] == [
        (4, 24, 24), (4, 12, 12), (12, 8, 8), (12, 4, 4), (10,),
    ]  # fmt: skip


def test_the_zip_code_network_has_the_layers_that_the_paper_prints() -> None:
    # 1989, section 3.3.
    table = layers(ca.create("lenet1989"))
    assert [row.output_shape for row in table] == [(12, 8, 8), (12, 4, 4), (30,), (10,)]
    assert {row.name: row.params for row in table} == {"h1": 1068, "h2": 2592, "h3": 5790, "output": 310}
    assert connections(table) == {"h1": 19968, "h2": 38592, "h3": 5790, "output": 310}


def test_lenet5s_table_is_table_i() -> None:
    assert [list(row) for row in lenet.LENET5_C3] == columns(TABLE_I)


def test_lenet1s_table_is_table_1_of_1990() -> None:
    assert [list(row) for row in lenet.LENET1_C3] == columns(TABLE_1_OF_1990)


def test_a_map_of_h2_reads_eight_of_twelve_maps_and_each_is_read_equally_often() -> None:
    # 1989, section 3.3: "eight of the twelve". Which ones is not printed.
    readers = [0] * 12
    for row in lenet.LENET1989_H2:
        assert len(set(row)) == 8
        for i in row:
            readers[i] += 1
    assert readers == [8] * 12


def test_the_modern_lenets_multiplications_are_those_of_its_layers() -> None:
    # 28 x 28 x 6 x 25, 10 x 10 x 16 x 150, 400 x 120, 120 x 84, 84 x 10.
    table = layers(ca.create("lenet5-modern"))
    assert [row.macs for row in table] == [117600, 240000, 48000, 10080, 840]
    assert table.macs == 416520


def test_the_squashing_function_maps_plus_and_minus_one_to_themselves() -> None:
    # 1998, Appendix A: f(1) = 1, f(-1) = -1, asymptotes at 1.7159.
    squashed = lenet.scaled_tanh(torch.tensor([-100.0, -1.0, 0.0, 1.0, 100.0]))
    assert squashed.tolist() == pytest.approx([-1.7159, -1, 0, 1, 1.7159], abs=1e-4)


def test_weights_begin_within_2_4_over_their_units_fan_in() -> None:
    # 1989, section 4, and 1998, Appendix A. Maps of C3 read 3, 4 or 6 maps of 5 x 5.
    torch.manual_seed(0)
    network = ca.create("lenet5")
    fan_ins = [25 * len(row) for row in columns(TABLE_I) for _ in row]
    for kernel, fan_in in zip(network.c3.weight, fan_ins, strict=True):
        assert kernel.abs().max() <= 2.4 / fan_in
    for first, last, fan_in in ((0, 18, 75), (18, 54, 100), (54, 60, 150)):
        # Hundreds of uniform draws come near to their bound.
        assert network.c3.weight[first:last].abs().max() > 0.9 * 2.4 / fan_in
    assert network.f6.weight.abs().max() <= 2.4 / 120
    assert network.s2.coefficient.abs().max() <= 2.4 / 4


# --- layers against other ways of computing the same -------------------------------------------------------------


def test_c3_is_separate_convolutions_over_the_maps_of_table_i() -> None:
    torch.manual_seed(0)
    c3 = ca.create("lenet5").c3.double()
    nn.init.normal_(c3.bias)
    x = torch.randn(2, 6, 14, 14, dtype=torch.float64)
    expected = separate_convolutions(x, columns(TABLE_I), c3.weight) + c3.bias.view(16, 1, 1)
    assert torch.allclose(c3(x), expected)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_a_connected_convolution_is_separate_convolutions_for_any_table(data: st.DataObject) -> None:
    in_channels = data.draw(st.integers(1, 5))
    row = st.sets(st.integers(0, in_channels - 1), min_size=1).map(sorted)
    table = data.draw(st.lists(row, min_size=1, max_size=6))
    kernel, stride = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3))
    side = kernel + data.draw(st.integers(0, 5))
    out = (side - kernel) // stride + 1
    units = (out, out) if data.draw(st.booleans()) else (1, 1)
    torch.manual_seed(0)
    layer = lenet.ConnectedConv2d(
        in_channels, tuple(map(tuple, table)), kernel, stride=stride, bias_size=units
    ).double()
    nn.init.normal_(layer.bias)
    assert layer.weight.shape == (sum(map(len, table)), kernel, kernel)
    assert layer.bias.shape == (len(table), *units)
    x = torch.randn(2, in_channels, side, side, dtype=torch.float64)
    assert torch.allclose(layer(x), separate_convolutions(x, table, layer.weight, stride) + layer.bias)


def test_maps_that_read_every_map_are_a_dense_convolution() -> None:
    torch.manual_seed(0)
    for side in (5, 9):
        layer = lenet.ConnectedConv2d(3, 7, 5).double()
        x = torch.randn(2, 3, side, side, dtype=torch.float64)
        expected = F.conv2d(x, layer.weight.reshape(7, 3, 5, 5), layer.bias.flatten())
        assert torch.allclose(layer(x), expected)


@pytest.mark.at_once("name", ["lenet1989", "lenet1", "lenet4", "lenet5"])
def test_the_gradient_reaches_every_single_weight_of_the_papers_networks(name: str) -> None:
    torch.manual_seed(0)
    variant = atlas.find(name)
    network = ca.create(name)
    x = torch.randn(8, 1, variant.spec.resolution, variant.spec.resolution)
    variant.objective.losses(network(x), torch.eye(10)[torch.arange(8)]).mean().backward()
    assert all((value.grad != 0).all() for value in network.parameters() if value.grad is not None)


@pytest.mark.at_once(("in_channels", "out_channels"), [(6, 6), (4, 8)])
@pytest.mark.at_once("side", [4, 7])
def test_subsampling_is_a_coefficient_times_the_sum_of_four_plus_a_bias(
    in_channels: int, out_channels: int, side: int
) -> None:
    # 1998, section II.B; in LeNet-4 each input channel is subsampled by a pair of channels (section III.C).
    torch.manual_seed(0)
    layer = lenet.Subsampling(in_channels, out_channels).double()
    nn.init.normal_(layer.bias)
    x = torch.randn(3, in_channels, side, side, dtype=torch.float64)
    summed = sum_of_four(x).repeat_interleave(out_channels // in_channels, dim=1)
    assert torch.allclose(layer(x), layer.coefficient * summed + layer.bias)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 30), st.integers(1, 5), st.integers(0, 2**32))
def test_the_output_is_minus_the_squared_distance_to_each_code(classes: int, images: int, seed: int) -> None:
    x = 2 * torch.randn(images, 84, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    layer = codes.RBF(classes).double()
    assert torch.allclose(layer(x), -torch.cdist(x, layer.codes, compute_mode="donot_use_mm_for_euclid_dist").square())


def test_a_code_itself_is_at_no_distance_from_its_class() -> None:
    layer = codes.RBF(10)
    outputs = layer(codes.output_codes(10))
    assert outputs.diagonal().abs().max() < 1e-4
    assert outputs.argmax(1).tolist() == list(range(10))


def test_lenet5_is_its_layers_in_turn() -> None:
    # 1998, Figure 2 and equations 5 to 7, written out with plain functions.
    torch.manual_seed(0)
    network = ca.create("lenet5").double()
    for value in network.parameters():
        value.data.add_(0.01 * torch.randn_like(value))
    part = dict(network.named_parameters())

    def squash(x: Tensor) -> Tensor:
        return 1.7159 * torch.tanh(2 / 3 * x)

    image = torch.randn(2, 1, 32, 32, dtype=torch.float64)
    x = squash(F.conv2d(image, part["c1.weight"].reshape(6, 1, 5, 5), part["c1.bias"].flatten()))
    x = squash(part["s2.coefficient"] * sum_of_four(x) + part["s2.bias"])
    x = squash(separate_convolutions(x, columns(TABLE_I), part["c3.weight"]) + part["c3.bias"])
    x = squash(part["s4.coefficient"] * sum_of_four(x) + part["s4.bias"])
    x = squash(F.conv2d(x, part["c5.weight"].reshape(120, 16, 5, 5), part["c5.bias"].flatten())).flatten(1)
    x = squash(x @ part["f6.weight"].T + part["f6.bias"])
    distances = (x[:, None] - codes.output_codes(10).double()).square().sum(2)
    assert torch.allclose(network(image), -distances)


@pytest.mark.parametrize(("name", "background"), [("lenet4", -0.1), ("lenet5", -0.1), ("lenet5-modern", 0.0)])
def test_a_image_of_28_px_stands_in_the_middle_of_32_with_background_around(name: str, background: float) -> None:
    torch.manual_seed(0)
    small, large = ca.create(name, resolution=28), ca.create(name)
    large.load_state_dict(small.state_dict())
    x = torch.randn(2, 1, 28, 28)
    framed = torch.full((2, 1, 32, 32), background)
    framed[:, :, 2:30, 2:30] = x
    assert torch.allclose(small(x), large(framed), atol=1e-5)


def test_beyond_the_plane_the_zip_code_network_reads_background() -> None:
    # 1989, section 3.3: with nothing but background, -1, every unit of a map of H1 sees the same.
    torch.manual_seed(0)
    network = ca.create("lenet1989")
    seen: list[Tensor] = []
    network.h1.register_forward_hook(lambda _, __, output: seen.append(output))
    network(torch.full((1, 1, 16, 16), -1.0))
    assert torch.allclose(seen[0], seen[0][..., :1, :1].expand_as(seen[0]), atol=1e-6)


def test_the_modern_lenet_is_the_sequence_that_tutorials_print() -> None:
    torch.manual_seed(0)
    network = ca.create("lenet5-modern")
    sequence = nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip
    for mine, theirs in zip(sequence.parameters(), network.parameters(), strict=True):
        mine.data.copy_(theirs.data)
    x = torch.randn(3, 1, 32, 32)
    assert torch.allclose(network(x), sequence(x), atol=1e-6)


# --- losses ------------------------------------------------------------------------------------------------------

rows = st.lists(st.lists(st.floats(-60, 0), min_size=4, max_size=4), min_size=1, max_size=4)


@settings(max_examples=40, deadline=None)
@given(rows, st.floats(0.1, 40), st.data())
def test_the_map_loss_is_equation_9(distances: list[list[float]], j: float, data: st.DataObject) -> None:
    # 1998: E = mean of y_right + log(exp(-j) + sum of exp(-y_i)), y the distances, minus the outputs.
    right = [data.draw(st.integers(0, 3)) for _ in distances]
    expected = sum(
        -row[r] + math.log(math.exp(-j) + sum(map(math.exp, row))) for row, r in zip(distances, right, strict=True)
    ) / len(distances)
    outputs = torch.tensor(distances, dtype=torch.float64)
    loss = codes.MaximumAPosteriori(j).losses(outputs, torch.eye(4, dtype=torch.float64)[right]).mean()
    assert loss.item() == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_the_map_loss_stays_finite_far_from_every_code() -> None:
    outputs = torch.full((1, 10), -5000.0, requires_grad=True)
    loss = codes.MaximumAPosteriori(20.0).losses(outputs, torch.eye(10)[[3]])
    loss.backward()
    # Nothing but the rubbish class is near: 5000 - 20.
    assert loss.item() == pytest.approx(4980)
    assert outputs.grad is not None
    assert outputs.grad.isfinite().all()


@settings(max_examples=30, deadline=None)
@given(rows, st.data())
def test_the_place_code_loss_is_the_squared_error_to_plus_and_minus_one(
    outputs: list[list[float]], data: st.DataObject
) -> None:
    right = [data.draw(st.integers(0, 3)) for _ in outputs]
    errors = [
        (output - (1 if i == r else -1)) ** 2
        for row, r in zip(outputs, right, strict=True)
        for i, output in enumerate(row)
    ]
    loss = lenet.PlaceCode().losses(torch.tensor(outputs, dtype=torch.float64), torch.eye(4)[right].double()).mean()
    assert loss.item() == pytest.approx(sum(errors) / len(errors))


# --- codes -------------------------------------------------------------------------------------------------------


def test_the_codes_of_the_digits_are_the_characters_of_figure_3() -> None:
    # 1998, Figure 3: the 0 and the 1 as 12 rows of 7 dots.
    zero = """
        .#####. ....... ..###.. .##.##. ##...## ##...##
        ##...## ##...## .##.##. ..###.. ....... .......
    """
    one = """
        ...##.. ..###.. .####.. ...##.. ...##.. ...##..
        ...##.. ...##.. ...##.. .###### ....... .......
    """
    for digit, image in enumerate((zero, one)):
        dots = "".join(image.split())
        assert codes.output_codes(10)[digit].tolist() == [1 if dot == "#" else -1 for dot in dots]


def test_codes_of_different_classes_differ() -> None:
    assert len(set(map(tuple, codes.output_codes(1000).tolist()))) == 1000
    digits = codes.output_codes(10)
    differing = (digits[:, None] != digits).sum(2)
    assert differing[~torch.eye(10, dtype=torch.bool)].min() >= 4


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300))
def test_codes_are_plus_and_minus_one_and_the_same_for_any_number_of_classes(one: int, other: int) -> None:
    few, many = sorted((one, other))
    assert codes.output_codes(many).shape == (many, 84)
    assert (codes.output_codes(many).abs() == 1).all()
    assert torch.equal(codes.output_codes(many)[:few], codes.output_codes(few))


def test_beyond_ten_classes_the_first_ten_codes_are_the_digits() -> None:
    assert torch.equal(ca.create("lenet5", num_classes=40).output.codes[:10], ca.create("lenet5").output.codes)


def test_drawing_codes_leaves_everybodys_random_numbers_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    codes.output_codes(50)
    assert torch.equal(torch.rand(3), expected)


# --- scaling -----------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.floats(0.1, 8))
def test_lenet5_keeps_the_84_dots_of_its_codes_at_every_width(width: float) -> None:
    assert atlas.find("lenet5").spec.scaled(width=width).f6 == 84


def test_the_modern_lenet_has_no_codes_and_scales_f6() -> None:
    assert atlas.find("lenet5-modern").spec.scaled(width=2).f6 == 168


@pytest.mark.at_once(("name", "table"), [("lenet5", TABLE_I), ("lenet1", TABLE_1_OF_1990)])
@pytest.mark.at_once("width", [2, 4])
def test_a_multiple_of_the_width_replicates_every_block_of_the_table(name: str, table: str, width: int) -> None:
    once = columns(table)
    expected = [
        [width * i + copy for i in row for copy in range(width)] for row in once for _ in range(width)
    ]  # fmt: skip
    spec = atlas.find(name).spec.scaled(width=width)
    assert spec.s2 == width * (max(map(max, once)) + 1)
    assert [list(row) for row in spec.c3] == expected


@pytest.mark.parametrize("name", ["lenet1989", "lenet1", "lenet4", "lenet5"])
@settings(max_examples=30, deadline=None)
@given(st.floats(0.13, 5))
def test_at_any_width_every_map_reads_some_of_the_maps_that_are_there(name: str, width: float) -> None:
    spec = atlas.find(name).spec.scaled(width=width)
    in_channels = spec.s2
    for channels in (spec.c3, spec.c5):
        if isinstance(channels, tuple):
            for row in channels:
                assert row
                assert list(row) == sorted(set(row))
                assert row[0] >= 0
                assert row[-1] < in_channels
        in_channels = len(spec.c3)


@pytest.mark.parametrize("name", ["lenet1", "lenet4", "lenet5"])
def test_half_the_width_keeps_the_tables_from_becoming_dense(name: str) -> None:
    spec = atlas.find(name).spec.scaled(width=0.5)
    assert any(len(row) < spec.s2 for row in spec.c3)


@pytest.mark.at_once(
    "name", [variant.name for variant in lenet.FAMILY.variants if isinstance(variant.spec, lenet.LeNetSpec)]
)
def test_depth_adds_convolutions_after_c3_that_keep_its_maps(name: str) -> None:
    variant = atlas.find(name)
    plain = {row.name: row for row in layers_of(variant.network, variant.spec)}
    deep = {row.name: row for row in layers_of(variant.network, variant.spec.scaled(depth=3))}
    added = [row for row_name, row in deep.items() if row_name not in plain]
    third = plain["h2" if name == "lenet1989" else "c3"]
    assert [row.output_shape for row in added] == [third.output_shape] * 2
    for row_name, row in plain.items():
        assert (deep[row_name].output_shape, deep[row_name].params) == (row.output_shape, row.params)


def test_the_first_fully_connected_layer_fits_the_resolution() -> None:
    # 64 px: 60, 30, 26, 13; every unit of C5 reads 16 maps of 13 x 13 and a bias.
    assert layers(ca.create("lenet5", resolution=64))["c5"].params == 120 * (16 * 13 * 13 + 1)
    assert layers(ca.create("lenet5-modern", resolution=64))["c5"].params == 120 * (16 * 13 * 13 + 1)


# --- what the LeNets are compared with ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "params"), [("lenet-300", 785 * 300 + 301 * 10), ("lenet-300-100", 785 * 300 + 301 * 100 + 101 * 10)]
)
def test_the_fully_connected_networks_are_as_large_as_their_names_say(name: str, params: int) -> None:
    assert num_params(ca.create(name)) == params


def test_the_fully_connected_network_is_its_layers_in_turn() -> None:
    network = ca.create("lenet-300-100").double()
    x = torch.randn(4, 1, 28, 28, dtype=torch.float64)
    value = iter(network.state_dict().values())
    units = x.flatten(1)
    for _ in range(3):
        units = 1.7159 * torch.tanh((units @ next(value).T + next(value)) * 2 / 3)
    assert next(value, None) is None
    torch.testing.assert_close(network(x), units)


def test_width_and_depth_are_of_the_hidden_layers() -> None:
    spec = atlas.find("lenet-300-100").spec
    assert spec.scaled(width=2).hidden == (600, 200)
    assert spec.scaled(depth=2).hidden == (300, 100, 100, 100)
    assert spec.scaled(resolution=16).hidden == (300, 100)
    network = ca.create("lenet-300", resolution=16, in_channels=3, num_classes=4)
    assert network(torch.zeros(2, 3, 16, 16)).shape == (2, 4)
