"""The CIFAR ResNets of akamaster and chenyaofo, written once more from their publications, against ours."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from convatlas import atlas
from convatlas.weights.cifar import AKAMASTER, CHENYAOFO
from convatlas.weights.library import Library, Network
from convatlas.weights.mapping import Mapped, MappingError, mapped
from convatlas.weights.reading import read_checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")

LARGEST_DIFFERENCE = {torch.float64: 1e-5, torch.float32: 1e-4}
"""Of logits, over the largest logit."""


class EvenlyPadded(nn.Module):
    """akamaster's option A: zero channels on both sides."""

    def __init__(self, added: int) -> None:
        super().__init__()
        self.added = added

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.added // 2, self.added // 2))


class BasicBlock(nn.Module):
    def __init__(self, read: int, made: int, stride: int, projects: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(read, made, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(made)
        self.conv2 = nn.Conv2d(made, made, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(made)
        self.shortcut: nn.Module = nn.Identity()
        self.downsample: nn.Module | None = None
        if stride != 1 and projects:
            self.downsample = nn.Sequential(nn.Conv2d(read, made, 1, stride, bias=False), nn.BatchNorm2d(made))
        elif stride != 1:
            self.shortcut = EvenlyPadded(made - read)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (self.shortcut if self.downsample is None else self.downsample)(x))


class TheirResNet(nn.Module):
    """ResNet-(6n + 2); the last layer has the name that the library gives it."""

    def __init__(self, n: int, projects: bool, num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        read = 16
        for number, made in enumerate((16, 32, 64), 1):
            blocks = []
            for place in range(n):
                blocks.append(BasicBlock(read, made, 2 if number > 1 and not place else 1, projects))
                read = made
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
        self.last = "fc" if projects else "linear"
        self.add_module(self.last, nn.Linear(64, num_classes))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        for number in (1, 2, 3):
            x = self.get_submodule(f"layer{number}")(x)
        logits: Tensor = self.get_submodule(self.last)(x.mean((2, 3)))
        return logits


def num_classes(network: Network) -> int:
    return 100 if network.name.startswith("cifar100") else 10


def ours(network: Network) -> nn.Module:
    variant = atlas.find(network.variant)
    return variant.network(replace(variant.spec, num_classes=num_classes(network))).eval()


CASES = [
    pytest.param(library, network, id=f"{library.name}:{network.name}", marks=() if small else pytest.mark.parity)
    for library in (AKAMASTER, CHENYAOFO)
    for network in library.networks
    for small in [network.name in ("resnet20", "cifar100_resnet20")]
]


@pytest.mark.parametrize("dtype", LARGEST_DIFFERENCE)
@pytest.mark.parametrize(("library", "network"), CASES)
def test_the_same_weights_give_the_same_logits(
    library: Library, network: Network, dtype: torch.dtype, randomized: Callable[[nn.Module, int], nn.Module]
) -> None:
    n = (int(network.name.rpartition("resnet")[2]) - 2) // 6
    theirs = randomized(TheirResNet(n, library is CHENYAOFO, num_classes(network)), 0).to(dtype)
    net = ours(network).to(dtype)
    found = mapped(theirs.state_dict(), library.names(net.spec), net, "theirs")
    found.load_into(net)
    images = torch.randn(2, 3, 32, 32, dtype=dtype, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, logits = theirs(images), net(images)
    assert (logits - expected).abs().max() <= LARGEST_DIFFERENCE[dtype] * expected.abs().max()
    # Each tensor of theirs went somewhere, but for counters.
    assert all(name.endswith("num_batches_tracked") for name in found.ignored)


def test_another_network_is_refused_by_the_name_of_a_tensor() -> None:
    network = CHENYAOFO.networks[0]
    net = ours(network)
    names = CHENYAOFO.names(net.spec)
    with pytest.raises(MappingError, match=r"it has no layer2.0.downsample.0.weight, .* and \d+ other tensors?$"):
        mapped(TheirResNet(3, False, 10).state_dict(), names, net, "theirs")
    with pytest.raises(MappingError, match=r"nothing here takes its layer1.3.conv1.weight"):
        mapped(TheirResNet(5, True, 10).state_dict(), names, net, "theirs")
    with pytest.raises(MappingError, match=r"fc.weight has the shape \(100, 64\), and fc.weight has \(10, 64\)"):
        mapped(TheirResNet(3, True, 100).state_dict(), names, net, "theirs")


@pytest.mark.parametrize("shape", [(16, 9, 3, 3), (16, 9, 16, 1), (16, 32, 3, 3), (16 * 16 * 9,)])
def test_weights_of_another_size_are_refused_by_their_shape(shape: tuple[int, ...]) -> None:
    network = AKAMASTER.networks[0]
    net = ours(network)
    tensors = TheirResNet(3, False, 10).state_dict() | {"layer1.0.conv1.weight": torch.zeros(shape)}
    with pytest.raises(MappingError, match=re.escape(f"its layer1.0.conv1.weight has the shape {shape}, and stages")):
        mapped(tensors, AKAMASTER.names(net.spec), net, "theirs")


@pytest.fixture(scope="module")
def resnet20(needs_data: Callable[[str], Path]) -> tuple[nn.Module, Mapped]:
    """akamaster's own weights in our network."""
    net = ours(AKAMASTER.networks[0])
    checkpoint = read_checkpoint(needs_data("weights") / "resnet20-cifar" / "resnet20-12fca82f.th")
    assert checkpoint.sha256.startswith("12fca82f")
    found = mapped(checkpoint.tensors, AKAMASTER.names(net.spec), net, str(checkpoint.path))
    found.load_into(net)
    return net, found


def test_the_real_weights_are_mapped_whole(resnet20: tuple[nn.Module, Mapped]) -> None:
    net, found = resnet20
    assert {row.ours for row in found.rows} == {
        name for name in net.state_dict() if not name.endswith("num_batches_tracked")
    }
    assert found.ignored == ()


@pytest.mark.parametrize(
    ("num", "correct"), [(100, 94), pytest.param(1000, 915, marks=pytest.mark.slow)], ids=["few", "all"]
)
def test_the_real_weights_reach_their_accuracy(
    num: int, correct: int, resnet20: tuple[nn.Module, Mapped], needs_data: Callable[[str], Path]
) -> None:
    folder = needs_data("cifar10")
    pixels = np.asarray(Image.open(folder / "cifar10_batch_50.png").convert("RGB")).reshape(-1, 32, 32, 3)[:num]
    labels = torch.tensor([int(line) for line in (folder / "labels.txt").read_text().split()[50_000:][:num]])
    mean, std = torch.tensor((0.485, 0.456, 0.406)), torch.tensor((0.229, 0.224, 0.225))
    images = ((torch.tensor(pixels) / 255 - mean) / std).permute(0, 3, 1, 2)
    with torch.no_grad():
        logits = torch.cat([resnet20[0](batch) for batch in images.split(100)])
    assert (logits.argmax(1) == labels).sum() == correct
