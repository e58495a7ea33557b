"""timm's networks are ours of the names that the table says."""

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType

import pytest
import torch
from torch import nn

from convatlas import atlas
from convatlas.networks.lenet import FAMILY as LENET
from convatlas.spec import Spec
from convatlas.weights.library import Library, Network
from convatlas.weights.mapping import Mapped
from convatlas.weights.timm import TIMM, names

NETWORKS = {network.name: network for network in TIMM.networks}

pytestmark = pytest.mark.usefixtures("one_thread")


def spec_of(name: str) -> Spec:
    return atlas.find(NETWORKS[name].variant).spec.at(NETWORKS[name].scale)


# --- by names and shapes, as recorded -----------------------------------------------------------------------------


def test_every_network_of_the_issue_is_there() -> None:
    assert set(NETWORKS) == {
        *(f"vgg{layers}{norm}" for layers in (11, 13, 16, 19) for norm in ("", "_bn")),
        *(f"resnet{layers}" for layers in (18, 34, 50, 101, 152)),
        "mobilenetv1_100",
        "mobilenetv1_125",
        *(f"efficientnet_b{n}" for n in range(6)),
        *(f"tf_efficientnet_b{n}" for n in range(8)),
    }


@pytest.mark.slow
@pytest.mark.at_once("name", list(NETWORKS))
def test_every_tensor_has_its_place(name: str, check_recorded: Callable[[Library, Network], None]) -> None:
    check_recorded(TIMM, NETWORKS[name])


def test_the_wider_mobilenet_is_ours_scaled() -> None:
    spec = spec_of("mobilenetv1_125")
    assert spec.conv1 == 40
    assert spec.stages == ((80,), (160,) * 2, (320,) * 2, (640,) * 6, (1280,) * 2)


def test_fully_connected_layers_that_are_convolutions_are_read_row_by_row(map_shapes: Callable[..., Mapped]) -> None:
    kernel = torch.arange(2 * 3 * 7 * 7.0).reshape(2, 3, 7, 7)
    rule = next(rule for rule in names(spec_of("vgg11")).rules if rule.ours == "fc6")
    assert rule.change is not None
    maps = torch.randn(5, 3, 7, 7)
    expected = nn.functional.conv2d(maps, kernel).flatten(1)
    assert torch.allclose(nn.functional.linear(maps.flatten(1), rule.change(kernel)), expected, rtol=1e-5, atol=1e-2)


def test_a_spec_of_another_family_is_a_mistake_of_the_program() -> None:
    with pytest.raises(TypeError, match="LeNet"):
        names(LENET.variants[0].spec)


# --- by outputs, where the library is installed -------------------------------------------------------------------


Check = Callable[[nn.Module, Library, Network, Spec], None]

SMALLER = {f"{tf}efficientnet_b{n}": side for tf in ("", "tf_") for n, side in ((4, 192), (5, 192), (6, 161), (7, 161))}
"""Sides at which large networks are compared in place of their own."""


@pytest.mark.parity
@pytest.mark.parametrize("name", list(NETWORKS))
def test_the_same_weights_give_the_same_outputs(name: str, timm_library: ModuleType, check_parity: Check) -> None:
    spec = spec_of(name)
    spec = replace(spec, resolution=SMALLER.get(name, spec.resolution))
    check_parity(timm_library.create_model(name), TIMM, NETWORKS[name], spec)


@pytest.mark.parity
@pytest.mark.parametrize(
    "name", ["resnet18", "resnet50", "mobilenetv1_100", "mobilenetv1_125", "efficientnet_b0", "tf_efficientnet_b0"]
)
@pytest.mark.parametrize("resolution", [97, 130])
def test_and_at_odd_sizes_with_other_classes_and_channels(
    name: str, resolution: int, timm_library: ModuleType, check_parity: Check
) -> None:
    spec = replace(spec_of(name), resolution=resolution, num_classes=7, in_channels=1)
    check_parity(timm_library.create_model(name, num_classes=7, in_chans=1), TIMM, NETWORKS[name], spec)
