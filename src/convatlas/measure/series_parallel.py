"""A network as what lies in series and what lies side by side: layers, branches that meet again, modules.

A layer through which every path leads cuts the network in two; between two cuts lie branches. After Duffin 1965,
"Topology of series-parallel networks", and by the order of execution: no edge may pass over a cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from torch import nn

from convatlas.errors import UserError
from convatlas.measure.graph import GraphLayer, NetworkGraph, graph_of

MAX_TOWERS = 4
"""Convolutions in more groups are one layer each, not towers."""


@dataclass(frozen=True)
class Parallel:
    """Branches that read the same, and the layer that joins them."""

    branches: tuple[tuple[Part, ...], ...]
    """Each in series; an empty one passes on what it reads."""
    join: GraphLayer
    """Of kind "add", "concat", "multiply"; or "towers", where groups of channels lie side by side."""


@dataclass(frozen=True)
class Block:
    """A module and what lies in it, in series."""

    name: str
    """As PyTorch names the module, "stages.0.1"."""
    kind: str
    """The name of its class, as "ResidualUnit"."""
    parts: tuple[Part, ...]


Part = GraphLayer | Parallel | Block


@dataclass(frozen=True)
class Structure:
    """A network in series and in parallel."""

    kind: str
    """The name of its class."""
    input_shape: tuple[int, ...]
    parts: tuple[Part, ...]
    params: int
    """Trainable parameters of the layers that run, without those of layers that only training uses."""
    macs: int
    """Multiply-accumulates for one image."""
    depth: int
    """The most layers with multiplications on one path."""


def structure_of(network: nn.Module) -> Structure:
    """What lies in series and what side by side in a network, from the modules and operations that run.

    Raises:
        UserError: it has no spec, no layers, or layers that lie neither in series nor in parallel.
    """
    graph = graph_of(network)
    if not graph.layers:
        raise UserError(f"a {type(network).__name__} has no layer between its input and its output")
    last = len(graph.layers) - 1
    parts = towers(series(graph, -1, last, range(last)))
    return Structure(
        type(network).__name__,
        graph.input_shape,
        nested(parts, graph.classes, 0),
        sum(layer.params for layer in graph.layers),
        sum(layer.macs for layer in graph.layers),
        graph.depth,
    )


def layers_in(parts: Sequence[Part]) -> Iterator[GraphLayer]:
    """All layers of parts, those that join branches included, in order of execution; of towers, those of the first."""
    for part in parts:
        match part:
            case GraphLayer():
                yield part
            case Block():
                yield from layers_in(part.parts)
            case Parallel(branches, join):
                for branch in branches[:1] if join.kind == "towers" else branches:
                    yield from layers_in(branch)
                if join.kind != "towers":
                    yield join


def output_shape(parts: Sequence[Part]) -> tuple[int, ...]:
    """The shape after parts in series.

    Args:
        parts: one or more.
    """
    match parts[-1]:
        case Block() as block:
            return output_shape(block.parts)
        case Parallel(_, join):
            return join.output_shape
        case layer:
            return layer.output_shape


def series(graph: NetworkGraph, first: int, last: int, between: Sequence[int]) -> list[Part]:
    """What leads from the layer `first` to the layer `last`, which is the end of it.

    Args:
        between: the layers that lie between them, in order.
    """
    parts: list[Part] = []
    before, region = first, list[int]()
    order = [*between, last]
    # The place of the last layer that reads each.
    reach = {source: place for place, layer in enumerate(order) for source in graph.sources[layer]}
    farthest = reach[first]
    for place, layer in enumerate(order):
        if farthest > place:
            region.append(layer)
        else:
            parts.append(joined(graph, before, layer, region))
            before, region = layer, []
        farthest = max(farthest, reach.get(layer, place))
    return parts


def joined(graph: NetworkGraph, first: int, join: int, region: list[int]) -> Part:
    """The layer `join`, with the branches in `region` that lead to it from `first`."""
    layer, sources = graph.layers[join], graph.sources[join]
    if not region:
        return layer
    ends = [source for source in sources if source != first]
    branches: dict[int, list[int]] = {}
    for end in ends:
        branches[end] = reached_from(graph, end, first)
    if sum(map(len, branches.values())) != len(region) or len(branches) != len(ends):
        raise UserError(
            f"the layers before {layer.name} lie neither in series nor side by side; such a network cannot be drawn"
        )
    return Parallel(
        tuple(
            () if source == first else tuple(towers(series(graph, first, source, branches[source][:-1])))
            for source in sources
        ),
        layer,
    )


def reached_from(graph: NetworkGraph, end: int, first: int) -> list[int]:
    """The layers on paths from `first` to `end`, with `end`, in order."""
    found, left = {end}, [end]
    while left:
        for source in graph.sources[left.pop()]:
            if source != first and source not in found:
                found.add(source)
                left.append(source)
    return sorted(found)


def towers(parts: list[Part]) -> list[Part]:
    """Layers in series, where runs of layers that only read their own group of channels lie side by side."""
    result: list[Part] = []
    i = 0
    while i < len(parts):
        num, end = tower_run(parts, i)
        if num == 1:
            result.append(parts[i])
            i += 1
            continue
        run = [part for part in parts[i:end] if isinstance(part, GraphLayer)]
        last = run[-1]
        join = GraphLayer(name=last.name, kind="towers", output_shape=last.output_shape)
        result.append(Parallel((tuple(share(layer, num) for layer in run),) * num, join))
        i = end
    return result


def tower_run(parts: Sequence[Part], start: int) -> tuple[int, int]:
    """How many towers begin at a place, and where they end; one tower is none.

    The first layer may read all channels, if it is a convolution: its filters can be divided.
    """
    first = parts[start]
    if not isinstance(first, GraphLayer) or first.kind != "Conv2d" or first.is_depthwise:
        return 1, start
    num, end, grouped = first.groups, start + 1, first.groups > 1
    while end < len(parts):
        part = parts[end]
        if not isinstance(part, GraphLayer) or not (part.groups > 1 or is_channelwise(part)):
            break
        if part.groups > 1:
            if part.is_depthwise or num not in (1, part.groups):
                break
            num = part.groups
            grouped = grouped or part.kind == "Conv2d"
        end += 1
    return (num, end) if grouped and 1 < num <= MAX_TOWERS else (1, start)


def is_channelwise(layer: GraphLayer) -> bool:
    """Whether each of its channels depends on one of the input."""
    return "Pool" in layer.kind or layer.kind.startswith("BatchNorm")


def share(layer: GraphLayer, num: int) -> GraphLayer:
    """One tower's part of a layer."""
    channels, *sides = layer.output_shape
    read, *read_sides = layer.input_shape
    return replace(
        layer,
        output_shape=(channels // num, *sides),
        input_shape=(read // layer.groups, *read_sides),
        groups=1,
        params=layer.params // num,
        macs=layer.macs // num,
    )


def nested(parts: Sequence[Part], classes: Mapping[str, str], depth: int) -> tuple[Part, ...]:
    """Parts in series, in blocks by the modules that they lie in, from the module at a depth on."""
    scopes = {id(part): scope_of(part, classes) for part in parts}
    result: list[Part] = []
    for name, run in groupby(parts, lambda part: "".join(scopes[id(part)][depth : depth + 1])):
        if name:
            result.append(Block(name, classes[name], nested(list(run), classes, depth + 1)))
            continue
        result += (
            Parallel(tuple(nested(branch, classes, depth) for branch in part.branches), part.join)
            if isinstance(part, Parallel)
            else part
            for part in run
        )
    return tuple(result)


def scope_of(part: Part, classes: Mapping[str, str]) -> tuple[str, ...]:
    """The names of the modules around a layer, or around all layers of branches, outermost first."""
    match part:
        case GraphLayer(name=name):
            places = [i for i, letter in enumerate(name) if letter == "."]
            return tuple(name[:i] for i in places if name[:i] in classes)
        case Parallel(branches, join):
            scopes = [scope_of(inner, classes) for branch in branches for inner in branch]
            if join.kind != "towers":
                scopes.append(scope_of(join, classes))
            return tuple(names[0] for names in zip(*scopes, strict=False) if len(set(names)) == 1)
        case Block(name=name):
            return (name,)
