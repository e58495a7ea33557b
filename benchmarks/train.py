"""How fast is a training step, against the plain eager loop on the same network?

    python benchmarks/train.py [NETWORK...]

With names of networks, only their rows are measured; the other rows stay as they are.

One network of each family at 64 and at 224 pixels, with 10 classes: training throughput in images per second, on a
batch that is in memory. `plain` is the loop that most people write: float32, contiguous memory, AdamW with its
defaults, the mean cross-entropy (the network's own objective), `backward`, `step`. `convatlas` is the package's own
step, run as autotuning chose for a training of eight minutes (too short for compiling to pay), in memory that is kept
between steps as in training, with the check for non-finite gradients, class weights and the moving average of the
weights that the default recipe keeps. Each runs in a process of its own, in turn.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import measured
import torch

from convatlas import atlas
from convatlas.data.batches import Batch
from convatlas.measure import time_call, torch_engine
from convatlas.models.memory import freed_memory_kept
from convatlas.recipe import Decayed
from convatlas.runs.options import Execution
from convatlas.training import optimizers
from convatlas.training.autotune import Autotuner
from convatlas.training.checkpoint import make_ema
from convatlas.training.recipes import DEFAULT
from convatlas.training.step import Step, to_memory_format

NETWORKS = (
    "lenet5", "alexnet", "vgg16", "googlenet", "resnet18", "squeezenet", "mobilenet", "efficientnet-b0",
)  # fmt: skip
BATCH_SIZES = {64: 32, 224: 8}
ROUNDS = 5
STEPS = 7
MIN_S = 2.0
"""Steps are repeated for at least so long: a few of ten milliseconds say little."""
PLANNED_S = 480.0
RECIPE = replace(DEFAULT, decayed=Decayed.WEIGHTS, lr=1e-6)
"""With so small a learning rate no network diverges while it is timed."""


def main(engine: str) -> None:
    kind, name, side = engine.split(":")
    variant, resolution = atlas.find(name), int(side)
    spec = replace(variant.spec.scaled(resolution=resolution), num_classes=10, in_channels=3)
    size = BATCH_SIZES[resolution]
    torch.manual_seed(0)
    inputs = torch.randn(size, 3, resolution, resolution)
    labels = torch.randint(10, (size,))
    targets = torch.eye(10)[labels]

    def built() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        network = variant.network(spec).train()
        return network, optimizers.build(RECIPE, network)

    if kind == "plain":
        network = variant.network(spec).train()
        optimizer: torch.optim.Optimizer = torch.optim.AdamW(network.parameters(), lr=RECIPE.lr)

        def step() -> None:
            optimizer.zero_grad()
            loss = variant.objective.losses(network(inputs), targets).mean()
            loss.backward()
            optimizer.step()
            loss.item()

    else:
        batch = Batch(inputs.contiguous(memory_format=torch.channels_last), targets, labels, torch.arange(size), size)
        tuner = Autotuner(built, variant.objective, batch)
        plain = Execution(threads=torch.get_num_threads())
        num_steps = math.ceil(PLANNED_S / tuner.seconds(plain, 5.0))
        execution, line = tuner.choose(plain, num_steps)
        print(line)
        torch.set_num_threads(execution.threads)
        network, optimizer = built()
        network = to_memory_format(network, execution)
        ours = Step.prepared(network, variant.objective, execution, class_weights=torch.ones(10), batch_size=size)
        average = make_ema(network, RECIPE, num_steps)

        def step() -> None:
            optimizer.zero_grad(set_to_none=True)
            result = ours.gradient(batch)
            if not result.is_finite:
                raise ValueError(f"{name} diverged")
            optimizer.step()
            if average is not None:
                average.update_parameters(network)

    timing = time_call(step, torch_engine(), repeats=STEPS, num_warmups=2, min_s=MIN_S)
    print(size / timing.median_s)


def compared(name: str, side: int) -> dict[str, Any]:
    """Both steps timed in turn, and their ratio."""
    rates = measured.in_turn(__file__, [f"{kind}:{name}:{side}" for kind in ("plain", "convatlas")], ROUNDS)
    return {
        "batch_size": BATCH_SIZES[side],
        "images_per_second": {engine.split(":")[0]: measured.spread(of) for engine, of in rates.items()},
        "ratio": measured.spread([ours / plain for plain, ours in zip(*rates.values(), strict=True)]),
    }


if __name__ == "__main__":
    chosen = sys.argv[1:]
    if chosen and ":" in chosen[0]:
        with nullcontext() if chosen[0].startswith("plain:") else freed_memory_kept():
            main(chosen[0])
    else:
        rows = json.loads((measured.RESULTS / "train.json").read_text())["networks"]
        for side in BATCH_SIZES:
            for name in NETWORKS:
                if not chosen or name in chosen:
                    rows[f"{name} at {side} px"] = compared(name, side)
        medians = [row["ratio"]["median"] for row in rows.values()]
        mean = math.exp(statistics.fmean(map(math.log, medians)))
        measured.write("train", "python benchmarks/train.py", {"geometric_mean_ratio": mean, "networks": rows})
