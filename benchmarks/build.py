"""How long does it take to build a network with fresh weights?

    python benchmarks/build.py

`convatlas.create` against torchvision's constructor of the same network (no pretrained weights), the imports done:
each in processes of its own, in turn; a process builds once to warm up and prints the median of five more builds, in
milliseconds. torchvision is no dependency; `pip install --no-deps torchvision` is enough.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import measured

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
    """The median of five builds, after one."""
    build()
    seconds = []
    for _ in range(5):
        begun = time.perf_counter()
        build()
        seconds.append(time.perf_counter() - begun)
    return 1000 * statistics.median(seconds)


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
