"""Models whose artefacts the tests make, and images of theirs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from convatlas import atlas, measure
from convatlas.data import find
from convatlas.deployment.samples import Samples, as_image
from convatlas.files.typed_json import encoded
from convatlas.images import Preprocessing
from convatlas.models.card import Card, Provenance
from convatlas.models.model import Model

CLASSES = ("bird", "car", "dog", "frog", "ship", "truck")


def network_of(name: str, width: float, side: int) -> nn.Module:
    """A network whose batch normalization has seen images, and whose logits tell them apart."""
    variant = atlas.find(name)
    spec = atlas.scale(variant, width=width, resolution=side, num_classes=len(CLASSES), in_channels=3)
    torch.manual_seed(0)
    network = variant.network(spec).train()
    with torch.no_grad():
        for _ in range(20):
            network(torch.randn(16, 3, side, side))
    return network.eval()


def model_of(name: str = "resnet20-cifar", width: float = 0.5, side: int = 32, resize: int = 36) -> Model:
    """A model that was not trained, of color images."""
    network = network_of(name, width, side)
    spec = network.spec
    cost = measure.cost_of(type(network), spec)  # type: ignore[arg-type]
    card = Card(
        variant=name,
        spec=encoded(spec),
        classes=CLASSES,
        preprocessing=Preprocessing(
            resize=resize, crop=side, channels=3, mean=(0.5, 0.45, 0.4), std=(0.2, 0.25, 0.3), mode="letterbox"
        ),
        provenance=Provenance(method="trained", data="pets"),
        params=cost.params,
        macs=cost.macs,
    )
    return Model(card, load_network=lambda: network)


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """Image files of several sizes and shapes."""
    folder = tmp_path_factory.mktemp("photographs")
    generator = np.random.default_rng(0)
    paths = []
    for number, size in enumerate([(80, 60), (33, 90), (32, 32), (64, 64), (200, 120), (41, 57), (90, 90), (50, 36)]):
        coarse = Image.fromarray(generator.integers(0, 256, (5, 7, 3), np.uint8))
        path = folder / f"{number}.{'jpg' if number % 2 else 'png'}"
        coarse.resize(size, Image.Resampling.BICUBIC).save(path)
        paths.append(path)
    return tuple(paths)


@pytest.fixture(scope="session")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Digits as people photograph them, and as their set has them."""
    place = tmp_path_factory.mktemp("drawings")
    images = find("digits").load(28, seed=0).test.images[:4]
    paths = []
    for number, pixels in enumerate(images):
        image = as_image(pixels)
        if number % 2:
            image = Image.fromarray(255 - np.asarray(image)).resize((90, 120)).convert("RGB")
        paths.append(place / f"{number}.png")
        image.save(paths[-1])
    return paths


@pytest.fixture(scope="session")
def samples(photographs: tuple[Path, ...]) -> Samples:
    return Samples(gate=photographs)


@pytest.fixture(scope="session")
def model() -> Model:
    return model_of()


@pytest.fixture(scope="session")
def with_preprocessing() -> Callable[..., Model]:
    """`with_preprocessing(model, mode="crop")` is the model as it would be if it prepared images otherwise."""

    def changed(model: Model, **fields: object) -> Model:
        preprocessing = replace(model.preprocessing, **fields)  # type: ignore[arg-type]
        card = replace(model.card, preprocessing=preprocessing)
        return Model(card, load_network=model.load_network)

    return changed
