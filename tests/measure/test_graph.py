"""The graph of a network has every layer that runs, and what reads what."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

import convatlas as ca
from convatlas.measure.graph import graph_of
from convatlas.measure.table import build_without_memory, layers_of
from convatlas.spec import Variant


class AddsItself(nn.Module):
    """A module with children, whose sum stands in `forward`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.unused = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        self.unused(x)
        return F.relu(x + self.conv(x))


class Functional(nn.Module):
    """Everything that can stand between modules."""

    def __init__(self) -> None:
        super().__init__()
        self.spec = replace(ca.find("lenet-300").spec, in_channels=3, resolution=16)
        self.conv1 = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.unit = AddsItself()
        self.gate = nn.Conv2d(8, 8, 1)
        self.fc = nn.Linear(16 * 2 * 2, 5)
        self.elu = nn.ELU()

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.conv1(F.pad(x, (0, 1, 0, 1))))
        x = F.max_pool2d(self.unit(x), 2)
        x = x * torch.sigmoid(self.gate(F.adaptive_avg_pool2d(x, 1)))
        x = torch.cat([x, F.max_pool2d(x, 3, 1, 1)], 1)
        return 2 * self.elu(self.fc(F.dropout(F.avg_pool2d(x, 2), 0.5, self.training).flatten(1)))


def test_what_stands_between_modules_is_in_the_graph() -> None:
    graph = graph_of(Functional())
    names = [layer.name for layer in graph.layers]
    read = {
        name: [names[i] if i >= 0 else "image" for i in sources]
        for name, sources in zip(names, graph.sources, strict=True)
    }
    assert read == {
        "conv1": ["image"],
        "unit.conv": ["conv1"],
        "unit.add": ["conv1", "unit.conv"],
        "max_pool2d": ["unit.add"],
        "mean": ["max_pool2d"],
        "gate": ["mean"],
        "multiply": ["max_pool2d", "gate"],
        "max_pool2d#2": ["multiply"],
        "concat": ["multiply", "max_pool2d#2"],
        "avg_pool2d": ["concat"],
        "fc": ["avg_pool2d"],
    }
    layers = {layer.name: layer for layer in graph.layers}
    activations = {name: layer.activation for name, layer in layers.items() if layer.activation}
    assert activations == {"conv1": "SiLU", "unit.add": "ReLU", "gate": "sigmoid", "fc": "ELU"}
    assert [name for name, layer in layers.items() if layer.is_pooling] == [
        "max_pool2d", "mean", "max_pool2d#2", "avg_pool2d",
    ]  # fmt: skip
    assert [name for name, layer in layers.items() if layer.is_join] == ["unit.add", "multiply", "concat"]
    assert (layers["max_pool2d#2"].kernel, layers["max_pool2d#2"].stride) == (3, 1)
    assert (layers["conv1"].kernel, layers["conv1"].stride, layers["conv1"].input_shape) == (3, 2, (3, 17, 17))
    assert layers["concat"].output_shape == (16, 4, 4)
    assert graph.depth == 4


def test_a_network_without_a_size_of_images_is_a_mistake() -> None:
    with pytest.raises(ca.UserError, match="a Sequential has no spec that says the size of its images"):
        graph_of(nn.Sequential(nn.Conv2d(3, 8, 3)))


def test_the_network_itself_neither_runs_nor_changes() -> None:
    network = ca.create("lenet5-modern")
    calls: list[str] = []
    network.register_forward_hook(lambda *_: calls.append("ran"))
    network.c1.register_forward_pre_hook(lambda *_: calls.append("ran"))
    network.train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    graph_of(network)
    assert calls == []
    assert network.training
    assert len(network._forward_hooks) == len(network.c1._forward_pre_hooks) == 1
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def check_against_table(variant: Variant) -> None:
    """Fail unless the graph has the rows of the layer table, and its sums."""
    graph = graph_of(build_without_memory(variant.network, variant.spec))
    table = layers_of(variant.network, variant.spec)
    layers = {layer.name: layer for layer in graph.layers}
    for row in table:
        layer = layers[row.name]
        assert (layer.kind, layer.output_shape, layer.params, layer.macs) == (
            row.kind,
            row.output_shape,
            row.params,
            row.macs,
        )
    assert graph.depth == table.depth
    assert sum(layer.macs for layer in graph.layers) == table.macs
    assert all(source < i for i, sources in enumerate(graph.sources) for source in sources)


def test_it_agrees_with_the_layer_table(densenets: dict[str, Variant]) -> None:
    for family in ca.families():
        check_against_table(family.variants[0])
    check_against_table(densenets["densenet40-cifar"])


@pytest.mark.slow
def test_it_agrees_with_the_layer_table_of_every_variant() -> None:
    for variant in ca.variants():
        check_against_table(variant)


def test_a_layer_whose_weights_are_made_from_others_is_one_layer() -> None:
    network = ca.create("lenet5-modern")
    plain = graph_of(network)
    weight_norm(network.c3)
    weight_norm(network.f6)
    assert graph_of(network).layers == plain.layers


class WithoutModules(nn.Module):
    """Layers that are calls of functions."""

    def __init__(self) -> None:
        super().__init__()
        self.spec = replace(ca.find("lenet-300").spec, in_channels=4, resolution=8)
        self.child = nn.Identity()
        self.filters = nn.Parameter(torch.zeros(6, 2, 3, 3))
        self.weights = nn.Parameter(torch.zeros(5, 6 * 4 * 4))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(F.conv2d(self.child(x), self.filters, stride=2, padding=1, groups=2))
        return F.linear(x.flatten(1), self.weights)


def test_layers_that_are_calls_of_functions_are_in_the_graph() -> None:
    conv, linear = graph_of(WithoutModules()).layers
    assert (conv.name, conv.kind, conv.activation) == ("convolution", "Conv2d", "ReLU")
    assert (conv.kernel, conv.stride, conv.groups, conv.input_shape, conv.output_shape) == (
        3,
        2,
        2,
        (4, 8, 8),
        (6, 4, 4),
    )
    assert (conv.macs, linear.macs) == (6 * 2 * 9 * 16, 5 * 96)
    assert (linear.name, linear.kind, linear.output_shape) == ("mm", "Linear", (5,))


def test_a_network_without_its_head_has_no_layer_of_it() -> None:
    network = ca.create("resnet18", width=0.25)
    network.fc = nn.Identity()
    assert graph_of(network).layers[-1].name == "pool"
