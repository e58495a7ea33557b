"""The page on which LeNets read what a person draws: trained networks as data for the page."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from convatlas import atlas
from convatlas.errors import UserError
from convatlas.models.model import Model
from convatlas.networks.connections import ConnectedConv2d
from convatlas.networks.lenet import LeNet, LeNet1989, ModernLeNet, Subsampling
from convatlas.runs.run import Run, load

NETWORK = "lenet5"
TITLES = {NETWORK: "LeNet-5", "lenet1989": "The zip code network of 1989", "lenet5-modern": "LeNet-5 as built today"}
"""The networks that read live; those after the first stand beside it."""
LARGEST = 32
"""Pixels along a side of the images that the page makes of drawings."""

Step = dict[str, object]
"""One operation, as the page runs it: its name, what it does, numbers, and the activation after it."""


def live_model(path: str | Path, network: str = NETWORK) -> Model:
    """The model that the page shows as `network`.

    Raises:
        UserError: there is no model, or it is another network, or not trained on ten digits.
    """
    loaded = load(path)
    model = loaded.model if isinstance(loaded, Run) else loaded
    own = replace(atlas.find(network).spec, resolution=model.spec.resolution)
    wrong = (
        f"it is {model.name}"
        if model.variant.name != network
        else "its weights are quantized"
        if model.card.quantization
        else "it is not as large as the paper's"
        if model.spec != own or model.spec.resolution > LARGEST
        else "its classes are no digits"
        if model.classes != tuple(map(str, range(10)))
        else ""
    )
    if wrong:
        raise UserError(
            f"{path} cannot be shown live: {wrong}; convatlas train {network} --data mnist makes one that can"
        )
    return model


def live_models(paths: Mapping[str, str | Path | None]) -> dict[str, Model]:
    """Those that a person gave, by the names of their networks.

    Raises:
        UserError: one cannot be shown, or there is none for the others to stand beside.
    """
    models = {network: live_model(path, network) for network, path in paths.items() if path is not None}
    if models and NETWORK not in models:
        raise UserError(f"beside {' and '.join(models)} the page shows {NETWORK}; give a model of it too")
    return models


def live_data(model: Model) -> dict[str, object]:
    """A network and its preprocessing for the page. Numbers are 32-bit floats in base64, the lowest byte first."""
    look = model.preprocessing
    return {
        "steps": list(steps(model.network)),
        # Of tanh, or logits.
        "units": model.variant.name == "lenet1989",
        "side": look.crop,
        "native": look.native_side or look.resize,
        "ink": look.ink,
        "mean": look.mean[0] / look.value_range,
        "std": look.std[0] / look.value_range,
    }


def steps(network: nn.Module) -> Iterator[Step]:
    """The operations of a LeNet, from the image to its outputs."""
    match network:
        case LeNet1989():
            edge: Step = {"padding": 2, "value": network.background}
            yield convolution("H1", network.h1) | edge
            yield convolution("H2", network.h2) | edge
            yield dense("H3", network.h3, "tanh")
            yield dense("output", network.output, "tanh")
        case LeNet():
            c5, f6 = network.c5, network.f6
            assert c5 is not None, "LeNet-5 has it"
            assert f6 is not None, "LeNet-5 has it"
            yield border(network.spec.field, network.background)
            yield convolution("C1", network.c1)
            yield subsampling("S2", network.s2)
            yield convolution("C3", network.c3)
            yield subsampling("S4", network.s4)
            yield convolution("C5", c5)
            yield dense("F6", f6, "tanh")
            yield {"name": "output", "does": "distances", "codes": floats(network.output.get_buffer("codes"))}
        case ModernLeNet():
            yield border(network.spec.field, 0.0)
            for number, layer in ((1, network.c1), (3, network.c3)):
                yield {
                    "name": f"C{number}",
                    "does": "convolution",
                    "kernel": layer.kernel_size[0],
                    "weight": floats(layer.weight),
                    "bias": floats(layer.get_parameter("bias")),
                }
                yield {"name": f"S{number + 1}", "does": "pooling", "then": "relu"}
            yield dense("C5", network.c5, "relu")
            yield dense("F6", network.f6, "relu")
            yield dense("output", network.output)
        case _:
            raise AssertionError("live_model takes no other")


def border(field: int, background: float) -> Step:
    return {"name": "input", "does": "border", "field": field, "value": background}


def convolution(name: str, layer: ConnectedConv2d) -> Step:
    return {
        "name": name,
        "does": "convolution",
        "kernel": layer.shape[-1],
        "stride": layer.stride,
        "weight": floats(layer.dense_weight()),
        "bias": floats(layer.bias),
        "then": "tanh",
    }


def subsampling(name: str, layer: Subsampling) -> Step:
    coefficient, bias = floats(layer.coefficient), floats(layer.bias)
    return {"name": name, "does": "subsampling", "coefficient": coefficient, "bias": bias, "then": "tanh"}


def dense(name: str, layer: nn.Linear, then: str = "") -> Step:
    return {"name": name, "does": "dense", "weight": floats(layer.weight), "bias": floats(layer.bias), "then": then}


def trained(model: Model) -> dict[str, object]:
    """What the page says of a model."""
    score = model.card.score
    return {
        "title": TITLES[model.variant.name],
        "data": model.provenance.data,
        "accuracy": None if score is None else score.accuracy,
        "params": model.card.params,
    }


def floats(values: Tensor) -> str:
    numbers = values.detach().to("cpu", torch.float32).contiguous().numpy().astype("<f4")
    return base64.b64encode(numbers.tobytes()).decode()
