"""The graph of a network: its layers as they run, and which reads which.

A network runs once on an empty batch, in a copy without memory for weights. Every module without children is a layer;
outside layers, what reads several tensors (a sum, a concatenation) or pools is a layer too, and activations belong to
the layer before them.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from convatlas.errors import UserError
from convatlas.measure.table import empty_batch, kind, num_macs, num_params, on_cpu
from convatlas.measure.trace import ShapeOnlyConvolutions
from convatlas.spec import Spec

aten = torch.ops.aten

ACTIVATIONS = {
    aten.relu: "ReLU",
    aten.hardtanh: "ReLU6",
    aten.silu: "SiLU",
    aten.sigmoid: "sigmoid",
    aten.tanh: "tanh",
}
ACTIVATION_MODULES = "torch.nn.modules.activation"
"""Where PyTorch has their classes."""
POOLINGS = {
    aten.max_pool2d_with_indices: "MaxPool2d",
    aten.avg_pool2d: "AvgPool2d",
    aten._adaptive_avg_pool2d: "AdaptiveAvgPool2d",
    aten.mean: "AdaptiveAvgPool2d",
}
POOLING_NAMES = {aten.max_pool2d_with_indices: "max_pool2d", aten._adaptive_avg_pool2d: "adaptive_avg_pool2d"}
"""As `torch.nn.functional` calls them, where that is another name."""
WINDOWS = (aten.max_pool2d_with_indices, aten.avg_pool2d)
"""Of these, those with a window of a fixed size."""
PRODUCTS = {aten.convolution: "Conv2d", aten.addmm: "Linear", aten.mm: "Linear"}
"""Outside modules, as of `torch.nn.functional`."""
PARAMETRIZATIONS = "parametrizations"
"""What `torch.nn.utils.parametrize` calls the module in which it keeps its own."""
JOINS = {"add": "add", "cat": "concat", "mul": "multiply"}


@dataclass(frozen=True, kw_only=True)
class GraphLayer:
    """A layer that runs, for one image: a module, or an operation between modules."""

    name: str
    """As PyTorch names the module, "stages.0.1.conv2"; of an operation, the module around it and what it does."""
    kind: str
    """The name of the module's class, as "Conv2d"; of what joins branches "add", "concat" or "multiply"."""
    output_shape: tuple[int, ...]
    """(channels, height, width) or (features,)."""
    input_shape: tuple[int, ...] = ()
    """Of what joins branches, none."""
    kernel: int = 0
    """Side of the window in pixels; 0: it has none."""
    stride: int = 1
    groups: int = 1
    """Parts of the channels that do not read each other."""
    activation: str = ""
    """What follows it, as "ReLU"."""
    params: int = 0
    macs: int = 0

    @property
    def is_join(self) -> bool:
        """Whether it joins branches."""
        return not self.input_shape

    @property
    def is_depthwise(self) -> bool:
        """Whether it is a convolution of each channel by itself."""
        return self.kind == "Conv2d" and 1 < self.groups == self.input_shape[0]

    @property
    def is_pooling(self) -> bool:
        """Whether it makes maps smaller, or looks at a window, without a sum over channels."""
        return "Pool" in self.kind or (
            not self.macs
            and len(self.input_shape) == 3 == len(self.output_shape)
            and self.output_shape[1] < self.input_shape[1]
        )


@dataclass(frozen=True)
class NetworkGraph:
    """The layers of a network in order of execution; all lie on paths from the input to the output."""

    input_shape: tuple[int, ...]
    layers: tuple[GraphLayer, ...]
    sources: tuple[tuple[int, ...], ...]
    """For each layer the places of those that it reads; -1 is the input."""
    classes: Mapping[str, str]
    """The class of each module by its name, as {"stages.0.1": "ResidualUnit"}; without lists of modules."""

    @property
    def depth(self) -> int:
        """The most layers with multiplications on one path."""
        depths = {-1: 0}
        for i, (layer, sources) in enumerate(zip(self.layers, self.sources, strict=True)):
            depths[i] = max(depths[source] for source in sources) + (layer.macs > 0)
        return max(depths.values())


@torch.inference_mode(False)
def graph_of(network: nn.Module) -> NetworkGraph:
    """The graph of a network, from the modules that it has and the operations that run.

    Args:
        network: on any device; it is neither run nor changed.

    Raises:
        UserError: it has no spec that says the size of its images.
    """
    spec = getattr(network, "spec", None)
    if not isinstance(spec, Spec):
        raise UserError(f"a {type(network).__name__} has no spec that says the size of its images")
    module, images = without_weights(network).eval(), empty_batch(spec)
    recorder = GraphRecorder(images)
    for name, part in module.named_modules():
        if part is module or isinstance(part, nn.Identity) or PARAMETRIZATIONS in name.split("."):
            continue
        part.register_forward_pre_hook(recorder.enter(name))
        part.register_forward_hook(recorder.leave(name))
    with torch.no_grad(), on_cpu(), recorder:
        outputs = module(images)
    classes = {
        name: type(part).__name__
        for name, part in module.named_modules()
        if not isinstance(part, nn.ModuleList | nn.ModuleDict)
    }
    return recorder.graph(outputs, classes)


def without_weights(network: nn.Module) -> nn.Module:
    """A copy on the CPU without hooks, whose weights have shapes but take no memory."""
    zero = torch.zeros((), device="cpu")
    stand_ins: dict[int, Any] = {}
    for part in network.modules():
        for parameter in part._parameters.values():
            if parameter is not None:
                view = zero.to(parameter.dtype).expand(parameter.shape)
                stand_ins[id(parameter)] = nn.Parameter(view, requires_grad=parameter.requires_grad)
        for buffer in part._buffers.values():
            # Indices, as of connection tables, must be right for a layer to run.
            if buffer is not None:
                whole = not buffer.is_floating_point() and buffer.dim()
                stand_ins[id(buffer)] = buffer.cpu() if whole else zero.to(buffer.dtype).expand(buffer.shape)
    module: nn.Module = copy.deepcopy(network, stand_ins)
    for part in module.modules():
        part._forward_hooks.clear()
        part._forward_pre_hooks.clear()
    return module


class GraphRecorder(ShapeOnlyConvolutions):
    """While active, notes the layers that run and what they read."""

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.input_shape = tuple(images.shape[1:])
        self.layers: list[GraphLayer] = []
        self.sources: list[tuple[int, ...]] = []
        self.makers = {id(images): -1}
        # Alive, so that ids stay unique.
        self.tensors = [images]
        self.open: list[str] = []
        self.operations = Counter[str]()
        self.in_layer = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = super().__torch_dispatch__(func, types, args, kwargs)
        if not self.in_layer:
            self.note_operation(func.overloadpacket, args, output)
        return output

    def enter(self, name: str) -> Any:
        def before(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
            self.open.append(name)
            self.in_layer = is_layer(layer)

        return before

    def leave(self, name: str) -> Any:
        def after(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            self.open.pop()
            if not is_layer(layer):
                return
            self.in_layer = False
            sources = self.sources_of(inputs)
            if not isinstance(output, Tensor) or id(output) in self.makers or not sources:
                return
            if type(layer).__module__ == ACTIVATION_MODULES and not layer._parameters:
                self.pass_on(sources[0], output, type(layer).__name__)
            else:
                self.note(module_layer(name, layer, inputs[0], output), sources, output)

        return after

    def sources_of(self, values: Sequence[Any]) -> tuple[int, ...]:
        flat = (part for value in values for part in (value if isinstance(value, list | tuple) else (value,)))
        return tuple(self.makers[id(part)] for part in flat if isinstance(part, Tensor) and id(part) in self.makers)

    def note(self, layer: GraphLayer, sources: tuple[int, ...], output: Tensor) -> None:
        self.makers[id(output)] = len(self.layers)
        self.tensors.append(output)
        self.layers.append(layer)
        self.sources.append(sources)

    def note_operation(self, op: Any, args: tuple[Any, ...], output: Any) -> None:
        first = output[0] if isinstance(output, list | tuple) and output else output
        sources = self.sources_of(args)
        if not sources or not isinstance(first, Tensor):
            return
        what = op.__name__.rstrip("_")
        if len(set(sources)) > 1:
            joined = JOINS.get(what, what)
            self.note(self.operation(joined, joined, first), sources, first)
        elif op in POOLINGS and args[0].dim() == 4:
            self.note(
                pooling(self.operation(POOLINGS[op], POOLING_NAMES.get(op, what), first), op, args), sources, first
            )
        elif op in PRODUCTS:
            self.note(product(self.operation(PRODUCTS[op], what, first), op, args), sources, first)
        else:
            for part in output if isinstance(output, list | tuple) else (output,):
                self.pass_on(sources[0], part, ACTIVATIONS.get(op, ""))

    def pass_on(self, maker: int, output: Tensor, activation: str) -> None:
        """A tensor that counts as another's layer made it, with the activation if it has none yet."""
        if activation and maker >= 0 and not self.layers[maker].activation:
            self.layers[maker] = replace(self.layers[maker], activation=activation)
        # What changes a tensor in place leaves its maker as it is.
        self.makers.setdefault(id(output), maker)
        self.tensors.append(output)

    def operation(self, kind: str, what: str, output: Tensor) -> GraphLayer:
        stem = ".".join((*self.open[-1:], what))
        self.operations[stem] += 1
        name = stem if self.operations[stem] == 1 else f"{stem}#{self.operations[stem]}"
        return GraphLayer(name=name, kind=kind, output_shape=tuple(output.shape[1:]))

    def graph(self, outputs: Any, classes: Mapping[str, str]) -> NetworkGraph:
        """What was noted, without layers that the output, the first of several, does not depend on."""
        last = self.makers[id(outputs[0] if isinstance(outputs, tuple) else outputs)]
        needed = {last}
        for i in range(last, -1, -1):
            if i in needed:
                needed.update(self.sources[i])
        places = {old: new for new, old in enumerate(sorted(needed - {-1}))} | {-1: -1}
        kept = [i for i in places if i >= 0]
        return NetworkGraph(
            self.input_shape,
            tuple(self.layers[i] for i in kept),
            tuple(tuple(places[source] for source in self.sources[i]) for i in kept),
            classes,
        )


def pooling(layer: GraphLayer, op: Any, args: tuple[Any, ...]) -> GraphLayer:
    """A layer with the window of a pooling operation; one over all positions has none."""
    kernel = args[1][-1] if op in WINDOWS else 0
    stride = (args[2][-1] if len(args) > 2 and args[2] else kernel) if op in WINDOWS else 1
    return replace(layer, kernel=kernel, stride=stride, input_shape=tuple(args[0].shape[1:]))


def product(layer: GraphLayer, op: Any, args: tuple[Any, ...]) -> GraphLayer:
    """A layer with the sizes of a convolution or of a product of matrices."""
    x, weight = args[1:3] if op is aten.addmm else args[:2]
    kernel, stride, groups = (weight.shape[-1], args[3][-1], args[8]) if op is aten.convolution else (0, 1, 1)
    return replace(
        layer,
        kernel=kernel,
        stride=stride,
        groups=groups,
        input_shape=tuple(x.shape[1:]),
        macs=weight.numel() * math.prod(layer.output_shape[1:]),
    )


def is_layer(module: nn.Module) -> bool:
    """Whether it has no modules in it, but for what makes its weights from others."""
    return set(module._modules) <= {PARAMETRIZATIONS}


def module_layer(name: str, layer: nn.Module, inputs: Tensor, output: Tensor) -> GraphLayer:
    weight = getattr(layer, "weight", None)
    # Weights that are made from others when they are read.
    made = [part for part, _ in layer.get_submodule(PARAMETRIZATIONS).named_children()] if layer._modules else []
    kernel = getattr(layer, "kernel_size", weight.shape[-1] if weight is not None and weight.dim() > 2 else 0)
    return GraphLayer(
        name=name,
        kind=kind(layer),
        output_shape=tuple(output.shape[1:]),
        input_shape=tuple(inputs.shape[1:]),
        kernel=last_of(kernel),
        stride=last_of(getattr(layer, "stride", 1)),
        groups=getattr(layer, "groups", 1),
        params=num_params(layer) + sum(getattr(layer, name).numel() for name in made),
        macs=num_macs(layer, output),
    )


def last_of(size: Any) -> int:
    """The width of a window that PyTorch has as a number or as (height, width)."""
    return int(size[-1] if isinstance(size, tuple | list) else size)
