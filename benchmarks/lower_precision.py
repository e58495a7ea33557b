"""Do the networks of inference.py in lower precision pass the gate, made by hand and as convatlas makes them?

    python benchmarks/lower_precision.py [NETWORK...] [--out FOLDER]

Random weights do not say whether int8 and bfloat16 are accurate. So the same networks are trained on few classes: a
quarter of their width, 32 pixels, the ten digits that come with the package. Their forms are made by the functions that
make the timed ones, calibrated on training images, and the gate of `convatlas export` compares what they answer with
what the model does, on training images that they were not calibrated on.

With names of networks only these are measured, and the others stay as they are. A training that is in the folder
(`runs/lower-precision`) is not done again. All of it takes about half an hour on two cores.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import inference
import measured
import numpy as np
import torch

import convatlas as ca
from convatlas.deployment.gate import Gate
from convatlas.deployment.manifest import Precision
from convatlas.deployment.predictor import LOGITS
from convatlas.deployment.runtimes import Array, open_network
from convatlas.deployment.samples import draw_samples
from convatlas.models.device import computes_bfloat16
from convatlas.training import Progress, Request, train_or_resume

SCALE = ca.Scale(width=0.25, resolution=32)
EPOCHS = {
    "alexnet-owt": 30,
    "vgg16": 30,
    "resnet50-v1.5": 20,
    "googlenet-bn-3x3": 20,
    "squeezenet1.0-pytorch": 60,
    "mobilenet": 30,
    "efficientnet-b0": 30,
}
"""Enough of each to learn digits."""
EAGER_BFLOAT16, COMPILED_BFLOAT16 = "rival eager bfloat16", "rival compiled bfloat16"
"""The compiled one computes the same as the eager one."""


def row(name: str, out: Path) -> dict[str, Any]:
    """What the gate says of every engine of a network in lower precision."""
    request = Request(network=name, data="digits", scale=SCALE, epochs=EPOCHS[name])
    run = train_or_resume(request, out / "run", Progress())
    model = run.model
    for folder in (out / "images", out / "files"):
        folder.mkdir(exist_ok=True)
    samples = draw_samples(run, None, out / "images", tuple(Precision))
    assert samples.calibration is not None, "digits are labeled"
    assert samples.held_out is not None, "digits are labeled"
    calibration, held_out = (
        model.preprocessing.normalize(model.preprocessing.center(split.images[:]))
        for split in (samples.calibration, samples.held_out)
    )
    network = model.network.eval()
    inference.write_files(out / "files", network, network, model.variant, calibration)
    gate, engines = Gate(model=model, samples=samples), {}
    for engine, call in calls(network, out / "files").items():
        loss = gate.paired_loss(np.array([call(image[None]).argmax() for image in held_out]))
        engines[engine] = {"agreement": loss.agreement, "points_lost": loss.loss, "refused": gate.why_not(loss)}
        print(f"{name}, {engine}: {engines[engine]}", file=sys.stderr, flush=True)
    if EAGER_BFLOAT16 in engines:
        engines[COMPILED_BFLOAT16] = engines[EAGER_BFLOAT16]
    return {
        "epochs": EPOCHS[name],
        "test_accuracy": run.test_accuracy,
        "num_images": len(samples.held_out),
        "engines": engines,
    }


def calls(network: torch.nn.Module, files: Path) -> dict[str, Callable[[Array], Array]]:
    """What computes the logits of one image in each engine that is not of float32."""

    def loaded(engine: str) -> Callable[[Array], Array]:
        name, runtime, precision = inference.FILES[engine]
        session = open_network(files / name, runtime, precision)

        def call(image: Array) -> Array:
            outputs = session.run(image)
            return outputs[LOGITS] if LOGITS in outputs else next(iter(outputs.values()))

        return call

    lower = [
        engine
        for engine, (name, _, precision) in inference.FILES.items()
        if precision is not Precision.FLOAT32 and (files / name).exists()
    ]
    if not computes_bfloat16("cpu"):
        return {engine: loaded(engine) for engine in lower if inference.FILES[engine][2] is Precision.INT8}
    rounded = inference.in_bfloat16(copy.deepcopy(network))

    @torch.inference_mode()
    def eager(image: Array) -> Array:
        inputs = torch.from_numpy(image).to(torch.bfloat16, memory_format=torch.channels_last)
        logits: Array = rounded(inputs).float().numpy()
        return logits

    return {EAGER_BFLOAT16: eager, **{engine: loaded(engine) for engine in lower}}


def main(chosen: Sequence[str], out: Path) -> None:
    path = measured.RESULTS / "lower_precision.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() else {}
    for name in chosen or EPOCHS:
        rows[name] = row(name, out / name)
        ordered = {known: rows[known] for known in EPOCHS if known in rows}
        measured.write(
            "lower_precision",
            "python benchmarks/lower_precision.py",
            {"processor": inference.processor(), "rows": ordered},
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("networks", nargs="*")
    parser.add_argument("--out", type=Path, default=Path("runs") / "lower-precision")
    arguments = parser.parse_args()
    main(arguments.networks, arguments.out)
