"""What a hostile ONNX file may do: read other files, or compute without end. Found before a runtime opens it.

The fields' numbers are those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path

from convatlas.errors import UserError
from convatlas.weights.formats.protobuf import DamagedMessageError, Wire, WireReader

INSIDE: Mapping[str, Mapping[int, str]] = {
    "model": {7: "graph", 20: "training"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 10: "tensor", 22: "sparse tensor", 23: "sparse tensor"},
    "sparse tensor": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
"""By kind of message: its fields that are messages, and of which kind."""
FUNCTIONS = 25
"""Field of a model: runtimes put a function in the place of each call, and one that calls another twice doubles it."""
EXTERNAL_DATA, DATA_LOCATION = 13, 14
"""Fields of a tensor."""
INNER_GRAPHS = 6, 11
"""Fields of an attribute: what a loop repeats, as often as it likes, or one of two branches."""

HAS_GRAPHS = "has graphs in its graph"


def unlike_artefacts(path: Path, fault: str) -> UserError:
    return UserError(f"{path} {fault}, as no artefact does; export the model again")


IR_BEGINS = (b"<?xml", b"<net")
"""OpenVINO's own form."""


def check_is_ir(path: Path) -> None:
    """
    Raises:
        UserError: it is no network in OpenVINO's own form. OpenVINO goes by the content and not by the name: it would
            read ONNX there too, with weights in other files.
    """
    with path.open("rb") as file:
        begin = file.read(max(map(len, IR_BEGINS)))
    if not begin.startswith(IR_BEGINS):
        raise UserError(f"{path} is no network in OpenVINO's own form, which is XML; export the model again")


def check_self_contained(path: Path) -> None:
    """
    Raises:
        UserError: the file names others to be read, has graphs in its graph or functions, or is no ONNX file.
    """
    size = path.stat().st_size
    if not size:
        raise UserError(f"{path} is empty; export the model again")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        reader = WireReader(memoryview(content))
        try:
            if fault := next(faults(reader, 0, size, "model"), ""):
                raise unlike_artefacts(path, fault)
        except DamagedMessageError as error:
            raise UserError(f"{path} is damaged: {error}; export the model again") from error
        finally:
            reader.content.release()


def faults(reader: WireReader, start: int, end: int, kind: str) -> Iterator[str]:
    """What a message does that none of an artefact does.

    Raises:
        DamagedMessageError: it is no such message.
    """
    for field in reader.fields(start, end):
        if kind == "tensor":
            if field.number == EXTERNAL_DATA or (field.number == DATA_LOCATION and field.value != 0):
                yield "reads weights from other files"
        elif kind == "attribute" and field.number in INNER_GRAPHS:
            yield HAS_GRAPHS
        elif kind == "model" and field.number == FUNCTIONS:
            yield "has functions of its own"
        elif (inner := INSIDE[kind].get(field.number)) is not None and field.wire == Wire.LEN:
            yield from faults(reader, field.start, field.end, inner)
