"""Folding batch normalization: what is folded, what stays, and that the outputs are the same."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import convatlas as ca
from convatlas.compression.folding import fold_batch_norm


def with_statistics(network: nn.Module) -> nn.Module:
    """In 64 bits, its normalization far from that of a new network."""
    torch.manual_seed(0)
    for module in network.double().eval().modules():
        if isinstance(module, nn.BatchNorm2d):
            for value in (module.weight, module.bias, module.running_mean, module.running_var):
                nn.init.uniform_(value, 0.5, 2)
    return network


def num_norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def images(network: nn.Module) -> Tensor:
    spec = network.spec
    return torch.randn(2, spec.in_channels, spec.resolution, spec.resolution, dtype=torch.float64)


@pytest.mark.parametrize(
    ("name", "left"),
    [
        *(pytest.param(name, 0, marks=pytest.mark.slow) for name in ("lenet5", "vgg11-bn", "googlenet-bn")),
        ("resnet20-cifar", 0), ("mobilenet", 0),
        # The first normalization of each unit but the first reads a sum, the last one too.
        ("efficientnet-b0", 0), ("resnet110-preact-cifar", 54),
    ],
)  # fmt: skip
def test_a_folded_network_gives_the_same_outputs(name: str, left: int) -> None:
    network = with_statistics(ca.create(name, width=1 if name == "lenet5" else 0.25))
    names, random = set(network.state_dict()), torch.get_rng_state()
    folded = fold_batch_norm(network)
    assert torch.equal(torch.get_rng_state(), random)
    x = images(network)
    with torch.inference_mode():
        assert torch.allclose(folded(x), network(x))
        # It works in here as well.
        assert torch.equal(fold_batch_norm(network)(x), folded(x))
    assert num_norms(folded) == left
    assert not any(module.training or module._forward_hooks for module in folded.modules())
    # It is another network: this one learns on.
    assert set(network.state_dict()) == names


class Small(nn.Module):
    """A convolution, a normalization, and what is between them and beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.spec = SimpleNamespace(in_channels=3, resolution=28)
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)


class Plain(Small):
    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


class NormFirst(Small):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.norm(x))


class ActivatedBetween(Small):
    def forward(self, x: Tensor) -> Tensor:
        return self.norm(F.relu(self.conv(x)))


class ReadTwice(Small):
    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return torch.cat([self.norm(y), y], dim=1)


class GivenOutToo(Small):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.conv(x)
        return self.norm(y), y


class SharedNorm(Small):
    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(self.norm(x)))


class SharedConv(Small):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.norm(self.conv(x)))


class BothTwice(Small):
    def forward(self, x: Tensor) -> Tensor:
        for _ in range(2):
            x = F.relu(self.norm(self.conv(x)))
        return x


class OtherwiseInTraining(Small):
    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x if self.training else self.conv(x))


@pytest.mark.parametrize(
    ("network", "left"),
    [
        (Plain, 0), (BothTwice, 0), (NormFirst, 1), (ActivatedBetween, 1), (ReadTwice, 1), (GivenOutToo, 1),
        (SharedNorm, 1), (SharedConv, 1), (OtherwiseInTraining, 1),
    ],
)  # fmt: skip
def test_only_what_nothing_else_reads_is_folded(network: type[Small], left: int) -> None:
    whole = with_statistics(network())
    folded = fold_batch_norm(whole)
    assert num_norms(folded) == left
    x = images(whole)
    torch.testing.assert_close(folded(x), whole(x))


def test_normalization_in_16_bits_and_without_parameters_folds() -> None:
    network = Plain()
    network.norm = nn.BatchNorm2d(3, affine=False)
    assert num_norms(fold_batch_norm(network.to(torch.bfloat16))) == 0
