"""Quantization in a process of its own: NNCF is told not to report home, and its memory and threads go with it.

    python -P -m convatlas.deployment.int8_child FOLDER

The folder has `request.json`, `calibration.npy` and `held_out.npy`; a network's file for each candidate and
`answers.npz` are written into it.
"""

from __future__ import annotations

import copy
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from convatlas.deployment.manifest import Precision, RuntimeName
from convatlas.deployment.predictor import LOGITS
from convatlas.deployment.products import Product, openvino_names
from convatlas.deployment.runtimes import Array, Session, open_network
from convatlas.files.typed_json import decoded
from convatlas.images import Preprocessing

REQUEST, CALIBRATION, HELD_OUT, ANSWERS = "request.json", "calibration.npy", "held_out.npy", "answers.npz"
BATCH = 32
REPEATS, WARM_UP = 30, 3
NUM_ERRORS = 32
"""Images from which the errors of layers are taken."""
UNROUNDED = {"Multiply", "ReduceMean", "Sigmoid"}
"""OpenVINO's operations whose inputs stay as they are: the parts of swish and of squeeze-and-excitation. NNCF would
round within them, which costs accuracy, and keeps OpenVINO from computing them in one with the convolution before."""


def quantized(network: Any, inputs: Array, kept: Sequence[Product], overflow_fix: bool, runtime: RuntimeName) -> Any:
    """A network in 8 bits: weights with a step for each output channel, inputs of layers with one of their own.

    Each runtime's own makers say best what it computes in 8 bits.

    Args:
        kept: what stays in float32.
    """
    if runtime is RuntimeName.ONNX:
        return quantized_onnx(network, inputs, kept, overflow_fix)
    import nncf
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix

    nncf.set_log_level(logging.ERROR)
    unrounded = [op.get_friendly_name() for op in network.get_ops() if op.get_type_name() in UNROUNDED]
    return nncf.quantize(
        network,
        nncf.Dataset([image[None] for image in inputs]),
        subset_size=len(inputs),
        ignored_scope=nncf.IgnoredScope(names=[*openvino_names(kept, network), *unrounded]),
        advanced_parameters=AdvancedQuantizationParameters(
            overflow_fix=OverflowFix.ENABLE if overflow_fix else OverflowFix.DISABLE
        ),
    )


def quantized_onnx(network: Any, inputs: Array, kept: Sequence[Product], overflow_fix: bool) -> Any:
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class CalibrationImages(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.images = iter(inputs)

        def get_next(self) -> dict[str, Array] | None:
            image = next(self.images, None)
            return None if image is None else {"images": image[None]}

    # It advises a step that the export has done.
    logging.getLogger().setLevel(logging.ERROR)
    # What stands behind the logits: it must tell small probabilities apart.
    last = [node.name for node in network.graph.node if node.op_type == "Softmax"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "quantized.onnx"
        quantize_static(
            network,
            path,
            CalibrationImages(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=overflow_fix,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=[*(product.node for product in kept), *last],
        )
        return onnx.load(path)


def read_network(path: Path, runtime: RuntimeName) -> Any:
    """A network as its runtime's own library holds it. OpenVINO reads ONNX too."""
    if runtime is RuntimeName.ONNX:
        import onnx

        return onnx.load(path)
    import openvino

    return openvino.Core().read_model(str(path))


def write_network(network: Any, path: Path, runtime: RuntimeName) -> None:
    if runtime is RuntimeName.ONNX:
        import onnx

        onnx.save(network, path)
        return
    import openvino

    openvino.save_model(network, str(path), compress_to_fp16=False)


def node_outputs(network: Any, nodes: list[str], inputs: Array, runtime: RuntimeName, path: Path) -> list[Array]:
    """The outputs of nodes for some images; empty where a network does not have the node any more."""
    if runtime is RuntimeName.ONNX:
        import onnx

        watched = copy.deepcopy(network)
        tensors = {node.name: node.output[0] for node in watched.graph.node}
        known = {output.name for output in watched.graph.output}
        for name in nodes:
            if name in tensors and tensors[name] not in known:
                watched.graph.output.append(onnx.helper.make_empty_tensor_value_info(tensors[name]))
    else:
        watched = network.clone()
        ops = {op.get_friendly_name(): op for op in watched.get_ops()}
        tensors = {name: f"watched {name}" for name in nodes if name in ops}
        for name, tensor in tensors.items():
            ops[name].output(0).get_tensor().set_names({tensor})
        watched.add_outputs(list(tensors.values()))
    write_network(watched, path, runtime)
    session = open_network(path, runtime)
    answered = session.run(inputs)
    return [answered[tensors[name]] if name in tensors and tensors[name] in answered else np.empty(0) for name in nodes]


def relative_errors(exact: list[Array], rounded: list[Array]) -> list[float]:
    """The error of each node as a fraction of its output, by their norms."""
    return [
        float(np.linalg.norm(one - other) / (np.linalg.norm(one) + 1e-12)) if one.shape == other.shape else 0.0
        for one, other in zip(exact, rounded, strict=True)
    ]


def latencies(sessions: list[Session], image: Array) -> list[float]:
    """Median seconds of each session for one image, timed in turn."""
    times: list[list[float]] = [[] for _ in sessions]
    for turn in range(WARM_UP + REPEATS):
        for session, own in zip(sessions, times, strict=True):
            began = time.perf_counter()
            session.run(image)
            if turn >= WARM_UP:
                own.append(time.perf_counter() - began)
    return [float(np.median(own)) for own in times]


def answer(folder: Path, request: Mapping[str, Any]) -> dict[str, Array]:
    runtime, suffix = RuntimeName(request["runtime"]), request["suffix"]
    normalize = decoded(Preprocessing, request["preprocessing"]).normalize
    source = Path(request["network"])
    network = read_network(source, runtime)
    calibration = normalize(np.load(folder / CALIBRATION))
    held_out = np.load(folder / HELD_OUT, mmap_mode="r")
    plain = folder / f"float{suffix}"
    write_network(network, plain, runtime)
    sessions = [open_network(plain, runtime)]
    answers: dict[str, Array] = {}
    products = [Product(*one) for one in request["products"]]
    for number, places in enumerate(request["candidates"]):
        kept = [products[place] for place in places]
        made = quantized(read_network(source, runtime), calibration, kept, request["overflow_fix"], runtime)
        path = folder / f"candidate-{number}{suffix}"
        write_network(made, path, runtime)
        session = open_network(path, runtime, Precision(request["precision"]))
        sessions.append(session)
        batches = (normalize(held_out[i : i + BATCH]) for i in range(0, len(held_out), BATCH))
        answers[f"answered {number}"] = np.concatenate([session.run(batch)[LOGITS].argmax(1) for batch in batches])
        if number == 0:
            some = calibration[:NUM_ERRORS]
            onnx = runtime is RuntimeName.ONNX
            nodes = [product.node for product in products] if onnx else openvino_names(products, network)
            exact = node_outputs(network, nodes, some, runtime, folder / f"watched{suffix}")
            rounded = node_outputs(made, nodes, some, runtime, folder / f"watched{suffix}")
            answers["errors"] = np.array(relative_errors(exact, rounded))
    answers["latencies"] = np.array(latencies(sessions, calibration[:1]))
    return answers


def main() -> None:
    # Read when NNCF is loaded.
    os.environ["NNCF_CI"] = "1"
    folder = Path(sys.argv[1])
    request = json.loads((folder / REQUEST).read_text("utf-8"))
    np.savez(folder / ANSWERS, allow_pickle=False, **answer(folder, request))


if __name__ == "__main__":
    main()
