"""What a forward pass of no images tells: the shapes of a real one, every operation, and no copy of a weight."""

from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from convatlas.measure.trace import ShapeOnlyConvolutions, Trace, UncompiledMode

aten = torch.ops.aten
pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@settings(max_examples=100)
@given(
    groups=st.integers(1, 3),
    channels=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    kernel=pairs,
    stride=pairs,
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    dilation=pairs,
    sides=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    bias=st.booleans(),
)
def test_a_convolution_of_no_images_has_the_shape_of_a_real_one(
    groups: int,
    channels: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    sides: tuple[int, int],
    bias: bool,
) -> None:
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    assume(all(span <= side + 2 * pad for span, side, pad in zip(spans, sides, padding, strict=True)))
    num_in, num_out = (groups * n for n in channels)
    conv = nn.Conv2d(num_in, num_out, kernel, stride, padding, dilation, groups=groups, bias=bias)
    with torch.no_grad():
        real = conv(torch.zeros(1, num_in, *sides))
        with ShapeOnlyConvolutions():
            empty = conv(torch.zeros(0, num_in, *sides))
    assert empty.shape == (0, *real.shape[1:])
    assert (empty.dtype, empty.device) == (real.dtype, real.device)


class Most(UncompiledMode):
    """While active, notes the bytes of the largest tensor that an operation returns."""

    num_bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if isinstance(output, Tensor):
            self.num_bytes = max(self.num_bytes, output.untyped_storage().nbytes())
        return output


@pytest.mark.parametrize("mode", [ShapeOnlyConvolutions, Trace])
def test_a_convolution_of_no_images_copies_no_weight(mode: type[ShapeOnlyConvolutions]) -> None:
    # One zero seen from 64 x 64 x 3 x 3 places.
    conv = nn.Conv2d(64, 64, 3)
    conv.weight = nn.Parameter(torch.zeros(()).expand(64, 64, 3, 3))
    with torch.no_grad(), Most() as most, mode():
        conv(torch.empty(0, 64, 8, 8))
    assert most.num_bytes < 64


def test_everything_but_convolutions_is_computed_as_ever() -> None:
    numbers = torch.arange(6.0).view(2, 3)
    with ShapeOnlyConvolutions():
        product = numbers @ numbers.T
    assert product.tolist() == [[5, 14], [14, 50]]
    with Trace():
        product = numbers @ numbers.T
    assert product.tolist() == [[5, 14], [14, 50]]


def test_every_operation_is_noted_in_order_with_what_it_reads_and_makes() -> None:
    conv, images = nn.Conv2d(3, 4, 3), torch.empty(0, 3, 8, 8)
    with torch.no_grad(), Trace() as trace:
        convolved = conv(images)
        rectified = convolved.relu()
        both = torch.cat([convolved, rectified], 1)
        left, right = both.chunk(2, 1)
        pooled = nn.functional.max_pool2d(left, 2)
    ops = [operation.op for operation in trace.operations]
    assert [op for op in ops if op is not aten.slice] == [
        aten.convolution, aten.relu, aten.cat, aten.split, aten.max_pool2d_with_indices
    ]  # fmt: skip
    convolution, relu, cat, *_, pool = trace.operations
    assert [id(tensor) for tensor in convolution.inputs] == [id(images), id(conv.weight), id(conv.bias)]
    assert convolution.args[3:6] == ([1, 1], [0, 0], [1, 1])
    assert [[id(x) for x in operation.outputs] for operation in (convolution, relu, cat)] == [
        [id(convolved)], [id(rectified)], [id(both)]
    ]  # fmt: skip
    # Tensors in lists are read as well, and an operation may make several.
    assert [id(tensor) for tensor in cat.inputs] == [id(convolved), id(rectified)]
    assert {id(left), id(right)} <= {id(tensor) for operation in trace.operations for tensor in operation.outputs}
    assert id(pooled) == id(pool.outputs[0])
    assert len(pool.outputs) == 2


def test_every_tensor_can_be_told_by_its_id() -> None:
    x = torch.empty(0, 2, 4, 4)
    with torch.no_grad(), Trace() as trace:
        for _ in range(200):
            x = x.relu()
    made = [id(tensor) for operation in trace.operations for tensor in operation.outputs]
    assert len(set(made)) == len(made) == 200


def test_nothing_is_noted_before_and_after() -> None:
    x = torch.empty(0, 2, 4, 4)
    x.relu()
    with Trace() as trace:
        x.tanh()
    x.relu()
    assert [operation.op for operation in trace.operations] == [aten.tanh]
