"""Caffe's networks (.caffemodel): a protocol buffer with a layer after the other, each with its blobs of numbers.

Field numbers and defaults are those of https://github.com/BVLC/caffe/blob/master/src/caffe/proto/caffe.proto. Files
written before 2015 hold `layers` of the first version (V1), later ones `layer`.
"""

from __future__ import annotations

import math
import mmap
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from convatlas.formatting import visible
from convatlas.weights.checkpoint import CheckpointError
from convatlas.weights.formats.protobuf import DamagedMessageError, Field, Wire, WireReader

LAYERS_V1, LAYER = 2, 100
"""Fields of a network."""
CONVOLUTION, FULLY_CONNECTED, BATCH_NORM, SCALE = "Convolution", "InnerProduct", "BatchNorm", "Scale"
RESPONSE_NORM, POOLING = "LRN", "Pooling"
TYPES_V1 = {4: CONVOLUTION, 14: FULLY_CONNECTED, 15: RESPONSE_NORM, 17: POOLING}
"""Those that are told apart here among the types of V1, which are numbered."""
MAX_DIMENSIONS = 32
"""Of a blob, as Caffe has it."""


CAFFENET = (
    "pools before it normalizes, as CaffeNet does, which is not built in; AlexNet normalizes first: "
    "alexnet-caffe takes bvlc_alexnet.caffemodel"
)


class OtherNetworkError(Exception):
    """The tensors would fit a network, and their layers stand in another order than its."""


@dataclass(frozen=True)
class LayerFields:
    """Which field of a layer is which."""

    name: int
    kind: int
    bottom: int
    top: int
    blobs: int


FIELDS = LayerFields(name=1, kind=2, bottom=3, top=4, blobs=7)
FIELDS_V1 = LayerFields(name=4, kind=5, bottom=2, top=3, blobs=6)
V0 = 1
"""A field of a V1 layer: the layer as the version before had it, which Caffe upgrades."""


@dataclass
class CaffeLayer:
    """A layer of a file."""

    name: str = ""
    kind: str = ""
    bottoms: list[str] = field(default_factory=list)
    """The names of its inputs."""
    tops: list[str] = field(default_factory=list)
    """Of its outputs; a layer that works in place has the same."""
    blobs: list[Tensor] = field(default_factory=list)

    def __str__(self) -> str:
        return f"its layer {visible(self.name)[:100]} ({visible(self.kind)[:50]})"


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of convolutions, fully connected layers and normalizations by the names of their layers.

    What Caffe does in two layers is one here: a scale belongs to the normalization before it and gives its `weight` and
    `bias`. A bias before a normalization is part of its mean.

    Raises:
        CheckpointError: it is no network of Caffe's, it is damaged, or a layer has blobs that nothing is known about.
    """
    with path.open("rb") as file:
        # Private to this process, which may write to its tensors.
        content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
    try:
        return tensors_of(list(read_layers(WireReader(content))))
    except OtherNetworkError as error:
        raise CheckpointError(f"{path} {error}") from error
    except DamagedMessageError as error:
        raise CheckpointError(f"{path} is no network of Caffe's, or damaged: {error}") from error


def read_layers(reader: WireReader) -> Iterator[CaffeLayer]:
    found = False
    for part in reader.fields(0, len(reader.content)):
        if part.number in (LAYER, LAYERS_V1):
            reader.expect(part, Wire.LEN)
            found = True
            yield read_layer(reader, part, FIELDS if part.number == LAYER else FIELDS_V1)
    if not found:
        raise DamagedMessageError("it has no layer")


def read_layer(reader: WireReader, message: Field, numbers: LayerFields) -> CaffeLayer:
    layer = CaffeLayer()
    blobs = []
    for part in reader.fields(message.start, message.end):
        if part.number == numbers.name:
            layer.name = reader.text(part)
        elif part.number == numbers.kind:
            layer.kind = reader.text(part) if numbers is FIELDS else v1_type(reader.integer(part))
        elif part.number == numbers.bottom:
            layer.bottoms.append(reader.text(part))
        elif part.number == numbers.top:
            layer.tops.append(reader.text(part))
        elif part.number == numbers.blobs:
            reader.expect(part, Wire.LEN)
            blobs.append(part)
        elif part.number == V0 and numbers is FIELDS_V1:
            raise DamagedMessageError("it is of Caffe's format of 2013; upgrade it with upgrade_net_proto_binary")
    layer.blobs = [read_blob(reader, blob, layer) for blob in blobs]
    return layer


def v1_type(number: int) -> str:
    return TYPES_V1.get(number, f"type {number}")


def read_blob(reader: WireReader, message: Field, layer: CaffeLayer) -> Tensor:
    """The numbers of a blob, in its shape.

    Raises:
        DamagedMessageError: their number is not the shape's.
    """
    shape: list[int] = []
    sides = dict.fromkeys((1, 2, 3, 4), 0)
    """num, channels, height and width, where there is no shape."""
    singles: list[Field] = []
    doubles: list[Field] = []
    for part in reader.fields(message.start, message.end):
        if part.number in sides:
            sides[part.number] = reader.integer(part)
        elif part.number == 5:
            singles.append(part)
        elif part.number == 7:
            reader.expect(part, Wire.LEN)
            for dimension in reader.fields(part.start, part.end):
                if dimension.number == 1:
                    shape += reader.integers(dimension)
        elif part.number == 8:
            doubles.append(part)
    if not shape:
        shape = list(sides.values())
    if singles and doubles:
        raise DamagedMessageError(f"{layer} has a blob of single and double precision at once")
    numbers = read_numbers(reader, doubles or singles, np.dtype("<f8" if doubles else "<f4"))
    if len(shape) > MAX_DIMENSIONS or min(shape) < 0 or math.prod(shape) != len(numbers):
        shown = " x ".join(f"{side:,}" for side in shape[:8])
        raise DamagedMessageError(f"{layer} has a blob of {shown} with {len(numbers):,} numbers")
    return numbers.reshape(shape)


def read_numbers(reader: WireReader, parts: list[Field], dtype: np.dtype[np.floating]) -> Tensor:
    """Numbers that are packed into one field, as Caffe writes them, stay in the file. Others are put together."""
    width = dtype.itemsize
    alone = Wire.I32 if width == 4 else Wire.I64
    found = []
    for part in parts:
        reader.expect(part, alone if part.wire == alone else Wire.LEN)
        size, rest = (part.value, 0) if part.wire == alone else divmod(part.end - part.start, width)
        if rest:
            raise DamagedMessageError(f"the numbers at byte {part.start:,} end in the middle of one")
        step = width + 1 if part.wire == alone else width
        # At any byte: processors of today read numbers there as well.
        found.append(np.ndarray(size, dtype, reader.content, part.start, (step,)))
    packed = len(parts) == 1 and parts[0].wire == Wire.LEN
    return torch.from_numpy(found[0] if packed else np.concatenate([np.empty(0, dtype), *found]))


def tensors_of(layers: list[CaffeLayer]) -> dict[str, Tensor]:
    """
    Raises:
        DamagedMessageError: see `read`.
        OtherNetworkError: it has AlexNet's layers in another order.
    """
    tensors: dict[str, dict[str, Tensor]] = {}
    scaled: set[int] = set()
    made_by: dict[str, int] = {}
    """The place of the layer that wrote a blob last: layers may work in place."""
    sources: list[list[int]] = []
    """Whose blobs each layer reads."""
    for place, layer in enumerate(layers):
        read_from = [made_by[bottom] for bottom in layer.bottoms if bottom in made_by]
        sources.append(read_from)
        made_by |= dict.fromkeys(layer.tops, place)
        if not layer.blobs:
            continue
        if layer.kind == SCALE:
            before = layers[read_from[0]] if read_from else None
            if before is None or before.kind != BATCH_NORM or not before.blobs or read_from[0] in scaled:
                raise DamagedMessageError(f"{layer} scales what no normalization gives")
            scaled.add(read_from[0])
            tensors[before.name] |= scale(layer, tensors[before.name]["running_mean"])
        elif layer.name in tensors:
            raise DamagedMessageError(f"{layer} has the name of another")
        elif layer.kind in (CONVOLUTION, FULLY_CONNECTED):
            tensors[layer.name] = weighted(layer)
        elif layer.kind == BATCH_NORM:
            tensors[layer.name] = normalization(layer)
        else:
            raise DamagedMessageError(f"{layer} has blobs, and nothing is known about them")
    if "fc8" in tensors and any(
        layer.kind == RESPONSE_NORM and any(layers[source].kind == POOLING for source in read_from)
        for layer, read_from in zip(layers, sources, strict=True)
    ):
        raise OtherNetworkError(CAFFENET)
    move_biases(layers, sources, tensors)
    return {f"{name}.{ending}": tensor for name, found in tensors.items() for ending, tensor in found.items()}


def weighted(layer: CaffeLayer) -> dict[str, Tensor]:
    """Of a convolution or a fully connected layer."""
    weight, *biases = layer.blobs
    if len(biases) > 1:
        raise DamagedMessageError(f"{layer} has {len(layer.blobs)} blobs, not weights and biases alone")
    if layer.kind == FULLY_CONNECTED and weight.shape[:-2].numel() == 1 and weight.dim() >= 2:
        # Once it was 1 x 1 x outputs x inputs.
        weight = weight.reshape(weight.shape[-2:])
    if weight.dim() != (4 if layer.kind == CONVOLUTION else 2):
        raise DamagedMessageError(f"{layer} has weights of the shape {tuple(weight.shape)}")
    found = {"weight": weight}
    if biases:
        found["bias"] = vector(biases[0], layer, len(weight))
    return found


def normalization(layer: CaffeLayer) -> dict[str, Tensor]:
    """Mean and variance are sums; the third blob is what to divide them by."""
    if len(layer.blobs) != 3:
        raise DamagedMessageError(f"{layer} has {len(layer.blobs)} blobs, not mean, variance and their divisor")
    num = layer.blobs[0].numel()
    divisor = vector(layer.blobs[2], layer, 1).double()
    # Caffe takes 0 for "nothing was added up yet".
    factor = torch.where(divisor == 0, 0, 1 / divisor)
    mean, variance = ((vector(blob, layer, num).double() * factor).to(blob.dtype) for blob in layer.blobs[:2])
    # Without a scale after it.
    return {
        "running_mean": mean,
        "running_var": variance,
        "weight": torch.ones_like(mean),
        "bias": torch.zeros_like(mean),
    }


def scale(layer: CaffeLayer, mean: Tensor) -> dict[str, Tensor]:
    if len(layer.blobs) > 2:
        raise DamagedMessageError(f"{layer} has {len(layer.blobs)} blobs, not factors and biases alone")
    return dict(zip(("weight", "bias"), (vector(blob, layer, len(mean)) for blob in layer.blobs), strict=False))


def vector(blob: Tensor, layer: CaffeLayer, num: int) -> Tensor:
    """A blob with that many numbers in one dimension, which once were four.

    Raises:
        DamagedMessageError: there are more or fewer.
    """
    if blob.numel() != num:
        raise DamagedMessageError(f"{layer} has {blob.numel():,} numbers for {num:,} channels")
    return blob.reshape(num)


def move_biases(layers: list[CaffeLayer], sources: list[list[int]], tensors: dict[str, dict[str, Tensor]]) -> None:
    """Take biases from before a normalization into its mean: (x + b) - m is x - (m - b).

    The authors' ResNet-50 has one in its first convolution, unlike their other networks and unlike ours.
    """
    num_readers = Counter(chain.from_iterable(sources))
    for place, layer in enumerate(layers):
        if layer.kind != BATCH_NORM or not layer.blobs or not sources[place]:
            continue
        before = layers[sources[place][0]]
        if before.kind in (CONVOLUTION, FULLY_CONNECTED) and num_readers[sources[place][0]] == 1:
            norm, bias = tensors[layer.name], tensors.get(before.name, {}).pop("bias", None)
            if bias is None:
                continue
            mean = vector(norm["running_mean"], before, len(bias))
            norm["running_mean"] = (mean.double() - bias.double()).to(mean.dtype)
