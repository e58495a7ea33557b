"""What a card may say, from whomever it comes: checked before anything is allocated, in bounded time and memory."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from convatlas.errors import UserError
from convatlas.files.typed_json import MalformedJsonError, shown
from convatlas.formatting import count
from convatlas.measure.table import Cost, build_without_memory, layer_calls, num_macs, total_cost
from convatlas.measure.trace import UncompiledMode
from convatlas.models.card import Card, Score
from convatlas.models.evaluation import wilson_interval
from convatlas.models.network import build, spec_of
from convatlas.networks.blocks import weighted_layers
from convatlas.networks.connections import ConnectedConv2d
from convatlas.spec import MAX_RESOLUTION, Spec
from convatlas.spec.quantization import MAX_BITS, MIN_BITS, LayerQuantization

MAX_COUNT = 2**20
"""The largest number in a spec: channels, units, layers."""
MAX_CLASSES = 2**16
"""ImageNet has 21,841 at most."""
ROOM = 2**16
"""Numbers that any network may need beside its weights."""
MAX_WEIGHTS = 2**30
"""Of a network, whatever holds it; VGG-19 has 2^27.1, and 2^28.7 at 448 px."""
MAX_CALLS = 2**16
"""Operations that build a network and find its shapes; ResNet-1202, the deepest, takes 2^14.7, in two seconds."""
MAX_OPERATIONS = 2**37
"""Multiplications and comparisons for an image; EfficientNet-B7 takes 2^35.1, and VGG-19 at 512 px 2^36.6."""
MAX_OUTPUTS = 2**31
"""Numbers that all layers together make of an image; those of EfficientNet-B7 make 2^29.1."""
MAX_ELEMENTS = 2**26
"""Elements of an image, and of any operation's output for it; EfficientNet-B7 has 2^24."""
MAX_ELEMENTS_PER_PIXEL = 2**10
"""The same per pixel of the input, since small images are evaluated in large batches."""
SMALL = 32
"""The side in pixels that smaller images count as here: LeNet frames them to it."""
MAX_INPUT = 2.0**64
"""Of the inputs of a quantized layer; single precision holds their products with weights."""
ROUNDING = 1e-9
"""By which an accuracy may differ from its counts: earlier versions rounded twice."""

Shapes = dict[str, tuple[tuple[int, ...], torch.dtype]]
"""Of a network's tensors, by name and in order."""


@dataclass(frozen=True)
class Room:
    """What a network may have at most, by the file that holds it."""

    weights: int = MAX_WEIGHTS
    calls: int = MAX_CALLS
    """Operations to build it and to find its shapes."""


EVERY = Room()
"""Whatever holds it."""


@dataclass(frozen=True)
class Described:
    """What a network is, without memory for its weights."""

    network: nn.Module
    cost: Cost

    @property
    def shapes(self) -> Shapes:
        return {name: (tuple(value.shape), value.dtype) for name, value in self.network.state_dict().items()}

    @property
    def num_bytes(self) -> int:
        """Of all tensors."""
        return sum(value.nbytes for value in self.network.state_dict().values())


class Bounded(UncompiledMode):
    """While active, no more operations than there is room for, none that makes a larger tensor, and none that would
    make more than `at_once` numbers of an image."""

    def __init__(self, room: Room, at_once: int = MAX_ELEMENTS) -> None:
        super().__init__()
        self.left = room.calls
        self.numbers = room.weights + ROOM
        self.at_once = at_once

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.left -= 1
        if self.left < 0:
            raise MalformedJsonError("its network has more layers than there is room for")
        if any(abs(num) > self.numbers for num in map(numbers, args)):
            raise too_many_weights(self.numbers - ROOM)
        output = func(*args, **(kwargs or {}))
        # The batch is empty, but the output's shape says how large it would be for one image.
        if isinstance(output, Tensor) and not output.numel() and math.prod(output.shape[1:]) > self.at_once:
            raise MalformedJsonError("its network's activations of one image do not fit into memory")
        return output


def numbers(argument: Any) -> int:
    """The number of elements of a tensor with shape `argument`; 0 if the argument is not a shape."""
    shape = isinstance(argument, list | tuple) and all(isinstance(side, int) for side in argument)
    return math.prod(argument) if shape else 0


def too_many_weights(most: int) -> MalformedJsonError:
    return MalformedJsonError(f"its network has more weights than the {count(most)} that there is room for")


@contextmanager
def as_malformed() -> Iterator[None]:
    """Whatever goes wrong inside is the fault of a spec: numbers that no version wrote may fail anywhere in it, in a
    constructor or in a layer.

    Raises:
        MalformedJsonError, UserError: something did.
    """
    try:
        with warnings.catch_warnings():
            # Of layers without weights.
            warnings.simplefilter("ignore")
            yield
    except (MalformedJsonError, UserError):
        raise
    except Exception as error:
        raise MalformedJsonError(f"its network cannot be built: {error}".splitlines()[0]) from error


def describe(network_class: Callable[[Any], nn.Module], spec: Spec, room: Room = EVERY) -> Described:
    """The network of a spec, built without memory for its weights.

    Raises:
        MalformedJsonError, UserError: it cannot be built, or takes more than any may, or than there is room for.
    """
    with as_malformed():
        with Bounded(room, at_once(spec.resolution)):
            network = build_without_memory(network_class, spec)
            called = layer_calls(network, spec)
        if sum(work(layer, output) for _, layer, output in called) > MAX_OPERATIONS:
            raise MalformedJsonError("its network computes more than any does")
        if sum(math.prod(output.shape[1:]) for _, _, output in called) > MAX_OUTPUTS:
            raise MalformedJsonError("its network has more activations than any does")
        if sum(value.numel() for value in network.state_dict().values()) > room.weights:
            raise too_many_weights(room.weights)
        return Described(network, total_cost(called))


def describe_card(card: Card, room: Room = EVERY) -> Described:
    """The network of a card; see `describe`."""
    return describe(lambda _: build(card), checked_spec(card), room)


def checked_spec(card: Card) -> Spec:
    """
    Raises:
        MalformedJsonError, UserError: the card has none.
    """
    check_numbers(card.spec)
    with as_malformed():
        return spec_of(card)


def check(card: Card, room: Room = EVERY) -> Shapes:
    """The shapes of the tensors that a card describes.

    Raises:
        MalformedJsonError, UserError: it says something that no model's card does, contradicts itself, or its network
            takes more than there is room for.
    """
    checked_spec(card)
    check_card(card)
    found = describe_card(card, room)
    quantized = [layer.name for layer in card.quantization or ()]
    if quantized and quantized != [name for name, _ in weighted_layers(found.network)]:
        raise MalformedJsonError("its layers are not those of its quantization")
    if (card.params, card.macs) != found.cost:
        raise MalformedJsonError("its costs are another network's")
    return found.shapes


def at_once(resolution: int) -> int:
    """Numbers at most that an operation may make of an image with that side in pixels."""
    return min(MAX_ELEMENTS_PER_PIXEL * max(resolution, SMALL) ** 2, MAX_ELEMENTS)


def check_numbers(value: Any) -> None:
    """
    Raises:
        MalformedJsonError: a number of a spec is beyond all that networks have.
    """
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            check_numbers(part)
    elif isinstance(value, int | float) and not abs(value) <= MAX_COUNT:
        raise MalformedJsonError(f"{shown(value)} is beyond what any network has")


def check_card(card: Card) -> None:
    """What a card says beside its network.

    Raises:
        MalformedJsonError: no model's card says that, or it contradicts itself.
    """
    if len(card.classes) > MAX_CLASSES:
        raise MalformedJsonError(f"it names {count(len(card.classes))} classes, and {count(MAX_CLASSES)} is the limit")
    preprocessing = card.preprocessing
    if preprocessing.native_side is not None and preprocessing.native_side > MAX_RESOLUTION:
        raise MalformedJsonError("there are no such images")
    if preprocessing.margin > preprocessing.crop:
        raise MalformedJsonError("its images are mostly margin")
    if preprocessing.channels * preprocessing.resize**2 > MAX_ELEMENTS:
        raise MalformedJsonError("its images are too large")
    if preprocessing.crop != card.spec.get("resolution"):
        raise MalformedJsonError("its images are not what its network reads")
    # Beyond these, single precision may have no such numbers.
    if max(map(abs, preprocessing.mean)) > MAX_COUNT or not all(
        1 / MAX_COUNT <= std <= MAX_COUNT for std in preprocessing.std
    ):
        raise MalformedJsonError("its images have no such values")
    if not all(map(sound, card.quantization or ())):
        raise MalformedJsonError("its layers have bits that none can have")
    if card.score is not None:
        check_score(card.score)


def sound(layer: LayerQuantization) -> bool:
    """Whether a layer can have such bits."""
    low, high = layer.input_low, layer.input_high
    bounded = low is high if low is None or high is None else -MAX_INPUT <= low <= 0 <= high <= MAX_INPUT
    return MIN_BITS <= layer.weight_bits <= MAX_BITS and bounded


def check_score(score: Score) -> None:
    """
    Raises:
        MalformedJsonError: the accuracy is none, or does not follow from its counts.
    """
    if not all(0 <= part <= 1 for part in (score.accuracy, *score.interval)):
        raise MalformedJsonError("its accuracy is not a fraction of the images")
    if not score.num_images or score.num_errors > score.num_images:
        raise MalformedJsonError(f"it was wrong of {count(score.num_errors)} of {count(score.num_images)} test images")
    num_correct = score.num_images - score.num_errors
    known = (num_correct / score.num_images, *wilson_interval(num_correct, score.num_images))
    said = (score.accuracy, *score.interval)
    if not all(math.isclose(one, other, abs_tol=ROUNDING) for one, other in zip(said, known, strict=True)):
        raise MalformedJsonError(
            f"its accuracy of {score.accuracy:.4g} or its interval is not that of {count(num_correct)} correct of "
            f"{count(score.num_images)} images"
        )


def work(layer: nn.Module, output: Tensor) -> int:
    """Multiplications and comparisons for an image."""
    match layer:
        case ConnectedConv2d():
            # What is not connected is multiplied by 0.
            return math.prod(layer.shape) * math.prod(output.shape[2:])
        case nn.MaxPool2d(kernel_size=int(kernel)):
            return kernel**2 * math.prod(output.shape[1:])
        case _:
            return num_macs(layer, output)
