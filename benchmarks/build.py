"""How long does it take to build a network with fresh weights?

    python benchmarks/build.py

`convatlas.create` against torchvision's constructor of the same network, without pretrained weights and after the
imports. Each runs in processes of its own, in turn. A process builds once to warm up, then prints the median of five
more builds in milliseconds. torchvision is not a dependency; `pip install --no-deps torchvision` is enough.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import measured

from convatlas.measure import time_call, torch_engine

NETWORKS = {
    "vgg16": "vgg16",
    "resnet50-v1.5": "resnet50",
    "efficientnet-b0": "efficientnet_b0",
}
ROUNDS = 5


def convatlas(name: str) -> float:
    import convatlas as ca

    return milliseconds(lambda: ca.create(name))


def torchvision(name: str) -> float:
    measured.allow_torchvision()
    from torchvision import models

    constructor = getattr(models, NETWORKS[name])
    return milliseconds(lambda: constructor(weights=None))


def milliseconds(build: Callable[[], object]) -> float:
    """The median of five builds, after one that warms up."""
    return time_call(build, torch_engine(), repeats=5).median_ms


def main() -> None:
    if len(sys.argv) > 1:
        library, name = sys.argv[1].split(":")
        print({"convatlas": convatlas, "torchvision": torchvision}[library](name))
        return
    engines = [f"{library}:{name}" for name in NETWORKS for library in ("convatlas", "torchvision")]
    figures = measured.in_turn(__file__, engines, ROUNDS)
    rows = []
    for name in NETWORKS:
        ours, theirs = (figures[f"{library}:{name}"] for library in ("convatlas", "torchvision"))
        rows.append(
            {
                "network": name,
                "convatlas_ms": measured.spread(ours),
                "torchvision_ms": measured.spread(theirs),
                "ratio": measured.spread([our / their for our, their in zip(ours, theirs, strict=True)]),
            }
        )
    measured.write("build", "python benchmarks/build.py", {"rows": rows})


if __name__ == "__main__":
    main()
