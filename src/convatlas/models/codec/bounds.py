"""Building what a file describes, whoever wrote it: in time and memory that the file's own size bounds."""

from __future__ import annotations

import math
import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from convatlas.errors import UserError
from convatlas.files.typed_json import MalformedJsonError, NewerFormatError
from convatlas.images.ink import LARGEST_INK
from convatlas.measure.table import build_without_memory, layer_calls, num_macs, total_cost
from convatlas.measure.trace import UncompiledMode
from convatlas.models.card import Card
from convatlas.models.codec.bytestream import Damaged
from convatlas.models.codec.cards import card_from
from convatlas.models.network import build, spec_of
from convatlas.networks.blocks import weighted_layers
from convatlas.networks.connections import ConnectedConv2d
from convatlas.spec import MAX_RESOLUTION, Spec
from convatlas.spec.quantization import MAX_BITS, MIN_BITS, LayerQuantization

MOST_COUNT = 2**20
"""Of any one thing in a network: maps, units, layers."""
OPERATIONS = 100
"""For each tensor of a network, at most, to build it and to find its shapes; see the tests."""
ROOM = 2**16
"""Numbers that any network may need beside its weights."""
MOST_WEIGHTS = 2**28
"""Of a network, however large its file; VGG-19 has 2^27.1."""
MOST_WORK = 2**36
"""Multiplications and comparisons for an image; EfficientNet-B7 takes 2^35.1."""
MOST_OUTPUTS = 2**31
"""Numbers that all layers together make of an image; those of EfficientNet-B7 make 2^29.1."""
MOST_AT_ONCE = 2**26
"""Numbers of an image, and of what any operation makes of it; EfficientNet-B7 makes 2^24."""
MOST_OF_A_PIXEL = 2**10
"""Of these for each pixel of what the network reads, since many small images are answered at once."""
SMALL = 32
"""The side in pixels that smaller images count as here: LeNet frames them to it."""
LEAST_INK = LARGEST_INK / math.isqrt(MOST_AT_ONCE)
"""The part of a frame that ink spans, a sixteenth; a larger frame would have more numbers than an image may."""

UNSHOWN = {"Cc", "Cs", "Zl", "Zp"}
"""Unicode's control characters, halves of characters, and line breaks."""

Shapes = dict[str, tuple[tuple[int, ...], torch.dtype]]
"""Of a network's tensors, by name and in order."""


class Bounded(UncompiledMode):
    """While active, no more operations than that, none that makes a larger tensor, and none that would make more
    than `at_once` numbers of an image."""

    def __init__(self, operations: int, numbers: int, at_once: int = MOST_AT_ONCE) -> None:
        super().__init__()
        self.left = operations
        self.numbers = numbers
        self.at_once = at_once

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.left -= 1
        if self.left < 0:
            raise Damaged("its network has more layers than the file has tensors")
        if any(abs(num) > self.numbers for num in map(numbers, args)):
            raise Damaged("its network has more weights than the file has room for")
        output = func(*args, **(kwargs or {}))
        # Of no images there is nothing, but its shape says what there would be of one.
        if isinstance(output, Tensor) and not output.numel() and math.prod(output.shape[1:]) > self.at_once:
            raise Damaged("its network makes more of an image than fits into memory")
        return output


def numbers(argument: Any) -> int:
    """How many a tensor of that shape has, where the argument of an operation is one."""
    shape = isinstance(argument, list | tuple) and all(isinstance(side, int) for side in argument)
    return math.prod(argument) if shape else 0


@contextmanager
def as_damage() -> Iterator[None]:
    """Whatever goes wrong inside is the file's fault.

    Raises:
        Damaged: something did.
        NewerFormatError: a newer version wrote it.
    """
    try:
        with warnings.catch_warnings():
            # Of layers without weights, which are refused later.
            warnings.simplefilter("ignore")
            yield
    except (Damaged, NewerFormatError):
        raise
    except MalformedJsonError as error:
        raise Damaged(str(error)) from error
    except UserError as error:
        raise Damaged(str(error)) from error
    except Exception as error:
        raise Damaged(f"its network cannot be built: {error}") from error


def described(content: bytes, version: int, num_tensors: int, max_numbers: int) -> tuple[Card, Shapes]:
    """The card of a compressed model and the shapes of its tensors.

    Args:
        content: the card's JSON.
        version: of the file.
        num_tensors: how many the file has.
        max_numbers: how many weights there can be in a file of that size.

    Raises:
        Damaged: it is no card, or its network has more than that, or takes more than any.
        UserError: it was written by a newer version.
    """
    max_numbers = min(max_numbers, MOST_WEIGHTS)
    with as_damage():
        card = card_from(content, version)
        check_card(card)
        # Once, for costs and shapes, and with room to spare.
        with Bounded(2 * OPERATIONS * (num_tensors + 1), max_numbers + ROOM, at_once(card.spec["resolution"])):
            spec = spec_of(card)
            check_network(card, spec, network := build_without_memory(lambda _: build(card), spec))
        shapes = {name: (tuple(value.shape), value.dtype) for name, value in network.state_dict().items()}
    if len(shapes) != num_tensors:
        raise Damaged(f"it has {num_tensors} tensors and its network {len(shapes)}")
    if sum(math.prod(shape) for shape, _ in shapes.values()) > max_numbers:
        raise Damaged("its network has more weights than the file has room for")
    return card, shapes


def at_once(resolution: int) -> int:
    """Numbers at most that an operation may make of an image with that side in pixels."""
    return min(MOST_OF_A_PIXEL * max(resolution, SMALL) ** 2, MOST_AT_ONCE)


def check_numbers(value: Any) -> None:
    """
    Raises:
        Damaged: a number of a spec is beyond all that networks have.
    """
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            check_numbers(part)
    elif isinstance(value, int | float) and not abs(value) <= MOST_COUNT:
        raise Damaged(f"{value} is beyond what any network has")


def check_card(card: Card) -> None:
    """
    Raises:
        Damaged: it says something that no model's card does, or has no score.
    """
    check_numbers(card.spec)
    if not all(map(shown, (card.variant, *card.classes, card.provenance.method, card.provenance.data))):
        raise Damaged("its card has text that cannot be shown")
    preprocessing, score = card.preprocessing, card.score
    if preprocessing.native_side is not None and preprocessing.native_side > MAX_RESOLUTION:
        raise Damaged("there are no such images")
    if preprocessing.margin > preprocessing.crop:
        raise Damaged("its images are mostly margin")
    if preprocessing.channels * preprocessing.resize**2 > MOST_AT_ONCE:
        raise Damaged("its images are too large")
    if preprocessing.crop != card.spec.get("resolution"):
        raise Damaged("its images are not what its network reads")
    # Beyond these, single precision may have no such numbers.
    if max(map(abs, preprocessing.mean)) > MOST_COUNT or not all(
        1 / MOST_COUNT <= std <= MOST_COUNT for std in preprocessing.std
    ):
        raise Damaged("its images have no such values")
    if preprocessing.ink is not None and not LEAST_INK <= preprocessing.ink <= 1:
        raise Damaged("its ink spans no part of an image")
    if not all(map(sound, card.quantization or ())):
        raise Damaged("its layers have bits that none can have")
    if score is None:
        raise Damaged("its model is not finished")
    if not all(0 <= part <= 1 for part in (score.accuracy, *score.interval)):
        raise Damaged("its accuracy is no part of the images")


def shown(text: str) -> bool:
    """Whether a terminal shows that text, and does not obey it or fail."""
    return UNSHOWN.isdisjoint(map(unicodedata.category, text))


def sound(layer: LayerQuantization) -> bool:
    """Whether a layer can have such bits."""
    low, high = layer.input_low, layer.input_high
    bounded = low is high if low is None or high is None else low <= 0 <= high
    return MIN_BITS <= layer.weight_bits <= MAX_BITS and bounded


def check_network(card: Card, spec: Spec, network: nn.Module) -> None:
    """
    Raises:
        Damaged: it is not the one of the card's costs, or an inference takes too much.
    """
    quantized = [layer.name for layer in card.quantization or ()]
    if quantized and quantized != [name for name, _ in weighted_layers(network)]:
        raise Damaged("its layers are not those that have few bits")
    called = layer_calls(network, spec)
    if sum(work(layer, output) for _, layer, output in called) > MOST_WORK:
        raise Damaged("its network computes more than any does")
    if sum(math.prod(output.shape[1:]) for _, _, output in called) > MOST_OUTPUTS:
        raise Damaged("its network makes more of an image than any does")
    if (card.params, card.macs) != total_cost(called):
        raise Damaged("its costs are another network's")


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
