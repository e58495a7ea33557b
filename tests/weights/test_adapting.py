"""Weights for other classes and for gray images: all but the head stays."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import convatlas as ca
from convatlas import atlas
from convatlas.errors import UserError
from convatlas.spec import Variant
from convatlas.weights.adapting import adapted
from convatlas.weights.mapping import COUNTERS


@pytest.mark.few_structures
def test_the_same_network_takes_every_tensor(structure: Variant) -> None:
    spec = structure.spec.scaled(width=0.25)
    weights = structure.network(spec).state_dict()
    found = adapted(weights, structure, spec, "weights")
    assert found.tensors.keys() == weights.keys()
    assert found.notes == ()


def test_with_other_classes_the_head_is_new_and_nothing_else() -> None:
    variant = atlas.find("googlenet")
    spec = variant.spec.scaled(width=0.25)
    weights = variant.network(spec).state_dict()
    found = adapted(weights, variant, replace(spec, num_classes=7), "weights")
    heads = {"fc", "auxiliary_4a.fc2", "auxiliary_4d.fc2"}
    assert weights.keys() - found.tensors.keys() == {f"{head}.{part}" for head in heads for part in ("weight", "bias")}
    assert found.notes == ("the head is new, for 7 classes",)


def test_what_only_training_has_may_be_missing_or_of_another_size() -> None:
    variant = atlas.find("googlenet")
    spec = variant.spec.scaled(width=0.25)
    weights = variant.network(spec).state_dict()
    left_out = "not taken is what only training has, and begins anew: auxiliary_4a, auxiliary_4d"
    without = {name: tensor for name, tensor in weights.items() if not name.startswith("auxiliary")}
    found = adapted(without, variant, spec, "weights")
    assert found.tensors.keys() == without.keys()
    assert found.notes == (left_out,)
    found = adapted(weights, variant, replace(spec, resolution=128, num_classes=7), "weights")
    heads = {"fc", *(f"auxiliary_{place}.{layer}" for place in ("4a", "4d") for layer in ("fc1.weight", "fc2"))}
    assert all(name.startswith(tuple(heads)) for name in weights.keys() - found.tensors.keys())
    assert found.notes == ("the head is new, for 7 classes", left_out)
    found.load_into(variant.network(replace(spec, resolution=128, num_classes=7)))


def test_a_file_without_counters_lacks_nothing() -> None:
    variant = atlas.find("googlenet-bn-3x3")
    spec = variant.spec.scaled(width=0.25)
    weights = variant.network(spec).state_dict()
    found = adapted({n: t for n, t in weights.items() if not n.endswith(COUNTERS)}, variant, spec, "weights")
    assert found.notes == ()


def test_one_channel_is_as_much_of_each_color() -> None:
    variant = atlas.find("resnet20-cifar")
    color = variant.network(variant.spec).eval()
    gray = variant.network(replace(variant.spec, in_channels=1)).eval()
    found = adapted(color.state_dict(), variant, replace(variant.spec, in_channels=1), "weights")
    found.load_into(gray)
    images = torch.rand(2, 1, 32, 32)
    torch.testing.assert_close(gray(images), color(images.expand(2, 3, 32, 32)), rtol=1e-4, atol=1e-5)
    assert found.notes == ("the first filters are summed over the colors, for gray images",)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ("resnet32-cifar", "it is not of a resnet32-cifar of this depth"),
        ("resnet18", "does not fit: its conv1.conv.weight has the shape (16, 3, 3, 3), this network's (64, 3, 7, 7)"),
    ],
)
def test_weights_of_another_network_are_refused(other: str, said: str) -> None:
    variant = atlas.find(other)
    with pytest.raises(UserError) as caught:
        adapted(ca.create("resnet20-cifar").state_dict(), variant, variant.spec, "weights")
    assert said in str(caught.value)


def test_weights_of_a_deeper_network_are_not_taken_in_part() -> None:
    variant = atlas.find("resnet20-cifar")
    with pytest.raises(UserError) as caught:
        adapted(ca.create("resnet32-cifar").state_dict(), variant, variant.spec, "weights")
    assert str(caught.value).startswith("weights has stages.0.3.layers.0.conv.weight, stages.0.3.layers.0.norm.bias")
    assert str(caught.value).endswith("beside: it is not of a resnet20-cifar of this depth")


def test_the_steps_of_quantized_weights_are_no_part_of_the_network() -> None:
    variant = atlas.find("lenet1")
    weights = variant.network(variant.spec).state_dict()
    found = adapted(weights | {"c1.steps": torch.ones(4)}, variant, variant.spec, "weights")
    assert found.tensors.keys() == weights.keys()
