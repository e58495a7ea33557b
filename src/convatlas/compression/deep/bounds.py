"""Building what a file describes, whoever wrote it: in time and memory that the file's own size bounds."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from convatlas.compression.deep.bytestream import Damaged
from convatlas.errors import UserError
from convatlas.measure.table import weightless
from convatlas.measure.trace import UncompiledMode
from convatlas.networks.low_bits import FEWEST, MOST, LayerBits
from convatlas.runs import Record
from convatlas.spec import MOST_PIXELS

MOST_COUNT = 2**20
"""Of any one thing in a network: maps, units, layers."""
OPERATIONS = 100
"""For each tensor of a network, at most, to build it and to find its shapes; see the tests."""
ROOM = 2**16
"""Numbers that any network may need beside its weights."""

Shapes = dict[str, tuple[tuple[int, ...], torch.dtype]]
"""Of a network's tensors, by name and in order."""


class Bounded(UncompiledMode):
    """While active, no more operations than that, and none that makes a larger tensor."""

    def __init__(self, operations: int, numbers: int) -> None:
        super().__init__()
        self.left = operations
        self.numbers = numbers

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.left -= 1
        if self.left < 0:
            raise Damaged("its network has more layers than the file has tensors")
        if any(abs(num) > self.numbers for num in map(numbers, args)):
            raise Damaged("its network has more weights than the file has room for")
        return func(*args, **(kwargs or {}))


def numbers(argument: Any) -> int:
    """How many a tensor of that shape has, where the argument of an operation is one."""
    shape = isinstance(argument, list | tuple) and all(isinstance(side, int) for side in argument)
    return math.prod(argument) if shape else 0


@contextmanager
def found_out() -> Iterator[None]:
    """Whatever goes wrong inside is the file's fault.

    Raises:
        Damaged: something did.
    """
    try:
        with warnings.catch_warnings():
            # Of layers without weights, which are refused later.
            warnings.simplefilter("ignore")
            yield
    except (Damaged, UserError):
        raise
    except (ValueError, TypeError, LookupError, AttributeError, RuntimeError, ArithmeticError, MemoryError) as error:
        raise Damaged(f"its network cannot be built: {error}") from error


def described(content: bytes, num_tensors: int, most_numbers: int) -> tuple[Record, Shapes]:
    """The record of a compressed network and the shapes of its tensors.

    Args:
        content: the record's JSON.
        num_tensors: how many the file has.
        most_numbers: how many weights there can be in a file of that size.

    Raises:
        Damaged: it is no record, or its network has more than that.
        UserError: it was written by a newer version.
    """
    with found_out():
        values = json.loads(content)
        check_numbers(values["spec"])
        # Before a network with so many outputs is built.
        if len(values["classes"]) != values["spec"]["num_classes"]:
            raise Damaged("it names more or fewer classes than its network tells apart")
        # Twice: with its costs, and for its shapes.
        with Bounded(2 * OPERATIONS * (num_tensors + 1), most_numbers + ROOM):
            try:
                record = Record.from_json(content, "its record")
            except UserError as error:
                raise Damaged(str(error)) from error
            network = weightless(lambda _: record.network(), record.spec)
        check_record(record)
        shapes = {name: (tuple(value.shape), value.dtype) for name, value in network.state_dict().items()}
    if len(shapes) != num_tensors:
        raise Damaged(f"it has {num_tensors} tensors and its network {len(shapes)}")
    if sum(math.prod(shape) for shape, _ in shapes.values()) > most_numbers:
        raise Damaged("its network has more weights than the file has room for")
    return record, shapes


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


def check_record(record: Record) -> None:
    """
    Raises:
        Damaged: pictures cannot be read as it says, or it has no results.
    """
    preprocessing = record.preprocessing
    sides = (1 if preprocessing.side is None else preprocessing.side, preprocessing.margin + 1)
    numbers = (*preprocessing.mean, *preprocessing.deviation, 0.0 if preprocessing.ink is None else preprocessing.ink)
    if not all(isinstance(side, int) and 1 <= side <= MOST_PIXELS for side in sides):
        raise Damaged("its pictures have no such size")
    if not all(isinstance(number, int | float) and math.isfinite(number) for number in numbers):
        raise Damaged("its pictures have values that are no numbers")
    if preprocessing.margin > preprocessing.resolution:
        raise Damaged("its pictures are mostly margin")
    if preprocessing.resolution != record.spec.resolution or not all(preprocessing.deviation):
        raise Damaged("its pictures are not what its network reads")
    if preprocessing.ink is not None and not 0 < preprocessing.ink <= 1:
        raise Damaged("its ink spans no part of a picture")
    if not isinstance(record.classes, tuple) or not all(isinstance(name, str) for name in record.classes):
        raise Damaged("its classes have no names")
    if not all(map(sound, record.low_bits or ())):
        raise Damaged("its layers have bits that none can have")
    if record.results is None or not isinstance(record.results.test_accuracy, float):
        raise Damaged("its run was not finished")


def sound(layer: LayerBits) -> bool:
    """Whether a layer can have such bits."""
    if not isinstance(layer.weight, int) or not FEWEST <= layer.weight <= MOST:
        return False
    if layer.lowest is None or layer.highest is None:
        return layer.lowest is layer.highest
    bounds = (layer.lowest, layer.highest)
    return all(isinstance(bound, float) and math.isfinite(bound) for bound in bounds) and bounds[0] <= 0 <= bounds[1]
