"""Our networks compute what other libraries' did with the same weights when record_logits.py ran them.

Tests with the mark `parity` compare more networks with the libraries themselves, where these are installed.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from convatlas import atlas
from convatlas.weights.formats.keras import ROLES
from convatlas.weights.keras import KERAS, normalization
from convatlas.weights.libraries import LIBRARIES
from convatlas.weights.mapping import mapped

LOGITS = Path(__file__).with_name("logits.json")
"""For each `library network side` the first outputs (2, 10) for `images_at(side)`."""
LAYERS = Path(__file__).with_name("keras_layers.json.gz")
"""See record_keras.py."""
LIMITS = {torch.float64: 1e-5, torch.float32: 1e-4}
"""Of the difference, over the largest output."""
# RandomState, since NumPy promises that its numbers stay what they are.
NOISE = np.random.RandomState(0).uniform(-1, 1, 65_537)

Array = npt.NDArray[np.float64]


def noise(name: str, *shape: int) -> Array:
    """Numbers between -1 and 1 that are the same on every machine, and others for each name."""
    return np.resize(np.roll(NOISE, zlib.crc32(name.encode())), shape)


def gain_of(network: str) -> float:
    """Of the weights of layers, such that outputs depend on inputs after many of them."""
    # Swish and squeeze-and-excitation make less of their inputs than ReLU does.
    return 1.06 if "efficientnet" in network else 1.0


def drawn(name: str, *shape: int, inputs: int = 0, gain: float = 1.0) -> Array:
    """Values for a tensor.

    Args:
        inputs: how many numbers an output of these weights reads; 0: they are no weights of a layer that sums.
    """
    if inputs:
        return gain * (6 / inputs) ** 0.5 * noise(name, *shape)
    if name.endswith(("bias", "beta", "mean")):
        return 0.2 * noise(name, *shape)
    return 1 + 0.3 * noise(name, *shape)


def images_at(side: int) -> Tensor:
    """(2, 3, side, side)"""
    return torch.from_numpy(noise("images", 2, 3, side, side))


def state_dict_of(tensors: Mapping[str, Tensor], gain: float) -> dict[str, Tensor]:
    """Values for the tensors of a network of PyTorch, by their names and shapes; counters stay out."""
    return {
        name: torch.from_numpy(drawn(name, *value.shape, inputs=value[0].numel() if value.dim() > 1 else 0, gain=gain))
        for name, value in tensors.items()
        if not name.endswith("num_batches_tracked")
    }


def keras_values(kind: str, name: str, shapes: list[tuple[int, ...]], gain: float) -> dict[str, Array]:
    """Values for a layer of Keras, by the names of its variables and in their shapes."""
    match kind:
        case "conv2d" | "dense":
            kernel, inputs = "kernel", int(np.prod(shapes[0][:-1]))
        case "depthwise_conv2d":
            kernel, inputs = "depthwise_kernel", int(np.prod(shapes[0][:2]))
        case "normalization":
            # A third variable counts what the layer has seen.
            return {role: drawn(f"{name}.{role}", *shapes[0]) for role in ("mean", "variance")}
        case _:
            roles = ("gamma", "beta", "moving_mean", "moving_variance")
            return {role: drawn(f"{name}.{role}", *shape) for role, shape in zip(roles, shapes, strict=True)}
    values = {kernel: drawn(f"{name}.{kernel}", *shapes[0], inputs=inputs, gain=gain)}
    if len(shapes) == 2:
        values["bias"] = drawn(f"{name}.bias", *shapes[1])
    return values


def keras_tensors(layers: list[Any], gain: float) -> dict[str, Tensor]:
    """As they are read from a file."""
    tensors = {}
    for kind, name, shapes in layers:
        for role, array in keras_values(kind, name, shapes, gain).items():
            ending, lay_out, _ = ROLES[role]
            tensors[f"{name}.{ending}"] = lay_out(torch.from_numpy(array))
    return tensors


def keras_images(network: str, side: int) -> Tensor:
    """(2, 3, side, side), as Keras's network reads them: EfficientNets from 0 to 255."""
    images = images_at(side)
    return 127.5 * (images + 1) if network.startswith("efficientnet") else images


@pytest.mark.parametrize("case", json.loads(LOGITS.read_text()))
def test_the_same_weights_give_the_recorded_logits(
    case: str, recorded: Callable[[str, str], dict[str, Tensor]], one_thread: None
) -> None:
    library_name, name, side = case.split(" ")
    (library,) = (library for library in LIBRARIES if library.name == library_name)
    (network,) = (network for network in library.networks if network.name == name)
    variant = atlas.find(network.variant)
    spec = variant.spec.at(replace(network.scale, resolution=int(side)))
    if library is KERAS:
        tensors = keras_tensors(json.loads(gzip.decompress(LAYERS.read_bytes()))[name], gain_of(name))
        images = keras_images(name, int(side))
        if given := normalization(tensors):
            mean, std = (torch.tensor(values, dtype=torch.float64)[:, None, None] for values in given)
            images = (images / 255 - mean) / std
    else:
        tensors, images = state_dict_of(recorded(library_name, name), gain_of(name)), images_at(int(side))
    expected = torch.tensor(json.loads(LOGITS.read_text())[case], dtype=torch.float64)
    largest = expected.abs().max()
    # Outputs that are the same whatever the input would compare nothing.
    assert (expected[0] - expected[1]).abs().max() > 0.01 * largest
    for dtype, limit in LIMITS.items():
        ours = variant.network(spec).to(dtype).eval()
        mapped(tensors, library.names(spec), ours, case).load_into(ours)
        with torch.no_grad():
            outputs = ours(images.to(dtype))[:, : expected.shape[1]]
        assert (outputs - expected).abs().max() <= limit * largest, dtype
