"""Where does the time of a shipped network go, and how much of it does the processor need?

    python benchmarks/layer_times.py [NETWORK...] [--files FOLDER]

The networks are those that `benchmarks/inference.py` wrote into the folder. OpenVINO times every layer of one image
itself; layers of a kind are added up. What it computes within a layer, as an activation after a convolution, counts
there. Beside it stands what all multiplications would take at the rate of a single large convolution.
"""

from __future__ import annotations

import argparse
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

import inference
import measured
import numpy as np
import openvino
from openvino import opset13 as ops

from convatlas import atlas, measure
from convatlas.deployment.manifest import Precision
from convatlas.deployment.runtimes import OPENVINO_PRECISIONS, is_product, layer_precision

RUNS, WARM_UP = 60, 10
ENGINES = ("rival openvino", "rival openvino int8", "openvino", "openvino int8", "openvino int8, depthwise in float32")
MIN_MS = 0.005
"""Kinds of layers below that are left out."""
CHANNELS, LARGE_SIDE, KERNEL_SIZE = 512, 28, 3
"""Of that convolution."""
SETTINGS = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "PERF_COUNT": True}


def layer_ms(path: Path) -> dict[str, float]:
    """Milliseconds of each kind of layer, in the precision that it computes in; those with most come first."""
    core = openvino.Core()
    graph = core.read_model(str(path))
    graph.reshape([1, 3, inference.SIDE, inference.SIDE])
    compiled = core.compile_model(graph, "CPU", SETTINGS)
    request = compiled.create_infer_request()
    kinds = {
        op.get_friendly_name(): f"{op.get_rt_info()['layerType'].astype(str)} in "
        + OPENVINO_PRECISIONS.get(layer_precision(op), layer_precision(op))
        for op in compiled.get_runtime_model().get_ops()
    }
    times = defaultdict[str, list[float]](list)
    for run in range(WARM_UP + RUNS):
        request.infer([inference.image().numpy()])
        if run >= WARM_UP:
            sums = defaultdict[str, float](float)
            for layer in request.get_profiling_info():
                sums[kinds.get(layer.node_name, layer.node_type)] += layer.real_time.total_seconds()
            for kind, seconds in sums.items():
                times[kind].append(1000 * seconds)
    medians = {kind: statistics.median(each) for kind, each in times.items()}
    return {kind: ms for kind, ms in sorted(medians.items(), key=lambda one: -one[1]) if ms >= MIN_MS}


def macs_per_s(precision: Precision) -> float:
    """Multiplications with additions a second, of a large convolution in its fastest run: what the processor can."""
    shape = (1, CHANNELS, LARGE_SIDE, LARGE_SIDE)
    generator = np.random.default_rng(0)
    images = ops.parameter(list(shape), np.float32)
    kernels = generator.standard_normal((CHANNELS, CHANNELS, KERNEL_SIZE, KERNEL_SIZE), np.float32)
    values, weight = images, ops.constant(kernels)
    if precision is Precision.INT8:
        low, zero, high = (ops.constant(np.float32(end)) for end in (-4, 0, 4))
        # As after a ReLU.
        values = ops.fake_quantize(images, zero, high, zero, high, 256)
        weight = ops.fake_quantize(weight, low, high, low, high, 255)
    product = ops.convolution(values, weight, [1, 1], [1, 1], [1, 1], [1, 1])
    compiled = openvino.compile_model(openvino.Model([ops.result(product)], [images]), "CPU", SETTINGS)
    (computed,) = (layer_precision(op) for op in compiled.get_runtime_model().get_ops() if is_product(op))
    assert OPENVINO_PRECISIONS[computed] == precision
    request, given = compiled.create_infer_request(), generator.standard_normal(shape, np.float32)
    times: list[float] = []
    for _ in range(WARM_UP + RUNS):
        request.infer([given], share_inputs=True)
        # The convolution itself, and not what rounds the images.
        times += [
            layer.real_time.total_seconds()
            for layer in request.get_profiling_info()
            if layer.node_type == "Convolution"
        ]
    return kernels.size * LARGE_SIDE**2 / min(times)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("networks", nargs="*")
    parser.add_argument("--files", type=Path, default=Path("runs") / "inference")
    asked = parser.parse_args()
    rates = {precision.value: macs_per_s(precision) for precision in (Precision.FLOAT32, Precision.INT8)}
    rows: dict[str, Any] = {}
    for pair in inference.PAIRS:
        folder = asked.files / pair.ours
        if (folder / "done").exists() and (not asked.networks or pair.ours in asked.networks):
            variant = atlas.find(pair.ours)
            paths = {engine: folder / inference.FILES[engine][0] for engine in ENGINES}
            rows[pair.ours] = {
                "macs": measure.layers_of(variant.network, variant.spec.scaled(resolution=inference.SIDE)).macs,
                "ms": {engine: layer_ms(path) for engine, path in paths.items() if path.exists()},
            }
    figures = {"processor": inference.processor(), "macs_per_s": rates, "rows": rows}
    measured.write("layer_times", "python benchmarks/layer_times.py", figures)


if __name__ == "__main__":
    main()
