"""What is drawn of a network at each level: cells with captions, forks, and groups of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from convatlas.draw.drawing import Role
from convatlas.measure import Block, GraphLayer, Parallel, Part, layers_in, output_shape

Level = Literal["overview", "stages", "layers"]
"""A block for each run of units; each unit with its branches; every layer by name."""
LEVELS: tuple[Level, ...] = ("overview", "stages", "layers")

SHORT_NAMES = {
    "MaxPool2d": "max pool",
    "AvgPool2d": "avg pool",
    "AdaptiveAvgPool2d": "avg pool",
    "BatchNorm2d": "BN",
    "LocalResponseNorm": "LRN",
    "Linear": "FC",
}
UNFOLDED = 4
"""Equal layers in series, but in the overview: more than these are drawn once."""


@dataclass(frozen=True)
class Cell:
    """A layer, or a unit that is drawn as a whole."""

    name: str
    lines: tuple[str, ...]
    parts: tuple[Part, ...]
    """What is in it; its colors show their kinds."""
    shape: tuple[int, ...]
    count: int = 1
    passed: bool = False
    """Its input is also led past it."""
    tip: str = ""
    """What a pointer over it reads."""


@dataclass(frozen=True)
class Fork:
    """Branches and what joins them."""

    branches: tuple[tuple[Item, ...], ...]
    join: GraphLayer


@dataclass(frozen=True)
class Group:
    """A unit or a stage: a module with a frame around what is in it."""

    name: str
    title: str
    kind: Literal["stage", "unit"]
    items: tuple[Item, ...]
    shape: tuple[int, ...]
    count: int = 1


Item = Cell | Fork | Group


def items_of(parts: Sequence[Part], level: Level) -> tuple[Item, ...]:
    """What is drawn of a network's parts, in series."""
    items: list[Item] = []
    for run in folded(list(flattened(parts, stages=True)), level):
        match run[0]:
            case Block(name, _, inside) if is_stage(run[0]):
                inner = tuple(item_of(same, level) for same in folded(list(flattened(inside, stages=False)), level))
                shape = output_shape(inside)
                stage = Group(name, f"{name}: {describe_shape(shape)}", "stage", inner, shape)
                items += inner if level == "overview" else [stage]
            case _:
                items.append(item_of(run, level))
    return tuple(items)


def flattened(parts: Iterable[Part], *, stages: bool) -> Iterator[Part]:
    """Parts in series, where blocks that are no units are replaced by what is in them.

    Args:
        stages: whether stages stay too.
    """
    for part in parts:
        if isinstance(part, Block) and not (is_unit(part) or (stages and is_stage(part))):
            yield from flattened(part.parts, stages=stages)
        else:
            yield part


def bare(parts: Iterable[Part]) -> Iterator[Part]:
    """Parts in series without any blocks."""
    for part in parts:
        if isinstance(part, Block):
            yield from bare(part.parts)
        else:
            yield part


def is_unit(part: Part) -> bool:
    """Whether it is a module with a class of its own that has branches, or more than one layer beside normalization."""
    return (
        isinstance(part, Block)
        and part.kind != "Sequential"
        and (num_main_layers(part.parts) > 1 or any(isinstance(inner, Parallel) for inner in bare(part.parts)))
    )


def is_stage(part: Part) -> bool:
    return isinstance(part, Block) and part.kind == "Sequential" and num_main_layers(part.parts) > 1


def num_main_layers(parts: Sequence[Part]) -> int:
    return sum(role_of(layer) != "normalization" and not layer.is_join for layer in layers_in(parts))


def folded(parts: list[Part], level: Level) -> list[list[Part]]:
    """Runs of parts in series that are drawn once."""
    kept = [part for i, part in enumerate(parts) if level == "layers" or not is_folded_norm(parts, i)]
    runs: list[list[Part]] = []
    for _, same in groupby(kept, lambda part: sketch_of(part) if level == "overview" else signature(part)):
        run = list(same)
        alone = is_stage(run[0]) or (level != "overview" and not isinstance(run[0], Block) and len(run) <= UNFOLDED)
        runs += [[part] for part in run] if alone else [run]
    return runs


def is_folded_norm(parts: Sequence[Part], i: int) -> bool:
    """Whether it is the normalization of a convolution's outputs, which is drawn with it."""
    part, before = parts[i], parts[i - 1] if i else None
    return (
        isinstance(part, GraphLayer)
        and role_of(part) == "normalization"
        and part.kind.startswith("BatchNorm")
        and isinstance(before, GraphLayer)
        and role_of(before) in ("convolution", "pointwise", "depthwise")
    )


def sketch_of(part: Part) -> object:
    """What the overview tells of a part: equal ones in series are drawn once."""
    match part:
        case Block(kind=kind):
            return kind if is_unit(part) else id(part)
        case GraphLayer():
            return part.kind, part.kernel, part.stride, part.output_shape
        case _:
            return id(part)


def signature(part: Part) -> object:
    """All but the names: equal parts compute alike, with weights of their own."""
    match part:
        case Block(_, kind, parts):
            return kind, *map(signature, parts)
        case Parallel(branches, join):
            return (*(tuple(map(signature, branch)) for branch in branches), signature(join))
        case layer:
            return (
                layer.kind,
                layer.kernel,
                layer.stride,
                layer.groups,
                layer.activation,
                layer.input_shape,
                layer.output_shape,
            )


def item_of(run: Sequence[Part], level: Level) -> Item:
    """What is drawn of equal parts in series."""
    match run[0]:
        case GraphLayer() as layer:
            return layer_cell(layer, level, len(run), layer.name)
        case Parallel(branches, join):
            return Fork(tuple(branch_items(branch, level, join.name.rpartition(".")[0]) for branch in branches), join)
        case Block(name, kind, parts):
            last = run[-1]
            assert isinstance(last, Block)
            shape = output_shape(last.parts)
            if level == "overview":
                passed = any(map(passes_input, run))
                tip = f"{name}: {spaced(kind)}"
                return Cell(name, tuple(spaced(kind).split()), parts, shape, len(run), passed, tip)
            # The frame of the stage says the rest of the name.
            own = name if level == "layers" else name.rpartition(".")[2]
            return Group(name, f"{spaced(kind)} {own}", "unit", branch_items(parts, level, name), shape, len(run))
    raise AssertionError(run)


def branch_items(parts: Sequence[Part], level: Level, within: str) -> tuple[Item, ...]:
    """What is drawn of parts in series inside a unit, whose name layers need not repeat."""
    items: list[Item] = []
    for run in folded(list(bare(parts)), level):
        match run[0]:
            case GraphLayer() as layer:
                items.append(layer_cell(layer, level, len(run), layer.name.removeprefix(f"{within}.")))
            case part:
                assert isinstance(part, Parallel)
                branches = tuple(branch_items(branch, level, within) for branch in part.branches)
                items.append(Fork(branches, part.join))
    return tuple(items)


def passes_input(part: Part) -> bool:
    """Whether a unit adds or appends its input to its output."""
    return isinstance(part, Block) and any(
        isinstance(inner, Parallel)
        and (inner.join.kind == "add" or (inner.join.kind == "concat" and not all(inner.branches)))
        for inner in bare(part.parts)
    )


def layer_cell(layer: GraphLayer, level: Level, count: int, name: str) -> Cell:
    tip = f"{layer.name}: {listed(describe(layer), describe_shape(layer.output_shape), layer.activation)}"
    return Cell(
        layer.name,
        captions(layer, level, name),
        (layer,),
        layer.output_shape,
        count,
        # Where the caption says as much, none is needed.
        tip="" if level == "layers" else tip,
    )


def captions(layer: GraphLayer, level: Level, name: str) -> tuple[str, ...]:
    """Lines below a layer; the first is strong."""
    step = f"/{layer.stride}" if layer.stride > 1 else ""
    what, channels = describe(layer), str(layer.output_shape[0])
    if level == "overview":
        return (*what.split(), step, *([channels] if len(layer.output_shape) == 1 else []))
    if level == "layers":
        return name, listed(what, step), describe_shape(layer.output_shape), layer.activation
    if role_of(layer) in ("pooling", "normalization", "other"):
        window, _, kind = what.partition(" ") if layer.kernel else ("", "", what)
        return kind, listed(window, step)
    return what, listed(channels, step)


def listed(*words: str) -> str:
    """Words that are not empty, with commas between them."""
    return ", ".join(filter(None, words))


def describe(layer: GraphLayer) -> str:
    """7×7 conv"""
    short = SHORT_NAMES.get(layer.kind, spaced(layer.kind))
    if layer.kind.endswith("Conv2d"):
        short = "dw conv" if layer.is_depthwise else f"conv, {layer.groups} groups" if layer.groups > 1 else "conv"
    return f"{layer.kernel}×{layer.kernel} {short}" if layer.kernel else short


def describe_shape(shape: Sequence[int]) -> str:
    """64×112×112"""
    return "×".join(map(str, shape))


def spaced(kind: str) -> str:
    """The words of a class name: ResidualUnit is a Residual Unit."""
    return re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", " ", kind)


def role_of(layer: GraphLayer) -> Role:
    """What kind of layer it is, which its color tells."""
    if layer.is_pooling:
        return "pooling"
    if "Norm" in layer.kind:
        return "normalization"
    if layer.kind == "Linear":
        return "connected"
    if not layer.kind.endswith("Conv2d"):
        return "other"
    if layer.is_depthwise:
        return "depthwise"
    return "pointwise" if layer.kernel == 1 else "convolution"


def describe_items(items: Sequence[Item]) -> str:
    """Items in words, for readers who do not see them."""
    return "; ".join(map(describe_item, items))


def describe_item(item: Item) -> str:
    match item:
        case Fork(branches, join):
            inner = " | ".join(describe_items(branch) or "its input" for branch in branches)
            return f"{len(branches)} branches side by side ({inner}), joined to {describe_shape(join.output_shape)}"
        case Group():
            return describe_items(item.items)
        case Cell():
            times = f"{item.count} times " if item.count > 1 else ""
            past = ", its input led past it" if item.passed else ""
            return f"{times}{' '.join(filter(None, item.lines))} to {describe_shape(item.shape)}{past}"
