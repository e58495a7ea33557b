"""Groups of channels: what a spec counts can go, and nothing that something else fixes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from convatlas.compression.channel_groups import graph_of, groups_of, traceable
from convatlas.networks.blocks import LocalResponseNorm, ZeroPadded
from convatlas.spec import Spec

pytestmark = pytest.mark.usefixtures("one_thread")


@dataclass(frozen=True, kw_only=True)
class TwoSpec(Spec):
    resolution: int = 28
    num_classes: int = 3
    a: int = 8
    b: int = 6

    def scaled(self, width: float = 1.0, depth: float = 1.0, resolution: int | None = None) -> TwoSpec:
        return self


class Two(nn.Module):
    """Two convolutions and a classifier."""

    def __init__(self, spec: TwoSpec) -> None:
        super().__init__()
        self.spec = spec
        self.first, self.second = nn.Conv2d(3, spec.a, 3), nn.Conv2d(spec.a, spec.b, 3)
        self.fc = nn.Linear(spec.b, spec.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.fc(self.second(self.first(x).relu()).relu().mean((2, 3)))
        return outputs


class SameNumber(Two):
    """One number counts two layers that share no channels."""

    def __init__(self, spec: TwoSpec) -> None:
        super().__init__(spec)
        self.second, self.fc = nn.Conv2d(spec.a, spec.a, 3), nn.Linear(spec.a, spec.num_classes)


class Computed(Two):
    """The second layer is half as wide as the first, and no number of the spec says so."""

    def __init__(self, spec: TwoSpec) -> None:
        super().__init__(spec)
        self.second, self.fc = nn.Conv2d(spec.a, spec.a // 2, 3), nn.Linear(spec.a // 2, spec.num_classes)


class Coded(Two):
    """The second layer's outputs are compared with codes of a fixed length."""

    def __init__(self, spec: TwoSpec) -> None:
        super().__init__(spec)
        self.register_buffer("codes", torch.ones(spec.num_classes, 6))
        del self.fc

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.second(self.first(x).relu()).mean((2, 3)) @ self.codes.T
        return outputs


class Added(Two):
    """The second layer adds to the first, whose channels are padded with zeros."""

    def __init__(self, spec: TwoSpec) -> None:
        super().__init__(spec)
        self.norm = LocalResponseNorm()
        self.padded = ZeroPadded(spec.a, 2 * spec.a + spec.b, 1)
        self.second, self.fc = nn.Conv2d(spec.a, 2 * spec.a + spec.b, 1), nn.Linear(2 * spec.a + spec.b, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.first(x))
        outputs: Tensor = self.fc((self.padded(x) + self.second(x)).mean((2, 3)))
        return outputs


@pytest.mark.parametrize(
    ("network", "free"),
    [
        (Two, {("a",): 8, ("b",): 6}),
        (SameNumber, {}),
        (Computed, {}),
        (Coded, {("a",): 8}),
        # Only the first layer is a number of the spec by itself, and what adds to it is not.
        (Added, {}),
    ],
)
def test_what_a_number_of_the_spec_counts_alone_can_go(
    network: Callable[[TwoSpec], nn.Module], free: dict[tuple[str, ...], int]
) -> None:
    spec = TwoSpec()
    traced = traceable(network(spec))
    groups = groups_of(graph_of(traced, spec), traced, spec, lambda group: torch.rand(len(group[0].idxs)))
    assert {group.counts: group.places.shape for group in groups} == {(place,): (1, num) for place, num in free.items()}
    assert all(group.scores.mean().item() == pytest.approx(1) for group in groups)


def test_what_cannot_be_scored_cannot_go() -> None:
    spec = TwoSpec()
    traced = traceable(Two(spec))
    assert groups_of(graph_of(traced, spec), traced, spec, lambda group: None) == []


def test_padding_is_followed_and_channels_that_compete_are_free() -> None:
    spec = TwoSpec()
    network = Added(spec)
    traced = traceable(network)
    x = torch.randn(2, 8, 5, 5)
    torch.testing.assert_close(traced.get_submodule("padded")(x), network.padded(x))
    assert isinstance(traced.get_submodule("norm"), nn.Identity)
    assert isinstance(network.norm, LocalResponseNorm)
    graph = graph_of(traced, spec)
    first = traced.get_submodule("first")
    group = graph.get_pruning_group(first, graph.get_pruner_of_module(first).prune_out_channels, [0])
    assert traced.get_submodule("second") in [item.dep.target.module for item in group]
