"""Record the layers of Keras's networks, which the tests then need no Keras for.

Run it where Keras 3 is installed: KERAS_BACKEND=torch python tests/weights/record_keras.py. It writes
keras_layers.json.gz: for each network its layers with tensors, in Keras's order, each as its class in the letters of
`.weights.h5`, its name, and the shapes of its tensors in the order in which that format numbers them.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import keras
from keras.src.utils.naming import to_snake_case

from convatlas.weights.keras import KERAS
from convatlas.weights.library import Network

PLACE = Path(__file__).with_name("keras_layers.json.gz")


def built(network: Network) -> Any:
    makers = {name.lower(): make for name, make in vars(keras.applications).items() if callable(make)}
    name, *alpha = network.name.split("_")
    keras.utils.clear_session()
    return makers[name](weights=None, alpha=float(*alpha)) if alpha else makers[name](weights=None)


def layers(model: Any) -> list[tuple[str, str, list[tuple[int, ...]]]]:
    return [
        (to_snake_case(type(layer).__name__), layer.name, [weight.shape for weight in layer.weights])
        for layer in model.layers
        if layer.weights
    ]


if __name__ == "__main__":
    found = {network.name: layers(built(network)) for network in KERAS.networks}
    PLACE.write_bytes(gzip.compress(json.dumps(found, separators=(",", ":")).encode(), mtime=0))
    print(f"{PLACE.stat().st_size:,} bytes")
