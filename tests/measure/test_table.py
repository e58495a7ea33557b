import subprocess
import sys
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

import convatlas as ca
from convatlas import atlas
from convatlas.measure import layers, layers_of
from convatlas.spec import Spec, Variant

every_variant = pytest.mark.parametrize("variant", atlas.variants(), ids=lambda variant: variant.name)


@dataclass(frozen=True)
class Shape:
    """The spec of the networks below."""

    in_channels: int = 1
    resolution: int = 8
    num_classes: int = 2
    smallest_resolution: int = 1

    def scaled(self, width: float = 1.0, depth: float = 1.0, resolution: int | None = None) -> "Shape":
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
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(12, spec.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm(self.first(x)))
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


def affordable(variant: Variant) -> Spec:
    """The paper's own network where a test can run it, else a narrow one on the smallest pictures."""
    if layers_of(variant.network, variant.spec).params < 3_000_000:
        return variant.spec
    return variant.spec.scaled(width=0.25, resolution=variant.spec.smallest_resolution)


@every_variant
@pytest.mark.parametrize("depth", [1, 2])
def test_the_tables_parameters_are_those_of_the_really_built_network(variant: Variant, depth: float) -> None:
    spec = affordable(variant).scaled(depth=depth)
    network = variant.network(spec).eval()
    # Parts that only training uses get no gradient here, and are not counted.
    network(torch.randn(2, spec.in_channels, spec.resolution, spec.resolution)).sum().backward()
    expected = sum(value.numel() for value in network.parameters() if value.grad is not None)
    assert layers(network).params == layers_of(variant.network, spec).params == expected


@every_variant
def test_names_order_and_shapes_are_those_of_a_real_forward_pass(variant: Variant) -> None:
    spec = affordable(variant).scaled(depth=2)
    network = variant.network(spec).eval()
    seen: list[tuple[str, str, tuple[int, ...]]] = []
    for name, module in network.named_modules():
        if not list(module.children()):
            module.register_forward_hook(
                lambda module, _, output, name=name: seen.append((name, type(module).__name__, tuple(output.shape[1:])))
            )
    with torch.inference_mode():
        network(torch.zeros(1, spec.in_channels, spec.resolution, spec.resolution))
    assert [(row.name, row.kind, row.output_shape) for row in layers(network)] == seen


@every_variant
def test_a_receptive_field_never_shrinks_nor_leaves_the_picture(variant: Variant) -> None:
    for row in layers_of(variant.network, variant.spec):
        assert 1 <= row.receptive_field <= variant.spec.resolution
    assert layers_of(variant.network, variant.spec).rows[-1].receptive_field == variant.spec.resolution


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


# A layer with 10 GB of weights, and one with 324 MB that an empty batch could make somebody copy.
WIDE_LAYERS = """
import dataclasses, pathlib, re, resource, time
from torch import nn
import convatlas as ca

@dataclasses.dataclass
class Spec:
    in_channels: int
    resolution: int = 1
    num_classes: int = 1

class Linear(nn.Module):
    def __init__(self, spec):
        super().__init__()
        self.layer = nn.Linear(spec.in_channels, 50_000)

    def forward(self, x):
        return self.layer(x.flatten(1))

class Convolution(nn.Module):
    def __init__(self, spec):
        super().__init__()
        self.layer = nn.Conv2d(spec.in_channels, 1_000, 3, padding=1)

    def forward(self, x):
        return self.layer(x)

def peak_bytes():
    status = pathlib.Path("/proc/self/status")
    if status.exists():  # Linux, where ru_maxrss begins at the parent's
        return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", status.read_text())[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

ca.measure.layers(ca.create("lenet5"))
for network, channels in ((Linear, 50_000), (Convolution, 1_000)):
    before, started = peak_bytes(), time.monotonic()
    params = ca.measure.layers_of(network, Spec(channels)).params
    print(params, time.monotonic() - started, peak_bytes() - before)
"""


def test_wide_layers_are_measured_at_once_and_without_memory_for_their_weights() -> None:
    done = subprocess.run([sys.executable, "-c", WIDE_LAYERS], check=True, capture_output=True, text=True)
    (linear, *linear_cost), (convolution, *convolution_cost) = (
        map(float, line.split()) for line in done.stdout.splitlines()
    )
    assert (linear, convolution) == (50_000 * 50_000 + 50_000, 1_000 * 1_000 * 9 + 1_000)
    for seconds, grown in (linear_cost, convolution_cost):
        assert seconds < 2
        assert grown < 100e6


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
    # 2,880 units read 384 maps of 5 x 5: 110 MB.
    assert table["c5"].params == 2880 * (384 * 25 + 1)
    assert largest.num_bytes < 32e6


def test_the_given_network_is_left_as_it_is() -> None:
    network = ca.create("lenet5").train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    layers(network)
    assert network.training
    assert all(not module._forward_hooks for module in network.modules())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(value.grad is None and value.requires_grad for value in network.parameters())


def test_measuring_changes_no_global_state() -> None:
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
    layers_of(atlas.find("lenet5").network, atlas.find("lenet5").spec)
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


def test_the_table_is_the_same_in_inference_mode() -> None:
    expected = layers(ca.create("lenet5"))
    with torch.inference_mode():
        assert layers(ca.create("lenet5")) == expected


def test_a_network_built_without_memory_is_measured_where_it_was_built() -> None:
    expected = layers(ca.create("lenet5"))
    with torch.device("meta"):
        assert layers(ca.create("lenet5")) == expected


def test_the_mode_of_the_network_does_not_matter() -> None:
    assert layers(Plain(Shape()).train()) == layers(Plain(Shape()).eval())


def test_measuring_leaves_pytorchs_compiler_unloaded() -> None:
    code = """
import sys
import convatlas as ca
ca.measure.layers(ca.create("lenet5"))
print(*{"torch._dynamo", "sympy"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []
