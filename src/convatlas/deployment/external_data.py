"""Whether an ONNX file keeps its weights in other files, found before a runtime opens them.

The fields' numbers are those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path

from convatlas.errors import UserError
from convatlas.weights.formats.protobuf import DamagedMessageError, Wire, WireReader

MAX_DEPTH = 16
"""Of graphs in graphs. Ours have none."""

INSIDE: Mapping[str, Mapping[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse tensor", 23: "sparse tensor"},
    "sparse tensor": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
"""By kind of message: its fields that are messages, and of which kind."""
EXTERNAL_DATA, DATA_LOCATION = 13, 14
"""Fields of a tensor."""


def check_self_contained(path: Path) -> None:
    """
    Raises:
        UserError: the file names others to be read, or is no ONNX file.
    """
    size = path.stat().st_size
    if not size:
        raise UserError(f"{path} is empty; export the model again")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        reader = WireReader(memoryview(content))
        try:
            if any(outside(reader, 0, size, "model", 0)):
                raise UserError(f"{path} reads weights from other files, as no artefact does; export the model again")
        except DamagedMessageError as error:
            raise UserError(f"{path} is damaged: {error}; export the model again") from error
        finally:
            reader.content.release()


def outside(reader: WireReader, start: int, end: int, kind: str, depth: int) -> Iterator[bool]:
    """For each tensor below a message, whether it lies in another file.

    Raises:
        DamagedMessageError: it is no such message.
    """
    if depth > MAX_DEPTH:
        raise DamagedMessageError("its graphs are nested too deep")
    for field in reader.fields(start, end):
        if kind == "tensor":
            yield field.number == EXTERNAL_DATA or (field.number == DATA_LOCATION and field.value != 0)
        elif (inner := INSIDE[kind].get(field.number)) is not None and field.wire == Wire.LEN:
            yield from outside(reader, field.start, field.end, inner, depth + (inner == "graph"))
