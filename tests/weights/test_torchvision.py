"""torchvision's networks are ours of the names that the table says."""

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from convatlas import atlas
from convatlas.networks.lenet import FAMILY as LENET
from convatlas.spec import Spec
from convatlas.weights.library import Library, Network
from convatlas.weights.mapping import Mapped, MappingError
from convatlas.weights.torchvision import TORCHVISION, names

NETWORKS = {network.name: network for network in TORCHVISION.networks}
GOOGLENET = NETWORKS["googlenet"]

pytestmark = pytest.mark.usefixtures("one_thread")


def theirs_of(models: ModuleType, name: str, num_classes: int = 1000) -> nn.Module:
    options = {"init_weights": False} if name == "googlenet" else {}
    network: nn.Module = getattr(models, name)(num_classes=num_classes, **options)
    return network


# --- by names and shapes, as recorded -----------------------------------------------------------------------------


def test_every_network_of_the_issue_is_there() -> None:
    assert set(NETWORKS) == {
        "alexnet",
        *(f"vgg{layers}{norm}" for layers in (11, 13, 16, 19) for norm in ("", "_bn")),
        "googlenet",
        *(f"resnet{layers}" for layers in (18, 34, 50, 101, 152)),
        "squeezenet1_0",
        "squeezenet1_1",
        *(f"efficientnet_b{n}" for n in range(8)),
    }


@pytest.mark.at_once("name", list(NETWORKS))
def test_every_tensor_has_its_place(name: str, check_recorded: Callable[[Library, Network], None]) -> None:
    check_recorded(TORCHVISION, NETWORKS[name])


def test_the_published_sizes(map_shapes: Callable[..., Mapped], recorded: Callable[..., dict[str, Tensor]]) -> None:
    # As torchvision documents them; of GoogLeNet without its auxiliary classifiers.
    published = {
        "alexnet": 61_100_840, "vgg11": 132_863_336, "vgg16_bn": 138_365_992, "googlenet": 6_624_904,
        "resnet18": 11_689_512, "resnet50": 25_557_032, "squeezenet1_0": 1_248_424, "squeezenet1_1": 1_235_496,
        "efficientnet_b0": 5_288_548, "efficientnet_b7": 66_347_960,
    }  # fmt: skip
    for name, params in published.items():
        report = map_shapes(TORCHVISION, NETWORKS[name], recorded("torchvision", name))
        counted = [
            tensor.numel()
            for ours, tensor in report.tensors.items()
            if "running" not in ours and not ours.startswith("auxiliary")
        ]
        assert sum(counted) == params, name


def test_googlenet_without_auxiliary_classifiers_keeps_ours_as_they_began(
    map_shapes: Callable[..., Mapped], recorded: Callable[..., dict[str, Tensor]]
) -> None:
    tensors = recorded("torchvision", "googlenet")
    without = {name: value for name, value in tensors.items() if not name.startswith("aux")}
    report = map_shapes(TORCHVISION, GOOGLENET, without)
    assert {name.split(".")[0] for name in report.kept} == {"auxiliary_4a", "auxiliary_4d"}
    assert not {*report.kept} & {*report.tensors}
    assert all("num_batches" in name for name in report.ignored)


def test_googlenet_leaves_out_auxiliary_classifiers_that_do_not_fit(
    map_shapes: Callable[..., Mapped], recorded: Callable[..., dict[str, Tensor]]
) -> None:
    tensors = recorded("torchvision", "googlenet")
    spec = atlas.find(GOOGLENET.variant).spec
    # Ours pool to fewer places there, and these have none.
    for other in (replace(spec, resolution=96), replace(spec, supervised=False)):
        report = map_shapes(TORCHVISION, GOOGLENET, tensors, other)
        left = {name for name in report.ignored if "num_batches" not in name}
        assert left == {name for name in tensors if name.startswith("aux") and "num_batches" not in name}
    # One alone of other sizes.
    report = map_shapes(TORCHVISION, GOOGLENET, tensors | {"aux2.fc1.bias": torch.empty(9, device="meta")})
    assert {name.split(".")[0] for name in report.kept} == {"auxiliary_4d"}
    assert "aux2.fc2.weight" in report.ignored
    assert "aux1.fc2.weight" not in report.ignored


def test_what_is_missing_or_of_another_network_is_named(
    map_shapes: Callable[..., Mapped], recorded: Callable[..., dict[str, Tensor]]
) -> None:
    tensors = recorded("torchvision", "resnet18")
    without = {name: value for name, value in tensors.items() if name != "layer2.0.downsample.1.weight"}
    with pytest.raises(MappingError, match=r"^torchvision:resnet18 .*has no layer2\.0\.downsample\.1\.weight$"):
        map_shapes(TORCHVISION, NETWORKS["resnet18"], without)
    with pytest.raises(MappingError, match=r"nothing here takes its layer1\.2\.conv1\.weight"):
        map_shapes(TORCHVISION, NETWORKS["resnet18"], recorded("torchvision", "resnet34"))
    with pytest.raises(MappingError, match=r"features\.0\.weight has the shape"):
        map_shapes(TORCHVISION, NETWORKS["squeezenet1_0"], recorded("torchvision", "squeezenet1_1"))


@pytest.mark.at_once("name", ["alexnet", "vgg11_bn", "googlenet", "resnet50", "squeezenet1_1", "efficientnet_b0"])
def test_other_class_and_channel_counts_map(
    name: str, map_shapes: Callable[..., Mapped], recorded: Callable[..., dict[str, Tensor]]
) -> None:
    tensors = {}
    for i, (tensor, value) in enumerate(recorded("torchvision", name).items()):
        shape = list(value.shape)
        if i == 0:
            shape[1] = 4
        elif shape and shape[0] == 1000:
            shape[0] = 7
        tensors[tensor] = torch.empty(shape, device="meta")
    spec = replace(atlas.find(NETWORKS[name].variant).spec, num_classes=7, in_channels=4)
    report = map_shapes(TORCHVISION, NETWORKS[name], tensors, spec)
    assert report.kept == ()
    assert {row.shape[0] for row in report.rows if row.ours.startswith(("fc.", "fc8.", "conv10."))} == {7}


def test_a_spec_of_another_family_is_a_mistake_of_the_program() -> None:
    with pytest.raises(TypeError, match="LeNet"):
        names(LENET.variants[0].spec)


# --- by outputs, where the library is installed -------------------------------------------------------------------


Check = Callable[[nn.Module, Library, Network, Spec], None]

SMALLER = {"efficientnet_b4": 193, "efficientnet_b5": 193, "efficientnet_b6": 161, "efficientnet_b7": 161}
"""Sides at which large networks are compared in place of their own."""


@pytest.mark.parity
@pytest.mark.parametrize("name", list(NETWORKS))
def test_the_same_weights_give_the_same_outputs(
    name: str, torchvision_library: ModuleType, check_parity: Check
) -> None:
    spec = atlas.find(NETWORKS[name].variant).spec
    spec = replace(spec, resolution=SMALLER.get(name, spec.resolution))
    check_parity(theirs_of(torchvision_library, name), TORCHVISION, NETWORKS[name], spec)


@pytest.mark.parity
@pytest.mark.parametrize(
    "name", ["googlenet", "resnet18", "resnet50", "squeezenet1_0", "squeezenet1_1", "efficientnet_b0"]
)
@pytest.mark.parametrize("resolution", [97, 130])
def test_and_at_odd_sizes_with_other_classes(
    name: str, resolution: int, torchvision_library: ModuleType, check_parity: Check
) -> None:
    spec = replace(atlas.find(NETWORKS[name].variant).spec, resolution=resolution, num_classes=7)
    check_parity(theirs_of(torchvision_library, name, 7), TORCHVISION, NETWORKS[name], spec)
