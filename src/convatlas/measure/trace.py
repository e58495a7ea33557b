"""Every operation of a forward pass, with its tensors."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class Operation(NamedTuple):
    op: Any
    """As `torch.ops.aten.convolution`."""
    args: tuple[Any, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


class UncompiledMode(TorchDispatchMode):
    """A dispatch mode that does not make PyTorch load its compiler, which takes over a second."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False


class ShapeOnlyConvolutions(UncompiledMode):
    """While active, a convolution of an empty batch only gives its output's shape: PyTorch would copy the weights."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func.overloadpacket is torch.ops.aten.convolution:
            return _empty_convolution(*args)
        return func(*args, **(kwargs or {}))


class Trace(ShapeOnlyConvolutions):
    """While active, records every operation. It keeps the tensors alive, so that their `id`s stay unique."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Operation] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = super().__torch_dispatch__(func, types, args, kwargs)
        self.operations.append(Operation(func.overloadpacket, args, _tensors(args), _tensors((output,))))
        return output


def _empty_convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: list[int], padding: list[int], dilation: list[int], *_: Any
) -> Tensor:
    sizes = zip(x.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True)
    sides = [(side + 2 * pad - spread * (kernel - 1) - 1) // step + 1 for side, kernel, step, pad, spread in sizes]
    return x.new_empty(len(x), len(weight), *sides)


def _tensors(values: tuple[Any, ...]) -> tuple[Tensor, ...]:
    flat = (part for value in values for part in (value if isinstance(value, list | tuple) else (value,)))
    return tuple(part for part in flat if isinstance(part, Tensor))
