"""The ResNets for CIFAR of akamaster/pytorch_resnet_cifar10 and of chenyaofo/pytorch-cifar-models."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from convatlas.networks.resnet import ResNetSpec
from convatlas.weights.checkpoint import Format
from convatlas.weights.library import Library, Network
from convatlas.weights.mapping import Names, Rule
from convatlas.weights.torchvision import RESNET

NORM = ("weight", "bias", "running_mean", "running_var")


def taking(channels: list[int], dim: int) -> Callable[[Tensor], Tensor]:
    """These channels of a tensor, in this order."""
    return lambda tensor: tensor.index_select(dim, torch.tensor(channels))


def channel_orders(spec: ResNetSpec) -> list[list[int]]:
    """Which of akamaster's channels each of ours is, after every stage.

    Where a stage has more channels than the one before, option A adds channels of zeros to the shortcut: akamaster's
    half of them before the old ones and half behind, ours all behind.
    """
    orders = [list(range(spec.stem))]
    for stage in spec.stages:
        before, num = orders[-1], stage[-1][-1]
        first = (num - len(before)) // 2
        added = [*range(first), *range(first + len(before), num)]
        orders.append([first + channel for channel in before] + added)
    return orders


def akamaster(spec: ResNetSpec) -> Names:
    """Option A: what the residual stream carries is permuted, and what stays within a unit is not."""
    orders = channel_orders(spec)
    rules = [Rule("conv1.conv", "conv1"), Rule("conv1.norm", "bn1"), Rule("fc", "linear", change=taking(orders[-1], 1))]
    for stage, units in enumerate(spec.stages):
        for unit in range(len(units)):
            ours, theirs = f"stages.{stage}.{unit}.layers", f"layer{stage + 1}.{unit}"
            read, written = orders[stage + (unit > 0)], orders[stage + 1]
            rules += [
                Rule(f"{ours}.0.conv", f"{theirs}.conv1", change=taking(read, 1)),
                Rule(f"{ours}.0.norm", f"{theirs}.bn1"),
                Rule(f"{ours}.1.conv", f"{theirs}.conv2", change=taking(written, 0)),
                *(Rule(f"{ours}.1.norm", f"{theirs}.bn2", change=taking(written, 0), only=only) for only in NORM),
            ]
    return Names(tuple(rules))


def chenyaofo(spec: ResNetSpec) -> Names:
    """Option B, by torchvision's names."""
    return RESNET


AKAMASTER = Library(
    name="akamaster",
    formats=(Format.PYTORCH,),
    networks=tuple(
        Network(name=f"resnet{layers}", variant=f"resnet{layers}-cifar") for layers in (20, 32, 44, 56, 110)
    ),
    names=akamaster,
)
CHENYAOFO = Library(
    name="chenyaofo",
    formats=(Format.PYTORCH,),
    networks=tuple(
        Network(
            name=f"cifar{num_classes}_resnet{layers}",
            variant=f"resnet{layers}-cifar-b",
            departs_from=f"resnet{layers}-cifar",
            why="a shortcut that changes the shape is a projection (option B)",
        )
        for num_classes in (10, 100)
        for layers in (20, 32, 44, 56)
    ),
    names=chenyaofo,
)
