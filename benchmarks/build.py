"""How long does it take to build a network with fresh weights?

    python benchmarks/build.py

`convatlas.create` against torchvision's constructor of the same network (no pretrained weights), the imports done:
each in processes of its own, in turn; the process builds once to warm up and prints the milliseconds of the second
build. torchvision is no dependency; `pip install --no-deps torchvision` is enough.
"""

from __future__ import annotations

import sys
import time

import measured

NETWORKS = {
    "vgg16": "vgg16",
    "alexnet-owt": "alexnet",
    "resnet50-v1.5": "resnet50",
    "squeezenet1.1": "squeezenet1_1",
    "efficientnet-b0": "efficientnet_b0",
}
ROUNDS = 9


def convatlas(name: str) -> float:
    import convatlas as ca

    return milliseconds(lambda: ca.create(name))


def torchvision(name: str) -> float:
    measured.allow_torchvision()
    from torchvision import models

    constructor = getattr(models, NETWORKS[name])
    return milliseconds(lambda: constructor(weights=None))


def milliseconds(build) -> float:  # type: ignore[no-untyped-def]
    build()
    begun = time.perf_counter()
    build()
    return 1000 * (time.perf_counter() - begun)


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
