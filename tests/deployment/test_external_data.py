"""ONNX files that would have a runtime read other files, or compute without end."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from convatlas.deployment.external_data import check_self_contained
from convatlas.deployment.manifest import RuntimeName
from convatlas.deployment.runtimes import open_network
from convatlas.errors import UserError


def tensor(where: str | None) -> TensorProto:
    made = numpy_helper.from_array(np.ones(4, np.float32), "weight")
    if where is not None:
        made.ClearField("raw_data")
        made.data_location = TensorProto.EXTERNAL
        entry = made.external_data.add()
        entry.key, entry.value = "location", where
    return made


def graph(weight: TensorProto, inner: bool = False) -> onnx.GraphProto:
    node = helper.make_node("Constant", [], ["y"], value=weight)
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])]
    if inner:
        branch = helper.make_graph([node], "branch", [], outputs)
        condition = numpy_helper.from_array(np.array(True), "condition")
        node = helper.make_node("If", ["condition"], ["y"], then_branch=branch, else_branch=branch)
        return helper.make_graph([node], "graph", [], outputs, [condition])
    return helper.make_graph([node], "graph", [], outputs, [weight])


def saved(path: Path, made: onnx.GraphProto) -> Path:
    path.write_bytes(helper.make_model(made).SerializeToString())
    return path


@pytest.mark.parametrize("where", ["weights.bin", "../weights.bin", "/etc/passwd"])
def test_weights_in_other_files_are_refused(where: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "model.onnx", graph(tensor(where)))
    with pytest.raises(UserError, match="reads weights from other files"):
        check_self_contained(path)


def in_training(made: onnx.ModelProto, outside: TensorProto) -> None:
    made.training_info.add().algorithm.initializer.add().CopyFrom(outside)


def in_sparse_values(made: onnx.ModelProto, outside: TensorProto) -> None:
    made.graph.sparse_initializer.add().values.CopyFrom(outside)


@pytest.mark.parametrize("put", [in_training, in_sparse_values])
def test_they_are_refused_wherever_they_stand(
    put: Callable[[onnx.ModelProto, TensorProto], None], tmp_path: Path
) -> None:
    for where in (None, "weights.bin"):
        made = helper.make_model(graph(tensor(None)))
        put(made, tensor(where))
        path = tmp_path / "model.onnx"
        path.write_bytes(made.SerializeToString())
        if where is None:
            check_self_contained(path)
            continue
        with pytest.raises(UserError, match="reads weights from other files"):
            check_self_contained(path)


def test_weights_in_the_file_are_not(tmp_path: Path) -> None:
    check_self_contained(saved(tmp_path / "model.onnx", graph(tensor(None))))


def test_a_graph_in_a_graph_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has graphs in its graph, as no artefact does"):
        check_self_contained(saved(tmp_path / "model.onnx", graph(tensor(None), inner=True)))


def in_function_node(made: onnx.ModelProto, outside: TensorProto) -> None:
    made.functions.add().node.add().attribute.add().t.CopyFrom(outside)


def in_functions_default(made: onnx.ModelProto, outside: TensorProto) -> None:
    made.functions.add().attribute_proto.add().t.CopyFrom(outside)


@pytest.mark.parametrize("where", [None, "weights.bin"])
@pytest.mark.parametrize("put", [in_function_node, in_functions_default])
def test_a_function_is_refused_whatever_it_holds(
    put: Callable[[onnx.ModelProto, TensorProto], None], where: str | None, tmp_path: Path
) -> None:
    made = helper.make_model(graph(tensor(None)))
    put(made, tensor(where))
    path = tmp_path / "model.onnx"
    path.write_bytes(made.SerializeToString())
    with pytest.raises(UserError, match="has functions of its own, as no artefact does"):
        check_self_contained(path)


def twice_as_often(levels: int) -> onnx.ModelProto:
    """Each function calls the one before it twice: a runtime computes two to the power of the levels."""
    own, theirs = helper.make_opsetid("own", 1), helper.make_opsetid("", 17)
    functions = []
    for level in range(levels):
        inner, domain = (f"f{level - 1}", "own") if level else ("Identity", "")
        calls = [helper.make_node(inner, [given], [made], domain=domain) for given, made in ("ab", "bc")]
        functions.append(helper.make_function("own", f"f{level}", ["a"], ["c"], calls, [theirs, own]))
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("images", "logits")]
    call = helper.make_node(f"f{levels - 1}", ["images"], ["logits"], domain="own")
    return helper.make_model(
        helper.make_graph([call], "graph", values[:1], values[1:]),
        functions=functions, opset_imports=[theirs, own], ir_version=8,
    )  # fmt: skip


def test_functions_that_double_are_refused_before_a_runtime_unrolls_them(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(twice_as_often(6).SerializeToString())
    with pytest.raises(UserError, match="has functions of its own"):
        open_network(path, RuntimeName.ONNX)


@pytest.mark.parametrize("num", [200, pytest.param(100_000, marks=pytest.mark.fuzz)])
def test_mutated_files_are_read_or_refused(num: int, tmp_path: Path) -> None:
    whole = saved(tmp_path / "model.onnx", graph(tensor("weights.bin"), inner=True)).read_bytes()
    path = tmp_path / "mutated.onnx"
    for seed in range(num):
        draw = random.Random(seed)
        content = bytearray(whole[: draw.randrange(1, len(whole) + 1)] if draw.random() < 0.3 else whole)
        for _ in range(draw.choice((1, 1, 3, 20))):
            content[draw.randrange(len(content))] = draw.randrange(256)
        path.write_bytes(content)
        with suppress(UserError):
            check_self_contained(path)


def test_an_empty_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.touch()
    with pytest.raises(UserError, match="is empty"):
        check_self_contained(path)
