"""AlexNet as it was trained in 2012: each tower on its own processor (Krizhevsky et al. 2012, section 3.5).

Each of two processes holds half of the kernels of every layer. Convolution 3 and the fully connected layers read the
outputs of both towers: before these layers, and nowhere else, the two processes exchange their halves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from convatlas.experiments.engine.distributed_pair import WORLD_SIZE, device_of
from convatlas.networks.alexnet import AlexNet, AlexNetSpec

TOWERS = WORLD_SIZE


class ExchangeHalves(torch.autograd.Function):
    """Joins both halves of a tensor (n, channels, ...), of which this process has one. The gradient sums over both."""

    @staticmethod
    def forward(ctx: Any, half: Tensor, link: Link) -> Tensor:
        ctx.link = link
        other = link.exchange(half)
        return torch.cat([half, other] if link.rank == 0 else [other, half], dim=1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        link: Link = ctx.link
        halves = gradients[0].chunk(TOWERS, dim=1)
        # The gradient of the other's half, from this process's layers, goes to the other.
        return halves[link.rank] + link.exchange(halves[1 - link.rank]), None


class Link:
    """Connects the two processes, and counts the bytes that this one sends."""

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.num_bytes = 0

    def exchange(self, own: Tensor) -> Tensor:
        """Send this process's tensor, and receive the other's of the same shape."""
        own, other = own.contiguous(), torch.empty_like(own, memory_format=torch.contiguous_format)
        operations = [dist.P2POp(dist.isend, own, 1 - self.rank), dist.P2POp(dist.irecv, other, 1 - self.rank)]
        for work in dist.batch_isend_irecv(operations):
            work.wait()
        self.num_bytes += own.nbytes
        return other

    def gather(self, half: Tensor) -> Tensor:
        """Both halves (n, channels, ...), with gradients."""
        both: Tensor = ExchangeHalves.apply(half, self)  # type: ignore[no-untyped-call]
        return both


class Tower(nn.Module):
    """One tower: a network with half of the kernels, in which some layers read the outputs of both towers."""

    def __init__(self, spec: AlexNetSpec, link: Link) -> None:
        super().__init__()
        self.link = link
        self.network = AlexNet(half_of(spec))
        c2, c5 = spec.convolutions[1], spec.convolutions[-1]
        fc6, fc7 = spec.fully
        conv3 = self.network.conv3.conv
        self.network.conv3.conv = nn.Conv2d(c2, conv3.out_channels, 3, padding=1)
        self.network.fc6 = nn.Linear(c5 * spec.feature_size**2, fc6 // TOWERS)  # type: ignore[assignment]
        self.network.fc7 = nn.Linear(fc6, fc7 // TOWERS)  # type: ignore[assignment]
        self.network.fc8 = nn.Linear(fc7, spec.num_classes // TOWERS)  # type: ignore[assignment]

    def forward(self, x: Tensor) -> Tensor:
        net, link = self.network, self.link
        x = net.pool1(net.lrn1(net.conv1(x)))
        x = net.pool2(net.lrn2(net.conv2(x)))
        x = net.pool5(net.conv5(net.conv4(net.conv3(link.gather(x))))).flatten(1)
        x = F.relu(net.fc6(link.gather(x)))
        x = F.relu(net.fc7(link.gather(x)))
        return link.gather(net.fc8(link.gather(x)))


def half_of(spec: AlexNetSpec) -> AlexNetSpec:
    """The spec of a tower alone."""
    fc6, fc7 = spec.fully
    return replace(
        spec,
        convolutions=tuple(channels // TOWERS for channels in spec.convolutions),
        fully=(fc6 // TOWERS, fc7 // TOWERS),
        num_classes=spec.num_classes // TOWERS,
        towers=1,
    )


def rows_of(tensor: Tensor, rank: int) -> Tensor:
    """The tower's half of a parameter or of its gradient: the kernels are the first dimension."""
    return tensor.chunk(TOWERS)[rank]


@dataclass(frozen=True)
class TowerTask:
    """What both processes are given."""

    spec: AlexNetSpec
    weights: dict[str, Tensor]
    """Of the whole network. Each process has a copy, half a gigabyte, and lets go of it when it has its half."""
    images: Tensor
    labels: Tensor


@dataclass(frozen=True)
class TowerResult:
    """What a process returns."""

    outputs: Tensor
    gradients: dict[str, Tensor]
    """Of the tower's own parameters."""
    forward_bytes: int
    """Sent by this tower."""
    step_bytes: int
    """Forward and backward."""


def step(task: TowerTask, rank: int) -> TowerResult:
    """One training step without dropout, in the process of one tower."""
    link, device = Link(rank), device_of(rank)
    tower = Tower(task.spec, link).to(device, task.images.dtype)
    tower.network.load_state_dict({name: rows_of(value, rank) for name, value in task.weights.items()})
    task.weights.clear()
    outputs = tower(task.images.to(device))
    forward_bytes = link.num_bytes
    # Both processes compute the same loss, and their gradients add up: each counts half.
    F.cross_entropy(outputs, task.labels.to(device)).div(TOWERS).backward()
    gradients = {name: value.grad.cpu() for name, value in tower.network.named_parameters() if value.grad is not None}
    return TowerResult(outputs.detach().cpu(), gradients, forward_bytes, link.num_bytes)
