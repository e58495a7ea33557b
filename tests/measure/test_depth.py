"""Depth is what papers call it: the weight layers on the longest path, not their number."""

import pytest
import torch
from torch import nn
from torch.nn.functional import relu

from convatlas import atlas
from convatlas.measure import layers_of
from convatlas.measure.depth import depth_of
from convatlas.measure.table import record_layer_calls
from convatlas.measure.trace import Trace


class Branches(nn.Module):
    """Two layers beside one, then one: three deep."""

    def __init__(self, *, inplace: bool) -> None:
        super().__init__()
        self.inplace = inplace
        self.first, self.second, self.beside = (nn.Conv2d(3, 3, 1) for _ in range(3))
        self.last = nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = relu(self.first(x), inplace=self.inplace)
        return self.last((relu(self.second(y), inplace=self.inplace) + self.beside(x)).mean((2, 3)))


@pytest.mark.parametrize("inplace", [False, True])
def test_the_longest_path_counts(inplace: bool) -> None:
    images = torch.empty(0, 3, 4, 4)
    with Trace() as trace:
        calls, _ = record_layer_calls(Branches(inplace=inplace), images)
    assert depth_of(images, trace.operations, [output for _, _, output in calls]) == 3


@pytest.mark.parametrize(
    ("name", "depth"),
    [
        ("lenet1989", 4),
        ("lenet5", 5),  # C1, C3, C5, F6 and the output
        ("lenet-300-100", 3),
        ("alexnet", 8),
        ("vgg16", 16),
        ("vgg19", 19),
        ("googlenet", 22),  # "22 layers deep when counting only layers with parameters", section 5
        ("plain34", 34),
        ("resnet18", 18),
        ("resnet50", 50),
        ("resnet152-v1.5", 152),
        ("resnet20-cifar", 20),
        ("resnet110-cifar-b", 110),
        ("resnet164-preact-cifar", 164),
        ("mobilenet", 28),  # "MobileNet has 28 layers", section 3.2
    ],
)
def test_the_depth_is_the_papers(name: str, depth: int) -> None:
    variant = atlas.find(name)
    assert layers_of(variant.network, variant.spec).depth == depth
