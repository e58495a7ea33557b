"""What lies in series and what side by side: as the papers draw their networks."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import convatlas as ca
from convatlas.measure import Block, GraphLayer, Parallel, Part, Structure, layers_in, output_shape, structure_of
from convatlas.measure.table import build_without_memory
from convatlas.spec import Variant


def structure(name: str, width: float = 1.0) -> Structure:
    variant = ca.find(name)
    return structure_of(build_without_memory(variant.network, variant.spec.scaled(width)))


def blocks(parts: Sequence[Part]) -> Iterator[Block]:
    """All blocks, also those in blocks and branches."""
    for part in parts:
        if isinstance(part, Block):
            yield part
            yield from blocks(part.parts)
        elif isinstance(part, Parallel):
            for branch in part.branches:
                yield from blocks(branch)


def forks(parts: Sequence[Part]) -> list[Parallel]:
    """Parts that branch, not those in branches."""
    found = []
    for part in parts:
        if isinstance(part, Parallel):
            found.append(part)
        elif isinstance(part, Block):
            found += forks(part.parts)
    return found


def block(name: str, parts: Sequence[Part]) -> Block:
    return next(one for one in blocks(parts) if one.name == name)


def names(parts: Sequence[Part]) -> list[str]:
    return [layer.name for layer in layers_in(parts)]


@pytest.mark.at_once("name", ["lenet5", "lenet1989", "vgg16", "mobilenet", "plain20-cifar", "lenet-300"])
def test_a_chain_has_no_branches(name: str) -> None:
    assert forks(structure(name).parts) == []


def test_inception_is_four_branches_and_a_concatenation() -> None:
    parts = structure("googlenet").parts
    modules = [one for one in blocks(parts) if one.kind == "Inception"]
    assert [one.name for one in modules] == [f"inception{stage}" for stage in (
        "3.a", "3.b", "4.a", "4.b", "4.c", "4.d", "4.e", "5.a", "5.b"
    )]  # fmt: skip
    for one in modules:
        (fork,) = forks(one.parts)
        assert fork.join.kind == "concat"
        assert [len(names(branch)) for branch in fork.branches] == [1, 2, 2, 2]
        assert sum(output_shape(branch)[0] for branch in fork.branches) == fork.join.output_shape[0]
    first = forks(modules[0].parts)[0]
    assert [output_shape(branch)[0] for branch in first.branches] == [64, 128, 32, 32]
    assert [[layer.kernel for layer in layers_in(branch)] for branch in first.branches] == [[1], [1, 3], [1, 5], [3, 1]]


def test_a_residual_unit_adds_its_input() -> None:
    parts = structure("resnet34", 0.25).parts
    units = [one for one in blocks(parts) if one.kind == "ResidualUnit"]
    assert len(units) == 3 + 4 + 6 + 3
    shortcuts = []
    for unit in units:
        (fork,) = forks(unit.parts)
        assert (fork.join.kind, fork.join.activation) == ("add", "ReLU")
        layers, shortcut = fork.branches
        assert len(names(layers)) == 4
        shortcuts.append(names(shortcut))
    projected = [unit.name for unit, shortcut in zip(units, shortcuts, strict=True) if shortcut]
    assert projected == ["stages.1.0", "stages.2.0", "stages.3.0"]
    assert shortcuts[3] == ["stages.1.0.shortcut.conv", "stages.1.0.shortcut.norm"]
    padded = forks(block("stages.1.0", structure("resnet34-a", 0.25).parts).parts)[0].branches[1]
    assert [layer.kind for layer in layers_in(padded)] == ["ZeroPadded"]


def test_alexnet_has_two_towers_that_meet_before_its_third_convolution() -> None:
    first, second, *rest = structure("alexnet").parts
    assert isinstance(first, Parallel)
    assert isinstance(second, Parallel)
    assert {first.join.kind, second.join.kind} == {"towers"}
    for fork, expected in (
        (first, ["conv1.conv", "lrn1", "pool1", "conv2.conv", "lrn2", "pool2"]),
        (second, ["conv3.conv", "conv4.conv", "conv5.0.conv", "pool5"]),
    ):
        one, other = fork.branches
        assert names(one) == names(other) == expected
    assert [layer.output_shape[0] for layer in layers_in(first.branches[0])] == [48, 48, 48, 128, 128, 128]
    # The third convolution reads both towers, the fourth its own.
    third, fourth, *_ = layers_in(second.branches[0])
    assert (third.input_shape[0], fourth.input_shape[0]) == (256, 192)
    assert names(rest) == ["fc6", "fc7", "fc8"]


def test_normalization_over_both_towers_joins_them() -> None:
    towers = [fork for fork in forks(structure("alexnet-caffe").parts) if fork.join.kind == "towers"]
    assert [names(fork.branches[0]) for fork in towers] == [
        ["conv2.conv"],
        ["conv3.conv", "conv4.conv", "conv5.0.conv", "pool5"],
    ]
    assert forks(structure("alexnet-owt").parts) == []


def test_fire_squeezes_and_then_expands_in_two_branches() -> None:
    fire = block("stages.0.fire2", structure("squeezenet").parts)
    squeeze, expand = fire.parts
    assert names([squeeze]) == ["stages.0.fire2.squeeze.conv"]
    assert isinstance(expand, Parallel)
    assert expand.join.kind == "concat"
    assert [[layer.kernel for layer in layers_in(branch)] for branch in expand.branches] == [[1], [3]]


def test_a_bypass_leads_around_a_whole_module() -> None:
    (fork,) = block("stages.0.fire3", structure("squeezenet-simple-bypass").parts).parts
    assert isinstance(fork, Parallel)
    assert fork.join.kind == "add"
    (module, bypass) = fork.branches
    assert bypass == ()
    assert [one.join.kind for one in forks(module)] == ["concat"]


def test_excitation_weighs_channels_inside_a_block_that_adds_its_input() -> None:
    (fork,) = block("stages.1.1", structure("efficientnet-b0").parts).parts
    assert isinstance(fork, Parallel)
    assert fork.join.kind == "add"
    own, main = fork.branches
    assert own == ()
    (gate,) = forks(main)
    assert (gate.join.kind, gate.branches[0]) == ("multiply", ())
    excite = list(layers_in(gate.branches[1]))
    assert [layer.kind for layer in excite] == ["AdaptiveAvgPool2d", "Conv2d", "Conv2d"]
    assert excite[-1].activation == "sigmoid"
    assert [layer.is_depthwise for layer in layers_in(main)].count(True) == 1


def test_a_dense_layer_appends_to_its_input(densenets: dict[str, Variant]) -> None:
    variant = densenets["densenet40-cifar"]
    parts = structure_of(build_without_memory(variant.network, variant.spec)).parts
    layers = [one for one in blocks(parts) if one.kind == "DenseLayer"]
    assert len(layers) == 36
    for one in layers:
        (fork,) = one.parts
        assert isinstance(fork, Parallel)
        assert (fork.join.kind, fork.branches[0]) == ("concat", ())


def test_a_pruned_network_is_as_it_is() -> None:
    spec = ca.find("resnet18").spec
    stages = tuple(tuple((17, unit[-1]) for unit in stage) for stage in spec.stages)
    network = type(ca.create("resnet18", width=0.25))(replace(spec, stages=stages))
    (fork,) = block("stages.2.1", structure_of(network).parts).parts
    assert isinstance(fork, Parallel)
    assert [layer.output_shape[0] for layer in layers_in(fork.branches[0])] == [17, 17, 256, 256]


class Crossed(nn.Module):
    """Two layers of which each reads both of the layers before."""

    def __init__(self) -> None:
        super().__init__()
        self.spec = ca.find("lenet5").spec
        self.a, self.b, self.c, self.d = (nn.Conv2d(1, 1, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.a(x), self.b(x)
        return torch.cat([self.c(a + b), self.d(b)], 1)


def test_what_is_neither_in_series_nor_in_parallel_is_a_mistake() -> None:
    with pytest.raises(ca.UserError, match="lie neither in series nor side by side"):
        structure_of(Crossed())


def counts(structure: Structure, count: Callable[[GraphLayer], int]) -> int:
    return sum(count(layer) for layer in layers_in(structure.parts))


def test_the_totals_are_of_all_layers_those_of_every_tower_too() -> None:
    alexnet, resnet = structure("alexnet"), structure("resnet18")
    assert (alexnet.params, alexnet.macs, alexnet.depth) == (60_965_224, 724_406_816, 8)
    assert counts(resnet, lambda layer: layer.params) == resnet.params
