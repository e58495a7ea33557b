"""Receptive fields against what really reaches a unit: light up one column of the picture after the other."""

from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from convatlas import atlas
from convatlas.measure import layers_of
from convatlas.measure.receptive import Field, window
from convatlas.spec import Variant


@dataclass(frozen=True)
class Plan:
    """The spec of the networks below: their layers, as modules or as branches that meet."""

    parts: tuple[tuple[object, ...], ...]
    resolution: int = 48
    in_channels: int = 1
    num_classes: int = 1
    smallest_resolution: int = 1

    def scaled(self, width: float = 1.0, depth: float = 1.0, resolution: int | None = None) -> "Plan":
        return replace(self, resolution=resolution or self.resolution)


def layer(kind: str, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> nn.Module:
    if kind == "conv":
        return nn.Conv2d(1, 1, kernel, stride, padding, dilation)
    if kind == "max":
        return nn.MaxPool2d(kernel, stride, padding, dilation)
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


class Normalised(nn.Module):
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
    """A gate from the whole picture: whatever it touches sees everything."""

    def __init__(self, spec: Plan) -> None:
        super().__init__()
        self.spec = spec
        self.conv = nn.Conv2d(1, 1, 3, padding=1)
        self.gate = nn.Conv2d(1, 1, 1)
        self.last = nn.Conv2d(1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.last(x * self.gate(x.mean((2, 3), keepdim=True)).sigmoid())


def span_seen(network: nn.Module, spec: Plan) -> int:
    """Columns from the first to the last that change a unit of the output: the most of any unit.

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
    changed = ((lit[:side] - lit[side]).abs() > 1e-10).flatten(1)
    first = changed.int().argmax(0)
    last = side - 1 - changed.flip(0).int().argmax(0)
    return int(torch.where(changed.any(0), last - first + 1, 0).max())


windows = st.tuples(
    st.sampled_from(["conv", "max", "mean"]), st.integers(1, 3), st.integers(1, 2), st.integers(0, 1), st.integers(1, 2)
).map(lambda part: (*part[:3], min(part[3], part[1] // 2), part[4] if part[0] != "mean" else 1))


@settings(max_examples=30)
@given(st.lists(windows, min_size=1, max_size=3))
@example([("max", 3, 2, 1, 2), ("conv", 3, 1, 1, 2), ("mean", 2, 2, 0, 1)])
def test_a_stack_of_windows_sees_what_reaches_it(parts: list[tuple[object, ...]]) -> None:
    spec = Plan(tuple(parts))
    assert layers_of(Stack, spec).rows[-1].receptive_field == span_seen(Stack(spec), spec)


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
    assert layers_of(Normalised, spec).rows[-1].receptive_field == span_seen(Normalised(spec), spec) == 7


def test_a_gate_from_the_whole_picture_sees_the_whole_picture() -> None:
    spec = Plan((), resolution=32)
    assert layers_of(SqueezeExcite, spec).rows[-1].receptive_field == span_seen(SqueezeExcite(spec), spec) == 32


def test_a_field_wider_than_the_picture_is_the_picture() -> None:
    parts = (("conv", 7, 1, 3),) * 4
    spec = Plan(parts, resolution=8)
    assert [row.receptive_field for row in layers_of(Stack, spec)] == [7, 8, 8, 8]
    assert span_seen(Stack(spec), spec) == 8


def test_lenet5_sees_what_its_windows_add_up_to() -> None:
    # C1 5; S2 6; C3 6 + 4 x 2; S4 14 + 2; C5 16 + 4 x 4, the whole input (LeCun et al. 1998, section II.B).
    variant = atlas.find("lenet5")
    fields = {row.name: row.receptive_field for row in layers_of(variant.network, variant.spec)}
    assert fields == {"c1": 5, "s2": 6, "c3": 14, "s4": 16, "c5": 32, "f6": 32, "output": 32}


@pytest.mark.parametrize("variant", atlas.variants(), ids=lambda variant: variant.name)
def test_the_outputs_of_every_network_see_the_whole_picture(variant: Variant) -> None:
    assert layers_of(variant.network, variant.spec).rows[-1].receptive_field == variant.spec.resolution


def test_a_window_widens_by_its_kernel_and_multiplies_the_jump() -> None:
    # Dumoulin and Visin 2016; a dilated kernel of 3 spans 5.
    assert window(Field(5, 2), kernel=3, stride=2) == Field(9, 4)
    assert window(Field(1, 1), kernel=3, stride=1, dilation=2) == Field(5, 1)
