"""Every network of the atlas, narrow and on images of its own small size, learns 200 handwritten digits."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from convatlas import atlas
from convatlas.data.digits import Digits
from convatlas.measure.table import build_without_memory
from convatlas.spec import Spec, Variant

NUM_IMAGES, BATCH_SIZE = 200, 25
LR = 1e-3
PLAIN_DEEP_LR = 3e-4
"""Of VGG: thirteen and more layers without normalization die at three times that, whatever their width."""
MOST_STEPS = 480
MANY_CONVOLUTIONS = 30
"""Of more, fewer units: plain networks with all of theirs are the paper's own example of what does not train."""


def narrow(variant: Variant) -> Spec:
    convolutions = sum(
        isinstance(layer, nn.Conv2d) for layer in build_without_memory(variant.network, variant.spec).modules()
    )
    side = min(variant.spec.resolution, 32)
    if "cifar" in variant.name:
        width = 0.5
    elif variant.name.startswith("lenet"):
        width = 1.0
    else:
        # Deep networks that normalize nothing need a few more maps.
        width = 0.25 if variant.name.startswith(("alexnet", "squeezenet", "vgg")) else 0.125
    depth = min(1.0, MANY_CONVOLUTIONS / convolutions) if convolutions else 1.0
    return replace(variant.spec.scaled(width, depth, side), num_classes=10, in_channels=1)


@pytest.mark.slow
@pytest.mark.parametrize("variant", atlas.variants(), ids=lambda variant: variant.name)
def test_every_variant_learns_200_digits(variant: Variant) -> None:
    spec = narrow(variant)
    split = Digits().load(spec.resolution).train
    images = torch.from_numpy(split.images[:NUM_IMAGES]).float()
    images = (images - images.mean()) / images.std()
    labels = torch.from_numpy(split.labels[:NUM_IMAGES])
    targets = torch.eye(10)[labels]
    torch.manual_seed(0)
    network = variant.network(spec)
    lr = PLAIN_DEEP_LR if variant.name.startswith("vgg") else LR
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr)
    accuracy, step = 0.0, 0
    while accuracy < 0.95 and step < MOST_STEPS:
        network.train()
        for batch in torch.randperm(NUM_IMAGES).split(BATCH_SIZE):
            optimizer.zero_grad()
            variant.objective.losses(network(images[batch]), targets[batch]).mean().backward()
            optimizer.step()
            step += 1
        network.eval()
        with torch.inference_mode():
            accuracy = (network(images).argmax(1) == labels).float().mean().item()
    assert accuracy >= 0.95, step
