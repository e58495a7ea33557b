"""Building a network from an untrusted file, in time and memory that the file's size bounds."""

from __future__ import annotations

import math
import reprlib
import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from convatlas.errors import UserError
from convatlas.files.typed_json import MalformedJsonError, NewerFormatError
from convatlas.images.ink import MAX_INK
from convatlas.measure.table import build_without_memory, layer_calls, num_macs, total_cost
from convatlas.measure.trace import UncompiledMode
from convatlas.models.card import Card
from convatlas.models.codec.bytestream import DamagedFileError
from convatlas.models.codec.cards import card_from
from convatlas.models.network import build, spec_of
from convatlas.networks.blocks import weighted_layers
from convatlas.networks.connections import ConnectedConv2d
from convatlas.spec import MAX_RESOLUTION, Spec
from convatlas.spec.quantization import MAX_BITS, MIN_BITS, LayerQuantization

MAX_COUNT = 2**20
"""The largest number in a spec: channels, units, layers."""
OPERATIONS = 100
"""For each tensor of a network, at most, to build it and to find its shapes; see the tests."""
ROOM = 2**16
"""Numbers that any network may need beside its weights."""
MAX_WEIGHTS = 2**28
"""Of a network, however large its file; VGG-19 has 2^27.1."""
MAX_OPERATIONS = 2**36
"""Multiplications and comparisons for an image; EfficientNet-B7 takes 2^35.1."""
MAX_OUTPUTS = 2**31
"""Numbers that all layers together make of an image; those of EfficientNet-B7 make 2^29.1."""
MAX_ELEMENTS = 2**26
"""Elements of an image, and of any operation's output for it; EfficientNet-B7 has 2^24."""
MAX_ELEMENTS_PER_PIXEL = 2**10
"""The same per pixel of the input, since small images are evaluated in large batches."""
SMALL = 32
"""The side in pixels that smaller images count as here: LeNet frames them to it."""
MIN_INK = MAX_INK / math.isqrt(MAX_ELEMENTS)
"""The part of a frame that ink spans, a sixteenth; a larger frame would have more numbers than an image may."""

UNPRINTABLE = {"Cc", "Cs", "Zl", "Zp"}
"""Unicode's control characters, halves of characters, and line breaks."""

Shapes = dict[str, tuple[tuple[int, ...], torch.dtype]]
"""Of a network's tensors, by name and in order."""


class Bounded(UncompiledMode):
    """While active, no more operations than that, none that makes a larger tensor, and none that would make more
    than `at_once` numbers of an image."""

    def __init__(self, operations: int, numbers: int, at_once: int = MAX_ELEMENTS) -> None:
        super().__init__()
        self.left = operations
        self.numbers = numbers
        self.at_once = at_once

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.left -= 1
        if self.left < 0:
            raise DamagedFileError("its network has more layers than the file has tensors")
        if any(abs(num) > self.numbers for num in map(numbers, args)):
            raise DamagedFileError("its network has more weights than the file has room for")
        output = func(*args, **(kwargs or {}))
        # The batch is empty, but the output's shape says how large it would be for one image.
        if isinstance(output, Tensor) and not output.numel() and math.prod(output.shape[1:]) > self.at_once:
            raise DamagedFileError("its network's activations of one image do not fit into memory")
        return output


def numbers(argument: Any) -> int:
    """The number of elements of a tensor with shape `argument`; 0 if the argument is not a shape."""
    shape = isinstance(argument, list | tuple) and all(isinstance(side, int) for side in argument)
    return math.prod(argument) if shape else 0


@contextmanager
def as_damage() -> Iterator[None]:
    """Whatever goes wrong inside is the file's fault.

    Raises:
        DamagedFileError: something did.
        NewerFormatError: a newer version wrote it.
    """
    try:
        with warnings.catch_warnings():
            # Of layers without weights, which are refused later.
            warnings.simplefilter("ignore")
            yield
    except (DamagedFileError, NewerFormatError):
        raise
    except MalformedJsonError as error:
        raise DamagedFileError(str(error)) from error
    except UserError as error:
        raise DamagedFileError(str(error)) from error
    except Exception as error:
        raise DamagedFileError(f"its network cannot be built: {error}") from error


def described(content: bytes, version: int, num_tensors: int, max_numbers: int) -> tuple[Card, Shapes]:
    """The card of a compressed model and the shapes of its tensors.

    Args:
        content: the card's JSON.
        version: of the file.
        num_tensors: how many the file has.
        max_numbers: how many weights there can be in a file of that size.

    Raises:
        DamagedFileError: it is not a card, or its network has more than that, or takes more than any.
        UserError: it was written by a newer version.
    """
    max_numbers = min(max_numbers, MAX_WEIGHTS)
    with as_damage():
        card = card_from(content, version)
        check_card(card)
        # Once, for costs and shapes, and with room to spare.
        with Bounded(2 * OPERATIONS * (num_tensors + 1), max_numbers + ROOM, at_once(card.spec["resolution"])):
            spec = spec_of(card)
            check_network(card, spec, network := build_without_memory(lambda _: build(card), spec))
        shapes = {name: (tuple(value.shape), value.dtype) for name, value in network.state_dict().items()}
    if len(shapes) != num_tensors:
        raise DamagedFileError(f"it has {num_tensors} tensors and its network {len(shapes)}")
    if sum(math.prod(shape) for shape, _ in shapes.values()) > max_numbers:
        raise DamagedFileError("its network has more weights than the file has room for")
    return card, shapes


def at_once(resolution: int) -> int:
    """Numbers at most that an operation may make of an image with that side in pixels."""
    return min(MAX_ELEMENTS_PER_PIXEL * max(resolution, SMALL) ** 2, MAX_ELEMENTS)


def check_numbers(value: Any) -> None:
    """
    Raises:
        DamagedFileError: a number of a spec is beyond all that networks have.
    """
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            check_numbers(part)
    elif isinstance(value, int | float) and not abs(value) <= MAX_COUNT:
        raise DamagedFileError(f"{value} is beyond what any network has")


def check_card(card: Card) -> None:
    """
    Raises:
        DamagedFileError: it says something that no model's card does, or has no score.
    """
    check_numbers(card.spec)
    for text in (card.variant, *card.classes, card.provenance.method, card.provenance.data):
        if not shown(text):
            raise DamagedFileError(f"its card has text that cannot be shown: {reprlib.repr(text)}")
    preprocessing, score = card.preprocessing, card.score
    if preprocessing.native_side is not None and preprocessing.native_side > MAX_RESOLUTION:
        raise DamagedFileError("there are no such images")
    if preprocessing.margin > preprocessing.crop:
        raise DamagedFileError("its images are mostly margin")
    if preprocessing.channels * preprocessing.resize**2 > MAX_ELEMENTS:
        raise DamagedFileError("its images are too large")
    if preprocessing.crop != card.spec.get("resolution"):
        raise DamagedFileError("its images are not what its network reads")
    # Beyond these, single precision may have no such numbers.
    if max(map(abs, preprocessing.mean)) > MAX_COUNT or not all(
        1 / MAX_COUNT <= std <= MAX_COUNT for std in preprocessing.std
    ):
        raise DamagedFileError("its images have no such values")
    if preprocessing.ink is not None and not MIN_INK <= preprocessing.ink <= 1:
        raise DamagedFileError("its ink spans no part of an image")
    if not all(map(sound, card.quantization or ())):
        raise DamagedFileError("its layers have bits that none can have")
    if score is None:
        raise DamagedFileError("its model is not finished")
    if not all(0 <= part <= 1 for part in (score.accuracy, *score.interval)):
        raise DamagedFileError("its accuracy is not a fraction of the images")


def shown(text: str) -> bool:
    """Whether a terminal shows that text, and does not obey it or fail."""
    return UNPRINTABLE.isdisjoint(map(unicodedata.category, text))


def sound(layer: LayerQuantization) -> bool:
    """Whether a layer can have such bits."""
    low, high = layer.input_low, layer.input_high
    bounded = low is high if low is None or high is None else low <= 0 <= high
    return MIN_BITS <= layer.weight_bits <= MAX_BITS and bounded


def check_network(card: Card, spec: Spec, network: nn.Module) -> None:
    """
    Raises:
        DamagedFileError: it is not the one of the card's costs, or an inference takes too much.
    """
    quantized = [layer.name for layer in card.quantization or ()]
    if quantized and quantized != [name for name, _ in weighted_layers(network)]:
        raise DamagedFileError("its layers are not those of its quantization")
    called = layer_calls(network, spec)
    if sum(work(layer, output) for _, layer, output in called) > MAX_OPERATIONS:
        raise DamagedFileError("its network computes more than any does")
    if sum(math.prod(output.shape[1:]) for _, _, output in called) > MAX_OUTPUTS:
        raise DamagedFileError("its network has more activations than any does")
    if (card.params, card.macs) != total_cost(called):
        raise DamagedFileError("its costs are another network's")


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
