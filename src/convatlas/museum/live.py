"""The page on which LeNet-5 reads what a person draws: a trained network's weights as data for the page."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from convatlas import atlas
from convatlas.errors import UserError
from convatlas.models.model import Model
from convatlas.networks.connections import ConnectedConv2d
from convatlas.networks.lenet import LeNet
from convatlas.runs.run import Run, load

NETWORK = "lenet5"
FIELD = 32
"""Pixels along a side of the network's input; smaller images get a border."""


def live_model(path: str | Path) -> Model:
    """The model that the page shows.

    Raises:
        UserError: there is no model, or it is another network than the paper's LeNet-5, trained on ten digits.
    """
    loaded = load(path)
    model = loaded.model if isinstance(loaded, Run) else loaded
    own = replace(atlas.find(NETWORK).spec, resolution=model.spec.resolution)
    wrong = (
        f"it is {model.name}"
        if model.variant.name != NETWORK
        else "its weights are quantized"
        if model.card.quantization
        else "it is not as large as the paper's"
        if model.spec != own or model.spec.resolution > FIELD
        else "its classes are no digits"
        if model.classes != tuple(map(str, range(10)))
        else ""
    )
    if wrong:
        raise UserError(
            f"{path} cannot be shown live: {wrong}; convatlas train {NETWORK} --data mnist makes one that can"
        )
    return model


def live_data(model: Model) -> dict[str, object]:
    """Weights and preprocessing for the page. Numbers are 32-bit floats in base64, the lowest byte first."""
    network, look = model.network, model.preprocessing
    assert isinstance(network, LeNet), "live_model takes no other"
    c5, f6 = network.c5, network.f6
    assert c5 is not None, "LeNet-5 has it"
    assert f6 is not None, "LeNet-5 has it"

    def convolution(layer: ConnectedConv2d) -> dict[str, str]:
        return {"weight": floats(layer.dense_weight()), "bias": floats(layer.bias)}

    return {
        "c1": convolution(network.c1),
        "s2": {"coefficient": floats(network.s2.coefficient), "bias": floats(network.s2.bias)},
        "c3": convolution(network.c3),
        "s4": {"coefficient": floats(network.s4.coefficient), "bias": floats(network.s4.bias)},
        "c5": convolution(c5),
        "f6": {"weight": floats(f6.weight), "bias": floats(f6.bias)},
        "codes": floats(network.output.get_buffer("codes")),
        "background": network.background,
        "side": look.crop,
        "native": look.native_side or look.resize,
        "ink": look.ink,
        "mean": look.mean[0] / look.value_range,
        "std": look.std[0] / look.value_range,
    }


def trained(model: Model) -> dict[str, object]:
    """What the page says of the model."""
    score = model.card.score
    return {"data": model.provenance.data, "accuracy": None if score is None else score.accuracy}


def floats(values: Tensor) -> str:
    numbers = values.detach().to("cpu", torch.float32).contiguous().numpy().astype("<f4")
    return base64.b64encode(numbers.tobytes()).decode()
