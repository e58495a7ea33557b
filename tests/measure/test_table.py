"""The layer table against really built networks, and what it takes to make one."""

import math
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import zip_longest
from typing import Any, ClassVar, NamedTuple, Self

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

import convatlas as ca
from convatlas import atlas
from convatlas.measure import cost_of, layers, layers_of
from convatlas.networks.blocks import WeightedLayer
from convatlas.spec import Layers, Spec, Variant


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """On a busy machine two threads that wait for each other in every tiny layer take ten times as long."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@dataclass(frozen=True, kw_only=True)
class Shape(Spec):
    """The spec of the networks below."""

    in_channels: int = 1
    resolution: int = 8
    num_classes: int = 2
    smallest_resolution: ClassVar[int] = 1

    def scaled(self, width: float = 1.0, depth: float = 1.0, resolution: int | None = None) -> Self:
        return replace(self, resolution=resolution or self.resolution)


class Plain(nn.Module):
    """Every kind of layer that the table counts or shows, with a group, a stride, no bias and a norm."""

    def __init__(self, spec: Shape) -> None:
        super().__init__()
        self.spec = spec
        self.first = nn.Conv2d(spec.in_channels, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace=True)
        self.grouped = nn.Conv2d(8, 12, (3, 1), stride=2, groups=4)
        self.nothing = nn.Identity()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(12, spec.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.nothing(self.relu(self.norm(self.first(x))))
        return self.fc(self.drop(self.pool(self.grouped(x)).flatten(1)))


class Frozen(nn.Module):
    def __init__(self, spec: Shape) -> None:
        super().__init__()
        self.spec = spec
        self.fixed = nn.Linear(spec.resolution**2, 3)
        self.fixed.requires_grad_(False)
        self.fc = nn.Linear(3, spec.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.fixed(x.flatten(1)))


class Auxiliary(nn.Module):
    """A part that only training uses."""

    def __init__(self, spec: Shape) -> None:
        super().__init__()
        self.spec = spec
        self.conv = nn.Conv2d(spec.in_channels, 4, 3)
        self.fc = nn.Linear(4, spec.num_classes)
        self.auxiliary = nn.Linear(4, 7)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        x = self.conv(x).mean((2, 3))
        return (self.fc(x), self.auxiliary(x)) if self.training else self.fc(x)


def differing(one: Iterable[object], other: Iterable[object]) -> list[tuple[object, object]]:
    """The first pairs that differ: pytest would lay out whole tables, and take minutes."""
    return [(a, b) for a, b in zip_longest(one, other) if a != b][:3]


def tables_differ(one: Layers, other: Layers) -> list[tuple[object, object]]:
    return differing(
        (*one, one.training_only_params, one.peak_activation_bytes),
        (*other, other.training_only_params, other.peak_activation_bytes),
    )


def tiny(variant: Variant, depth: float) -> Spec:
    """LeNets as printed, the others narrow; as deep as printed with the stem of large images, else with the small."""
    few = variant.name.startswith("lenet")
    side = variant.spec.smallest_resolution
    return variant.spec.scaled(
        width=1 if few else 0.25,
        depth=depth,
        resolution=None if few else max(side, variant.spec.small_below) if depth == 1 else side,
    )


class Real(NamedTuple):
    """What a built network of that spec does with an image."""

    called: list[tuple[str, str, tuple[int, ...]]]
    """Name, kind and output shape of every module without children, in order."""
    params: int
    """Trainable numbers of what is used."""
    training_only_params: int
    operations: int
    """As PyTorch counts them: two for a multiply-accumulate."""
    weighted_layers: bool
    """Whether a layer multiplies in a way of its own."""
    table: Layers
    """As `layers` gives it for the built network."""


def torch_name(module: nn.Module) -> str:
    """The class of `torch.nn` that a module is of; its own, if it is of none."""
    of_torch = [base for base in type(module).__mro__ if getattr(nn, base.__name__, None) is base]
    return (of_torch[0] if of_torch[0] is not nn.Module else type(module)).__name__


def real(variant: Variant, depth: float) -> Real:
    spec = tiny(variant, depth)
    network = variant.network(spec).eval()
    called: list[tuple[str, str, tuple[int, ...]]] = []
    hooks = [
        module.register_forward_hook(
            lambda module, _, output, name=name: called.append((name, torch_name(module), tuple(output.shape[1:])))
        )
        for name, module in network.named_modules()
        if not list(module.children())
    ]
    image = torch.randn(1, spec.in_channels, spec.resolution, spec.resolution)
    # What only training uses gets no gradient here.
    network(image).sum().backward()
    for hook in hooks:
        hook.remove()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image)
    return Real(
        called,
        sum(value.numel() for value in network.parameters() if value.grad is not None),
        sum(value.numel() for value in network.parameters() if value.grad is None),
        counter.get_total_flops(),
        any(isinstance(module, WeightedLayer) for module in network.modules()),
        layers(network),
    )


@cache
def printed_table(name: str) -> Layers:
    return layers_of(atlas.find(name).network, atlas.find(name).spec)


def is_measured_as_it_is(variant: Variant, depth: float) -> None:
    """Fails where the table says anything else than a really built network does."""
    expected, table = real(variant, depth), layers_of(variant.network, tiny(variant, depth))
    assert table.params == expected.params
    assert table.training_only_params == expected.training_only_params
    assert (table.training_only_params > 0) == variant.name.startswith("googlenet")
    assert tables_differ(expected.table, table) == []
    called = [layer for layer in expected.called if layer[1] != "Identity"]
    assert differing([(row.name, row.kind, row.output_shape) for row in table], called) == []
    if expected.weighted_layers:
        # A connection table is multiplied out as if it were full; LeNet's tests count by hand.
        assert 0 < 2 * table.macs <= expected.operations
    else:
        assert 2 * table.macs == expected.operations
    # Four bytes a number.
    assert differing([row.activation_bytes for row in table], [4 * math.prod(shape) for _, _, shape in called]) == []


@pytest.mark.few_structures
def test_the_table_is_what_the_really_built_network_does(structure: Variant) -> None:
    is_measured_as_it_is(structure, 1)


def test_the_table_is_what_the_really_built_network_with_the_small_stem_does(scaling: Variant) -> None:
    is_measured_as_it_is(scaling, 0.5)


@pytest.mark.at_once("structure")
def test_the_cost_is_the_tables_totals(structure: Variant) -> None:
    table = printed_table(structure.name)
    assert cost_of(structure.network, structure.spec) == (table.params, table.macs)


@pytest.mark.at_once("structure")
def test_a_receptive_field_stays_in_the_image_and_ends_as_all_of_it(structure: Variant) -> None:
    table = printed_table(structure.name)
    for row in table:
        assert 1 <= row.receptive_field <= structure.spec.resolution
    assert table.rows[-1].receptive_field == structure.spec.resolution


PADDED = ("vgg", "googlenet", "plain", "resnet", "mobilenet", "efficientnet")


@pytest.mark.at_once("structure")
def test_where_everything_is_padded_stride_times_side_is_the_images_side(structure: Variant) -> None:
    if not structure.name.startswith(PADDED):
        return
    spec = structure.spec if structure.spec.resolution % 32 == 0 else structure.spec.scaled(resolution=256)
    assert spec.resolution % 32 == 0
    table = printed_table(structure.name) if spec == structure.spec else layers_of(structure.network, spec)
    wrong = [
        row
        for row in table
        if row.stride * (row.output_shape[1] if len(row.output_shape) == 3 else 1) != spec.resolution
    ]
    assert wrong[:3] == []


@pytest.mark.at_once("name", ["lenet1", "lenet4", "lenet5", "lenet5-modern"])
def test_where_nothing_is_padded_the_strides_and_one_field_make_up_the_image(name: str) -> None:
    variant = atlas.find(name)
    layers_with_sides = [row for row in printed_table(name) if len(row.output_shape) == 3]
    assert len(layers_with_sides) >= 2
    for row in layers_with_sides:
        assert (row.output_shape[1] - 1) * row.stride + row.receptive_field == variant.spec.resolution


def test_an_identity_is_no_row() -> None:
    assert [row.name for row in layers(Plain(Shape()))] == [
        "first", "norm", "relu", "grouped", "pool", "drop", "fc"
    ]  # fmt: skip


def test_what_only_training_uses_is_counted_apart() -> None:
    table = layers(Auxiliary(Shape(num_classes=3)).train())
    assert [row.name for row in table] == ["conv", "fc"]
    # 4 x 9 + 4, 4 x 3 + 3; 4 x 7 + 7.
    assert (table.params, table.training_only_params) == (40 + 15, 35)


def test_googlenets_auxiliary_classifiers_are_for_training_only() -> None:
    # Szegedy et al. 2014, section 5: 1x1 to 128 channels, 4 x 4 x 128 to 1,024 units, 1,000 classes; on 4a and on 4d.
    rest = 128 + (16 * 128 + 1) * 1024 + (1024 + 1) * 1000
    table = layers(ca.create("googlenet"))
    assert table.training_only_params == 512 * 128 + rest + 528 * 128 + rest
    assert not any("auxiliary" in row.name for row in table)


@settings(max_examples=5)
@given(
    width=st.sampled_from([0.5, 1, 2]),
    depth=st.sampled_from([1, 2]),
    resolution=st.integers(28, 44),
    in_channels=st.integers(1, 3),
)
def test_macs_are_half_the_operations_that_pytorch_counts(
    width: float, depth: float, resolution: int, in_channels: int
) -> None:
    network = ca.create("lenet5-modern", width=width, depth=depth, resolution=resolution, in_channels=in_channels)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, in_channels, resolution, resolution))
    assert 2 * layers(network).macs == counter.get_total_flops()


def test_groups_strides_and_missing_biases_count_as_they_are() -> None:
    network = Plain(Shape(in_channels=3, resolution=9)).eval()
    table = layers(network)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, 9, 9))
    assert 2 * table.macs == counter.get_total_flops()
    # 8 x 3 x 9; 2 x 8; 12 x 2 x 3 + 12; 2 x 12 + 2.
    assert {row.name: row.params for row in table if row.params} == {"first": 216, "norm": 16, "grouped": 84, "fc": 26}
    # 81 places x 216; 4 x 5 places x 72; 24.
    assert {row.name: row.macs for row in table if row.macs} == {"first": 17496, "grouped": 1440, "fc": 24}
    assert table.params == sum(value.numel() for value in network.parameters())


def test_lenet5s_multiplications_are_those_of_its_connection_table() -> None:
    # 28 x 28 x 6 x 25; 10 x 10 x 60 x 25 (Table I has 60 marks); 48,000; 120 x 84; 84 x 10.
    macs = {row.name: row.macs for row in layers(ca.create("lenet5"))}
    assert macs == {"c1": 117600, "s2": 0, "c3": 150000, "s4": 0, "c5": 48000, "f6": 10080, "output": 840}


def test_frozen_weights_are_no_trainable_parameters() -> None:
    network = Frozen(Shape())
    assert layers(network).params == sum(value.numel() for value in network.fc.parameters())


# A layer with 10 GB of weights, one with 324 MB that an empty batch could make somebody copy, and networks of the
# atlas, as printed and with up to 15 GB of weights. Prints for each: parameters, seconds, bytes that the peak rose by.
WITHOUT_MEMORY = """
import dataclasses, pathlib, re, resource, sys, time, typing
from torch import nn
import convatlas as ca
from convatlas import atlas
from convatlas.spec import Spec

@dataclasses.dataclass(frozen=True, kw_only=True)
class Wide(Spec):
    resolution: int = 1
    num_classes: int = 1
    smallest_resolution: typing.ClassVar[int] = 1

    def scaled(self, width=1.0, depth=1.0, resolution=None):
        return self

class Linear(nn.Module):
    def __init__(self, spec):
        super().__init__()
        self.layer = nn.Linear(spec.in_channels, 50_000)

    def forward(self, x):
        return self.layer(x.flatten(1))

class Convolution(nn.Module):
    def __init__(self, spec):
        super().__init__()
        self.layer = nn.Conv2d(spec.in_channels, 3_000, 3, padding=1)

    def forward(self, x):
        return self.layer(x)

def peak_bytes():
    status = pathlib.Path("/proc/self/status")
    if status.exists():  # Linux, where ru_maxrss begins at the parent's
        return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", status.read_text())[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

cases = [(Linear, Wide(in_channels=50_000)), (Convolution, Wide(in_channels=3_000))]
for name, width in (("vgg19", 1), ("vgg19", 4), ("alexnet", 8), ("googlenet-naive", 4), ("resnet152", 4)):
    variant = atlas.find(name)
    cases.append((variant.network, variant.spec.scaled(width=width)))
ca.measure.layers(ca.create("lenet5"))
for network, spec in cases:
    for measure in (ca.measure.layers_of, ca.measure.cost_of):
        before, started = peak_bytes(), time.process_time()
        params = measure(network, spec).params
        print(params, time.process_time() - started, peak_bytes() - before)
print(*{"torch._dynamo", "sympy"} & set(sys.modules))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no module `resource`")
def test_wide_networks_are_measured_at_once_and_without_memory_for_their_weights() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_MEMORY], check=True, capture_output=True, text=True)
    *lines, loaded = done.stdout.splitlines()
    measured = [[float(number) for number in line.split()] for line in lines]
    params = [int(of) for of, _, _ in measured]
    assert params[:6:2] == [50_000 * 50_000 + 50_000, 3_000 * 3_000 * 9 + 3_000, 143_667_240]
    assert params[::2] == params[1::2]
    assert min(params[6:]) > 900_000_000
    assert [seconds for _, seconds, _ in measured if seconds >= 2] == []
    assert [grown for _, _, grown in measured if grown >= 16e6] == []
    # Nor is PyTorch's compiler loaded.
    assert loaded == ""


HEAVY = ("vgg19", "efficientnet-b7", "resnet152", "googlenet-naive")
"""With the most layers, and those that take the longest, as printed and at twice the width and depth."""


@pytest.mark.parametrize(
    ("variant", "scale"),
    [pytest.param(atlas.find(name), {}, id=name) for name in (*HEAVY, "resnet1202-cifar")]
    + [pytest.param(atlas.find(name), {"width": 2, "depth": 2}, id=f"{name}-doubled") for name in HEAVY],
)
def test_no_table_takes_a_second(variant: Variant, scale: dict[str, float]) -> None:
    spec = variant.spec.scaled(**scale)

    def seconds() -> float:
        # Of this process: others may keep the machine busy.
        started = time.process_time()
        layers_of.__wrapped__(variant.network, spec)
        return time.process_time() - started

    # The best of three; 1,202 layers take about 0.7.
    most = 2.0 if variant.name == "resnet1202-cifar" else 1.0
    assert any(seconds() < most for _ in range(3))


class Largest(TorchDispatchMode):
    """While active, notes the bytes of the largest tensor that any operation returns outside the meta device."""

    num_bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if isinstance(output, Tensor) and output.device.type != "meta":
            self.num_bytes = max(self.num_bytes, output.untyped_storage().nbytes())
        return output


def test_a_wide_lenet5_is_measured_without_memory_for_the_weights_of_c5() -> None:
    variant = atlas.find("lenet5")
    with Largest() as largest:
        table = layers_of(variant.network, variant.spec.scaled(width=24))
    # 2,880 units read 384 channels of 5 x 5: 110 MB.
    assert table["c5"].params == 2880 * (384 * 25 + 1)
    assert largest.num_bytes < 32e6


@pytest.mark.at_once("name", ["alexnet", "vgg19", "googlenet", "resnet50", "squeezenet", "mobilenet"])
def test_no_tensor_of_weights_is_made(name: str) -> None:
    variant = atlas.find(name)
    with Largest() as largest:
        layers_of(variant.network, variant.spec)
    # The largest of a layer's weights take 1 MB and more.
    assert largest.num_bytes < 100_000


A_FEW = ["lenet5", "alexnet", "vgg11-bn", "googlenet", "resnet18-a", "squeezenet", "mobilenet", "efficientnet-b0"]


@pytest.mark.at_once("name", A_FEW)
def test_the_given_network_is_left_as_it_is(name: str) -> None:
    spec = tiny(atlas.find(name), 1)
    network = atlas.find(name).network(spec).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    layers(network)
    assert network.training
    assert all(not module._forward_hooks for module in network.modules())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(value.grad is None and value.requires_grad for value in network.parameters())


@pytest.mark.at_once("name", A_FEW)
@pytest.mark.at_once("measure", [layers_of, cost_of])
def test_measuring_changes_no_global_state(name: str, measure: Any) -> None:
    def state() -> tuple[Any, ...]:
        return (
            torch.get_default_dtype(),
            torch.get_default_device(),
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.get_num_threads(),
            torch.get_rng_state().tolist(),
        )

    before = state()
    measure(atlas.find(name).network, atlas.find(name).spec)
    assert state() == before


def test_a_network_that_fails_while_it_is_measured_changes_no_global_state_either() -> None:
    class Broken(Plain):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        layers_of(Broken, Shape())
    assert torch.get_default_device() == torch.device("cpu")
    assert torch.is_grad_enabled()
    assert torch.empty(2).fill_(3).tolist() == [3, 3]


@pytest.mark.parametrize("name", A_FEW)
def test_the_table_is_the_same_in_inference_mode(name: str) -> None:
    spec = tiny(atlas.find(name), 1)
    expected, cost = layers_of(atlas.find(name).network, spec), cost_of(atlas.find(name).network, spec)
    with torch.inference_mode():
        tables = (layers_of(atlas.find(name).network, spec), layers(atlas.find(name).network(spec)))
        assert cost_of(atlas.find(name).network, spec) == cost
    for table in tables:
        assert tables_differ(table, expected) == []


@pytest.mark.parametrize("name", A_FEW)
def test_a_network_built_without_memory_is_measured_where_it_was_built(name: str) -> None:
    spec = tiny(atlas.find(name), 1)
    expected, cost = layers_of(atlas.find(name).network, spec), cost_of(atlas.find(name).network, spec)
    with torch.device("meta"):
        table = layers(atlas.find(name).network(spec))
        assert cost_of(atlas.find(name).network, spec) == cost
    assert tables_differ(table, expected) == []


def test_another_default_of_numbers_changes_nothing() -> None:
    expected = layers(Plain(Shape()))
    torch.set_default_dtype(torch.float64)
    try:
        assert layers(Plain(Shape())) == expected
    finally:
        torch.set_default_dtype(torch.float32)


def test_the_mode_of_the_network_does_not_matter() -> None:
    assert layers(Plain(Shape()).train()) == layers(Plain(Shape()).eval())


# The words of a table


def test_a_part_is_the_rows_of_that_name_and_below() -> None:
    table = layers(ca.create("googlenet"))
    part = table.part("inception3.a")
    assert {row.name for row in part} == {row.name for row in table if row.name.startswith("inception3.a.")}
    assert len(part) == 7
    assert part.params == 163_696
    assert table.part("conv1").rows == table.part("conv1.conv").rows == (table["conv1.conv"],)
    # A name that another begins with is not a part of it.
    assert [row.name for row in table.part("conv2")] == ["conv2.conv"]
    assert table.part("conv2_reduce").rows == (table["conv2_reduce.conv"],)
    assert len(table.part("conv")) == 0


def test_the_rows_of_one_kind() -> None:
    table = layers(Plain(Shape()))
    assert [row.name for row in table.of_kind("Conv2d")] == ["first", "grouped"]
    assert table.of_kind("Linear").rows == (table["fc"],)
    assert len(table.of_kind("Conv")) == 0
    assert len(table) == len(table.rows) == 7


@given(st.integers(1, 64), st.sampled_from(A_FEW))
def test_weights_take_their_bits_rounded_up_to_whole_bytes(bits: int, name: str) -> None:
    table = printed_table(name)
    assert table.weight_bytes(bits) == (table.params * bits + 7) // 8


def test_weights_at_32_bits_take_four_bytes_each_without_what_only_training_uses() -> None:
    # 4 x 6,998,552.
    assert layers(ca.create("googlenet")).weight_bytes(bits=32) == 27_994_208
