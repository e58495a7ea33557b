"""What a runtime opens, and what it is not given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from convatlas.deployment.manifest import RuntimeName
from convatlas.deployment.runtimes import open_network
from convatlas.errors import UserError

openvino = pytest.importorskip("openvino", reason="OpenVINO is not installed")


def doubling() -> Any:
    from openvino import opset13 as ops

    value = ops.parameter([1], np.float32)
    return openvino.Model([ops.result(ops.add(value, value))], [value])


def doubling_images() -> Any:
    """For batches of any size."""
    from openvino import opset13 as ops

    images = ops.parameter([-1, 1, 2, 2], np.float32)
    return openvino.Model([ops.result(ops.add(images, images))], [images])


def endless() -> Any:
    """A loop with no end."""
    from openvino import opset13 as ops

    value, goes_on = ops.parameter([1], np.float32), ops.constant(True)
    loop = ops.loop(ops.constant(-1), goes_on)
    inner = ops.parameter([1], np.float32)
    doubled, again = ops.result(ops.add(inner, inner)), ops.result(ops.constant(True))
    body = openvino.Model([doubled, again], [inner])
    loop.set_function(body)
    loop.set_special_body_ports([-1, 1])
    loop.set_merged_input(inner, value.output(0), doubled.output(0))
    return openvino.Model([ops.result(loop.get_iter_value(doubled.output(0), -1))], [value])


def branching() -> Any:
    from openvino import opset13 as ops

    value, condition = ops.parameter([1], np.float32), ops.parameter([], np.bool_)
    chosen = ops.if_op(condition.output(0))
    inner = [ops.parameter([1], np.float32) for _ in range(2)]
    results = [ops.result(ops.add(one, one)) for one in inner]
    chosen.set_then_body(openvino.Model([results[0]], [inner[0]]))
    chosen.set_else_body(openvino.Model([results[1]], [inner[1]]))
    chosen.set_input(value.output(0), *inner)
    return openvino.Model([ops.result(chosen.set_output(*results))], [value, condition])


def saved(model: Any, folder: Path) -> Path:
    openvino.save_model(model, folder / "model.xml")
    return folder / "model.xml"


def test_a_graph_is_opened(tmp_path: Path) -> None:
    (answer,) = open_network(saved(doubling(), tmp_path), RuntimeName.OPENVINO).run(np.ones(1, np.float32)).values()
    assert answer.tolist() == [2.0]


def test_batches_of_any_size_are_answered_in_any_order(tmp_path: Path) -> None:
    session = open_network(saved(doubling_images(), tmp_path), RuntimeName.OPENVINO)
    for size in (1, 3, 1, 8, 2):
        images = np.random.default_rng(size).random((size, 1, 2, 2), np.float32)
        (answer,) = session.run(images).values()
        np.testing.assert_array_equal(answer, 2 * images)


def test_onnx_under_another_name_is_not_given_to_openvino(tmp_path: Path) -> None:
    # It would read the weights from any file that is named in there.
    weight = helper.make_tensor("weight", TensorProto.FLOAT, [1], [3.0])
    weight.ClearField("float_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in {"location": "weights.bin", "offset": "0", "length": "4"}.items():
        entry = weight.external_data.add()
        entry.key, entry.value = key, value
    (tmp_path / "weights.bin").write_bytes(np.float32(3).tobytes())
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("images", "logits")]
    product = helper.make_node("Mul", ["images", "weight"], ["logits"])
    graph = helper.make_graph([product], "graph", values[:1], values[1:], [weight])
    path = tmp_path / "model.xml"
    path.write_bytes(helper.make_model(graph).SerializeToString())
    assert openvino.Core().read_model(path).inputs
    with pytest.raises(UserError, match=r"model\.xml is no network in OpenVINO's own form, which is XML; export the"):
        open_network(path, RuntimeName.OPENVINO)


@pytest.mark.parametrize("made", [endless, branching])
def test_one_with_graphs_in_it_is_refused(made: Callable[[], Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has graphs in its graph"):
        open_network(saved(made(), tmp_path), RuntimeName.OPENVINO)
