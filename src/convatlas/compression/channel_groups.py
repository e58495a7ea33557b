"""Which channels of a network can go, and which of them only together.

torch-pruning finds the layers that share channels (Fang et al. 2023). A group of channels can go where the spec counts
it, so that the narrower network is one of the same family.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from convatlas.compression.counts import (
    Place,
    all_output_channels,
    counted_layers,
    output_channels,
    with_changes,
)
from convatlas.compression.folding import frozen_outputs
from convatlas.errors import UserError
from convatlas.measure.table import build_without_memory, empty_batch, record_layer_calls
from convatlas.networks.blocks import LocalResponseNorm, ZeroPadded
from convatlas.spec import Spec

MULTIPLE = 8
"""Layers of at least 8 channels keep a multiple of it, as many as processors compute at once."""
LARGEST_CUT = 8
"""A round keeps at least one in 8 channels of a group: scores tell too little of the rest to remove more at once."""
TINY = 1e-30
"""The smallest mean to divide by, where all channels are worth nothing."""


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that some layers share: each goes from all of these layers or from none."""

    root: nn.Module
    """One of these layers."""
    layers: frozenset[str]
    """The names of all of them."""
    counts: tuple[Place, ...]
    """The numbers of the spec that count these channels."""
    places: Tensor
    """Indices of the channels in the root (towers, n)."""
    scores: Tensor
    """How important each channel is (n,): the mean over towers, divided by the mean of the group."""

    @property
    def towers(self) -> int:
        """Into how many equal parts the channels are split; each keeps the same number."""
        return len(self.places)

    def num_kept(self, threshold: float) -> int:
        """How many channels of a tower stay if those below the threshold go, rounded up."""
        return self.rounded(int((self.scores >= threshold).sum()), len(self.scores))

    def rounded(self, wanted: int, num: int) -> int:
        """How many of `num` channels of a tower stay if `wanted` of them should."""
        step = max(MULTIPLE // self.towers, 1) if num * self.towers >= MULTIPLE else 1
        # One channel a tower would make it a depthwise convolution.
        least = max(wanted, -(-num // LARGEST_CUT), 2 if self.towers > 1 else 1)
        return min(-(-least // step) * step, num)

    def fewest(self, rounds: int) -> int:
        """The least channels of a tower that so many rounds of pruning leave."""
        num = len(self.scores)
        for _ in range(rounds):
            num = self.rounded(0, num)
        return num

    def removed(self, threshold: float) -> Tensor:
        """Indices in the root of the channels that go at this threshold."""
        worst = self.scores.argsort()[: len(self.scores) - self.num_kept(threshold)]
        return self.places[:, worst].flatten()


class ConcatenatedPadding(nn.Module):
    """`ZeroPadded` as torch-pruning can follow it: the new channels come from a layer, in place of zeros."""

    def __init__(self, padded: ZeroPadded) -> None:
        super().__init__()
        self.stride = padded.stride
        self.missing = nn.Conv2d(padded.in_channels, padded.missing, 1, padded.stride, bias=False)
        nn.init.zeros_(self.missing.weight)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x[:, :, :: self.stride, :: self.stride], self.missing(x)], dim=1)


def torch_pruning() -> Any:
    """The library of that name.

    Raises:
        UserError: it is not installed.
    """
    try:
        import torch_pruning
    except ImportError as error:
        raise UserError("pruning channels takes torch-pruning; pip install 'convatlas[compress]' brings it") from error
    return torch_pruning


def traceable(network: nn.Module) -> nn.Module:
    """A copy whose channels torch-pruning can follow. It knows PyTorch's layers and takes all else for elementwise."""
    traced = copy.deepcopy(network).requires_grad_()
    for module in list(traced.modules()):
        for name, part in module.named_children():
            if isinstance(part, LocalResponseNorm):
                # It divides each channel by a number and moves none.
                setattr(module, name, nn.Identity())
            elif isinstance(part, ZeroPadded) and part.missing:
                setattr(module, name, ConcatenatedPadding(part))
    return traced


def graph_of(traced: nn.Module, spec: Spec) -> Any:
    """torch-pruning's graph of which layers share channels, auxiliary classifiers included."""
    image = torch.zeros(2, spec.in_channels, spec.resolution, spec.resolution)
    with warnings.catch_warnings(), torch.random.fork_rng(), torch.enable_grad():
        # It warns of parameters in layers that it does not know; these stay as they are.
        warnings.simplefilter("ignore")
        return (
            torch_pruning()
            .DependencyGraph()
            .build_dependency(traced, image, forward_fn=partial(frozen_outputs, training=True))
        )


def groups_of(graph: Any, traced: nn.Module, spec: Spec, score: Callable[[Any], Tensor | None]) -> list[ChannelGroup]:
    """All channels that can go: those that numbers of the spec count, and that nothing else fixes.

    Args:
        traced: see `traceable`; `graph` is of it.
        score: how important each channel of torch-pruning's group is (n,); None where it cannot tell.
    """
    names = {module: name for name, module in traced.named_modules()}
    counted = counted_layers(type(traced), spec)
    sharing: dict[Place, set[str]] = {}
    for layer, place in counted.items():
        sharing.setdefault(place, set()).add(layer)
    found = []
    for group in graph.get_all_groups(root_module_types=[nn.Conv2d, nn.Linear]):
        layers = layers_by_channel(graph, group, names)
        # Where a wider layer takes over a narrower one's channels, those are a group of their own.
        parts: dict[tuple[Place, ...], list[int]] = {}
        for channel, own in layers.items():
            counts = tuple(dict.fromkeys(counted[layer] for layer in own if layer in counted))
            parts.setdefault(counts, []).append(channel)
        touched = {counts: {layer for channel in parts[counts] for layer in layers[channel]} for counts in parts}
        # A number that counts other layers too cannot change for these alone.
        free = [counts for counts in parts if counts and all(sharing[place] <= touched[counts] for place in counts)]
        scores = score(group) if free else None
        if scores is None:
            continue
        for counts in free:
            places = torch.tensor(parts[counts]).view(num_towers(group), -1)
            worth = scores.detach().float()[places].mean(0)
            worth = worth / worth.mean().clamp_min(TINY)
            root = group[0].dep.target.module
            found.append(ChannelGroup(root, frozenset(touched[counts]), counts, places, worth))
    if can_change(type(traced), spec, found):
        return found
    return [group for group in found if can_change(type(traced), spec, [group])]


def layers_by_channel(graph: Any, group: Any, names: dict[nn.Module, str]) -> dict[int, list[str]]:
    """For each channel of the root of torch-pruning's group the layers that it is an output of."""
    layers: dict[int, list[str]] = {channel: [] for channel in group[0].root_idxs}
    for item in group:
        module = item.dep.target.module
        if output_channels(module) is not None and graph.is_out_channel_pruning_fn(item.dep.handler):
            for channel in item.root_idxs:
                layers[channel].append(names[module])
    return layers


def num_towers(group: Any) -> int:
    """How many towers the convolutions of torch-pruning's group have: their groups, but for depthwise ones."""
    convs = [item.dep.target.module for item in group if isinstance(item.dep.target.module, nn.Conv2d)]
    return next((conv.groups for conv in reversed(convs) if 1 < conv.groups < conv.in_channels), 1)


def can_change(network: Callable[[Any], nn.Module], spec: Spec, groups: list[ChannelGroup]) -> bool:
    """Whether the spec can change these groups by themselves: a network with each twice as wide runs, and has no other
    layers wider or narrower."""
    expected = all_output_channels(build_without_memory(network, spec))
    for group in groups:
        for layer in group.layers:
            if layer in expected:
                expected[layer] += group.places.numel()
    wider = with_channels(spec, groups, lambda group: 2 * len(group.scores))
    try:
        module = build_without_memory(network, wider)
        record_layer_calls(module, empty_batch(wider))
    except (RuntimeError, ValueError):
        # Something else fixes the number, as the codes of LeNet-5 fix its F6.
        return False
    found = all_output_channels(module)
    # A layer may be in one of the two only, as a projection where the number of channels changes.
    return all(found.get(layer, num) == num for layer, num in expected.items())


def with_channels(spec: Spec, groups: list[ChannelGroup], kept: Callable[[ChannelGroup], int]) -> Spec:
    """The spec with `kept` channels in each tower of each group."""
    changes: dict[Place, int] = {}
    for group in groups:
        for place in group.counts:
            changes[place] = changes.get(place, 0) + group.towers * (kept(group) - len(group.scores))
    return with_changes(spec, changes)
