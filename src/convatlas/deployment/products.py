"""The layers of an exported network that multiply, by the names that they have here and in its file."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

SCOPES = "pkg.torch.onnx.name_scopes"
"""Where PyTorch's export notes the modules around an operation."""
OPERATIONS = {"Conv", "Gemm", "MatMul"}


class Product(NamedTuple):
    node: str
    """In the file."""
    output: str
    """The tensor that it gives."""
    layer: str
    """As `convatlas show` lists it."""
    is_depthwise: bool
    is_pooled: bool
    """Whether it reads one value a channel, as in squeeze-and-excitation."""


def products_of(path: Path, network: str) -> list[Product]:
    """The products of an ONNX file, in order of execution.

    Args:
        network: the name of the network's module in the one that was exported.
    """
    import onnx

    graph = onnx.load(path).graph
    shapes = {value.name: dims(value) for value in (*graph.value_info, *graph.output)}
    return [
        Product(
            node.name,
            node.output[0],
            layer_of(node, network),
            node.op_type == "Conv" and group_of(node) > 1 and group_of(node) == shapes.get(node.output[0], [0, 0])[1],
            node.op_type == "Conv" and shapes.get(node.output[0], [])[2:] == [1, 1],
        )
        for node in graph.node
        if node.op_type in OPERATIONS
    ]


def openvino_names(products: Sequence[Product], network: Any) -> list[str]:
    """What products are called in a network that OpenVINO read: with a bias each becomes two operations, of which the
    sum gets the node's name, and what gives an output of the network has the output's name."""
    known = {op.get_friendly_name() for op in network.get_ops()}
    return [
        next(name for name in (f"{one.node}/WithoutBiases", one.node, one.output) if name in known) for one in products
    ]


def dims(value: Any) -> list[int]:
    return [dim.dim_value for dim in value.type.tensor_type.shape.dim]


def group_of(node: Any) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)


def layer_of(node: Any, network: str) -> str:
    scopes: list[str] = next((ast.literal_eval(one.value) for one in node.metadata_props if one.key == SCOPES), [])
    # The last scope is the operation itself.
    modules = [scope.removeprefix(f"{network}.") for scope in scopes[:-1] if scope.startswith(f"{network}.")]
    return modules[-1] if modules else node.name
