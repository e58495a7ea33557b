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

import convatlas as ca
from convatlas import atlas, measure
from convatlas.data import find
from convatlas.deployment.artefact import write_artefact
from convatlas.deployment.gate import Gate
from convatlas.deployment.manifest import Precision, RuntimeName
from convatlas.deployment.samples import Samples, as_image, some
from convatlas.files import SILENT
from convatlas.files.typed_json import encoded
from convatlas.images import Preprocessing
from convatlas.models.card import Card, Provenance
from convatlas.models.model import Model
from convatlas.runs.run import Run

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


COLORS = ((220, 60, 40), (50, 70, 210), (60, 190, 70), (200, 190, 60))
"""Of the classes of `of_colors`."""


@pytest.fixture(scope="session")
def of_colors(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A small network with normalization and shortcuts that tells colored files apart, so that its classes have
    margins. It learned them with letterboxes."""
    data, generator = tmp_path_factory.mktemp("colors"), np.random.default_rng(0)
    for label, color in enumerate(COLORS):
        (data / str(label)).mkdir()
        for number in range(50):
            height, width = generator.integers(36, 80, 2).tolist()
            coarse = np.array(color) + generator.normal(0, 50, (height // 6, width // 6, 3))
            image = Image.fromarray(coarse.clip(0, 255).astype(np.uint8))
            image.resize((width, height), Image.Resampling.BICUBIC).save(data / str(label) / f"{number}.png")
    scale = ca.Scale(width=0.25, depth=0.34, resolution=32)
    return ca.train(
        "resnet20-cifar", data=data, scale=scale, epochs=5, resize="letterbox",
        out=tmp_path_factory.mktemp("trained") / "run", runtime=ca.Runtime(autotune=False),
    )  # fmt: skip


@pytest.fixture(scope="session")
def int8_gate(of_colors: Run, photographs: tuple[Path, ...]) -> Gate:
    """The gate of a small network, with few images so that it is quick."""
    train = of_colors.load_data().train
    return Gate(
        model=of_colors.model,
        samples=Samples(
            gate=photographs[:3], held_out=train, held_out_kind="training images", calibration=some(train, 40, seed=0)
        ),
        # One of so few is more than half a point.
        max_loss=2.0,
    )


@pytest.fixture(scope="session")
def in_int8(tmp_path_factory: pytest.TempPathFactory, int8_gate: Gate) -> Path:
    """An artefact in int8 that passed the gate."""
    folder = tmp_path_factory.mktemp("int8")
    write_artefact(folder, int8_gate.model, RuntimeName.ONNX, Precision.INT8, int8_gate, SILENT)
    return folder


@pytest.fixture(scope="session")
def with_preprocessing() -> Callable[..., Model]:
    """`with_preprocessing(model, mode="crop")` is the model as it would be if it prepared images otherwise."""

    def changed(model: Model, **fields: object) -> Model:
        preprocessing = replace(model.preprocessing, **fields)  # type: ignore[arg-type]
        card = replace(model.card, preprocessing=preprocessing)
        return Model(card, load_network=model.load_network)

    return changed
