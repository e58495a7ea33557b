"""AlexNet as it was trained in 2012: each tower on a processor of its own (Krizhevsky et al. 2012, section 3.5).

Each of two processes holds half of the kernels of every layer. Layers that read everything below, as convolution 3 and
the fully connected ones, need the other's half of it: there, and nowhere else, the two exchange what they have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from convatlas.experiments.engine.distributed_pair import WORLD_SIZE, device_of
from convatlas.networks.alexnet import AlexNet, AlexNetSpec

TOWERS = WORLD_SIZE


class Swap(torch.autograd.Function):
    """Both halves of a tensor (n, maps, ...), of which this process has one; its gradient is what both make of it."""

    @staticmethod
    def forward(ctx: Any, half: Tensor, wire: Wire) -> Tensor:
        ctx.wire = wire
        other = wire.swapped(half)
        return torch.cat([half, other] if wire.rank == 0 else [other, half], dim=1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        wire: Wire = ctx.wire
        parts = gradients[0].chunk(TOWERS, dim=1)
        # What this process makes of the other's half is the other's to add.
        return parts[wire.rank] + wire.swapped(parts[1 - wire.rank]), None


class Wire:
    """Between the two processes, with a count of the bytes that this one sends."""

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.num_bytes = 0

    def swapped(self, mine: Tensor) -> Tensor:
        """The other's tensor for mine, of the same shape."""
        mine, other = mine.contiguous(), torch.empty_like(mine, memory_format=torch.contiguous_format)
        ways = [dist.P2POp(dist.isend, mine, 1 - self.rank), dist.P2POp(dist.irecv, other, 1 - self.rank)]
        for way in dist.batch_isend_irecv(ways):
            way.wait()
        self.num_bytes += mine.nbytes
        return other

    def all(self, half: Tensor) -> Tensor:
        """Both halves, to learn from."""
        both: Tensor = Swap.apply(half, self)  # type: ignore[no-untyped-call]
        return both


class Tower(nn.Module):
    """One of the two, as a network of half the kernels whose widest layers read both halves."""

    def __init__(self, spec: AlexNetSpec, wire: Wire) -> None:
        super().__init__()
        self.wire = wire
        self.network = AlexNet(half_of(spec))
        c2, c5 = spec.convolutions[1], spec.convolutions[-1]
        fc6, fc7 = spec.fully
        conv3 = self.network.conv3.conv
        self.network.conv3.conv = nn.Conv2d(c2, conv3.out_channels, 3, padding=1)
        self.network.fc6 = nn.Linear(c5 * spec.side**2, fc6 // TOWERS)  # type: ignore[assignment]
        self.network.fc7 = nn.Linear(fc6, fc7 // TOWERS)  # type: ignore[assignment]
        self.network.fc8 = nn.Linear(fc7, spec.num_classes // TOWERS)  # type: ignore[assignment]

    def forward(self, x: Tensor) -> Tensor:
        net, wire = self.network, self.wire
        x = net.pool1(net.lrn1(net.conv1(x)))
        x = net.pool2(net.lrn2(net.conv2(x)))
        x = net.pool5(net.conv5(net.conv4(net.conv3(wire.all(x))))).flatten(1)
        x = F.relu(net.fc6(wire.all(x)))
        x = F.relu(net.fc7(wire.all(x)))
        return wire.all(net.fc8(wire.all(x)))


def half_of(spec: AlexNetSpec) -> AlexNetSpec:
    """A tower as a network of its own."""
    fc6, fc7 = spec.fully
    return replace(
        spec,
        convolutions=tuple(maps // TOWERS for maps in spec.convolutions),
        fully=(fc6 // TOWERS, fc7 // TOWERS),
        num_classes=spec.num_classes // TOWERS,
        towers=1,
    )


def rows_of(tensor: Tensor, rank: int) -> Tensor:
    """What of a parameter, or of its gradient, belongs to that tower: the kernels are its first dimension."""
    return tensor.chunk(TOWERS)[rank]


@dataclass(frozen=True)
class Task:
    """What both processes get."""

    spec: AlexNetSpec
    weights: Mapping[str, Tensor]
    """Of the whole network."""
    images: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Answer:
    outputs: Tensor
    gradients: dict[str, Tensor]
    """Of the tower's own parameters."""
    forward_bytes: int
    """That the tower sent."""
    step_bytes: int
    """Forward and backward."""


def step(task: Task, rank: int) -> Answer:
    """One step of training without dropout, in the process of one tower."""
    wire, device = Wire(rank), device_of(rank)
    tower = Tower(task.spec, wire).to(device, task.images.dtype)
    tower.network.load_state_dict({name: rows_of(value, rank) for name, value in task.weights.items()})
    outputs = tower(task.images.to(device))
    forward_bytes = wire.num_bytes
    # The loss of both is one and the same: each lets its own half of the outputs learn from it.
    F.cross_entropy(outputs, task.labels.to(device)).div(TOWERS).backward()
    gradients = {name: value.grad.cpu() for name, value in tower.network.named_parameters() if value.grad is not None}
    return Answer(outputs.detach().cpu(), gradients, forward_bytes, wire.num_bytes)
