"""The most that an inference holds at once: by hand, against a little runtime, and against PyTorch's memory."""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar, Self

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from convatlas import atlas
from convatlas.measure import layers_of
from convatlas.spec import Spec, Variant

# The first network of each family, and those that are made otherwise.
OTHERS = {"lenet5", "vgg11-lrn", "googlenet-bn", "resnet20-cifar-c", "resnet50", "squeezenet-complex-bypass"}
various_variants = pytest.mark.parametrize(
    "variant",
    [variant for family in atlas.families() for variant in family.variants if variant == family.variants[0]]
    + [variant for variant in atlas.variants() if variant.name in OTHERS],
    ids=lambda variant: variant.name,
)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """On a busy machine two threads that wait for each other in every tiny layer take ten times as long."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@dataclass(frozen=True, kw_only=True)
class Image(Spec):
    """Of the networks below."""

    resolution: int = 8
    smallest_resolution: ClassVar[int] = 1

    def scaled(self, width: float = 1.0, depth: float = 1.0, resolution: int | None = None) -> Self:
        return replace(self, resolution=resolution or self.resolution)


class Net(nn.Module):
    """Layers by name, and what it does with them."""

    def __init__(self, forward: Callable[[Any, Tensor], Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.does = forward
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.does(self, x)


def conv(in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups)


def peak(make: Callable[[], nn.Module], resolution: int = 8, in_channels: int = 3) -> int:
    """In 32-bit numbers, for an image of that size."""
    spec = Image(resolution=resolution, in_channels=in_channels)
    in_bytes = layers_of(lambda spec: make(), spec).peak_activation_bytes
    assert in_bytes % 4 == 0
    return in_bytes // 4


def peak_in_maps(forward: Callable[[Any, Tensor], Tensor], **layers: nn.Module) -> float:
    """In channels as large as the image, which has three."""
    return peak(lambda: Net(forward, **layers)) / 64


# By hand, in channels as large as the image


def test_a_convolution_holds_its_input_and_its_output() -> None:
    # 3 + 8, 8 + 4, 4 + 16.
    assert peak_in_maps(lambda net, x: net.c(net.b(net.a(x))), a=conv(3, 8), b=conv(8, 4), c=conv(4, 16)) == 20
    assert peak_in_maps(lambda net, x: net.b(net.a(x)), a=conv(3, 8), b=conv(8, 4)) == 12
    assert peak_in_maps(lambda net, x: net.a(x), a=conv(3, 8)) == 11


def test_the_image_is_held_until_it_is_read_for_the_last_time() -> None:
    # 8 + 8 and no more; with the image read again at the end, 3 + 8 + 8; then 3 + 8 + 11.
    assert peak_in_maps(lambda net, x: net.b(net.a(x)), a=conv(3, 8), b=conv(8, 8)) == 16
    assert peak_in_maps(lambda net, x: torch.cat([net.b(net.a(x)), x], 1), a=conv(3, 8), b=conv(8, 8)) == 22


@pytest.mark.at_once(
    "between",
    [
        nn.ReLU(),
        nn.ReLU(inplace=True),
        nn.SiLU(),
        nn.Sigmoid(),
        nn.Tanh(),
        nn.BatchNorm2d(8),
        nn.Dropout(),
        nn.Identity(),
    ],
)
def test_elementwise_work_is_done_in_place(between: nn.Module) -> None:
    # 3 + 8, 8, 8 + 4.
    assert peak_in_maps(lambda net, x: net.b(net.between(net.a(x))), a=conv(3, 8), between=between, b=conv(8, 4)) == 12
    assert peak_in_maps(lambda net, x: net.between(net.a(x)), a=conv(3, 8), between=between) == 11


def test_it_is_not_done_in_place_where_its_input_is_read_later() -> None:
    def forward(net: Any, x: Tensor) -> Tensor:
        y = net.a(x)
        return y + net.b(torch.relu(y))

    # 3 + 8; y and its rectified 8 + 8; with the convolution of that 8 + 8 + 8; the sum in place 8 + 8.
    assert peak_in_maps(forward, a=conv(3, 8), b=conv(8, 8)) == 24


def test_a_shortcut_is_held_past_its_convolutions() -> None:
    def residual(net: Any, x: Tensor) -> Tensor:
        x = net.a(x)
        return torch.relu(x + net.c(torch.relu(net.b(x))))

    def plain(net: Any, x: Tensor) -> Tensor:
        return torch.relu(net.c(torch.relu(net.b(net.a(x)))))

    layers = {"a": conv(3, 8), "b": conv(8, 20), "c": conv(20, 8)}
    # 8 + 20 + 8 while c computes; without the shortcut 20 + 8.
    assert peak_in_maps(residual, **layers) == 36
    assert peak_in_maps(plain, **layers) == 28


def test_a_projection_does_not_outlive_its_sum() -> None:
    def forward(net: Any, x: Tensor) -> Tensor:
        x = net.stem(x)
        y = net.b(net.a(x))
        # y and x, then y and the shortcut, then the sum in place of one of them.
        y = y + net.shortcut(x)
        return net.last(y)

    layers = {"stem": conv(3, 4), "a": conv(4, 6), "b": conv(6, 10), "shortcut": conv(4, 10, 1), "last": conv(10, 10)}
    # 3 + 4; 4 + 6; 4 + 6 + 10; 4 + 10 + 10; 10 + 10; 10 + 10.
    assert peak_in_maps(forward, **layers) == 24


def test_branches_wait_for_each_other_until_they_are_concatenated() -> None:
    def forward(net: Any, x: Tensor) -> Tensor:
        return torch.cat([net.a(x), net.b(x), net.c(net.reduce(x))], 1)

    layers = {"a": conv(3, 4, 1), "b": conv(3, 5), "reduce": conv(3, 2, 1), "c": conv(2, 6, 5)}
    # 3 + 4; 3 + 4 + 5; 3 + 4 + 5 + 2; 4 + 5 + 2 + 6 without the image; 4 + 5 + 6 and their concatenation of 15.
    assert peak_in_maps(forward, **layers) == 30


def test_a_flattened_or_cut_channel_takes_no_memory_of_its_own() -> None:
    # 3 + 8; then 8 channels of 64 and 10 numbers.
    layers = {"a": conv(3, 8), "fc": nn.Linear(512, 10)}
    assert peak_in_maps(lambda net, x: net.fc(net.a(x).flatten(1)), **layers) == 11
    assert peak_in_maps(lambda net, x: net.fc(net.a(x).view(-1, 512)), a=conv(3, 8), fc=nn.Linear(512, 640)) == 18

    def towers(net: Any, x: Tensor) -> Tensor:
        left, right = net.a(x).chunk(2, 1)
        return torch.cat([net.left(left), net.right(right)], 1)

    # 3 + 8; 8 + 5; 8 + 5 + 6, as the halves are one piece of memory; 5 + 6 + 11.
    assert peak_in_maps(towers, a=conv(3, 8), left=conv(4, 5), right=conv(4, 6)) == 22
    # 3 + 8; 8 + 5, though only half of the 8 is read; the sum in place.
    layers = {"a": conv(3, 8), "left": conv(4, 5)}
    assert peak_in_maps(lambda net, x: net.left(net.a(x).chunk(2, 1)[0]) + 1, **layers) == 13


def test_a_depthwise_convolution_holds_its_input_and_its_output() -> None:
    layers = {"expand": conv(3, 12, 1), "depthwise": conv(12, 12, 3, groups=12), "project": conv(12, 4, 1)}
    assert peak_in_maps(lambda net, x: net.project(net.depthwise(net.expand(x))), **layers) == 24


def test_a_gate_multiplies_in_place_of_its_input_which_waits_for_it() -> None:
    def gated(net: Any, x: Tensor) -> Tensor:
        return x * torch.sigmoid(net.excite(nn.functional.silu(net.squeeze(net.pool(x)))))

    layers = {"pool": nn.AdaptiveAvgPool2d(1), "squeeze": conv(128, 32, 1), "excite": conv(32, 128, 1)}
    # 2 x 2 pixels: 512 + 128; 512 + 128 + 32; 512 + 32 + 128; 512 + 128, which is written over the 512.
    assert peak(lambda: Net(gated, **layers), resolution=2, in_channels=128) == 512 + 128 + 32
    # With the channels read once more the product has no place: a gate has not enough.
    assert peak(lambda: Net(lambda net, x: gated(net, x) + x, **layers), 2, 128) == 512 + 128 + 512


def test_a_result_that_nobody_reads_is_held_while_it_is_made() -> None:
    def forward(net: Any, x: Tensor) -> Tensor:
        x = net.a(x)
        net.unused(x)
        return net.b(x)

    # 3 + 4; 4 + 30; 4 + 5.
    assert peak_in_maps(forward, a=conv(3, 4), unused=conv(4, 30), b=conv(4, 5)) == 34
    assert peak_in_maps(forward, a=conv(3, 4), unused=conv(4, 1), b=conv(4, 5)) == 9


def test_what_the_network_gives_is_held_to_the_end() -> None:
    def forward(net: Any, x: Tensor) -> Tensor:
        outputs = net.a(x)
        net.c(net.b(outputs))
        return outputs

    # 3 + 10; 10 + 4; 10 + 4 + 9.
    assert peak_in_maps(forward, a=conv(3, 10), b=conv(10, 4), c=conv(4, 9)) == 23


def test_the_indices_of_maxima_are_not_kept() -> None:
    layers = {"a": conv(3, 8), "pool": nn.MaxPool2d(2), "b": conv(8, 4)}
    # 3 + 8; 8 + 2; 2 + 1.
    assert peak_in_maps(lambda net, x: net.b(net.pool(net.a(x))), **layers) == 11
    assert peak_in_maps(lambda net, x: nn.functional.max_pool2d(net.a(x), 3, 1, 1), a=conv(3, 8)) == 16


def test_weights_do_not_count() -> None:
    # 10,000 x 10,000 weights.
    assert peak(lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 10_000), nn.Linear(10_000, 10_000)), 2) == 20_000


def test_one_image_counts_and_the_activations_are_32_bit_numbers() -> None:
    spec = Image(resolution=8)
    table = layers_of(lambda spec: nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 4)), spec)
    assert table.peak_activation_bytes == 4 * 64 * (8 + 4)


@given(
    channels=st.lists(st.integers(1, 12), min_size=2, max_size=7),
    strides=st.lists(st.integers(1, 2), min_size=6, max_size=6),
    resolution=st.integers(1, 20),
    rectified=st.booleans(),
)
def test_a_chain_of_convolutions_needs_the_largest_sum_of_an_input_and_its_output(
    channels: list[int], strides: list[int], resolution: int, rectified: bool
) -> None:
    def make() -> nn.Module:
        layers = nn.Sequential()
        for num_in, num_out, stride in zip(channels, channels[1:], strides, strict=False):
            layers.append(conv(num_in, num_out, 3, stride))
            if rectified:
                layers.append(nn.ReLU())
        return layers

    sizes, side = [channels[0] * resolution**2], resolution
    for num, stride in zip(channels[1:], strides, strict=False):
        side = math.ceil(side / stride)
        sizes.append(num * side**2)
    expected = max(below + above for below, above in pairwise(sizes))
    assert peak(make, resolution, channels[0]) == expected


# Any network, against a runtime that gives memory back when the last reader is done


@dataclass(frozen=True)
class Step:
    kind: str
    """conv, relu, relu_ (told to work in place), add, cat, pool or view."""
    inputs: tuple[int, ...]
    """Which results so far it reads; 0 is the image."""
    channels: int


STEPS = ["conv", "relu", "relu_", "add", "cat", "view"]


@st.composite
def plans(draw: st.DrawFn) -> list[Step]:
    """Steps of which each reads what is there and keeps the side; the last gives the outputs."""
    channels, plan = [3], []
    for _ in range(draw(st.integers(1, 8))):
        kind = draw(st.sampled_from(STEPS))
        # The nearest more often than the first, as in networks.
        inputs = [len(channels) - 1 - min(draw(st.integers(0, 4)), len(channels) - 1)]
        if kind in ("add", "cat"):
            others = [i for i, n in enumerate(channels) if kind == "cat" or n == channels[inputs[0]]]
            inputs.append(draw(st.sampled_from(others)))
        new = {"conv": draw(st.integers(1, 6)), "cat": sum(channels[i] for i in inputs)}.get(kind, channels[inputs[0]])
        channels.append(new)
        plan.append(Step(kind, tuple(inputs), new))
    return plan


class Planned(nn.Module):
    def __init__(self, plan: list[Step]) -> None:
        super().__init__()
        self.plan = plan
        channels = [3, *(step.channels for step in plan)]
        self.convs = nn.ModuleList(
            conv(channels[step.inputs[0]], step.channels) for step in plan if step.kind == "conv"
        )

    def forward(self, x: Tensor) -> Tensor:
        convs, results = iter(self.convs), [x]
        for step in self.plan:
            inputs = [results[i] for i in step.inputs]
            match step.kind:
                case "conv":
                    results.append(next(convs)(*inputs))
                case "relu":
                    results.append(inputs[0].relu())
                case "relu_":
                    results.append(inputs[0].relu_())
                case "add":
                    results.append(inputs[0] + inputs[1])
                case "cat":
                    results.append(torch.cat(inputs, 1))
                case "view":
                    results.append(inputs[0].flatten(1).unflatten(1, (step.channels, x.shape[2], x.shape[3])))
        return results[-1]


def by_hand(plan: list[Step]) -> int:
    """Channels held at once: each piece of memory counts its readers, and is given back when the last has read it."""
    # Which piece each result lies in: a view, and what works in place, have that of their input.
    piece = [0]
    for number, step in enumerate(plan, 1):
        piece.append(piece[step.inputs[0]] if step.kind in ("relu_", "view") else number)
    readers = Counter(key for step in plan for key in {piece[i] for i in step.inputs})
    readers[piece[-1]] += 1  # whoever asked for it
    held, most = {0: 3}, 3
    for number, step in enumerate(plan, 1):
        read = {piece[i] for i in step.inputs}
        readers.subtract(read)
        done = {key for key in read if not readers[key]}
        if piece[number] == number:
            over = [key for key in done if held[key] == step.channels and step.kind in ("relu", "add")]
            if over:
                del held[over[0]]
            held[number] = step.channels
        most = max(most, sum(held.values()))
        held = {key: channels for key, channels in held.items() if readers[key]}
    return most


@settings(max_examples=300)
@given(plans())
def test_any_network_needs_what_a_runtime_that_frees_at_once_holds(plan: list[Step]) -> None:
    assert peak(lambda: Planned(plan)) == 64 * by_hand(plan)


# The networks of the atlas


def tiny(variant: Variant) -> Spec:
    """LeNets as printed, the others narrow, on the smallest images that have the printed stem."""
    few = variant.name.startswith("lenet")
    side = max(variant.spec.smallest_resolution, variant.spec.small_below)
    return variant.spec.scaled(width=1 if few else 0.25, resolution=None if few else side)


class Held(TorchDispatchMode):
    """While active, notes how many bytes PyTorch holds for what operations made, and the most of it."""

    def __init__(self, image: Tensor, network: nn.Module) -> None:
        super().__init__()
        weights = [*network.parameters(), *network.buffers()]
        self.weights = {StorageWeakRef(value.untyped_storage()) for value in weights}
        self.held: dict[StorageWeakRef, int] = {}
        self.most = 0
        self.note(image)

    def note(self, made: Any) -> None:
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                self.held.setdefault(StorageWeakRef(storage), storage.nbytes())
        self.held = {ref: size for ref, size in self.held.items() if not ref.expired()}
        self.most = max(self.most, sum(size for ref, size in self.held.items() if ref not in self.weights))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        self.note(output)
        return output


def really_held(network: nn.Module, spec: Spec) -> int:
    image = torch.zeros(1, spec.in_channels, spec.resolution, spec.resolution)
    with torch.no_grad(), Held(image, network.eval()) as held:
        network(image)
    return held.most


@various_variants
def test_pytorch_never_holds_less(variant: Variant) -> None:
    # Of what is still to be read PyTorch cannot free anything either; it writes over nothing and frees later.
    spec = tiny(variant)
    needed = layers_of(variant.network, spec).peak_activation_bytes
    assert 0 < needed <= really_held(variant.network(spec), spec)


@pytest.mark.parametrize("in_place", [True, False])
def test_pytorch_holds_no_more_than_the_image_beside_a_chain(in_place: bool) -> None:
    def make(spec: Spec) -> nn.Module:
        return nn.Sequential(
            conv(3, 20), nn.ReLU(in_place), conv(20, 24), nn.MaxPool2d(2), nn.BatchNorm2d(24), conv(24, 9)
        )

    spec = Image(resolution=16)
    needed = layers_of(make, spec).peak_activation_bytes
    assert needed == 4 * 256 * (20 + 24)
    # The caller keeps the image. Nothing is as large as the second convolution with its input.
    assert really_held(make(spec), spec) == needed + 4 * 256 * 3


class Recorded(TorchDispatchMode):
    """While active, notes which pieces of memory each operation reads and makes; it keeps them, so that each is one."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Tensor] = []
        self.operations: list[tuple[bool, set[int], dict[int, int]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        read, made = ([x for x in tree_leaves(part) if isinstance(x, Tensor)] for part in ((args, kwargs), output))
        self.kept += made
        # Batch normalization works on each number as a product and a sum do, but PyTorch does not call it so.
        pointwise = torch.Tag.pointwise in func.tags or "batch_norm" in func.name()
        self.operations.append(
            (pointwise, {piece(x) for x in read}, {piece(x): bytes_of(x) for x in made if x.is_floating_point()})
        )
        return output


def piece(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def bytes_of(tensor: Tensor) -> int:
    return tensor.untyped_storage().nbytes()


def needed_by_a_little_runtime(network: nn.Module, spec: Spec) -> int:
    """Bytes that a real inference needs if each result is freed when its last reader is done."""
    image = torch.zeros(1, spec.in_channels, spec.resolution, spec.resolution)
    with torch.no_grad(), Recorded() as recorded:
        outputs = network.eval()(image)
    comes_from_the_image = {piece(image)}
    operations = []
    for pointwise, read, made in recorded.operations:
        if read & comes_from_the_image:
            comes_from_the_image |= set(made)
            operations.append((pointwise, read & comes_from_the_image, made))
    readers = Counter(key for _, read, _ in operations for key in read)
    readers[piece(outputs)] += 1
    held = {piece(image): bytes_of(image)}
    most = 0
    for pointwise, read, made in operations:
        readers.subtract(read)
        new = {key: size for key, size in made.items() if key not in held}
        over = [key for key in read if not readers[key] and held[key] in new.values()] if pointwise else []
        if over:
            del held[over[0]]
        held |= new
        most = max(most, sum(held.values()))
        held = {key: size for key, size in held.items() if readers[key]}
    return most


@pytest.mark.at_once("structure")
def test_a_real_image_needs_what_the_table_says(structure: Variant) -> None:
    spec = tiny(structure)
    needed = layers_of(structure.network, spec).peak_activation_bytes
    assert needed == needed_by_a_little_runtime(structure.network(spec), spec)


@various_variants
def test_the_largest_layer_fits_and_no_less_than_its_inputs_and_outputs(variant: Variant) -> None:
    table = layers_of(variant.network, variant.spec)
    outputs = [row.activation_bytes for row in table]
    image = 4 * variant.spec.in_channels * variant.spec.resolution**2
    assert max(*outputs, image + outputs[0]) <= table.peak_activation_bytes < image + sum(outputs) * 3


@various_variants
def test_a_wider_network_never_holds_less(variant: Variant) -> None:
    peaks = [peak_of(variant, width=width) for width in (0.5, 1, 1.3, 2)]
    assert peaks == sorted(peaks)
    assert peaks[0] < peaks[1] < peaks[3]


@various_variants
def test_a_larger_image_is_never_held_in_less(variant: Variant) -> None:
    side, least = variant.spec.resolution, variant.spec.smallest_resolution
    peaks: dict[int, list[int]] = {}
    for resolution in sorted({least, 40, 99, side, side + 1, 2 * side}):
        spec = variant.spec.scaled(resolution=resolution)
        # Among images with the same stem.
        peaks.setdefault(spec.num_skipped_downsamplings, []).append(
            layers_of(variant.network, spec).peak_activation_bytes
        )
    assert all(peaks_of_one == sorted(peaks_of_one) for peaks_of_one in peaks.values())
    *_, smaller, larger = peaks[0]
    assert smaller < larger


def peak_of(variant: Variant, **scale: float) -> int:
    return layers_of(variant.network, variant.spec.scaled(**scale)).peak_activation_bytes


@pytest.mark.at_once(
    ("name", "numbers"),
    [
        # conv1_2 reads and gives 64 channels of 224 x 224.
        ("vgg16", 2 * 64 * 224**2),
        # The same with a first stage of one convolution: the pooling reads 64 and gives 64 of a quarter, the next
        # gives 128 of a quarter; the most is what the first pooling holds.
        ("vgg11", 64 * 224**2 + 64 * 112**2),
        ("vgg11-bn", 64 * 224**2 + 64 * 112**2),
        # Max pooling after the first convolution: 64 channels of 112 x 112, and of 56 x 56.
        ("resnet18", 64 * 112**2 + 64 * 56**2),
        # A unit of 56 x 56: its input, the first convolution's output and the second's, 16 channels of 32 x 32 each.
        ("resnet20-cifar", 3 * 16 * 32**2),
        ("plain20-cifar", 2 * 16 * 32**2),
        # LeNet-5: C1 gives 6 channels of 28 x 28, S2 6 of 14 x 14.
        ("lenet5", 6 * 28**2 + 6 * 14**2),
    ],
)
def test_known_networks_hold_what_their_widest_place_says(name: str, numbers: int) -> None:
    variant = atlas.find(name)
    assert layers_of(variant.network, variant.spec).peak_activation_bytes == 4 * numbers
