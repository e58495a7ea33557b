"""Feature maps from inside a network, and networks without a head."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import convatlas as ca
from convatlas.errors import UserError
from convatlas.networks.blocks import PlaceCode
from convatlas.networks.heads import head_of
from convatlas.spec import Variant


def test_features_are_what_the_layers_give() -> None:
    network = ca.create("resnet20-cifar").eval()
    images = torch.rand(2, 3, 32, 32)
    found = ca.features(network, at=["stages.0", "conv1.conv", "pool"])(images)
    assert list(found) == ["conv1.conv", "stages.0", "pool"]
    assert [tuple(value.shape) for value in found.values()] == [(2, 16, 32, 32), (2, 16, 32, 32), (2, 64, 1, 1)]
    assert torch.equal(found["conv1.conv"], network.get_submodule("conv1.conv")(images))
    assert torch.equal(network.fc(found["pool"].flatten(1)), network(images))  # type: ignore[operator]


def test_features_train_the_network_and_leave_no_hook() -> None:
    network = ca.create("lenet5-modern")
    features = ca.features(network, at=["c1"])
    features(torch.rand(1, 1, 28, 28))["c1"].sum().backward()
    assert network.get_submodule("c1").get_parameter("weight").grad is not None
    assert not any(layer._forward_hooks for layer in network.modules())


def test_one_layer_needs_no_list() -> None:
    network = ca.create("lenet5-modern").eval()
    images = torch.rand(2, 1, 28, 28)
    one, listed = (ca.features(network, at=at)(images) for at in ("c1", ["c1"]))
    assert list(one) == list(listed) == ["c1"]
    assert torch.equal(one["c1"], listed["c1"])
    with pytest.raises(UserError, match=r"there is no layer 'c9'; did you mean"):
        ca.features(network, at="c9")


def test_an_unknown_layer_is_named() -> None:
    with pytest.raises(UserError, match=r"there is no layer 'stages.9'; did you mean"):
        ca.features(ca.create("resnet20-cifar"), at=["stages.9"])


@pytest.mark.few_structures
def test_without_a_head_a_network_gives_what_the_head_reads(structure: Variant) -> None:
    torch.manual_seed(0)
    bare = ca.create(structure.name, width=0.25, num_classes=0).eval()
    torch.manual_seed(0)
    whole = ca.create(structure.name, width=0.25, num_classes=1).eval()
    head = head_of(structure, whole.spec)  # type: ignore[arg-type]
    seen: list[torch.Tensor] = []
    whole.get_submodule(head).register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
    images = torch.rand(2, structure.spec.in_channels, structure.spec.resolution, structure.spec.resolution)
    with torch.inference_mode():
        outputs = bare(images)
        whole(images)
    (features,) = seen
    assert isinstance(bare.get_submodule(head), nn.Identity)
    # A convolution as the head reads a map, which is averaged behind it.
    expected = features if features.dim() == 2 else features.mean((2, 3))
    if isinstance(structure.objective, PlaceCode):
        # These squash what the head gives.
        assert outputs.shape == expected.shape
    elif getattr(structure.spec, "rectified_conv10", False):
        torch.testing.assert_close(outputs, features.relu().mean((2, 3)), rtol=1e-4, atol=1e-4)
    else:
        torch.testing.assert_close(outputs, expected, rtol=1e-4, atol=1e-4)
