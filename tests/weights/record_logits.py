"""Record what other libraries' networks compute, which the tests then need no library for.

Run it where torchvision, timm and Keras 3 are installed: KERAS_BACKEND=torch python tests/weights/record_logits.py. It
writes logits.json: for each network and side the first outputs, in double precision, for the two images and the
weights that test_libraries.py draws.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import keras
import torch
from keras.src.backend.common import dtypes
from keras.src.utils.naming import to_snake_case
from record_state_dicts import allow_torchvision
from test_libraries import LOGITS, gain_of, images_at, keras_images, keras_values, state_dict_of
from torch import Tensor

SIDE = 97
"""Odd, and no network's own; these have another."""
SIDES = {"alexnet": 224, "mobilenet_0.50": 96}
TORCHVISION = ("alexnet", "googlenet", "resnet18", "resnet50", "squeezenet1_1", "efficientnet_b0")
TIMM = ("resnet34", "mobilenetv1_100", "efficientnet_b0", "tf_efficientnet_b1")
KERAS = ("resnet50", "mobilenet_0.50", "efficientnetb0")
NUM_OUTPUTS = 10


def of_torch(name: str, network: torch.nn.Module, side: int) -> Tensor:
    network.load_state_dict(state_dict_of(network.state_dict(), gain_of(name)), strict=False)
    with torch.no_grad():
        outputs: Tensor = network.double().eval()(images_at(side))
    return outputs


def of_keras(name: str, side: int) -> Tensor:
    makers = {maker.lower(): make for maker, make in vars(keras.applications).items() if callable(make)}
    maker, *alpha = name.split("_")
    options: dict[str, Any] = {"alpha": float(*alpha)} if alpha else {}
    keras.utils.clear_session()
    model = makers[maker](weights=None, input_shape=(side, side, 3), classifier_activation=None, **options)
    for layer in model.layers:
        if layer.weights:
            kind = to_snake_case(type(layer).__name__)
            values = keras_values(kind, layer.name, [weight.shape for weight in layer.weights], gain_of(name))
            # A normalization of images has a counter too.
            for weight, value in zip(layer.weights, values.values(), strict=False):
                weight.assign(value)
    with torch.no_grad():
        outputs: Tensor = model(keras_images(name, side).permute(0, 2, 3, 1), training=False)
    return outputs


def logits() -> Iterator[tuple[str, Tensor]]:
    allow_torchvision()
    import timm
    from torchvision import models

    for name in TORCHVISION:
        options = {"init_weights": False} if name == "googlenet" else {}
        side = SIDES.get(name, SIDE)
        yield f"torchvision {name} {side}", of_torch(name, getattr(models, name)(**options), side)
    for name in TIMM:
        yield f"timm {name} {SIDE}", of_torch(name, timm.create_model(name), SIDE)
    keras.config.set_floatx("float64")
    # Keras takes double and single together for single. Here double stays double.
    usual = dtypes.result_type
    keras.src.backend.result_type = dtypes.result_type = lambda *given: (
        "float64" if usual(*given) == "float32" else usual(*given)
    )
    for name in KERAS:
        side = SIDES.get(name, SIDE)
        yield f"keras {name} {side}", of_keras(name, side)


if __name__ == "__main__":
    rows = (
        f"  {json.dumps(case)}: {[[float(f'{value:.12g}') for value in row[:NUM_OUTPUTS]] for row in outputs.tolist()]}"
        for case, outputs in logits()
    )
    LOGITS.write_text("{\n" + ",\n".join(rows) + "\n}\n")
    print(f"{LOGITS.stat().st_size:,} bytes")
