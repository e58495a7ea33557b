"""Where does the time of a shipped network go?

    python benchmarks/layer_times.py [NETWORK...] [--files FOLDER]

The networks are those that `benchmarks/inference.py` wrote into the folder. OpenVINO times every layer of one image
itself; layers of a kind are added up. What it computes within a layer, as an activation after a convolution, counts
there.
"""

from __future__ import annotations

import argparse
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

import inference
import measured
import openvino

from convatlas.deployment.runtimes import OPENVINO_PRECISIONS, layer_precision

RUNS, WARM_UP = 60, 10
ENGINES = ("rival openvino", "rival openvino int8", "openvino", "openvino int8", "openvino int8, depthwise in float32")
MIN_MS = 0.005
"""Kinds of layers below that are left out."""


def layer_ms(path: Path) -> dict[str, float]:
    """Milliseconds of each kind of layer, in the precision that it computes in; those with most come first."""
    core = openvino.Core()
    graph = core.read_model(str(path))
    graph.reshape([1, 3, inference.SIDE, inference.SIDE])
    settings = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "PERF_COUNT": True}
    compiled = core.compile_model(graph, "CPU", settings)
    request = compiled.create_infer_request()
    kinds = {
        op.get_friendly_name(): f"{op.get_rt_info()['layerType'].astype(str)} in "
        + OPENVINO_PRECISIONS.get(layer_precision(op), layer_precision(op))
        for op in compiled.get_runtime_model().get_ops()
    }
    times = defaultdict[str, list[float]](list)
    for turn in range(WARM_UP + RUNS):
        request.infer([inference.image().numpy()])
        if turn >= WARM_UP:
            sums = defaultdict[str, float](float)
            for layer in request.get_profiling_info():
                sums[kinds.get(layer.node_name, layer.node_type)] += layer.real_time.total_seconds()
            for kind, seconds in sums.items():
                times[kind].append(1000 * seconds)
    medians = {kind: statistics.median(each) for kind, each in times.items()}
    return {kind: ms for kind, ms in sorted(medians.items(), key=lambda one: -one[1]) if ms >= MIN_MS}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("networks", nargs="*")
    parser.add_argument("--files", type=Path, default=Path("runs") / "inference")
    asked = parser.parse_args()
    rows: dict[str, Any] = {}
    for pair in inference.PAIRS:
        folder = asked.files / pair.ours
        if (folder / "done").exists() and (not asked.networks or pair.ours in asked.networks):
            paths = {engine: folder / inference.FILES[engine][0] for engine in ENGINES}
            rows[pair.ours] = {engine: layer_ms(path) for engine, path in paths.items() if path.exists()}
    measured.write(
        "layer_times", "python benchmarks/layer_times.py", {"processor": inference.processor(), "rows": rows}
    )


if __name__ == "__main__":
    main()
