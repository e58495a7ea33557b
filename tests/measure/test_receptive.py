"""Receptive fields against what really reaches a unit: light up one column of the image after the other."""

from dataclasses import KW_ONLY, dataclass, replace
from typing import ClassVar, Self

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from convatlas import atlas
from convatlas.measure import layers_of
from convatlas.measure.receptive import ReceptiveField, field_after_window
from convatlas.spec import Layers, Spec


@dataclass(frozen=True)
class Plan(Spec):
    """The spec of the networks below: their layers, as modules or as branches that meet."""

    parts: tuple[tuple[object, ...], ...]
    _: KW_ONLY
    resolution: int = 48
    in_channels: int = 1
    smallest_resolution: ClassVar[int] = 1

    def scaled(self, width: float = 1.0, depth: float = 1.0, resolution: int | None = None) -> Self:
        return replace(self, resolution=resolution or self.resolution)


class Skip(nn.Module):
    """Every `stride`-th pixel."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, :: self.stride, :: self.stride]


def layer(kind: str, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> nn.Module:
    if kind == "conv":
        return nn.Conv2d(1, 1, kernel, stride, padding, dilation)
    if kind == "max":
        return nn.MaxPool2d(kernel, stride, padding, dilation)
    if kind == "skip":
        return Skip(stride)
    return nn.AvgPool2d(kernel, stride, padding)


class Stack(nn.Module):
    def __init__(self, spec: Plan) -> None:
        super().__init__()
        self.spec = spec
        self.layers = nn.Sequential(*(layer(*part) for part in spec.parts))  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Branches(nn.Module):
    """Odd kernels with 'same' padding side by side, brought together, then a layer of 3."""

    def __init__(self, spec: Plan) -> None:
        super().__init__()
        self.spec = spec
        self.branches = nn.ModuleList(
            nn.Sequential(*(nn.Conv2d(1, 1, kernel, padding=kernel // 2) for kernel in branch))
            for branch in spec.parts  # type: ignore[misc]
        )

    def together(self, parts: list[Tensor]) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.together([branch(x) for branch in self.branches]))


class Concatenated(Branches):
    def __init__(self, spec: Plan) -> None:
        super().__init__(spec)
        self.last = nn.Conv2d(len(spec.parts), 1, 3)

    def together(self, parts: list[Tensor]) -> Tensor:
        return torch.cat(parts, 1)


class Added(Branches):
    def __init__(self, spec: Plan) -> None:
        super().__init__(spec)
        self.last = nn.Conv2d(1, 1, 3)

    def together(self, parts: list[Tensor]) -> Tensor:
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total


class Towers(nn.Module):
    """Channels that part, go through layers of different size and meet again."""

    def __init__(self, spec: Plan) -> None:
        super().__init__()
        self.spec = spec
        self.left, self.right = nn.Conv2d(1, 1, 3, padding=1), nn.Conv2d(1, 1, 7, padding=3)
        self.last = nn.Conv2d(2, 1, 3)

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, 1)
        return self.last(torch.cat([self.left(left), self.right(right)], 1))


class Pooled(nn.Module):
    """A convolution, an adaptive pooling to `parts` places a side, and a 1x1 convolution."""

    def __init__(self, spec: Plan) -> None:
        super().__init__()
        self.spec = spec
        self.conv = nn.Conv2d(1, 1, 3, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(spec.parts[0][0])  # type: ignore[arg-type]
        self.last = nn.Conv2d(1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.pool(self.conv(x)))


class Normalized(nn.Module):
    """What has no window of its own: batch norm, local response norm, an activation in place."""

    def __init__(self, spec: Plan) -> None:
        super().__init__()
        self.spec = spec
        self.conv = nn.Conv2d(1, 4, 5, padding=2)
        self.rest = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.LocalResponseNorm(3), nn.Identity())
        self.last = nn.Conv2d(4, 1, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.rest(self.conv(x)))


class SqueezeExcite(nn.Module):
    """A gate from the whole image: whatever it touches sees everything."""

    def __init__(self, spec: Plan) -> None:
        super().__init__()
        self.spec = spec
        self.conv = nn.Conv2d(1, 1, 3, padding=1)
        self.gate = nn.Conv2d(1, 1, 1)
        self.last = nn.Conv2d(1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.last(x * self.gate(x.mean((2, 3), keepdim=True)).sigmoid())


class Shortcut(nn.Module):
    """Every second pixel, and zeros for a channel that the input lacks (He et al. 2015, option A)."""

    def __init__(self, stride: int, missing: int) -> None:
        super().__init__()
        self.skip, self.missing = Skip(stride), missing

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(self.skip(x), (0, 0, 0, 0, 0, self.missing))


class Residual(nn.Module):
    """Units of (kernel, stride, shortcut): a convolution, and what the shortcut carries past it."""

    def __init__(self, spec: Plan) -> None:
        super().__init__()
        self.spec = spec
        self.convs, self.shortcuts = nn.ModuleList(), nn.ModuleList()
        for number, (kernel, stride, shortcut) in enumerate(spec.parts, 1):
            self.convs.append(nn.Conv2d(number, number + 1, kernel, stride, kernel // 2))
            self.shortcuts.append(
                Shortcut(stride, 1) if shortcut == "A" else nn.Conv2d(number, number + 1, 1, stride, bias=False)
            )

    def forward(self, x: Tensor) -> Tensor:
        for conv, shortcut in zip(self.convs, self.shortcuts, strict=True):
            x = F.relu(conv(x) + shortcut(x))
        return x


class Grouped(nn.Module):
    """A depthwise convolution between two of two groups."""

    def __init__(self, spec: Plan) -> None:
        super().__init__()
        self.spec = spec
        self.first = nn.Conv2d(4, 4, 3, stride=2, padding=1, groups=2)
        self.depthwise = nn.Conv2d(4, 4, 5, padding=2, groups=4)
        self.last = nn.Conv2d(4, 2, 3, padding=1, groups=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.depthwise(self.first(x)))


class Whole(nn.Module):
    """A convolution, and then what reads all places at once: a mean, a maximum or a fully connected layer."""

    def __init__(self, spec: Plan) -> None:
        super().__init__()
        self.spec = spec
        self.conv = nn.Conv2d(1, 2, 3, padding=1)
        self.how = spec.parts[0][0]
        self.last = nn.Linear(2 * spec.resolution**2 if self.how == "flat" else 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if self.how == "mean":
            x = x.mean((2, 3))
        elif self.how == "pool":
            x = F.avg_pool2d(x, self.spec.resolution)
        elif self.how == "max":
            x = F.adaptive_max_pool2d(x, 1)
        return self.last(x.flatten(1))


def columns_seen(network: nn.Module, spec: Plan) -> tuple[Tensor, Tensor]:
    """The first and the last column that changes each unit of the output; first above last where none does.

    Weights are positive and equal, so that nothing cancels, and light on black, so that every maximum takes it.
    """
    network = network.double().eval()
    for value in network.parameters():
        value.data.fill_(0.05)
    side = spec.resolution
    columns = torch.zeros(side + 1, spec.in_channels, side, side, dtype=torch.float64)
    for column in range(side):
        columns[column, :, :, column] = 1
    with torch.inference_mode():
        lit = network(columns)
    # Light counts for 0.05 ^ 6 and more; what is less is rounding.
    changed = (lit[:side] - lit[side]).abs() > 1e-10
    first = changed.int().argmax(0)
    last = side - 1 - changed.flip(0).int().argmax(0)
    return torch.where(changed.any(0), first, side), last


def span_seen(network: nn.Module, spec: Plan) -> int:
    """Columns from the first to the last that change a unit of the output: the most of any unit."""
    first, last = columns_seen(network, spec)
    return int((last - first).max()) + 1


windows = st.tuples(
    st.sampled_from(["conv", "max", "mean"]), st.integers(1, 3), st.integers(1, 2), st.integers(0, 1), st.integers(1, 2)
).map(lambda part: (*part[:3], min(part[3], part[1] // 2), part[4] if part[0] != "mean" else 1))


@settings(max_examples=20)
@given(st.lists(windows, min_size=1, max_size=3))
@example([("max", 3, 2, 1, 2), ("conv", 3, 1, 1, 2), ("mean", 2, 2, 0, 1)])
def test_a_stack_of_windows_sees_what_reaches_it(parts: list[tuple[object, ...]]) -> None:
    spec = Plan(tuple(parts))
    assert layers_of(Stack, spec).rows[-1].receptive_field == span_seen(Stack(spec), spec)


@settings(max_examples=20)
@given(
    st.lists(
        st.tuples(st.sampled_from(["conv", "max", "mean", "skip"]), st.integers(1, 3), st.integers(1, 3), st.just(0)),
        min_size=1,
        max_size=3,
    )
)
@example([("skip", 1, 2, 0), ("conv", 3, 1, 0)])
def test_neighbors_are_as_far_apart_as_their_stride_says(parts: list[tuple[object, ...]]) -> None:
    spec = Plan(tuple(parts))
    row = layers_of(Stack, spec).rows[-1]
    first, last = (seen[0, 0] for seen in columns_seen(Stack(spec), spec))
    assert {int(of) for of in last - first + 1} == {row.receptive_field}
    if len(first) > 1:
        assert {int(of) for of in first.diff()} == {row.stride}
    else:
        assert row.stride == spec.resolution


units = st.tuples(st.sampled_from([1, 3, 5]), st.integers(1, 2), st.sampled_from("AB"))


@settings(max_examples=20)
@given(st.lists(units, min_size=1, max_size=3))
@example([(3, 2, "A"), (3, 2, "A"), (5, 1, "A")])
@example([(1, 2, "A"), (3, 1, "B")])
def test_a_residual_network_sees_what_reaches_it_by_either_way(parts: list[tuple[object, ...]]) -> None:
    spec = Plan(tuple(parts), resolution=32)
    assert of_the_outputs(Residual, spec) == span_seen(Residual(spec), spec)


def of_the_outputs(network: type[nn.Module], spec: Plan) -> int:
    """The field of what a network gives, seen by a layer without a window of its own."""

    class Ended(nn.Module):
        def __init__(self, spec: Plan) -> None:
            super().__init__()
            self.network, self.end = network(spec), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.end(self.network(x))

    return layers_of(Ended, spec).rows[-1].receptive_field


def test_groups_see_what_reaches_them() -> None:
    spec = Plan((), in_channels=4, resolution=32)
    # 3; 3 + 4 x 2; 11 + 2 x 2.
    assert [row.receptive_field for row in layers_of(Grouped, spec)] == [3, 11, 15]
    assert span_seen(Grouped(spec), spec) == 15


@pytest.mark.at_once("how", ["mean", "pool", "max", "flat"])
def test_what_reads_all_places_sees_the_whole_image(how: str) -> None:
    spec = Plan(((how,),), resolution=12)
    conv, last = layers_of(Whole, spec)
    assert (conv.receptive_field, last.receptive_field) == (3, 12)
    assert (conv.stride, last.stride) == (1, 12)
    assert span_seen(Whole(spec), spec) == 12


def test_every_layer_of_a_stack_sees_what_reaches_it() -> None:
    # The first layers of VGG: 3, 5, pool 6, 10, 14, pool 16 (Simonyan and Zisserman 2014: two 3x3 see 5x5).
    parts = (("conv", 3, 1, 1), ("conv", 3, 1, 1), ("max", 2, 2), ("conv", 3, 1, 1), ("conv", 3, 1, 1), ("max", 2, 2))
    fields = [row.receptive_field for row in layers_of(Stack, Plan(parts))]
    assert fields == [3, 5, 6, 10, 14, 16]
    assert fields == [span_seen(Stack(Plan(parts[:n])), Plan(parts[:n])) for n in range(1, 7)]


branches = st.lists(st.lists(st.sampled_from([1, 3, 5, 7]), min_size=1, max_size=3).map(tuple), min_size=1, max_size=4)


@settings(max_examples=12)
@given(branches, st.sampled_from([Concatenated, Added]))
def test_where_branches_meet_the_widest_decides(parts: list[tuple[int, ...]], network: type[Branches]) -> None:
    spec = Plan(tuple(parts), resolution=32)
    assert layers_of(network, spec).rows[-1].receptive_field == span_seen(network(spec), spec)


def test_the_order_of_branches_does_not_matter() -> None:
    for network in (Concatenated, Added):
        for parts in (((1,), (7,), (3,)), ((7,), (3,), (1,)), ((3,), (1,), (7,))):
            assert layers_of(network, Plan(parts)).rows[-1].receptive_field == 9


def test_towers_see_what_reaches_them() -> None:
    spec = Plan((), in_channels=2, resolution=32)
    assert layers_of(Towers, spec).rows[-1].receptive_field == span_seen(Towers(spec), spec) == 9


@pytest.mark.parametrize("places", [1, 4, 32])
def test_adaptive_pooling_sees_what_reaches_it(places: int) -> None:
    spec = Plan(((places,),), resolution=32)
    assert layers_of(Pooled, spec).rows[-1].receptive_field == span_seen(Pooled(spec), spec)


def test_norms_and_activations_widen_nothing() -> None:
    spec = Plan((), resolution=32)
    assert layers_of(Normalized, spec).rows[-1].receptive_field == span_seen(Normalized(spec), spec) == 7


def test_a_gate_from_the_whole_image_sees_the_whole_image() -> None:
    spec = Plan((), resolution=32)
    assert layers_of(SqueezeExcite, spec).rows[-1].receptive_field == span_seen(SqueezeExcite(spec), spec) == 32


def test_a_field_wider_than_the_image_is_the_image() -> None:
    parts = (("conv", 7, 1, 3),) * 4
    spec = Plan(parts, resolution=8)
    assert [row.receptive_field for row in layers_of(Stack, spec)] == [7, 8, 8, 8]
    assert span_seen(Stack(spec), spec) == 8


def test_lenet5_sees_what_its_windows_add_up_to() -> None:
    # C1 5; S2 6; C3 6 + 4 x 2; S4 14 + 2; C5 16 + 4 x 4, the whole input (LeCun et al. 1998, section II.B).
    variant = atlas.find("lenet5")
    fields = {row.name: row.receptive_field for row in layers_of(variant.network, variant.spec)}
    assert fields == {"c1": 5, "s2": 6, "c3": 14, "s4": 16, "c5": 32, "f6": 32, "output": 32}


def test_a_window_widens_by_its_kernel_and_multiplies_the_jump() -> None:
    # Dumoulin and Visin 2016; a dilated kernel of 3 spans 5.
    assert field_after_window(ReceptiveField(5, 2), kernel=3, stride=2) == ReceptiveField(9, 4)
    assert field_after_window(ReceptiveField(1, 1), kernel=3, stride=1, dilation=2) == ReceptiveField(5, 1)


# Known values

LARGE = 2048
"""Pixels: more than any of the fields below."""


def table_of(name: str, resolution: int = LARGE) -> Layers:
    variant = atlas.find(name)
    return layers_of(variant.network, variant.spec.scaled(resolution=resolution))


def test_vgg16_sees_196_pixels_and_212_after_its_last_pooling() -> None:
    # 3, 5, pool 6; 10, 14, pool 16; 24, 32, 40, pool 44; 60, 76, 92, pool 100; 132, 164, 196, pool 212.
    layers_with_sides = [row for row in table_of("vgg16", 224) if len(row.output_shape) == 3]
    fields = [3, 5, 6, 10, 14, 16, 24, 32, 40, 44, 60, 76, 92, 100, 132, 164, 196, 212]
    assert [row.receptive_field for row in layers_with_sides] == fields
    assert [row.stride for row in layers_with_sides] == [1, 1, 2, 2, 2, 4, 4, 4, 4, 8, 8, 8, 8, 16, 16, 16, 16, 32]
    rest = [row for row in table_of("vgg16", 224) if len(row.output_shape) == 1]
    assert [(row.receptive_field, row.stride) for row in rest] == [(224, 224)] * 3


@pytest.mark.at_once(
    ("name", "layer", "field", "stride"),
    [
        # Araujo, Norris and Sim 2019, Table 1: AlexNet, VGG, MobileNet, and ResNet with the stride in the first 1x1.
        ("alexnet", "pool5", 195, 32),
        ("vgg16", "stages.4.3", 212, 32),
        ("mobilenet", "stages.4.1.pointwise.norm", 315, 32),
        ("resnet50", "stages.3.2.layers.2.norm", 483, 32),
        ("resnet101", "stages.3.2.layers.2.norm", 1027, 32),
        ("resnet152", "stages.3.2.layers.2.norm", 1507, 32),
        # With the stride in the 3x3 the first of a stage reads neighbors half as far apart: 35; 35 + 8 + 3 x 16 = 91;
        # 91 + 16 + 5 x 32 = 267; 267 + 32 + 2 x 64.
        ("resnet50-v1.5", "stages.3.2.layers.2.norm", 427, 32),
        # 7, pool 11; 11 + 4 x 8 = 43; 43 + 8 + 3 x 16 = 99; 99 + 16 + 3 x 32 = 211; 211 + 32 + 3 x 64.
        ("resnet18", "stages.3.1.layers.1.norm", 435, 32),
        # Every shortcut sees less than what it passes.
        ("resnet18-a", "stages.3.1.layers.1.norm", 435, 32),
        # The branch of 5x5: 7, pool 11, 19, pool 27; 59, 91, pool 107; 5 x 64, 427, pool 459; 2 x 128.
        ("googlenet", "inception5.b.five.conv.conv", 715, 32),
        ("googlenet", "inception5.b.three.conv.conv", 651, 32),
        # 7, pool 11; 3 x 8, 35, pool 43; 4 x 16, 107, pool 123; 32.
        ("squeezenet", "conv10", 155, 16),
        # 3; 6 of 3x3 at 1; 6 at 2, the first at 1; 6 at 4, the first at 2: 15, 17 + 20, 41 + 40.
        ("resnet20-cifar", "stages.2.2.layers.1.norm", 81, 4),
    ],
)
def test_known_fields_and_strides(name: str, layer: str, field: int, stride: int) -> None:
    row = table_of(name)[layer]
    assert (row.receptive_field, row.stride) == (field, stride)


def test_a_sum_sees_what_the_widest_of_its_inputs_sees() -> None:
    # The convolution after a unit of ResNet-18: 43 at 4 pixels, then 3x3.
    table = table_of("resnet18-a")
    assert table["stages.0.1.layers.1.conv"].receptive_field == 43
    assert table["stages.1.0.layers.0.conv"].receptive_field == 51
    # The shortcut skips every second pixel and sees no more than its input.
    assert (table["stages.1.0.shortcut"].receptive_field, table["stages.1.0.shortcut"].stride) == (43, 8)


def test_squeeze_and_excitation_makes_the_field_the_whole_image() -> None:
    table = table_of("efficientnet-b0", 224)
    rows = list(table)
    first = next(i for i, row in enumerate(rows) if row.name.endswith("excitation.pool"))
    # 3 at 2 pixels, then a depthwise 3x3.
    assert [row.receptive_field for row in rows[:first]] == [3, 3, 7, 7]
    assert {row.receptive_field for row in rows[first:]} == {224}
