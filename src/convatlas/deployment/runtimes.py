"""Runtimes: a network's file opened in ONNX Runtime or OpenVINO. Nothing here loads torch."""

from __future__ import annotations

import importlib
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from convatlas.deployment.external_data import HAS_GRAPHS, check_is_ir, check_self_contained, unlike_artefacts
from convatlas.deployment.manifest import Precision, RuntimeName, is_installed
from convatlas.errors import UserError
from convatlas.images.parallel import available_cores

Array = npt.NDArray[Any]

MAX_SAID = 200
"""Characters of what a runtime says."""
INT8_OPS = {"QLinearConv", "QLinearMatMul", "QGemm", "ConvInteger", "MatMulInteger"}
"""What ONNX Runtime makes of products between rounded values."""
FLOAT_OPS = {"Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul"}
"""And of others."""
OPENVINO_PRECISIONS = {
    "f32": Precision.FLOAT32.value, "bf16": Precision.BFLOAT16.value, "u8": Precision.INT8.value,
    "i8": Precision.INT8.value,
}  # fmt: skip
"""Ours, by OpenVINO's names."""
INNER_GRAPHS = {"If", "Loop", "TensorIterator"}
"""OpenVINO's operations that repeat a graph, as often as they like, or choose one of two."""


class Session(Protocol):
    """A network that a runtime has loaded."""

    names: list[str]
    """Of its outputs."""

    def run(self, values: Array) -> Mapping[str, Array]:
        """The outputs by their names, of its one input."""
        ...

    def products(self) -> dict[str, int]:
        """How many products are computed in which precision, as the runtime tells it."""
        ...


def executed(products: Mapping[str, int]) -> str:
    """What products are computed in: the lowest value of `Precision` that is among them, or what else the runtime
    says."""
    if {Precision.INT8, Precision.BFLOAT16} <= products.keys():
        return Precision.MIXED
    for lower in (Precision.INT8, Precision.BFLOAT16):
        if lower in products:
            return lower
    return " and ".join(sorted(set(products) - {Precision.FLOAT32})) or Precision.FLOAT32


def open_network(
    path: Path, runtime: RuntimeName, precision: Precision = Precision.FLOAT32, *, threads: int | None = None
) -> Session:
    """Load a network's file.

    Args:
        threads: of each computation; None: one for each core.

    Raises:
        UserError: the runtime is not installed, or cannot load the file.
    """
    if runtime is RuntimeName.ONNX:
        return OnnxSession(path, threads)
    return OpenVinoSession(path, precision, threads)


class OnnxSession:
    def __init__(self, path: Path, threads: int | None) -> None:
        ort = runtime_module(RuntimeName.ONNX)
        check_self_contained(path)
        self._path, self._ort = path, ort
        # Errors become exceptions; warnings about the graph are nobody's business here.
        ort.set_default_logger_severity(4)
        self._session = self._open(threads)
        with refusing(path, RuntimeName.ONNX):
            (self._input,) = (value.name for value in self._session.get_inputs())
            self.names = [value.name for value in self._session.get_outputs()]

    def _open(self, threads: int | None, optimized: Path | None = None) -> Any:
        options = self._ort.SessionOptions()
        options.intra_op_num_threads = threads or available_cores()
        options.inter_op_num_threads = 1
        if optimized is not None:
            options.optimized_model_filepath = str(optimized)
        with refusing(self._path, RuntimeName.ONNX):
            return self._ort.InferenceSession(str(self._path), options, providers=["CPUExecutionProvider"])

    def run(self, values: Array) -> Mapping[str, Array]:
        with refusing(self._path, RuntimeName.ONNX):
            return dict(zip(self.names, self._session.run(None, {self._input: values}), strict=True))

    def products(self) -> dict[str, int]:
        import onnx

        # The graph as it runs: after the runtime fused quantization into the layers, or did not.
        with tempfile.TemporaryDirectory() as folder:
            optimized = Path(folder) / "optimized.onnx"
            self._open(1, optimized)
            graph = onnx.load(str(optimized)).graph
        kinds = [node.op_type for node in graph.node]
        return dict(
            Counter(
                Precision.INT8.value if kind in INT8_OPS else Precision.FLOAT32.value
                for kind in kinds
                if kind in INT8_OPS | FLOAT_OPS
            )
        )


class OpenVinoSession:
    """A network in OpenVINO, compiled for single images and, where there are others, for batches of any size: it fuses
    more where it knows all shapes."""

    def __init__(self, path: Path, precision: Precision, threads: int | None) -> None:
        openvino = runtime_module(RuntimeName.OPENVINO)
        self._settings = {
            # By default some processors compute in bfloat16.
            "INFERENCE_PRECISION_HINT": "bf16" if precision.of_floats is Precision.BFLOAT16 else "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads or available_cores(),
        }
        self._path = path
        check_is_ir(path)
        with refusing(path, RuntimeName.OPENVINO):
            self._core = openvino.Core()
            self._graph = self._core.read_model(str(path))
        # Before it is compiled, which computes what it can.
        if any(op.get_type_name() in INNER_GRAPHS for op in self._graph.get_ops()):
            raise unlike_artefacts(path, HAS_GRAPHS)
        with refusing(path, RuntimeName.OPENVINO):
            graph = self._graph
            shape = graph.input().partial_shape
            self._takes_batches = [dim.is_dynamic for dim in shape] == [True, False, False, False]
            if self._takes_batches:
                shape[0] = 1
                graph = graph.clone()
                graph.reshape(shape)
            self._model = self._core.compile_model(graph, "CPU", self._settings)
            self.names = [output.any_name for output in self._model.outputs]
            self._request = self._model.create_infer_request()

    @cached_property
    def _batches(self) -> Any:
        """The request for several images."""
        return self._core.compile_model(self._graph, "CPU", self._settings).create_infer_request()

    def run(self, values: Array) -> Mapping[str, Array]:
        with refusing(self._path, RuntimeName.OPENVINO):
            request = self._batches if self._takes_batches and len(values) != 1 else self._request
            results = request.infer([values], share_inputs=True)
            return {name: np.array(results[i]) for i, name in enumerate(self.names)}

    def products(self) -> dict[str, int]:
        ran = [layer_precision(op) for op in self._model.get_runtime_model().get_ops() if is_product(op)]
        return dict(Counter(OPENVINO_PRECISIONS.get(one, one) for one in ran))


def is_product(op: Any) -> bool:
    """Whether a layer of OpenVINO's runtime model multiplies by weights."""
    return str(op.get_rt_info()["layerType"].astype(str)) in ("Convolution", "FullyConnected", "MatMul")


def layer_precision(op: Any) -> str:
    return str(op.get_rt_info()["runtimePrecision"].astype(str)).lower()


def runtime_module(runtime: RuntimeName) -> Any:
    """The runtime's package.

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module(runtime.package)
    except ImportError as error:
        raise UserError(f"this needs {runtime.package}: pip install 'convatlas[{runtime}]'") from error


def check_packages(runtime: RuntimeName, precision: Precision = Precision.FLOAT32) -> None:
    """
    Raises:
        UserError: a package is not installed that it takes to write a network for a runtime.
    """
    runtime_module(runtime)
    quantizers = ["nncf"] if runtime is RuntimeName.OPENVINO and precision.has_int8 else []
    for package in ("onnx", "onnxscript", *quantizers):
        if not is_installed(package):
            raise UserError(f"this needs {package}: pip install 'convatlas[{runtime}]'")


@contextmanager
def refusing(path: Path, runtime: RuntimeName) -> Iterator[None]:
    """While active, whatever a runtime says of a network's file is one line.

    Raises:
        UserError: in place of the runtimes' own exceptions, which have no common base.
    """
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"{runtime.label} cannot use {path}: {said[0][:MAX_SAID]}") from error
