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
